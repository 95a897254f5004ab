#!/usr/bin/env python3
"""MQTT to a circuit: each message is posted to a wire of the entry, and confirmed when it is durable there.

The broker keeps what was not confirmed (QoS 1, a session that outlives the connection) and sends it again: so
nothing is lost, whoever is killed. Topic and payload are the event's identity, so nothing is twice; a
sensor that may say the same words anew puts the time into them. No packages are needed.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import socket
import struct
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import quote

CONNECT, CONNACK, PUBLISH, PUBACK = 0x10, 0x20, 0x30, 0x40
SUBSCRIBE, SUBACK, PINGREQ, DISCONNECT = 0x82, 0x90, 0xC0, 0xE0
ALIVE = 30  # seconds in which the broker wants to hear of us
LONGEST_PAUSE = 10.0
REPEATED = (408, 425, 429, 500, 502, 503, 504)


class Message(NamedTuple):
    """What a sensor said. `number` is what the broker wants confirmed; 0 for messages of QoS 0."""

    topic: str
    payload: bytes
    number: int


class Broker:
    """A connection to an MQTT 3.1.1 broker, with a session that it keeps for us."""

    def __init__(self, address: str, name: str, topics: list[str], user: str, password: str) -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=10)
        self._heard = time.monotonic()
        flags = 0x80 * bool(user) | 0x40 * bool(password)
        more = b"".join(_text(word) for word in (user, password) if word)
        self._send(CONNECT, _text("MQTT") + struct.pack("!BBH", 4, flags, ALIVE) + _text(name) + more)
        kind, body = self._packet()
        if kind != CONNACK or body[1]:
            raise ConnectionError(f"the broker refuses the connection (code {body[1:2].hex() or 'none'})")
        self._send(SUBSCRIBE, struct.pack("!H", 1) + b"".join(_text(topic) + b"\x01" for topic in topics))
        # Messages of the session may come before the answer: it is looked at where it comes.

    def messages(self) -> Iterator[Message | None]:
        """What comes; None where nothing came for a while."""
        while True:
            self._socket.settimeout(1)
            try:
                first = self._socket.recv(1, socket.MSG_PEEK)
            except TimeoutError:
                self.stay()
                yield None
                continue
            if not first:
                raise ConnectionError("the broker has gone")
            self._socket.settimeout(10)
            kind, body = self._packet()
            if kind == SUBACK and any(code > 2 for code in body[2:]):
                raise SystemExit("bridge: the broker does not let us subscribe")
            if kind & 0xF0 == PUBLISH:
                yield _message(kind, body)

    def confirm(self, message: Message) -> None:
        """The broker may forget it."""
        if message.number:
            self._send(PUBACK, struct.pack("!H", message.number))

    def stay(self) -> None:
        """Let the broker hear of us, if it is time."""
        if time.monotonic() - self._heard > ALIVE / 3:
            self._send(PINGREQ, b"")

    def close(self) -> None:
        """Say goodbye; the session stays."""
        with contextlib.suppress(OSError):
            self._send(DISCONNECT, b"")
        self._socket.close()

    def _send(self, kind: int, body: bytes) -> None:
        length, left = b"", len(body)
        while True:
            left, digit = divmod(left, 128)
            length += bytes([digit | 0x80 * (left > 0)])
            if not left:
                break
        self._socket.sendall(bytes([kind]) + length + body)
        self._heard = time.monotonic()

    def _packet(self) -> tuple[int, bytes]:
        kind, length, shift = self._read(1)[0], 0, 0
        while True:
            digit = self._read(1)[0]
            length |= (digit & 0x7F) << shift
            if not digit & 0x80:
                return kind, self._read(length)
            shift += 7

    def _read(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = self._socket.recv(count - len(data))
            if not piece:
                raise ConnectionError("the broker has gone")
            data += piece
        return data


def _text(words: str) -> bytes:
    data = words.encode()
    return struct.pack("!H", len(data)) + data


def _message(kind: int, body: bytes) -> Message:
    end = 2 + struct.unpack_from("!H", body)[0]
    if not kind & 0x06:
        return Message(body[2:end].decode(), body[end:], 0)
    return Message(body[2:end].decode(), body[end + 2 :], struct.unpack_from("!H", body, end)[0])


def post(entry: str, message: Message, broker: Broker) -> None:
    """Have a message durable at the entry; tried for as long as it may help."""
    named = hashlib.sha256(message.topic.encode() + b"\0" + message.payload).hexdigest()
    headers = {
        "ce-specversion": "1.0",
        "ce-type": "mqtt.message",
        "ce-source": "/mqtt/" + quote(message.topic),
        "ce-subject": quote(message.topic),
        "ce-id": named,
        "Content-Type": "application/json" if _is_json(message.payload) else "application/octet-stream",
    }
    pause = 0.2
    while True:
        try:
            request = urllib.request.Request(entry, message.payload, headers, method="POST")
            urllib.request.urlopen(request, timeout=60).close()
            return
        except urllib.error.HTTPError as error:
            why = f"{error.code}: {error.read(500).decode(errors='replace')}"
            if error.code not in REPEATED:
                say(f"a message of {message.topic} is refused: {why}")
                return
        except OSError as error:
            why = str(error)
        if pause > 1:
            say(f"the entry can't take it now ({why}); it is tried again")
        time.sleep(pause)
        broker.stay()
        pause = min(2 * pause, LONGEST_PAUSE)


def _is_json(data: bytes) -> bool:
    try:
        json.loads(data)
    except ValueError:
        return False
    return True


def say(text: str) -> None:
    """Tell whoever runs this."""
    print(f"bridge: {text}", file=sys.stderr, flush=True)


def carry(given: argparse.Namespace, done: int) -> Iterator[int]:
    """Carry messages until the connection breaks, or there are enough; how many were carried in all."""
    broker = Broker(given.mqtt, given.name, given.topic, given.user, given.password)
    say(f"connected to {given.mqtt}")
    try:
        if done == given.count:  # only the session was wanted: it keeps messages from now on
            next(broker.messages())
            return
        for message in broker.messages():
            if message is not None:
                post(given.to, message, broker)
                broker.confirm(message)
                done += 1
                yield done
                if done == given.count:
                    return
    finally:
        broker.close()


def main() -> None:
    """Carry messages for ever, through broken connections."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--mqtt", default="127.0.0.1:1883", help="the broker, HOST:PORT")
    parser.add_argument(
        "--topic", action="append", required=True, help="what to subscribe to; more than once"
    )
    parser.add_argument("--to", required=True, help="a wire of the entry, http://HOST:PORT/CIRCUIT/WIRE")
    parser.add_argument("--name", default="koalja-bridge", help="by which the broker knows our session")
    parser.add_argument("--user", default="")
    parser.add_argument("--password-file", type=argparse.FileType(), help="a file with the password")
    parser.add_argument("--count", type=int, help="end after so many messages; 0: only begin the session")
    given = parser.parse_args()
    given.password = given.password_file.read().strip() if given.password_file else ""
    done, pause = 0, 0.2
    while True:
        try:
            for carried in carry(given, done):
                done, pause = carried, 0.2
            if done == (given.count or 0):
                return
        except OSError as error:
            if pause > 1:
                say(f"{given.mqtt}: {error}; it is tried again")
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)


if __name__ == "__main__":
    main()
