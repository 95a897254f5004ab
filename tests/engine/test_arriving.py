"""Arriving: each value once, durable before it is acknowledged, a batch all or none."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from workbench import Workbench

from koalja_fn.engine.arriving import Offer
from koalja_fn.errors import Conflict, Full, NotFound, StoreError

Opener = Callable[[str], Workbench]
ONE = "[arriving]\n(in, other) t (out)\n"


def event(bench: Workbench, wire: str, number: str, text: str):
    return bench.intake.accept([Offer(wire, text.encode(), event_source="/s", event_id=number)])[0]


def test_the_same_event_twice_is_one_value(bench: Opener) -> None:
    b = bench(ONE)
    first, again = event(b, "in", "1", "a"), event(b, "in", "1", "a")
    assert (first.duplicate, again.duplicate) == (False, True)
    assert (again.id, again.position) == (first.id, 0)
    assert b.said("in") == ["a"]
    assert b.rung == [{"in"}]  # a duplicate rings nobody


def test_the_same_event_on_another_wire_is_another_value(bench: Opener) -> None:
    b = bench(ONE)
    assert event(b, "in", "1", "a").id != event(b, "other", "1", "a").id


def test_the_same_event_after_a_restart_is_one_value(bench: Opener) -> None:
    b = bench(ONE)
    first = event(b, "in", "1", "a")
    b.reopen()
    assert event(b, "in", "1", "a") == type(first)(first.id, "in", 0, first.digest, 1, duplicate=True)


def test_the_same_event_with_another_content_is_refused_and_kept_on_record(bench: Opener) -> None:
    b = bench(ONE)
    first = event(b, "in", "1", "a")
    with pytest.raises(Conflict, match="with another content") as refused:
        event(b, "in", "1", "b")
    assert refused.value.http_status == 422
    rows = b.ask("SELECT wire, value, event_source, event_id, kept, reason FROM refusal")
    assert rows == [("in", first.id, "/s", "1", first.digest, "same event id, other content")]
    assert b.said("in") == ["a"]


def test_a_batch_with_one_conflict_places_nothing(bench: Opener) -> None:
    b = bench(ONE)
    event(b, "in", "1", "a")
    batch = [
        Offer("other", b"x", event_source="/s", event_id="8"),
        Offer("in", b"y", event_source="/s", event_id="2"),
        Offer("in", b"z", event_source="/s", event_id="1"),
    ]
    with pytest.raises(Conflict):
        b.intake.accept(batch)
    assert (b.said("in"), b.said("other")) == (["a"], [])
    assert len(b.ask("SELECT * FROM refusal")) == 1


def test_a_batch_that_contradicts_itself_places_nothing(bench: Opener) -> None:
    b = bench(ONE)
    with pytest.raises(Conflict):
        b.intake.accept([Offer("in", text, event_source="/s", event_id="1") for text in (b"a", b"b")])
    assert b.said("in") == []


def test_duplicates_inside_one_batch_are_one_value(bench: Opener) -> None:
    b = bench(ONE)
    receipts = b.intake.accept(
        [
            Offer("in", text, event_source="/s", event_id=n)
            for n, text in (("1", b"a"), ("2", b"b"), ("1", b"a"))
        ]
    )
    assert [(r.position, r.duplicate) for r in receipts] == [(0, False), (1, False), (0, True)]
    assert b.said("in") == ["a", "b"]


def test_an_unknown_wire_is_not_found_and_the_batch_places_nothing(bench: Opener) -> None:
    b = bench(ONE)
    with pytest.raises(NotFound, match="no wire 'inn'") as missing:
        b.intake.accept([Offer("in", b"a"), Offer("inn", b"b")])
    assert "in, other, out" in missing.value.cure
    assert b.said("in") == []


def test_receipts_come_in_the_order_of_the_offers_whatever_their_wires(bench: Opener) -> None:
    b = bench(ONE)
    receipts = b.intake.accept([Offer(wire, wire.encode()) for wire in ("other", "in", "other", "in")])
    assert [(r.wire, r.position) for r in receipts] == [("other", 0), ("in", 0), ("other", 1), ("in", 1)]


def test_values_without_an_event_id_are_each_a_value(bench: Opener) -> None:
    b = bench(ONE)
    one, two = b.send("in", "a", "a")
    assert one.id != two.id
    assert one.digest == two.digest


def test_identity_content_makes_equal_contents_one_value(bench: Opener) -> None:
    b = bench(ONE + "wire in\n    identity = content\n")
    assert event(b, "in", "1", "a").duplicate is False
    assert event(b, "in", "2", "a").duplicate is True
    assert event(b, "in", "1", "b").duplicate is False  # counted anew after a reboot
    assert b.said("in") == ["a", "b"]


def test_identity_none_makes_each_event_a_value(bench: Opener) -> None:
    b = bench(ONE + "wire in\n    identity = none\n")
    for text in ("a", "a", "b"):
        assert event(b, "in", "1", text).duplicate is False
    assert b.said("in") == ["a", "a", "b"]


def test_what_the_sender_says_is_kept_with_the_value(bench: Opener) -> None:
    b = bench(ONE)
    b.intake.accept(
        [
            Offer(
                "in",
                b"a",
                event_source="/s",
                event_id="1",
                type="text/x-a",
                created=5,
                name="a.txt",
                sequence="7",
                attributes={"plant": "north", "ü": "ß"},
            )
        ]
    )
    (value,) = b.on("in")
    assert (value.source, value.type, value.created, value.name) == ("/s", "text/x-a", 5, "a.txt")
    assert (value.sequence, value.attributes) == ("7", {"plant": "north", "ü": "ß"})
    assert (value.key, value.hops, value.event_id) == (value.id, 0, "1")


def test_a_senders_clock_decides_nothing(bench: Opener) -> None:
    b = bench("[arriving]\n(a, b) t (out)\n    policy = swap\n")
    b.send("a", "old", created=9)
    b.send("b", "young", created=1)
    b.send("a", "new", created=0)
    b.form()
    assert b.texts("t") == ["old|young", "new|young"]


def test_positions_follow_the_order_of_commits(bench: Opener) -> None:
    b = bench(ONE)
    for text in "abc":
        b.send("in", text)
    arrived = [value.arrived for value in b.on("in")]
    assert arrived == sorted(set(arrived))
    assert b.said("in") == ["a", "b", "c"]


# Files of in-trays


@pytest.fixture
def tray(tmp_path: Path) -> Path:
    return tmp_path


def look(b: Workbench, path: Path):
    return b.intake.observe("in", path, name=f"inbox/{path.name}")


def touch(path: Path, second: int) -> None:
    os.utime(path, (second, second))


def test_a_file_is_one_value_however_often_it_is_looked_at(bench: Opener, tray: Path) -> None:
    b = bench(ONE)
    path = tray / "a.txt"
    path.write_text("a")
    first = look(b, path)
    assert first is not None
    assert look(b, path) is None
    b.reopen()
    assert look(b, path) is None
    (value,) = b.on("in")
    assert (value.name, value.event_source, value.event_id) == ("a.txt", "/files/inbox/a.txt", "1")
    assert value.type == "text/plain"


def test_a_changed_file_is_a_new_value_even_where_the_content_was_there_before(
    bench: Opener, tray: Path
) -> None:
    b = bench(ONE)
    path = tray / "a.txt"
    for second, text in enumerate(("a", "b", "a"), 1):
        path.write_text(text)
        touch(path, second)
        assert look(b, path) is not None
    assert b.said("in") == ["a", "b", "a"]
    assert [value.event_id for value in b.on("in")] == ["1", "2", "3"]


def test_a_file_that_was_only_touched_is_none(bench: Opener, tray: Path) -> None:
    b = bench(ONE)
    path = tray / "a.txt"
    path.write_text("a")
    look(b, path)
    touch(path, 77)
    assert look(b, path) is None
    path.write_text("b")
    touch(path, 77)  # same size, same time: told apart by nothing but the content, if it is looked at
    path.write_text("bb")
    assert look(b, path) is not None
    assert b.said("in") == ["a", "bb"]


def test_a_file_that_is_replaced_by_an_equal_one_is_none(bench: Opener, tray: Path) -> None:
    b = bench(ONE)
    path, other = tray / "a.txt", tray / "b.txt"
    path.write_text("a")
    look(b, path)
    other.write_text("a")
    other.replace(path)
    assert look(b, path) is None


def test_a_full_backlog_leaves_a_file_for_later(bench: Opener, tray: Path) -> None:
    b = bench("[arriving]\n(in) t (out)\n    backlog = 1\n")
    path = tray / "a.txt"
    path.write_text("a")
    b.send("in", "first")
    with pytest.raises(Full):
        look(b, path)
    b.work_off()
    assert look(b, path) is not None
    assert b.said("in") == ["first", "a"]


def test_a_file_whose_event_somebody_else_has_sent_is_a_conflict_on_record(bench: Opener, tray: Path) -> None:
    b = bench(ONE)
    b.intake.accept([Offer("in", b"forged", event_source="/files/inbox/a.txt", event_id="1")])
    path = tray / "a.txt"
    path.write_text("a")
    with pytest.raises(Conflict):
        look(b, path)
    assert len(b.ask("SELECT * FROM refusal")) == 1
    assert b.said("in") == ["forged"]
    assert look(b, path) is None  # seen, and refused for good: not tried again and again
    path.write_text("other")
    assert look(b, path) is not None
    assert b.said("in") == ["forged", "other"]


def together(bench: Workbench, *events: tuple[str, str, str]):
    offers = [Offer(wire, text.encode(), event_source="/s", event_id=n) for wire, n, text in events]
    return bench.intake.accept_together(offers)


def test_values_of_several_senders_share_a_transaction(bench: Opener) -> None:
    b = bench(ONE)
    commits = b.registry.commits
    receipts = together(b, ("in", "1", "a"), ("other", "1", "b"), ("in", "2", "c"), ("in", "1", "a"))
    assert b.registry.commits == commits + 1
    assert [r and (r.wire, r.position, r.duplicate) for r in receipts] == [
        ("in", 0, False),
        ("other", 0, False),
        ("in", 1, False),
        ("in", 0, True),
    ]
    assert (b.said("in"), b.said("other")) == (["a", "c"], ["b"])
    assert b.rung == [{"in", "other"}]


def test_one_senders_conflict_is_not_its_neighbours(bench: Opener) -> None:
    b = bench(ONE)
    event(b, "in", "1", "a")
    receipts = together(b, ("in", "2", "b"), ("in", "1", "x"), ("other", "1", "c"), ("other", "1", "y"))
    assert [r and (r.wire, r.position) for r in receipts] == [("in", 1), None, ("other", 0), None]
    assert (b.said("in"), b.said("other")) == (["a", "b"], ["c"])
    assert b.ask("SELECT count(*) FROM refusal") == [(0,)]  # who offers it alone is told, and it is on record


def test_a_limited_backlog_is_counted_one_by_one(bench: Opener) -> None:
    b = bench("[arriving]\n(in) t (out)\n    backlog = 2\n(other) u ()\n")
    assert [r and r.wire for r in together(b, ("in", "1", "a"), ("other", "1", "b"))] == [None, "other"]
    assert b.said("in") == []


def test_trouble_with_the_store_leaves_all_to_be_offered_alone(
    bench: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    b = bench(ONE)

    def no_room(_: object) -> None:
        raise StoreError("no room")

    monkeypatch.setattr(b.store, "put_within", no_room)
    assert together(b, ("in", "1", "a"), ("in", "2", "b")) == [None, None]
    assert (b.said("in"), b.rung) == ([], [])
