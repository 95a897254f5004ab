"""Wires with `to = s3://…`, by a real LocalStack: each value under its key, once, and nobody else held up."""

from __future__ import annotations

import hashlib
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from koalja_fn.addresses import objects_of
from koalja_fn.engine.arriving import Intake, Offer
from koalja_fn.engine.installing import install
from koalja_fn.engine.sinking import Sinks
from koalja_fn.errors import StoreError
from koalja_fn.model import AnnotatedValue, Circuit, Wire
from koalja_fn.registry import Registry, tasks, values
from koalja_fn.store import FileStore
from koalja_fn.store.outlet import Outlet

from .localstack import LocalStack, shared
from .test_running import call, first_json


@pytest.fixture
def stack(monkeypatch: pytest.MonkeyPatch) -> LocalStack:
    found = shared()
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    return found


class Sunk:
    """A circuit with a source wire for each sink, and what its sinks write."""

    def __init__(self, folder: Path, sinks: dict[str, str], endpoint: str) -> None:
        circuit = Circuit("c", (), {wire: Wire(wire, sink=to) for wire, to in sinks.items()})
        self.registry = Registry(folder / "registry.db")
        self.store = FileStore(folder / "objects")
        self.plan = self.registry.transact(
            lambda tx: install(tx, self.registry.clock(), circuit, folder, {}, "")
        ).plan
        self.intake = Intake(self.registry, self.store, self.plan, lambda _: None)
        self.endpoint = endpoint

    def send(self, wire: str, *payloads: bytes, name: str = "") -> list[str]:
        return [
            r.id for r in self.intake.accept([Offer(wire, p, name=name, type="text/plain") for p in payloads])
        ]

    def sinks(self, said: Callable[[BaseException], None] = lambda _: None) -> Sinks:
        return Sinks(self.registry, self.store, self.plan, said, endpoint=self.endpoint)

    def sunk(self, wire: str) -> int:
        return self.registry.read(lambda tx: tasks.sunk(tx, self.plan.wires[wire]))

    def values(self, wire: str) -> list[AnnotatedValue]:
        return self.registry.read(lambda tx: values.between(tx, self.plan.wires[wire], 0, 1000))


@pytest.fixture
def circuit(tmp_path: Path, stack: LocalStack) -> Iterator[Callable[[dict[str, str]], Sunk]]:
    made: list[Sunk] = []

    def make(sinks: dict[str, str]) -> Sunk:
        made.append(Sunk(tmp_path, sinks, stack.url))
        return made[-1]

    yield make
    for one in made:
        one.store.close()
        one.registry.close()


def objects(stack: LocalStack, bucket: str) -> dict[str, bytes]:
    s3 = stack.client("s3")
    found = s3.list_objects_v2(Bucket=bucket).get("Contents", [])
    return {item["Key"]: s3.get_object(Bucket=bucket, Key=item["Key"])["Body"].read() for item in found}


Make = Callable[[dict[str, str]], Sunk]


def test_each_value_becomes_an_object_with_its_type(stack: LocalStack, circuit: Make) -> None:
    bucket = stack.bucket()
    c = circuit({"a": f"s3://{bucket}/out put/{{position}}-{{id}}.txt"})
    ids = c.send("a", *(str(n).encode() for n in range(120)))
    c.sinks().flush()
    assert objects(stack, bucket) == {
        f"out put/{n + 1:06d}-{one}.txt": str(n).encode() for n, one in enumerate(ids)
    }
    head = stack.client("s3").head_object(Bucket=bucket, Key=f"out put/000001-{ids[0]}.txt")
    assert head["ContentType"] == "text/plain"
    assert c.sunk("a") == 120


def test_what_is_there_is_not_sent_again(stack: LocalStack, circuit: Make) -> None:
    bucket = stack.bucket()
    stack.client("s3").put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    c = circuit({"a": f"s3://{bucket}/"})
    c.send("a", b"1", b"2")
    c.sinks().flush()
    c.registry.transact(lambda tx: tx.do("UPDATE wire SET sunk = 0"))  # killed before it was recorded
    c.sinks().flush()
    versions = stack.client("s3").list_object_versions(Bucket=bucket)["Versions"]
    assert len(versions) == 2
    assert c.sunk("a") == 2


def test_under_one_key_the_latest_value_stays_also_if_a_slow_writer_comes_after(
    stack: LocalStack, circuit: Make
) -> None:
    bucket = stack.bucket()
    c = circuit({"a": f"s3://{bucket}/latest.txt"})
    c.send("a", b"first", b"second")
    c.sinks().flush()
    assert objects(stack, bucket) == {"latest.txt": b"second"}
    slow = Outlet(objects_of(f"s3://{bucket}/latest.txt"), stack.url)
    first = c.values("a")[0]
    slow.write(first, lambda: c.store.open(first.digest))
    assert objects(stack, bucket) == {"latest.txt": b"second"}
    slow.write(first, lambda: c.store.open(first.digest), streamed=False)
    assert objects(stack, bucket) == {"latest.txt": b"first"}
    slow.close()


def test_somebody_elses_object_is_replaced_as_a_file_would_be(stack: LocalStack, circuit: Make) -> None:
    bucket = stack.bucket()
    stack.client("s3").put_object(Bucket=bucket, Key="x.txt", Body=b"theirs")
    c = circuit({"a": f"s3://{bucket}/x.txt"})
    c.send("a", b"ours")
    c.sinks().flush()
    assert objects(stack, bucket) == {"x.txt": b"ours"}


def test_a_large_value_travels_in_parts(stack: LocalStack, circuit: Make, tmp_path: Path) -> None:
    bucket = stack.bucket()
    c = circuit({"a": f"s3://{bucket}/x"})
    data = bytes(range(256)) * 45_000  # 11.5 MB
    c.send("a", data)
    (value,) = c.values("a")
    outlet = Outlet(objects_of(f"s3://{bucket}/{{name}}"), stack.url, part=5 << 20)
    where = outlet.write(replace(value, name="big"), lambda: c.store.open(value.digest))
    outlet.write(replace(value, name="big"), lambda: c.store.open(value.digest))
    outlet.close()
    assert where == f"s3://{bucket}/big"
    assert hashlib.sha256(objects(stack, bucket)["big"]).hexdigest() == value.digest.removeprefix("sha256:")


def test_a_bucket_that_does_not_answer_holds_up_nobody_else(
    stack: LocalStack, circuit: Make, tmp_path: Path
) -> None:
    bucket = stack.bucket()
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        address = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        c = circuit(
            {
                "a": f"s3://{bucket}/a?endpoint={address}",
                "b": f"s3://{bucket}/b",
                "d": str(tmp_path / "outbox/{position}"),
            }
        )
        for wire in ("a", "b", "d"):
            c.send(wire, b"x")
        sinks = c.sinks()
        sinks.start()
        until = time.monotonic() + 30
        while (c.sunk("b"), c.sunk("d")) != (1, 1) and time.monotonic() < until:
            time.sleep(0.05)
        assert (c.sunk("a"), c.sunk("b"), c.sunk("d")) == (0, 1, 1)
    # The listener is gone: the connection of the deaf one is reset, and the end does not wait for it.
    sinks.stop()
    assert c.sunk("a") == 0


def test_no_bucket_is_told_once_and_tried_again_until_it_is_there(stack: LocalStack, circuit: Make) -> None:
    name = stack.bucket()
    s3 = stack.client("s3")
    s3.delete_bucket(Bucket=name)
    c = circuit({"a": f"s3://{name}/{{id}}"})
    c.send("a", b"x")
    with pytest.raises(StoreError, match=f"there is no bucket {name}"):
        c.sinks().flush()
    assert c.sunk("a") == 0
    said: list[Any] = []
    sinks = c.sinks(said.append)
    sinks.start()
    s3.create_bucket(Bucket=name)
    sinks.stop()
    assert list(objects(stack, name).values()) == [b"x"]
    assert len(said) <= 1


def test_make_writes_to_the_bucket_what_it_made(stack: LocalStack, tmp_path: Path) -> None:
    bucket = stack.bucket()
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "w.koalja").write_text(
        "[w]\n(in) copy (out)\n    run = cp {in} {out.out}\n"
        f"wire in\n    from = a.txt\nwire out\n    to = s3://{bucket}/made/latest.txt\n"
    )
    told = first_json(call(tmp_path, "make", "-q", "-o", "json", AWS_ENDPOINT_URL=stack.url))
    assert told["wires"]["out"][0]["path"] == f"s3://{bucket}/made/latest.txt"
    assert objects(stack, bucket) == {"made/latest.txt": b"x"}
    stack.client("s3").delete_object(Bucket=bucket, Key="made/latest.txt")
    call(tmp_path, "make", "-q", AWS_ENDPOINT_URL=stack.url)
    assert objects(stack, bucket) == {"made/latest.txt": b"x"}, (
        "nothing was to be made, but the object was gone"
    )
