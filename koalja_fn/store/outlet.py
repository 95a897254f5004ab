"""Writing values where others read them: objects of a bucket under keys of the user's choice.

An object tells whose value it is, and what its bytes are. So a value that is there is not sent again, and of
two processes that write the values of one wire under one key the later value stays, whoever is slower.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO
from urllib.parse import quote

from koalja_fn.addresses import Objects
from koalja_fn.errors import StoreError
from koalja_fn.model import AnnotatedValue
from koalja_fn.store.buckets import ABSENT, NO_CONDITIONS, PRESENT, Bucket, Clients, code_of, explained
from koalja_fn.store.protocol import hex_of
from koalja_fn.store.uploading import PART, Upload, send

_TRIES = 5
_FEW = 2  # of each request: whoever writes tries again, later


@dataclass(frozen=True, slots=True)
class _There:
    """An object that has the key already."""

    etag: str
    size: int
    marks: dict[str, str]

    def stands(self, value: AnnotatedValue, marks: dict[str, str]) -> bool:
        """Whether it is the value itself, or a later one of its wire."""
        if self.marks.get("koalja-digest") == value.digest and self.size == value.size:
            return True
        arrived = self.marks.get("koalja-arrived", "")
        same = all(self.marks.get(name) == marks[name] for name in ("koalja-circuit", "koalja-wire"))
        return "koalja-arrived" in marks and same and arrived.isdecimal() and int(arrived) > value.arrived


class Outlet:
    """A bucket, and how values' keys are made there. `endpoint` is used where the address names none."""

    def __init__(self, objects: Objects, endpoint: str | None = None, *, part: int = PART) -> None:
        self.objects = objects
        self._bucket = Bucket(objects.bucket, "", objects.endpoint or endpoint, objects.region)
        self._clients = Clients(self._bucket, _FEW)
        self._conditions = True
        self._part = part

    def write(self, value: AnnotatedValue, opened: Callable[[], BinaryIO], *, streamed: bool = True) -> str:
        """Have a value's payload in the bucket; where it is then. `opened` opens the payload.

        Values of a stream are `streamed`: an earlier one never takes the place of a later one of its wire.

        Raises:
            StoreError: It can't be written.
        """
        key = self.objects.key(value)
        marks = {
            "koalja-circuit": quote(value.circuit),
            "koalja-wire": quote(value.wire),
            "koalja-id": value.id,
            "koalja-digest": value.digest,
        }
        if streamed:  # the registry's clock: on one wire it only goes forward, also after a new beginning
            marks["koalja-arrived"] = str(value.arrived)
        with explained(self._bucket, f"take {key}"):
            there = None if self._conditions else self._there(key)
            for _ in range(_TRIES):
                if there is not None and there.stands(value, marks):
                    break
                if self._sent(key, value, marks, opened, there):
                    break
                there = self._there(key)
            else:
                raise StoreError(
                    f"s3://{self._bucket.name}/{key} can't be written",
                    why="others write to it all the time",
                    cure="give each value a key of its own, such as {id}; it is tried again",
                )
        return f"s3://{self._bucket.name}/{key}"

    def close(self) -> None:
        """Let go of connections."""
        self._clients.close()

    def _sent(
        self,
        key: str,
        value: AnnotatedValue,
        marks: dict[str, str],
        opened: Callable[[], BinaryIO],
        there: _There | None,
    ) -> bool:
        """Send it in the place of `there`; False where something else is there by now."""
        condition = {"IfMatch": there.etag} if there is not None else {"IfNoneMatch": "*"}
        upload = Upload(
            self._bucket.name,
            key,
            value.size,
            hex_of(value.digest),
            condition if self._conditions else {},
            {"ContentType": value.type, "Metadata": marks},
        )
        try:
            with opened() as body:
                send(self._clients.get(), upload, body, self._part)
        except Exception as error:
            if code_of(error) in NO_CONDITIONS and self._conditions:
                self._conditions = False  # an older server: it is looked first, and then sent
                return False
            if code_of(error) in PRESENT or (there is not None and code_of(error) in ABSENT):
                return False
            raise
        return True

    def _there(self, key: str) -> _There | None:
        try:
            found: Any = self._clients.get().head_object(Bucket=self._bucket.name, Key=key)
        except Exception as error:
            if code_of(error) in ABSENT:
                return None
            raise
        marks = {str(name).lower(): str(text) for name, text in found.get("Metadata", {}).items()}
        return _There(str(found["ETag"]), int(found["ContentLength"]), marks)
