"""In-trays with real files: each state of a file once, never half of one."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from standin import MemoryIntake, circuit

from koalja_fn.errors import Full, StoreError
from koalja_fn.local import intray
from koalja_fn.local.patterns import in_trays, pattern

PLAN = circuit(**{"in": "inbox/*.json"})


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


@pytest.fixture
def warnings() -> list[str]:
    return []


Watch = Callable[..., tuple[MemoryIntake, intray.Watcher]]


@pytest.fixture
def watching(tmp_path: Path, warnings: list[str]) -> Iterator[Watch]:
    open_: list[intray.Watcher] = []

    def start(intake: MemoryIntake | None = None, **sources: str) -> tuple[MemoryIntake, intray.Watcher]:
        intake = intake or MemoryIntake(circuit(**(sources or {"in": "inbox/*.json"})))
        watcher = intray.watch(intake, tmp_path, intake.circuit, warn=warnings.append)
        open_.append(watcher)
        return intake, watcher

    yield start
    for watcher in open_:
        watcher.close()


def until(condition: Callable[[], object], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


# --- patterns


@pytest.mark.parametrize(
    ("text", "yes", "no"),
    [
        (
            "inbox/*.json",
            ["inbox/a.json", "inbox/a b.json"],
            ["inbox/.a.json", "inbox/x/a.json", "a.json", "inbox/a.jsonx"],
        ),
        ("inbox/", ["inbox/a", "inbox/b.c"], ["inbox/a.tmp", "inbox/a.part", "inbox/a~", "inbox/x/a"]),
        ("**/*.csv", ["a.csv", "x/a.csv", "x/y/a.csv"], [".koalja/a.csv", "x/.h/a.csv", "a.csv.tmp"]),
        ("in/*/[ab]?.x", ["in/q/a1.x", "in/r/bb.x"], ["in/a1.x", "in/q/c1.x", "in/q/r/a1.x", "in/q/a/.x"]),
        ("in/[!a].x", ["in/b.x"], ["in/a.x", "in//.x"]),
        ("in/**", ["in/a", "in/q/a", "in/q/r/a.csv"], ["a", "in/q/.a", "in/q/a.tmp"]),
        ("one.txt", ["one.txt"], ["two.txt"]),
        ("a+b/(x).*", ["a+b/(x).y"], ["aab/x.y"]),
    ],
)
def test_patterns(tmp_path: Path, text: str, yes: list[str], no: list[str]):
    wanted = pattern("in", text, tmp_path)
    assert [n for n in yes if not wanted.matches(tmp_path / n)] == []
    assert [n for n in no if wanted.matches(tmp_path / n)] == []
    for name in yes:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert {str(p.relative_to(tmp_path)) for p in wanted.files()} == set(yes)


def test_a_folder_with_odd_characters_is_no_pattern(tmp_path: Path):
    folder = tmp_path / "[x]*"
    folder.mkdir()
    (folder / "a.json").touch()
    assert [p.name for p in pattern("in", "*.json", folder).files()] == ["a.json"]
    assert [p.name for p in pattern("in", "../[[]x]?/*.json", folder).files()] == ["a.json"]


def test_several_patterns_and_what_is_not_yet_there(tmp_path: Path):
    assert len(in_trays(circuit(**{"in": "a/*.x, b/*.y"}), tmp_path)) == 2
    (only,) = in_trays(circuit(**{"in": "sqs://q, a/*.x, s3://bucket/*"}), tmp_path)
    assert only.text == "a/*.x"


# --- once


def test_a_scan_takes_everything_once_in_the_order_of_names(tmp_path: Path, inbox: Path):
    for name in ("b", "a", "c"):
        (inbox / f"{name}.json").write_text(name)
    (inbox / ".hidden.json").write_text("no")
    (inbox / "half.json.part").write_text("no")
    intake = MemoryIntake(PLAN)
    receipts = intray.scan_once(intake, tmp_path, PLAN)
    assert intake.payloads == [b"a", b"b", b"c"]
    assert [r.position for r in receipts] == [0, 1, 2]
    assert intake.offers[0].event_source == "/files/inbox/a.json"
    assert intray.scan_once(intake, tmp_path, PLAN) == []


def test_a_changed_file_is_a_new_value(tmp_path: Path, inbox: Path):
    intake = MemoryIntake(PLAN)
    for text in ("one", "two", "one"):
        (inbox / "a.json").write_text(text)
        assert len(intray.scan_once(intake, tmp_path, PLAN)) == 1
    assert [o.event_id for o in intake.offers] == ["1", "2", "3"]


def test_no_folder_no_values(tmp_path: Path):
    assert intray.scan_once(MemoryIntake(PLAN), tmp_path, PLAN) == []


def test_a_scan_waits_for_a_writer(tmp_path: Path, inbox: Path):
    intake = MemoryIntake(PLAN)
    with (inbox / "a.json").open("w") as file:
        file.write("half")
        file.flush()
        scan = threading.Thread(target=intray.scan_once, args=(intake, tmp_path, PLAN))
        scan.start()
        time.sleep(intray.SETTLE * 4)  # longer than the moment that a file must rest
        assert intake.payloads == []
        file.write(" and whole")
    scan.join(10)
    assert intake.payloads == [b"half and whole"]


def test_links_out_of_the_folder_are_refused(tmp_path: Path, inbox: Path, warnings: list[str]):
    (tmp_path / "secret.json").write_text("secret")
    (inbox / "out.json").symlink_to(tmp_path / "secret.json")
    (inbox / "real.json").write_text("fine")
    (inbox / "in.json").symlink_to("real.json")
    (inbox / "nowhere.json").symlink_to("gone")
    (inbox / "ring.json").symlink_to("ring.json")
    os.mkfifo(inbox / "fifo.json")
    (inbox / "folder.json").mkdir()
    intake = MemoryIntake(PLAN)
    intray.scan_once(intake, tmp_path, PLAN, warn=warnings.append)
    assert intake.payloads == [b"fine", b"fine"]
    assert len(warnings) == 1
    assert "out.json" in warnings[0]


def test_a_full_backlog_is_waited_for(tmp_path: Path, inbox: Path):
    left = [3]

    def full() -> None:
        if left[0]:
            left[0] -= 1
            raise Full("full", retry_after=0.01)

    (inbox / "a.json").write_text("a")
    (inbox / "b.json").write_text("b")
    intake = MemoryIntake(PLAN)
    intake.before = full
    assert len(intray.scan_once(intake, tmp_path, PLAN)) == 2
    assert intake.payloads == [b"a", b"b"]


def test_a_scan_can_be_stopped_while_it_waits(tmp_path: Path, inbox: Path):
    def full() -> None:
        raise Full("full", retry_after=60)

    (inbox / "a.json").write_text("a")
    intake, stop = MemoryIntake(PLAN), threading.Event()
    intake.before = full
    scan = threading.Thread(target=intray.scan_once, args=(intake, tmp_path, PLAN), kwargs={"stop": stop})
    scan.start()
    stop.set()
    scan.join(5)
    assert not scan.is_alive()


def test_a_file_that_vanishes_is_no_error(tmp_path: Path, inbox: Path, warnings: list[str]):
    (inbox / "a.json").write_text("a")
    intake = MemoryIntake(PLAN)
    intake.observe = lambda wire, path, name=None: path.unlink() or path.read_bytes()  # type: ignore[assignment, method-assign, func-returns-value]
    assert intray.scan_once(intake, tmp_path, PLAN, warn=warnings.append) == []
    assert warnings == []


def test_a_scan_does_not_wait_for_ever(
    tmp_path: Path, inbox: Path, warnings: list[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(intray, "PATIENCE", 0.4)
    intake = MemoryIntake(PLAN)
    with (inbox / "log.json").open("w"):
        (inbox / "a.json").write_text("a")
        intray.scan_once(intake, tmp_path, PLAN, warn=warnings.append)
    assert intake.payloads == [b"a"]
    assert "log.json" in warnings[0]


def test_a_scan_ends_when_there_is_no_room(tmp_path: Path, inbox: Path):
    def no_room() -> None:
        raise StoreError("no room")

    (inbox / "a.json").write_text("a")
    intake = MemoryIntake(PLAN)
    intake.before = no_room
    with pytest.raises(StoreError):
        intray.scan_once(intake, tmp_path, PLAN)
    assert intake.calls == 3


# --- watching


def test_files_are_taken_as_they_come(inbox: Path, watching: Watch):
    (inbox / "0.json").write_text("before")
    intake, _ = watching()
    until(lambda: intake.payloads == [b"before"])
    for n in range(1, 4):
        (inbox / f"{n}.json").write_text(str(n))
        until(lambda n=n: len(intake.payloads) == n + 1)
    (inbox / "0.json").write_text("after")
    until(lambda: intake.payloads[-1] == b"after")
    (inbox / "late.json.tmp").write_text("moved")
    (inbox / "late.json.tmp").rename(inbox / "late.json")
    until(lambda: intake.payloads[-1] == b"moved")
    assert len(intake.payloads) == 6


def test_a_slow_writer_is_never_taken_half(inbox: Path, watching: Watch):
    intake, _ = watching()
    with (inbox / "a.json").open("w") as file:
        for n in range(5):
            file.write(f"{n},")
            file.flush()
            time.sleep(intray.SETTLE + 0.1)
    until(lambda: intake.payloads)
    time.sleep(0.5)
    assert intake.payloads == [b"0,1,2,3,4,"]


def test_a_folder_may_come_and_go(tmp_path: Path, watching: Watch):
    intake, _ = watching()
    inbox = tmp_path / "inbox"
    for n in range(2):
        time.sleep(0.4)
        inbox.mkdir()
        (inbox / f"{n}.json").write_text(str(n))
        until(lambda n=n: len(intake.payloads) == n + 1)
        (inbox / f"{n}.json").unlink()
        inbox.rmdir()


def test_no_room_is_tried_again(
    inbox: Path, watching: Watch, warnings: list[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(intray, "LATER", 0.1)
    left = [2]

    def no_room() -> None:
        if left[0]:
            left[0] -= 1
            raise StoreError("no room")

    intake = MemoryIntake(PLAN)
    intake.before = no_room
    (inbox / "a.json").write_text("a")
    watching(intake)
    until(lambda: intake.payloads == [b"a"])
    assert len(warnings) == 1


def test_no_room_is_not_tried_all_the_time(inbox: Path, watching: Watch):
    def no_room() -> None:
        raise StoreError("no room")

    intake = MemoryIntake(PLAN)
    intake.before = no_room
    (inbox / "a.json").write_text("a")
    watching(intake)
    time.sleep(2)
    assert intake.calls == 1


def test_thousands_of_files(inbox: Path, watching: Watch):
    for n in range(3000):
        (inbox / f"{n:05}.json").write_text(str(n))
    intake, watcher = watching()
    until(lambda: len(intake.payloads) >= 3000, 30)
    assert intake.payloads == [str(n).encode() for n in range(3000)]
    (inbox / "last.json").write_text("last")
    until(lambda: intake.payloads[-1] == b"last")
    watcher.close()


def test_folders_below_are_watched_too(tmp_path: Path, watching: Watch):
    (tmp_path / "data").mkdir()
    intake, _ = watching(**{"in": "data/**/*.csv"})
    time.sleep(0.5)
    (tmp_path / "data" / "x" / "y").mkdir(parents=True)
    (tmp_path / "data" / "x" / "y" / "a.csv").write_text("a")
    until(lambda: intake.payloads == [b"a"])
