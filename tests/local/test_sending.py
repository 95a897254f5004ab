"""`--in` and the helpers that `run` and `send` share, with the engine's own intake."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from standin import MemoryIntake

from koalja_fn import ids
from koalja_fn.errors import Full, NotFound, Refused, UsageError
from koalja_fn.local import intray, sending
from koalja_fn.local.workplace import Workplace, open_workplace

WIRING = """[demo]
(in, typed) work (out)
    run = cat {in}
wire in
    from = inbox/*.txt
wire typed
    type = application/json
"""


@pytest.fixture
def workplace(tmp_path: Path) -> Iterator[Workplace]:
    (tmp_path / "demo.koalja").write_text(WIRING)
    with open_workplace(tmp_path) as found:
        yield found


def feed(place: Workplace, text: str, stdin: bytes = b"") -> list[bytes]:
    receipts = sending.feed(
        place.intake(),
        text,
        folder=place.folder,
        home=place.folder,
        spool=place.state / "spool",
        stdin=io.BytesIO(stdin),
    )
    return [place.store.read(receipt.digest) for receipt in receipts]


def test_files_of_a_pattern_are_values_once_each(workplace: Workplace):
    for name in ("b", "a"):
        (workplace.folder / f"{name}.x").write_text(name)
    assert feed(workplace, "in=*.x") == [b"a", b"b"]
    assert feed(workplace, "in=*.x") == []
    (workplace.folder / "a.x").write_text("changed")
    assert feed(workplace, "in=*.x") == [b"changed"]


def test_standard_input_is_one_value(workplace: Workplace):
    assert feed(workplace, "in=-", b"a\nb\n") == [b"a\nb\n"]
    large = b"x" * 300_000
    assert feed(workplace, "typed=-", large) == [large]
    assert list((workplace.state / "spool").iterdir()) == []


def test_lines_of_standard_input_are_values(workplace: Workplace):
    stream = io.BytesIO(b"".join(b"%d\n" % n for n in range(1100)))
    receipts = list(sending.feed_lines(workplace.intake(), "in", stream, spool=workplace.state / "spool"))
    assert [r.position for r in receipts] == list(range(1100))


@pytest.mark.parametrize("text", ["in", "=*.x", "in=", "in=none*"])
def test_wrong_forms_are_usage_errors(workplace: Workplace, text: str):
    with pytest.raises((UsageError, NotFound)):
        feed(workplace, text)


def test_unknown_wires_are_named(workplace: Workplace):
    with pytest.raises(NotFound, match="did you mean"):
        feed(workplace, "inn=*.x")


def test_an_in_tray_over_the_real_registry(workplace: Workplace):
    inbox = workplace.folder / "inbox"
    inbox.mkdir()
    (inbox / "a.txt").write_text("one")
    (inbox / "link.txt").symlink_to("a.txt")
    plan = workplace.plan.circuit
    assert len(intray.scan_once(workplace.intake(), workplace.folder, plan)) == 2
    (inbox / "a.txt").touch()
    assert intray.scan_once(workplace.intake(), workplace.folder, plan) == []
    (inbox / "a.txt").write_text("two")
    assert len(intray.scan_once(workplace.intake(), workplace.folder, plan)) == 2
    (inbox / "a.txt").write_text("one")
    assert len(intray.scan_once(workplace.intake(), workplace.folder, plan)) == 2


def test_a_lent_file_is_given_again_when_the_backlog_was_full(tmp_path: Path):
    intake, left = MemoryIntake(), [2]
    taken: list[Path] = []

    def full() -> None:
        if left[0]:
            left[0] -= 1
            raise Full("full", retry_after=0.01)

    intake.before = full
    path = tmp_path / "big"
    path.write_bytes(b"x" * 100_000)
    accept = intake.accept
    intake.accept = lambda offers: (taken.append(offers[0].payload), accept(offers))[1]  # type: ignore[method-assign, arg-type, func-returns-value]
    text = sending.event(path, "a/b")
    from koalja_fn.local.offering import patiently

    patiently(lambda: sending.give(intake, "in", [text], tmp_path / "spool"), threading.Event())
    assert intake.payloads == [path.read_bytes()]
    assert len(set(taken)) == 3
    assert list((tmp_path / "spool").iterdir()) == []


def test_a_line_above_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sending, "LINE_LIMIT", 10)
    assert [e.payload for e in sending.of_lines(io.BytesIO(b"0123456789"), "a/b")] == [b"0123456789"]
    with pytest.raises(Refused, match="longer"):
        list(sending.of_lines(io.BytesIO(b"0123456789x"), "a/b"))


def test_fresh_ids_sort_by_time():
    drawn = [ids.fresh_event_id(now, bytes([255 - now % 256])) for now in (0, 1, 999, 1_700_000_000_000_000)]
    assert drawn == sorted(drawn)
    assert len({sending.draw() for _ in range(1000)}) == 1000


def test_small_files_go_together_and_large_ones_alone(tmp_path: Path) -> None:
    """Each request to a deployed circuit costs a third of a second, whatever is in it."""
    files = []
    for number, size in enumerate([10, 20, (64 << 10) + 1, 30, 64 << 10]):
        files.append(tmp_path / f"{number}.bin")
        files[-1].write_bytes(b"x" * size)
    groups = list(sending.in_batches(sending.of_file(path, "") for path in files))
    assert [[one.name for one in group] for group in groups] == [
        ["0.bin", "1.bin"],
        ["2.bin"],
        ["3.bin", "4.bin"],
    ]
    some = [tmp_path / "3.bin"] * 1200
    assert [len(group) for group in sending.in_batches(sending.of_file(path, "") for path in some)] == [
        500,
        500,
        200,
    ]


def test_a_file_that_is_gone_before_it_is_sent_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"a")
    known = sending.of_file(path, "")
    path.unlink()
    with pytest.raises(NotFound, match=r"a\.bin"):
        list(sending.in_batches([known]))
