"""Sinks: each value is written out under its own name, at least once, and never elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from workbench import Workbench

from koalja_fn.engine.arriving import Offer
from koalja_fn.engine.sinking import Sinks
from koalja_fn.errors import StoreError

Opener = Callable[[str], Workbench]


def wired(bench: Opener, pattern: str) -> Workbench:
    return bench(f"[sinks]\n(in) t (out)\nwire in\n    to = {pattern}\n")


def flush(b: Workbench) -> None:
    Sinks(b.registry, b.store, b.plan).flush()


def files(b: Workbench) -> dict[str, str]:
    return {
        str(path.relative_to(b.folder)): path.read_text()
        for path in sorted(b.folder.rglob("*"))
        if path.is_file() and ".koalja" not in path.parts
    }


def sunk(b: Workbench) -> int:
    return int(b.ask("SELECT sunk FROM wire WHERE name = 'in'")[0][0])


def test_a_value_is_written_under_each_field(bench: Opener) -> None:
    b = wired(bench, "out/{wire}/{position}-{name}.{id}.{digest}.{key}")
    (receipt,) = b.intake.accept([Offer("in", b"a", name="a.txt")])
    flush(b)
    digest = receipt.digest.removeprefix("sha256:")
    assert files(b) == {f"out/in/000001-a.txt.{receipt.id}.{digest}.{receipt.id}": "a"}


def test_an_unknown_field_stays_as_it_is(bench: Opener) -> None:
    b = wired(bench, "out/{position}{unknown}.txt")
    b.send("in", "a")
    flush(b)
    assert files(b) == {"out/000001{unknown}.txt": "a"}


def test_a_folder_gets_each_value_under_its_id(bench: Opener) -> None:
    b = wired(bench, "out/")
    receipts = b.send("in", "a", "b")
    flush(b)
    assert files(b) == {f"out/{receipts[0].id}": "a", f"out/{receipts[1].id}": "b"}


def test_more_values_than_a_batch_are_all_written(bench: Opener) -> None:
    b = wired(bench, "out/{position}")
    b.send("in", *(str(n) for n in range(230)))
    flush(b)
    assert [files(b)[f"out/{n + 1:06d}"] for n in range(230)] == [str(n) for n in range(230)]
    assert sunk(b) == 230


def test_a_kill_between_the_write_and_its_record_does_no_harm(bench: Opener) -> None:
    b = wired(bench, "out/{id}")
    b.send("in", "a", "b")
    flush(b)
    before = files(b)
    b.change("UPDATE wire SET sunk = 0")
    (b.folder / "out" / ".left.part").write_text("half")
    b.reopen()
    flush(b)
    assert {name: text for name, text in files(b).items() if "left" not in name} == before
    assert sunk(b) == 2


def test_what_was_written_is_not_written_again(bench: Opener) -> None:
    b = wired(bench, "out/{id}")
    b.send("in", "a")
    flush(b)
    for name in files(b):
        (b.folder / name).unlink()
    b.send("in", "b")
    b.reopen()
    flush(b)
    assert list(files(b).values()) == ["b"]


@pytest.mark.parametrize("name", ["../../evil", "/etc/evil", "..", ".", "a/b", "a\\b", "\0x", "..\\x"])
def test_a_name_that_a_stranger_gave_never_leads_out_of_the_folder(bench: Opener, name: str) -> None:
    b = wired(bench, "out/{name}")
    b.intake.accept([Offer("in", b"a", name=name)])
    flush(b)
    (written,) = files(b)
    assert Path(written).parent == Path("out")


def test_a_very_long_name_is_written_all_the_same(bench: Opener) -> None:
    b = wired(bench, "out/{name}")
    b.intake.accept([Offer("in", b"a", name="n" * 3000), Offer("in", b"b", name="ü" * 300)])
    flush(b)
    assert sorted(files(b).values()) == ["a", "b"]
    assert sunk(b) == 2


def test_a_link_in_the_place_of_the_file_is_replaced_not_followed(bench: Opener, tmp_path: Path) -> None:
    b = wired(bench, "out/{position}")
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (b.folder / "out").mkdir()
    (b.folder / "out" / "000001").symlink_to(victim)
    b.send("in", "a")
    flush(b)
    assert victim.read_text() == "precious"
    assert (b.folder / "out" / "000001").read_text() == "a"


def test_a_sink_that_can_not_be_written_loses_nothing_and_is_tried_again(bench: Opener) -> None:
    b = wired(bench, "out/{position}")
    (b.folder / "out").write_text("a file where a folder should be")
    b.send("in", "a")
    with pytest.raises(StoreError, match="can't write a value of wire in"):
        flush(b)
    assert sunk(b) == 0
    (b.folder / "out").unlink()
    flush(b)
    assert files(b) == {"out/000001": "a"}


def test_a_running_sink_writes_what_comes_and_what_is_left_at_its_end(bench: Opener) -> None:
    b = wired(bench, "out/{position}")
    troubles: list[BaseException] = []
    sinks = Sinks(b.registry, b.store, b.plan, troubles.append)
    sinks.start()
    for n in range(5):
        b.send("in", str(n))
        sinks.ring({"in"})
    sinks.stop()
    assert len(files(b)) == 5
    assert troubles == []


def test_a_wire_without_to_writes_nothing(bench: Opener) -> None:
    b = bench("[sinks]\n(in) t (out)\n")
    b.send("in", "a")
    flush(b)
    assert files(b) == {}


def test_a_value_that_cannot_be_written_does_not_hold_up_other_wires(bench: Opener) -> None:
    b = bench("[sinks]\n(a, b) t (out)\nwire a\n    to = bad/{position}\nwire b\n    to = good/{position}\n")
    (b.folder / "bad").write_text("in the way")
    b.send("a", "1")
    b.send("b", "2")
    with pytest.raises(StoreError):
        flush(b)
    assert files(b)["good/000001"] == "2"
