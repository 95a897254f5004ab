"""What S3 tells of new objects, in each wrapping that a queue may bring; and what is none of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from koalja_fn.errors import Refused
from koalja_fn.queues.notices import Notice, notices_of


def record(key: str = "a", event: str = "ObjectCreated:Put", **item: Any) -> dict[str, Any]:
    told = {"key": key, "size": 3, "eTag": "e1", "sequencer": "0055AE", **item}
    return {"eventSource": "aws:s3", "eventName": event, "s3": {"bucket": {"name": "b"}, "object": told}}


def from_s3(*records: dict[str, Any]) -> str:
    return json.dumps({"Records": list(records)})


def through_sns(body: str) -> str:
    return json.dumps(
        {"Type": "Notification", "TopicArn": "arn:aws:sns:x:1:t", "MessageId": "m", "Message": body}
    )


def from_eventbridge(key: str = "a", kind: str = "Object Created") -> str:
    told = {"key": key, "size": 3, "etag": "e1", "version-id": "v7", "sequencer": "0055AE"}
    detail = {"bucket": {"name": "b"}, "object": told, "reason": "CopyObject"}
    return json.dumps({"source": "aws.s3", "detail-type": kind, "detail": detail})


PUT = Notice("b", "in/a b+ü.json", "e1", "", "0055AE", "ObjectCreated:Put")
ENCODED = "in/a+b%2B%C3%BC.json"


def test_keys_in_records_are_decoded() -> None:
    assert notices_of(from_s3(record(ENCODED))) == [PUT]


def test_a_topic_may_stand_between() -> None:
    assert notices_of(through_sns(from_s3(record(ENCODED)))) == [PUT]


def test_keys_of_eventbridge_are_taken_as_they_are() -> None:
    (found,) = notices_of(from_eventbridge(ENCODED)) or []
    assert (found.key, found.version, found.mark) == (ENCODED, "v7", "v7")


def test_one_message_may_tell_of_several_objects() -> None:
    body = from_s3(record("a"), record("x", "ObjectRemoved:Delete"), record("b", versionId="v1"))
    assert [(one.key, one.mark) for one in notices_of(body) or []] == [("a", "0055AE"), ("b", "v1")]


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "b"}),
        through_sns(json.dumps({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "b"})),
        from_s3(record(event="ObjectRemoved:Delete")),
        from_eventbridge(kind="Object Deleted"),
    ],
)
def test_what_tells_of_no_new_object_offers_nothing(body: str) -> None:
    assert notices_of(body) == []


@pytest.mark.parametrize(
    "body",
    [
        "12.5", "", "{", "[]", "[" * 100_000, '{"Records": []}', '{"Records": [{"eventSource": "aws:sqs"}]}',
        '{"Records": "none"}', through_sns("hello"), through_sns(through_sns(from_s3(record()))),
        json.dumps({"source": "aws.ec2", "detail": {}}),
    ],
)  # fmt: skip
def test_any_other_message_is_none(body: str) -> None:
    assert notices_of(body) is None


@pytest.mark.parametrize("item", [{"key": ""}, {"key": None}, {"eTag": "", "sequencer": ""}])
def test_a_notification_with_a_part_missing_is_refused(item: dict[str, Any]) -> None:
    with pytest.raises(Refused, match="names no object"):
        notices_of(
            from_s3(
                record() | {"s3": {"bucket": {"name": "b"}, "object": {**record()["s3"]["object"], **item}}}
            )
        )
