"""`send` with a real registry and a real entry, running and not running."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from koalja_fn.commands import main
from koalja_fn.errors import Full
from koalja_fn.local import client
from koalja_fn.local.opening import open_registry
from koalja_fn.local.serving import Server, entry
from koalja_fn.local.workplace import open_workplace

WIRING = """[demo]
(in, typed) work (out)
    run = cat {in}
wire typed
    type = application/json
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "demo"
    folder.mkdir()
    (folder / "demo.koalja").write_text(WIRING)
    return folder


def send(folder: Path, *args: str, stdin: str | bytes | None = None) -> Result:
    return CliRunner().invoke(main, ["send", str(folder), *args], input=stdin)


def accepted(folder: Path, *args: str, stdin: str | bytes | None = None) -> list[dict[str, Any]]:
    result = send(folder, *args, "-o", "json", stdin=stdin)
    assert result.exit_code == 0, result.output
    found: list[dict[str, Any]] = json.loads(result.stdout)["accepted"]
    return found


def kept(folder: Path) -> list[tuple[Any, ...]]:
    """Values as (wire, payload, type, name, event source, event id, sequence, attributes)."""
    from koalja_fn.local.opening import joined
    from koalja_fn.store import FileStore

    registry = open_registry(folder)
    store = joined(FileStore(folder / ".koalja" / "objects"), registry)
    try:
        rows = registry.read(
            lambda tx: tx.all(
                "SELECT w.name, v.digest, v.type, v.name,"
                " v.event_source, v.event_id, v.sequence, v.attributes"
                " FROM value v JOIN wire w ON w.id = v.wire ORDER BY w.name, v.position"
            )
        )
        return [(r[0], store.read(r[1]), *r[2:7], json.loads(r[7])) for r in rows]
    finally:
        store.close()
        registry.close()


@contextmanager
def running(folder: Path, before: Any = None) -> Iterator[Server]:
    """The folder with its entry up, as `run` has it; `before` is called before each arrival."""
    with open_workplace(folder) as workplace:
        intake = workplace.intake()
        if before is not None:
            accept = intake.accept
            intake.accept = lambda offers: (before(), accept(offers))[1]  # type: ignore[method-assign]
        spool = workplace.state / "spool"
        server = Server(entry(intake, spool=spool), spool=spool)
        server.start()
        (workplace.state / "run.json").write_text(
            json.dumps({"url": server.url, "pid": os.getpid(), "circuit": "demo"})
        )
        try:
            yield server
        finally:
            server.drain(5)


@pytest.fixture(params=["running", "not running"])
def ways(request: pytest.FixtureRequest, folder: Path) -> Iterator[Path]:
    """The same must come of both ways."""
    if request.param == "running":
        with running(folder):
            yield folder
    else:
        yield folder


def test_text_files_and_standard_input(ways: Path, tmp_path: Path):
    big = tmp_path / "big \u00e9.csv"
    big.write_bytes(b"0123456789" * 20_000)
    assert send(ways, "in", "--data", "hello").output.startswith("in 1  ")
    assert len(accepted(ways, "in", str(big), "-", stdin=b"\x00\xff" * 50_000)) == 2
    accepted(ways, "typed", "--data", "{}")
    accepted(ways, "typed", "--data", "x", "--type", "text/x-other")
    text, file, stream, typed, other = kept(ways)
    assert text[:4] == ("in", b"hello", "text/plain", "")
    assert file[:4] == ("in", big.read_bytes(), "text/csv", "big \u00e9.csv")
    assert stream[:3] == ("in", b"\x00\xff" * 50_000, "application/octet-stream")
    assert (typed[2], other[2]) == ("application/json", "text/x-other")
    assert text[4] == "/send"
    assert big.exists()
    assert list((ways / ".koalja").glob("s*/body-*")) == []


def test_each_line_is_a_value_in_order(ways: Path):
    lines = "".join(f"line {n}\n" for n in range(1200)) + "last\r\n\nno end"
    assert send(ways, "in", "--lines", "-", stdin=lines).output == "1203 values on in\n"
    assert [k[1] for k in kept(ways)] == [f"line {n}".encode() for n in range(1200)] + [
        b"last",
        b"",
        b"no end",
    ]


def test_an_id_makes_a_repeat_harmless(ways: Path):
    for expected in (False, True):
        said = accepted(ways, "in", "--data", "x", "--id", "a b", "--source", "/s")
        assert [s["duplicate"] for s in said] == [expected]
        said = accepted(ways, "in", "--lines", "--id", "job", "-", stdin="1\n2\n")
        assert [s["duplicate"] for s in said] == [expected] * 2
    assert [k[4:6] for k in kept(ways)] == [("/s", "a b"), ("/send", "job-1"), ("/send", "job-2")]
    result = send(ways, "in", "--data", "y", "--id", "a b", "--source", "/s")
    assert result.exit_code == 5
    assert "another content" in result.output


def test_attributes_are_kept(ways: Path):
    accepted(
        ways, "in", "--data", "x", "-a", "station=G\u00f6teborg 1", "-a", "sequence=7", "-a", "type=wind"
    )
    assert kept(ways)[0][6:] == ("7", {"station": "G\u00f6teborg 1", "type": "wind"})


def test_cloudevents_keep_their_identity(ways: Path, tmp_path: Path):
    event = {"specversion": "1.0", "id": "e1", "source": "/far", "type": "t", "data": {"a": 1.10}}
    (tmp_path / "event.json").write_text(json.dumps(event))
    accepted(ways, "in", "--event", str(tmp_path / "event.json"), "-a", "x=1")
    batch = json.dumps([event, {**event, "id": "e2", "datacontenttype": "text/plain", "data": "t"}])
    assert [s["duplicate"] for s in accepted(ways, "in", "--event", stdin=batch)] == [True, False]
    first, second = kept(ways)
    assert first[1:6] == (b'{"a": 1.1}', "application/json", "", "/far", "e1")
    assert first[7] == {"type": "t", "x": "1"}
    assert second[1:3] == (b"t", "text/plain")


@pytest.mark.parametrize(
    ("args", "status", "word"),
    [
        (["nowhere", "-d", "x"], 7, "no wire"),
        (["inn", "-d", "x"], 7, "did you mean 'in'"),
        (["in", "-d", "x", "file"], 2, "--data and files"),
        (["in", "-", "-"], 2, "once only"),
        (["in", "no-such-file"], 7, "no file"),
        (["in", "."], 2, "regular file"),
        (["in", "-d", "x", "-a", "id=1"], 2, "option of its own"),
        (["in", "-d", "x", "-a", "novalue"], 2, "NAME=TEXT"),
        (["in", "-d", "x", "-a", "A_b=1"], 5, "attribute name"),
        (["in", "-d", "x", "-t", "text"], 5, "media type"),
        (["in", "-d", "x", "--event", "--id", "1"], 2, "--event"),
        (["in", "-d", "{", "--event"], 5, "not valid JSON"),
    ],
)
def test_wrong_calls_say_what_is_wrong(ways: Path, args: list[str], status: int, word: str):
    result = send(ways, *args)
    assert (result.exit_code, word in result.output) == (status, True), result.output


def test_no_folder_is_no_circuit(tmp_path: Path):
    assert send(tmp_path / "gone", "in", "-d", "x").exit_code == 7


def test_a_stale_address_is_no_running_circuit(folder: Path):
    with running(folder):
        pass
    assert accepted(folder, "in", "--data", "x")[0]["position"] == 1
    state = folder / ".koalja" / "run.json"
    for text in (
        "",
        "[]",
        '{"url": "http://example.com/", "circuit": "demo"}',
        '{"url": 5, "circuit": "demo"}',
    ):
        state.write_text(text)
        assert client.running(state.parent) is None


def test_the_entry_of_another_circuit_is_not_ours(folder: Path):
    with running(folder) as server:
        state = folder / ".koalja"
        (state / "run.json").write_text(json.dumps({"url": server.url, "pid": 1, "circuit": "other"}))
        assert client.running(state) is None


def test_a_full_backlog_is_tried_again(folder: Path):
    left = [2]

    def full() -> None:
        if left[0]:
            left[0] -= 1
            raise Full("full", retry_after=0.1)

    with running(folder, full):
        result = send(folder, "in", "-d", "x", "-o", "json")
        assert "trying again" in result.stderr
        assert len(json.loads(result.stdout)["accepted"]) == 1
    assert len(kept(folder)) == 1


def test_a_backlog_that_stays_full_ends_in_a_clear_error(folder: Path, monkeypatch: pytest.MonkeyPatch):
    def full() -> None:
        raise Full("the backlog is full", cure="wait")

    monkeypatch.setattr(client.post, "__kwdefaults__", {**client.post.__kwdefaults__, "patience": 0.5})
    with running(folder, full):
        result = send(folder, "in", "-d", "x")
        assert result.exit_code == 5
        assert "the backlog is full" in result.output


def test_a_run_that_ends_meanwhile_loses_nothing_and_doubles_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    stack, post, calls = ExitStack(), client.post, [0]

    def ends_after_the_first(*args: Any, **kwargs: Any) -> Any:
        calls[0] += 1
        if calls[0] == 2:
            post(*args, **kwargs)  # it arrives, but the answer is lost
            stack.close()
        return post(*args, **{**kwargs, "patience": 0.2})

    monkeypatch.setattr(client, "post", ends_after_the_first)
    lines = "".join(f"{n}\n" for n in range(1200))
    with stack:
        stack.enter_context(running(folder))
        result = send(folder, "in", "--lines", "-", stdin=lines)
    assert result.stdout == "1200 values on in, 500 were there before\n"
    assert [k[1] for k in kept(folder)] == [str(n).encode() for n in range(1200)]


def test_a_proxy_of_the_environment_is_not_asked(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with running(folder):
        assert client.running(folder / ".koalja") is not None
