"""What S3 tells a queue of new objects: by itself, through a topic of SNS, or through EventBridge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

from koalja_fn.errors import Refused
from koalja_fn.queues.messages import document


@dataclass(frozen=True, slots=True)
class Notice:
    """An object that was created. `version` is empty in a bucket without versions.

    `mark` tells this event from others of the same key: the version, else S3's sequencer, else the ETag.
    """

    bucket: str
    key: str
    etag: str
    version: str
    mark: str
    what: str


def notices_of(body: str) -> list[Notice] | None:
    """The objects that a message tells of; None where it is no notification, empty where none was created.

    Raises:
        Refused: It is a notification with a part missing.
    """
    return _notices(document(body), wrapped=False)


def _notices(told: Any, *, wrapped: bool) -> list[Notice] | None:
    if not isinstance(told, dict):
        return None
    if told.get("Event") == "s3:TestEvent" and "Bucket" in told:  # S3 tries the queue out
        return []
    if told.get("Type") == "Notification" and "TopicArn" in told and not wrapped:
        return _notices(document(str(told.get("Message", ""))), wrapped=True)
    if told.get("source") == "aws.s3" and isinstance(told.get("detail"), dict):
        created = told.get("detail-type") == "Object Created"
        return [_of_eventbridge(told["detail"])] if created else []
    records = told.get("Records")
    if isinstance(records, list) and records and all(map(_is_record, records)):
        return [_of_record(one) for one in records if _what(one).startswith("ObjectCreated:")]
    return None


def _is_record(one: Any) -> bool:
    return isinstance(one, dict) and str(one.get("eventSource", "")).endswith(":s3") and "s3" in one


def _what(record: dict[str, Any]) -> str:
    return str(record.get("eventName", "")).removeprefix("s3:")


def _of_record(record: dict[str, Any]) -> Notice:
    """In records of S3 keys are encoded as in a form, a space as `+`."""
    return _notice(record["s3"], unquote_plus, "eTag", "versionId", _what(record))


def _of_eventbridge(detail: dict[str, Any]) -> Notice:
    """In events of EventBridge keys are as they are."""
    return _notice(detail, str, "etag", "version-id", "ObjectCreated:" + str(detail.get("reason", "")))


def _notice(told: Any, decoded: Any, etag: str, version: str, what: str) -> Notice:
    try:
        bucket, item = str(told["bucket"]["name"]), told["object"]
        key = decoded(item["key"])
        tag, numbered = str(item.get(etag) or ""), str(item.get(version) or "")
        mark = numbered or str(item.get("sequencer") or "") or tag
    except (KeyError, TypeError, AttributeError) as error:
        raise Refused("the notification names no object", why=f"it lacks {error}") from error
    if not bucket or not key or not mark:
        raise Refused("the notification names no object", why="its bucket, key or ETag is empty")
    return Notice(bucket, key, tag.strip('"'), "" if numbered == "null" else numbered, mark, what)
