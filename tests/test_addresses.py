"""Queues and buckets by their addresses: what is written is what is meant, whatever characters a key has."""

from __future__ import annotations

import pytest

from koalja_fn.addresses import LONGEST_KEY, Objects, Queue, objects_of, queue_of
from koalja_fn.errors import UsageError
from koalja_fn.model import AnnotatedValue


def value(name: str = "", id: str = "f" * 64) -> AnnotatedValue:
    return AnnotatedValue(
        id=id, circuit="c", wire="w", position=6, source="/s", created=0, arrived=0,
        digest="sha256:" + "a" * 64, size=1, type="text/plain", name=name, key="k/ey",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "queue"),
    [
        ("sqs://jobs", Queue("jobs")),
        ("sqs://jobs.fifo", Queue("jobs.fifo")),
        ("sqs://123456789012/jobs", Queue("jobs", "123456789012")),
        ("sqs://jobs?region=eu-west-1", Queue("jobs", region="eu-west-1")),
        (
            "https://sqs.eu-west-1.amazonaws.com/123456789012/jobs",
            Queue("jobs", "123456789012", region="eu-west-1"),
        ),
        (
            "sqs://sqs.eu-west-1.amazonaws.com/123456789012/jobs",
            Queue("jobs", "123456789012", region="eu-west-1"),
        ),
        (
            "http://localhost:4566/queue/000000000000/jobs",
            Queue("jobs", "000000000000", endpoint="http://localhost:4566"),
        ),
        (
            "sqs://jobs?endpoint=http://localhost:4566&region=x",
            Queue("jobs", endpoint="http://localhost:4566", region="x"),
        ),
    ],
)
def test_a_queue_is_named_in_several_ways(text: str, queue: Queue) -> None:
    assert queue_of(text) == queue


@pytest.mark.parametrize("text", ["sqs://", "sqs://a b", "sqs://a/b/c", "sqs://me/jobs", "sqs://" + "x" * 90])
def test_what_names_no_queue_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="names no queue"):
        queue_of(text)


@pytest.mark.parametrize("text", ["s3://", "s3:///x", "s3://A/x", "s3://x/y", "s3://a b/x"])
def test_what_names_no_bucket_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="names no bucket"):
        objects_of(text)


def test_a_key_is_kept_as_it_is_written() -> None:
    found = objects_of("s3://bucket/a b/%20#{id}?x=1.json?endpoint=http://h:1&region=r")
    assert found == Objects("bucket", "a b/%20#{id}?x=1.json", "http://h:1", "r")
    assert found.key(value(id="1")) == "a b/%20#1?x=1.json"


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("in/*.json", ["in/a.json", "in/ü +%.json"], ["in/a/b.json", "a.json", "in/a.jsonx"]),
        ("in/**.json", ["in/a.json", "in/a/b.json"], ["a.json"]),
        ("in/", ["in/a", "in/a/b"], ["out/a"]),
        ("", ["a", "a/b\nc"], []),
        ("a?c.[x]", ["abc.[x]"], ["a/c.[x]", "abc.x"]),
    ],
)
def test_keys_match_as_names_of_files_do(pattern: str, yes: list[str], no: list[str]) -> None:
    objects = Objects("b", pattern)
    assert [key for key in yes + no if objects.matches(key)] == yes


def test_what_a_stranger_named_adds_no_folder_to_a_key() -> None:
    assert objects_of("s3://bucket/out/{name}").key(value("../../a/b")) == "out/.._.._a_b"


def test_a_key_is_never_too_long_and_stays_the_values_own() -> None:
    keys = {objects_of("s3://bucket/out/{name}").key(value("ü" * 3000, id=f"{n}" * 64)) for n in range(3)}
    assert len(keys) == 3
    assert all(len(key.encode()) <= LONGEST_KEY for key in keys)
