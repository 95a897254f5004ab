"""A line to a server that can be cut: forwards bytes, and breaks off after so many from the client."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Line:
    """How many bytes from clients still pass, for each connection to come; then all is let through."""

    def __init__(self, to: tuple[str, int], cuts: list[int]) -> None:
        self.cuts = cuts
        self._to = to
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._to)
                threading.Thread(target=self._pump, args=(client, server, True), daemon=True).start()
                threading.Thread(target=self._pump, args=(server, client, False), daemon=True).start()

    def _pump(self, source: socket.socket, to: socket.socket, counted: bool) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                passed += len(data)
                if counted and self.cuts and passed > self.cuts[0]:
                    to.sendall(data[: max(0, self.cuts.pop(0) - passed + len(data))])
                    break
                to.sendall(data)
        for end in (source, to):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


@contextmanager
def cut_line(to: tuple[str, int], cuts: list[int]) -> Iterator[Line]:
    line = Line(to, cuts)
    try:
        yield line
    finally:
        line.close()
