"""Fetching the objects that notifications tell of: the version that is meant, and from known buckets only.

Whoever may write to the queue could otherwise have us read whatever our credentials can reach.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from koalja_fn.addresses import Inlet, Objects
from koalja_fn.engine.arriving import Offer
from koalja_fn.errors import Refused
from koalja_fn.events import DEFAULT_LIMITS
from koalja_fn.local.spool import spool_stream, too_large
from koalja_fn.model import Wire
from koalja_fn.program.naming import media_type
from koalja_fn.queues.notices import Notice
from koalja_fn.store.buckets import ABSENT, PRESENT, Bucket, Clients, code_of, explained

_UNSAID = ("", "binary/octet-stream", "application/octet-stream")
_NOT_OURS = ("AccessDenied", "403")


class Fetcher:
    """Makes offers of objects. `spool` is for large ones on their way; `say` tells of what is left out."""

    def __init__(
        self,
        inlet: Inlet,
        wire: Wire,
        spool: Path,
        say: Callable[[str], None],
        endpoint: str | None = None,
        limit: int = DEFAULT_LIMITS.body,
    ) -> None:
        self._inlet = inlet
        self._wire = wire
        self._spool = spool
        self._say = say
        self._limit = limit
        self._clients: dict[str, tuple[Bucket, Clients]] = {}
        for one in inlet.objects:
            bucket = Bucket(one.bucket, "", one.endpoint or endpoint, one.region)
            self._clients.setdefault(one.bucket, (bucket, Clients(bucket)))

    def offer(self, notice: Notice) -> Offer | None:
        """The object as an offer; None where it is not meant, gone, or overwritten since.

        Raises:
            Refused: The bucket is none of the wire's, may not be read, or the object is too large.
            StoreError: The bucket can't be asked now.
        """
        objects = [one for one in self._inlet.objects if one.bucket == notice.bucket]
        if not objects:
            raise self._strange(notice)
        if not any(one.matches(notice.key) for one in objects):
            self._say(f"{_name(notice)} is not taken: it does not match {', '.join(map(str, objects))}")
            return None
        bucket, clients = self._clients[notice.bucket]
        with explained(bucket, f"read {notice.key}"):
            answer = self._asked(clients, notice)
            if answer is None:
                return None
            if int(answer["ContentLength"]) > self._limit:
                answer["Body"].close()
                raise too_large(self._limit)
            with answer["Body"] as body:
                payload = spool_stream(body, self._spool, self._limit)
        return self._offered(notice, answer, payload)

    def close(self) -> None:
        """Let go of connections."""
        for _, clients in self._clients.values():
            clients.close()

    def _asked(self, clients: Clients, notice: Notice) -> Any:
        """S3's answer, its body still to be read; None where the object is gone or is another by now."""
        exactly = {"VersionId": notice.version} if notice.version else {}
        if not notice.version and notice.etag:
            exactly = {"IfMatch": f'"{notice.etag}"'}
        try:
            return clients.get().get_object(Bucket=notice.bucket, Key=notice.key, **exactly)
        except Exception as error:
            code = code_of(error)
            if code in ABSENT or code == "MethodNotAllowed":  # the version is a marker of a deletion
                self._say(f"{_name(notice)} is not taken: it was deleted")
                return None
            if code in PRESENT:
                self._say(f"{_name(notice)} is not taken: it was overwritten, of which another message tells")
                return None
            if code in _NOT_OURS:
                raise Refused(
                    f"{_name(notice)} can't be read",
                    why="access is denied, or it is gone and the bucket may not be listed",
                    cure=f"the credentials need s3:GetObject and s3:ListBucket on {notice.bucket}",
                ) from error
            raise

    def _offered(self, notice: Notice, answer: Any, payload: bytes | Path) -> Offer:
        told = str(answer.get("ContentType", ""))
        kind = media_type(notice.key) if told in _UNSAID else told
        modified = answer.get("LastModified")
        attributes = {"bucket": notice.bucket, "key": notice.key, "etag": notice.etag, "event": notice.what}
        if notice.version:
            attributes["version"] = notice.version
        return Offer(
            self._inlet.wire,
            payload,
            event_source=f"/buckets/{notice.bucket}/{notice.key}",
            event_id=notice.mark,
            type=self._wire.type or kind,
            created=round(modified.timestamp() * 1_000_000) if isinstance(modified, datetime) else None,
            name=notice.key,
            attributes=attributes,
        )

    def _strange(self, notice: Notice) -> Refused:
        named = Objects(notice.bucket, "*")
        queues = ", ".join(map(str, self._inlet.queues))
        return Refused(
            f"{_name(notice)} is not fetched",
            why=f"wire {self._inlet.wire} does not name its bucket, and whoever writes to the queue could"
            " ask for any",
            cure=f"if it is meant: from = {queues}, {named}",
        )


def _name(notice: Notice) -> str:
    return f"s3://{notice.bucket}/{notice.key}"
