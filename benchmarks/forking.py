"""A server that starts a program for each HTTP request and keeps nothing: the peer of warm.py.

    python benchmarks/forking.py PROGRAM [ARGUMENT ...]

It does what of-watchdog does in its mode `serializing`: the request's body becomes the program's standard
input, what it prints the answer; 500 where it fails. of-watchdog itself is written in Go and is not to be had
from where the other peers come from. So this is as little as Python allows: a thread for each connection,
requests read from the socket by hand, `posix_spawn`, no framework. Nearly all of its processor time is the
program's. Prints its port once it listens.
"""

from __future__ import annotations

import os
import socket
import sys
import threading


def run(argv: list[str], body: bytes) -> tuple[int, bytes]:
    """One execution: its exit status, and what it printed. The body must fit into a pipe."""
    theirs_in, ours_in = os.pipe()
    ours_out, theirs_out = os.pipe()
    actions = [
        (os.POSIX_SPAWN_DUP2, theirs_in, 0),
        (os.POSIX_SPAWN_DUP2, theirs_out, 1),
    ]
    pid = os.posix_spawn(argv[0], argv, os.environ, file_actions=actions)
    os.close(theirs_in)
    os.close(theirs_out)
    os.write(ours_in, body)
    os.close(ours_in)
    said = b""
    while more := os.read(ours_out, 65536):
        said += more
    os.close(ours_out)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), said


def serve(connection: socket.socket, argv: list[str]) -> None:
    """Answer requests on one connection until it is closed."""
    with connection, connection.makefile("rb") as reading:
        while reading.readline():
            length = 0
            while (line := reading.readline()) not in (b"\r\n", b""):
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            status, said = run(argv, reading.read(length))
            head = b"HTTP/1.1 200 OK" if status == 0 else b"HTTP/1.1 500 Internal Server Error"
            connection.sendall(head + b"\r\nContent-Length: %d\r\n\r\n" % len(said) + said)


def main() -> None:
    """Serve until killed."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        print(listening.getsockname()[1], flush=True)
        while True:
            connection, _ = listening.accept()
            threading.Thread(target=serve, args=(connection, sys.argv[1:]), daemon=True).start()


if __name__ == "__main__":
    main()
