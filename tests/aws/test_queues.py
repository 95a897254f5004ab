"""Wires with `from = sqs://…`, by a real LocalStack: nothing lost or twice, and what is refused stays."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from koalja_fn.addresses import inlets
from koalja_fn.engine.arriving import Intake
from koalja_fn.engine.installing import install
from koalja_fn.model import AnnotatedValue, Circuit, Wire
from koalja_fn.queues.feeding import pollers
from koalja_fn.registry import Registry, values
from koalja_fn.store import FileStore

from .localstack import LocalStack, shared
from .test_running import call, first_json


@pytest.fixture
def stack(monkeypatch: pytest.MonkeyPatch) -> LocalStack:
    found = shared()
    for name in (
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT_URL_S3",
        "AWS_ENDPOINT_URL_SQS",
        "AWS_REGION",
        "AWS_PROFILE",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    return found


class Fed:
    """A circuit with one wire that a queue feeds."""

    def __init__(self, folder: Path, source: str, endpoint: str, kind: str | None = None) -> None:
        self.folder = folder
        circuit = Circuit("c", (), {"in": Wire("in", source=source, type=kind)})
        self.registry = Registry(folder / "registry.db")
        self.store = FileStore(folder / "objects")
        self.plan = self.registry.transact(
            lambda tx: install(tx, self.registry.clock(), circuit, folder, {}, "")
        ).plan
        self.intake = Intake(self.registry, self.store, self.plan, lambda _: None)
        self.said: list[str] = []
        self.stop = threading.Event()
        self._opened = ExitStack()
        (inlet,) = inlets(circuit)
        (self.poller,) = pollers(
            inlet, self.intake, folder / "spool", self.stop, self.said.append, self._opened, endpoint, tries=2
        )

    def values(self) -> list[AnnotatedValue]:
        return self.registry.read(lambda tx: values.between(tx, self.plan.wires["in"], 0, 1000))

    def payloads(self) -> list[bytes]:
        return [self.store.read(value.digest) for value in self.values()]

    def close(self) -> None:
        self._opened.close()
        self.store.close()
        self.registry.close()


class Lines:
    """A queue of LocalStack, with its dead letters after `tries`."""

    def __init__(self, stack: LocalStack, tries: int = 0, **attributes: str) -> None:
        self.sqs = stack.client("sqs")
        self.fifo = "FifoQueue" in attributes
        self.dead = ""
        if tries:
            self.dead = stack.queue(**{name: text for name, text in attributes.items() if "Fifo" in name})
            arn = self.sqs.get_queue_attributes(QueueUrl=self.dead, AttributeNames=["QueueArn"])
            policy = {"deadLetterTargetArn": arn["Attributes"]["QueueArn"], "maxReceiveCount": tries}
            attributes["RedrivePolicy"] = json.dumps(policy)
        self.url = stack.queue(**attributes)
        self.name = self.url.rpartition("/")[2]

    def send(self, *bodies: str, **more: Any) -> list[str]:
        return [
            self.sqs.send_message(QueueUrl=self.url, MessageBody=body, **more)["MessageId"] for body in bodies
        ]

    def left(self, url: str = "") -> int:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        told = self.sqs.get_queue_attributes(QueueUrl=url or self.url, AttributeNames=names)["Attributes"]
        return sum(int(told[name]) for name in names)


Make = Callable[..., Fed]


@pytest.fixture
def fed(tmp_path: Path, stack: LocalStack) -> Iterator[Make]:
    made: list[Fed] = []

    def make(source: str, kind: str | None = None) -> Fed:
        made.append(Fed(tmp_path, source, stack.url, kind))
        return made[-1]

    yield make
    for one in made:
        one.close()


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


# --- messages


def test_messages_become_values_and_are_gone_from_the_queue(stack: LocalStack, fed: Make) -> None:
    lines = Lines(stack)
    ids = lines.send(*(f"reading {n} é" for n in range(23)))
    f = fed(f"sqs://{lines.name}")
    assert f.poller.drain(0) == 23
    assert sorted(f.payloads()) == sorted(f"reading {n} é".encode() for n in range(23))
    assert {(v.event_source, v.event_id) for v in f.values()} == {
        (f"/queues/{lines.name}", one) for one in ids
    }
    assert all(v.type == "text/plain" and v.created > 1_700_000_000_000_000 for v in f.values())
    assert lines.left() == 0
    assert f.said == []


def test_a_cloud_event_keeps_its_own_identity(stack: LocalStack, fed: Make) -> None:
    lines = Lines(stack)
    event = {
        "specversion": "1.0",
        "type": "org.example.t",
        "source": "/s",
        "id": "4711",
        "data": {"t": 12.50},
    }
    lines.send(json.dumps(event), json.dumps(event))  # the sender sent it twice: two messages, one value
    text = {name: {"DataType": "String", "StringValue": value} for name, value in (
        ("ce_specversion", "1.0"), ("ce_id", "ü 1%"), ("ce_source", "/t"), ("ce_type", "x"),
        ("ce_time", "2026-11-22T10:00:00Z"), ("Content-Type", "text/csv"))}  # fmt: skip
    lines.send("a,b", MessageAttributes=text)
    f = fed(f"sqs://{lines.name}")
    f.poller.drain(0)
    found = {(v.event_source, v.event_id): v for v in f.values()}
    assert found.keys() == {("/s", "4711"), ("/t", "ü 1%")}
    assert f.store.read(found["/s", "4711"].digest) == b'{"t": 12.5}'
    assert found["/s", "4711"].type == "application/json"
    assert (found["/t", "ü 1%"].type, found["/t", "ü 1%"].created) == ("text/csv", 1_795_341_600_000_000)
    assert lines.left() == 0


def test_attributes_of_a_plain_message_come_along(stack: LocalStack, fed: Make) -> None:
    lines = Lines(stack)
    given = {
        "Station-Name": {"DataType": "String", "StringValue": "north"},
        "n": {"DataType": "Number", "StringValue": "5"},
        "blob": {"DataType": "Binary", "BinaryValue": b"x"},
    }
    lines.send("12", MessageAttributes=given)
    f = fed(f"sqs://{lines.name}", "application/json")
    f.poller.drain(0)
    (value,) = f.values()
    assert dict(value.attributes) == {"stationname": "north", "n": "5"}
    assert value.type == "application/json"


def test_a_refused_message_stays_for_the_redrive_policy_and_is_told(stack: LocalStack, fed: Make) -> None:
    lines = Lines(stack, tries=2, VisibilityTimeout="1")
    broken = json.dumps({"specversion": "9.9", "id": "1", "source": "/s", "type": "t"})
    lines.send("good", broken, "good, too")
    f = fed(f"sqs://{lines.name}")

    def drained() -> bool:
        f.poller.drain(0)
        return lines.left(lines.dead) == 1

    until(drained)
    assert sorted(f.payloads()) == [b"good", b"good, too"]
    assert lines.left() == 0
    assert len(f.said) == 1
    assert "is refused and stays there; then it goes where the queue's redrive policy says" in f.said[0]


def test_a_fifo_queue_keeps_its_order_and_nothing_passes_what_is_refused(
    stack: LocalStack, fed: Make
) -> None:
    lines = Lines(stack, tries=3, VisibilityTimeout="1", FifoQueue="true", ContentBasedDeduplication="true")
    lines.send(*(f"a{n}" for n in range(5)), MessageGroupId="a")
    broken = json.dumps({"specversion": "9.9", "id": "1", "source": "/s", "type": "t"})
    lines.send("b0", broken, "b2", MessageGroupId="b")
    f = fed(f"sqs://{lines.name}")
    f.poller.drain(0)
    found = f.payloads()
    assert [p for p in found if p.startswith(b"a")] == [b"a0", b"a1", b"a2", b"a3", b"a4"]
    assert [p for p in found if p.startswith(b"b")] == [b"b0"]
    until(lambda: bool(f.poller.drain(0) or True) and b"b2" in f.payloads())
    assert (lines.left(), lines.left(lines.dead)) == (0, 1)  # b2 came after the other had gone there


def test_messages_are_kept_from_others_for_as_long_as_it_takes(
    stack: LocalStack, fed: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = Lines(stack, VisibilityTimeout="1")
    lines.send("slow")
    f = fed(f"sqs://{lines.name}")
    monkeypatch.setattr("koalja_fn.queues.client._LEAST_HELD", 1)
    accept, others = f.intake.accept, []

    def slowly(offers: Any) -> Any:
        end = time.monotonic() + 2.5  # longer than the message is hidden without being held
        while time.monotonic() < end:
            others.extend(lines.sqs.receive_message(QueueUrl=lines.url).get("Messages", []))
            time.sleep(0.1)
        return accept(offers)

    f.intake.accept = slowly  # type: ignore[method-assign]
    assert f.poller.drain(0) == 1
    assert others == []
    assert (f.payloads(), lines.left()) == ([b"slow"], 0)


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from koalja_fn.queues import client
from koalja_fn.queues.client import SqsQueue
from tests.aws.test_queues import Fed
client._LEAST_HELD = 2
delete = SqsQueue.delete
def killed(self, messages):
    if sys.argv[4] == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    delete(self, messages[: len(messages) // 2])
    os.kill(os.getpid(), signal.SIGKILL)
SqsQueue.delete = killed
Fed(Path(sys.argv[1]), sys.argv[2], sys.argv[3]).poller.drain(0)
"""


@pytest.mark.parametrize("when", ["before", "amid"])
def test_a_kill_between_commit_and_deletion_loses_nothing_and_takes_nothing_twice(
    stack: LocalStack, fed: Make, tmp_path: Path, when: str
) -> None:
    lines = Lines(stack, VisibilityTimeout="2")
    lines.send(*map(str, range(14)))
    source = f"sqs://{lines.name}"
    script = KILLED.format(root=str(Path(__file__).resolve().parents[2]))
    words = [sys.executable, "-c", script, str(tmp_path), source, stack.url, when]
    assert subprocess.run(words, timeout=60).returncode == -signal.SIGKILL
    f = fed(source)
    before = len(f.values())
    assert 0 < before <= 10
    # What the killed one had is hidden for two seconds, and then comes again.
    until(lambda: bool(f.poller.drain(0) or True) and lines.left() == 0, 60)
    assert sorted(f.payloads(), key=int) == [str(n).encode() for n in range(14)]


# --- objects


class Bucket:
    """A bucket that tells a queue of what comes."""

    def __init__(self, stack: LocalStack, lines: Lines, versions: bool = False) -> None:
        self.s3 = stack.client("s3")
        self.name = stack.bucket()
        if versions:
            self.s3.put_bucket_versioning(Bucket=self.name, VersioningConfiguration={"Status": "Enabled"})
        arn = lines.sqs.get_queue_attributes(QueueUrl=lines.url, AttributeNames=["QueueArn"])
        told = {
            "QueueArn": arn["Attributes"]["QueueArn"],
            "Events": ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"],
        }
        self.s3.put_bucket_notification_configuration(
            Bucket=self.name, NotificationConfiguration={"QueueConfigurations": [told]}
        )

    def put(self, key: str, data: bytes, **more: Any) -> None:
        self.s3.put_object(Bucket=self.name, Key=key, Body=data, **more)


def test_new_objects_are_fetched_and_the_trial_message_is_dropped(stack: LocalStack, fed: Make) -> None:
    lines = Lines(stack)
    bucket = Bucket(stack, lines)
    large = os.urandom(300_000)
    bucket.put("in/a b+ü %.json", b'{"a": 1}')
    bucket.put("in/large.bin", large)
    bucket.put("in/typed", b"x", ContentType="text/csv")
    bucket.put("elsewhere/c.json", b"no")
    until(lambda: lines.left() == 5)  # four, and the trial
    f = fed(f"sqs://{lines.name}, s3://{bucket.name}/in/*")
    assert f.poller.drain(0) == 5
    found = {value.name: value for value in f.values()}
    assert found.keys() == {"in/a b+ü %.json", "in/large.bin", "in/typed"}
    assert f.store.read(found["in/large.bin"].digest) == large
    assert [found[name].type for name in sorted(found)] == [
        "application/json", "application/octet-stream", "text/csv"]  # fmt: skip
    value = found["in/a b+ü %.json"]
    assert value.event_source == f"/buckets/{bucket.name}/in/a b+ü %.json"
    assert lines.left() == 0
    assert [said for said in f.said if "does not match" not in said] == []
    assert list((f.folder / "spool").glob("*")) == []


def test_an_object_that_is_gone_or_was_overwritten_is_no_error(stack: LocalStack, fed: Make) -> None:
    lines = Lines(stack)
    bucket = Bucket(stack, lines)
    bucket.put("a", b"1")
    bucket.put("b", b"old")
    bucket.put("b", b"new")
    bucket.s3.delete_object(Bucket=bucket.name, Key="a")
    until(lambda: lines.left() == 5)
    f = fed(f"sqs://{lines.name}, s3://{bucket.name}/*")
    f.poller.drain(0)
    assert f.payloads() == [b"new"]
    assert lines.left() == 0
    assert sorted(said.partition(" is not taken: ")[2].split(",")[0] for said in f.said) == [
        "it was deleted", "it was overwritten"]  # fmt: skip


def test_with_versions_each_is_taken_as_it_was(stack: LocalStack, fed: Make) -> None:
    lines = Lines(stack)
    bucket = Bucket(stack, lines, versions=True)
    for data in (b"1", b"2", b"1"):
        bucket.put("a", data)
    bucket.s3.delete_object(Bucket=bucket.name, Key="a")
    f = fed(f"sqs://{lines.name}, s3://{bucket.name}/*")
    until(lambda: bool(f.poller.drain(0) or True) and len(f.values()) == 3)
    assert sorted(f.payloads()) == [b"1", b"1", b"2"]


def test_an_object_of_a_bucket_that_the_wiring_does_not_name_is_never_fetched(
    stack: LocalStack, fed: Make
) -> None:
    lines = Lines(stack, tries=1, VisibilityTimeout="0")
    other = stack.bucket()
    stack.client("s3").put_object(Bucket=other, Key="secret", Body=b"s")
    told = {"bucket": {"name": other}, "object": {"key": "secret", "eTag": "x", "sequencer": "1"}}
    lines.send(
        json.dumps({"Records": [{"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": told}]})
    )
    f = fed(f"sqs://{lines.name}, s3://{stack.bucket()}/*")
    f.poller.drain(0)
    assert f.values() == []
    assert f"s3://{other}/*" in f.said[0]


def test_an_object_above_the_limit_is_refused(
    stack: LocalStack, fed: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = Lines(stack)
    bucket = Bucket(stack, lines)
    bucket.put("a", b"x" * 1001)
    until(lambda: lines.left() == 2)
    f = fed(f"sqs://{lines.name}, s3://{bucket.name}/*")
    f.poller._fetcher._limit = 1000
    f.poller.drain(0)
    assert (f.values(), lines.left()) == ([], 1)
    assert "the body is larger than 1000 bytes" in f.said[0]


# --- run


def test_run_once_drains_a_queue_and_run_follows_it(stack: LocalStack, tmp_path: Path) -> None:
    lines = Lines(stack)
    (tmp_path / "w.koalja").write_text(
        f'[w]\n(in) upper (out)\n  run = sh -c "tr a-z A-Z < {{in}}"\nwire in\n  from = sqs://{lines.name}\n'
    )
    lines.send("one", "two")
    said = call(tmp_path, "run", "--once", "-o", "json", "--endpoint-url", stack.url)
    paths = [Path(value["path"]) for value in first_json(said)["wires"]["out"]]
    assert sorted(path.read_text() for path in paths) == ["ONE", "TWO"]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "KOALJA_"))}
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    running = subprocess.Popen(
        [sys.executable, "-m", "koalja_fn", "run", "--endpoint-url", stack.url],
        cwd=tmp_path, env={**clean, **keys}, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        lines.send("three")
        until(lambda: lines.left() == 0)
        running.send_signal(signal.SIGTERM)
        assert running.wait(15) == 0  # a poll that is under way holds up nobody
    finally:
        running.kill()
        running.wait()
    said = call(tmp_path, "run", "--once", "-o", "json", "--endpoint-url", stack.url)
    assert first_json(said)["totals"] == {"in": 3, "out": 3}


def test_a_queue_that_is_not_there_is_told(stack: LocalStack, tmp_path: Path) -> None:
    (tmp_path / "w.koalja").write_text(
        "[w]\n(in) t (out)\n  run = cat {in}\nwire in\n  from = sqs://nowhere\n"
    )
    assert "there is no queue nowhere" in call(
        tmp_path, "run", "--once", "--endpoint-url", stack.url, status=8
    )
