"""`ghost`: where data would go, shown without any, on one machine."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from koalja_fn.errors import UsageError
from koalja_fn.registry import Registry

from .conftest import Folder, call, told

JOIN = """
(wind[10/2], temp passive) average (mean)
    run = sh -c "echo ran >> $PWD/ran; cat {wind}"
(mean) show (shown)
    run = cat {mean}
wire shown
    to = outbox/{id}.txt
(other) apart (rest)
    run = cat {other}
"""


def stops(road: dict[str, Any]) -> list[str]:
    return [stop.get("task") or stop["wire"] for stop in road["stops"]]


def codes(report: dict[str, Any], task: str) -> set[str]:
    return {
        remark["code"]
        for road in report["roads"]
        for stop in road["stops"]
        if stop.get("task") == task
        for remark in stop["remarks"]
    }


def refusals(report: dict[str, Any]) -> set[tuple[str, str]]:
    return {(one["at"], one["code"]) for one in report["refused"]}


def test_a_ghost_fills_any_window_and_comes_to_every_output_and_what_is_off_the_road_is_told(
    folder: Folder,
) -> None:
    report = told("ghost", folder(JOIN), "wind")
    assert [stops(road) for road in report["roads"]] == [["wind", "average", "mean", "show", "shown"]]
    assert codes(report, "average") == {"window", "present"}
    assert set(report["ghosts"]) == {"wind", "mean", "shown"}
    assert report["off"] == {"wires": ["other", "rest", "temp"], "tasks": ["apart"]}
    assert report["roads"][0]["ends"] == "written to outbox/{id}.txt"
    assert report["complete"]
    assert report["refused"] == report["unanswered"] == []


def test_without_a_wire_it_begins_at_all_ways_in(folder: Folder) -> None:
    report = told("ghost", folder(JOIN))
    assert report["start"]["wires"] == ["other", "temp", "wind"]
    assert report["off"] == {"wires": [], "tasks": []}


def test_no_program_runs_nothing_is_formed_and_nothing_is_written(folder: Folder) -> None:
    home = folder(JOIN)
    told("ghost", home)
    with_values = told("run", "--once", home, "--in", f"other={home}/c.koalja")
    assert len(with_values["wires"]["rest"]) == 1
    assert with_values["totals"] == {"mean": 0, "other": 1, "rest": 1, "shown": 0, "temp": 0, "wind": 0}
    told("ghost", home)
    assert not (home / "ran").exists()
    assert not (home / "outbox").exists()
    assert told("list", "-C", home, "values")["values"] != []
    assert {v["wire"] for v in told("list", "-C", home, "values")["values"]} == {"other", "rest"}
    assert {row["waiting"] for row in map(_waiting, told("list", "-C", home, "tasks")["tasks"])} == {0}


def _waiting(row: dict[str, Any]) -> dict[str, int]:
    counts = row["waiting"]
    return {"waiting": sum(counts.values()) if isinstance(counts, dict) else counts}


def test_each_link_is_taken_once_so_that_a_loop_ends(folder: Folder) -> None:
    wiring = "(a + back as a) turn (b)\n    run = cat {a}\n(b) twist (back, out)\n    run = cat {b}\n"
    report = told("ghost", folder(wiring))
    assert report["start"]["wires"] == ["a"]
    assert report["complete"]
    ways = [(stops(road), road["ends"]) for road in report["roads"]]
    assert (["a", "turn", "b", "twist", "back", "turn"], "a loop: back at task 'turn'") in ways
    assert (["a", "turn", "b", "twist", "out"], "nobody reads it") in ways


def test_a_circuit_that_is_one_loop_is_walked_from_one_of_its_wires(folder: Folder) -> None:
    report = told("ghost", folder("(a) turn (b)\n    run = cat {a}\n(b) twist (a)\n    run = cat {b}\n"))
    assert report["complete"]
    assert report["off"] == {"wires": [], "tasks": []}


def test_missing_programs_are_told_all_at_once_and_the_walk_goes_on(folder: Folder) -> None:
    home = folder("(a) first (b)\n(b) second (c)\n    run = no-such-program-here {b}\n(c) third (d)\n")
    (home / "third").write_text("#!/bin/sh\n")
    report = told("ghost", home, status=5)
    assert refusals(report) == {("first", "no-code"), ("second", "no-program"), ("third", "not-executable")}
    assert set(report["ghosts"]) == {"a", "b", "c", "d"}
    (road,) = report["roads"]
    assert [one["at"] for one in road["refused"]] == ["first", "second", "third"]
    assert all(one["cure"] for one in road["refused"])


def test_other_errors_of_a_wiring_are_told_as_check_does(folder: Folder) -> None:
    home = folder("(a) first (b)\n    run = cat {a}\n    polcy = swap\n")
    assert "polcy" in call("ghost", home, status=3).output


def test_limits_types_regions_and_hops_are_told(folder: Folder) -> None:
    wiring = """
(a) first (b)
    run = cat {a}
    region = us
    rate = 5/s
(b) second (c)
    run = cat {b}
    max-hops = 1
wire a
    type = text/csv
    confined = eu
"""
    report = told("ghost", folder(wiring), "a", "--value", "application/json/2GB/big.json", status=5)
    assert refusals(report) == {("a", "size"), ("second", "max-hops")}
    assert report["value"] == {"type": "application/json", "size": 2 * 10**9, "name": "big.json"}
    first = report["roads"][0]["stops"][0]
    assert {remark["code"] for remark in first["remarks"]} == {"size", "type"}
    assert codes(report, "first") == {"confined", "rate"}


def test_a_full_backlog_and_a_dead_letter_that_stops_a_task_are_told(folder: Folder) -> None:
    home = folder(
        "(a) first (b)\n    run = false {a}\n    order = strict\n    retries = 0\n    backlog = 2\n"
    )
    assert told("ghost", home)["refused"] == []
    for _ in range(2):
        call("send", home, "a", "-d", "x")
    call("run", "--once", home, status=4)
    call("send", home, "a", "-d", "x")
    report = told("ghost", home, status=5)
    assert refusals(report) == {("a", "backlog"), ("first", "dead-letter")}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_to_that_can_not_be_written_is_told_before_data_come(folder: Folder) -> None:
    home = folder("(a) first (b)\n    run = cat {a}\nwire b\n    to = out/{id}\n")
    (home / "out").mkdir(mode=0o500)
    assert refusals(told("ghost", home, status=5)) == {("b", "to")}


def test_a_to_below_a_file_can_not_be_written(folder: Folder) -> None:
    home = folder("(a) first (b)\n    run = cat {a}\nwire b\n    to = out/deep/{id}\n")
    (home / "out").write_text("no folder")
    assert refusals(told("ghost", home, status=5)) == {("b", "to")}


def test_services_outside_are_connected_to_only_when_that_is_asked_for(folder: Folder) -> None:
    with socket.create_server(("127.0.0.1", 0)) as there:
        port = there.getsockname()[1]
        wiring = f"(a, lookup implicit) first (b)\n    run = cat {{a}}\nwire lookup\n    at = http://127.0.0.1:{port}\n"
        home = folder(wiring)
        assert codes(told("ghost", home, "--probe"), "first") == {"lookup"}
    assert codes(told("ghost", home), "first") == {"lookup"}
    report = told("ghost", home, "--probe", status=5)
    assert refusals(report) == {("first", "unreachable")}
    assert report["off"]["wires"] == []


def test_a_task_that_time_drives_is_a_way_in(folder: Folder) -> None:
    report = told(
        "ghost", folder("() tick (a)\n    run = date\n    every = 1h\n(a) show (b)\n    run = cat {a}\n")
    )
    assert report["start"] == {"wires": [], "tasks": ["tick"]}
    assert [stops(road) for road in report["roads"]] == [["tick", "a", "show", "b"]]


def test_where_roads_meet_each_link_is_told_and_the_second_one_joins(folder: Folder) -> None:
    wiring = "(a) left (l)\n    run = cat {a}\n(a) right (r)\n    run = cat {a}\n"
    wiring += "(l, r) meet (m)\n    run = cat {l} {r}\n"
    report = told("ghost", folder(wiring))
    assert [road["ends"] for road in report["roads"]] == [
        "nobody reads it",
        "joins the road above at task 'meet'",
    ]


def test_the_story_of_a_ghost_says_that_it_is_one(folder: Folder) -> None:
    home = folder(JOIN)
    report = told("ghost", home, "wind")
    shown = report["ghosts"]["shown"]
    story = told("trace", "-C", home, shown[:12])
    assert story["ghost"] is True
    assert story["walk"] == report["walk"]
    assert [stop.get("task") or stop["wire"] for stop in story["stops"]] == [
        "wind",
        "average",
        "mean",
        "show",
        "shown",
    ]
    assert story["stops"][1]["version"].startswith("sha256:")
    assert "is a ghost on wire shown" in call("trace", "-C", home, shown).output
    ahead = told("trace", "-C", home, report["ghosts"]["mean"], "--forward")
    assert [stop.get("task") or stop["wire"] for stop in ahead["stops"]] == ["mean", "show", "shown"]
    assert told("trace", "-C", home, report["walk"]) == report


def test_ghosts_are_listed_only_when_asked_for(folder: Folder) -> None:
    home = folder(JOIN)
    report = told("ghost", home, "wind")
    assert told("list", "-C", home, "values")["values"] == []
    listed = told("list", "-C", home, "ghosts")["ghosts"]
    assert {one["id"] for one in listed} == set(report["ghosts"].values())
    assert report["ghosts"]["mean"][:12] in call("list", "-C", home, "ghosts").output


def test_the_report_for_people_names_roads_refusals_and_cures(folder: Folder) -> None:
    said = call("ghost", folder("(a) first (b)\n"), status=5).output
    assert "road 1" in said
    assert "REFUSED: there is no program for 'first'" in said
    assert "try: put first.py" in said
    assert "off every road: nothing" in said


def test_a_wire_that_is_not_there_is_refused_with_a_guess(folder: Folder) -> None:
    assert "did you mean 'wind'" in call("ghost", folder(JOIN), "wnd", status=7).output


def test_a_thousand_tasks_are_walked_in_one_transaction(folder: Folder) -> None:
    wiring = "".join(f"(w{n}) t{n} (w{n + 1})\n    run = cat {{w{n}}}\n" for n in range(1000))
    home = folder(wiring)
    report = told("ghost", home)
    assert len(report["roads"]) == 1
    assert len(report["roads"][0]["stops"]) == 2001
    assert {code for _, code in refusals(report)} == set()


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("", ("", 0, "")),
        ("text/csv", ("text/csv", 0, "")),
        ("20MB", ("", 20_000_000, "")),
        ("text/csv/3kB/a.csv", ("text/csv", 3000, "a.csv")),
        ("5/b.txt", ("", 5, "b.txt")),
        ("text/csv/a.csv", ("text/csv", 0, "a.csv")),
        ("a.csv", ("", 0, "a.csv")),
    ],
)
def test_what_a_value_would_be_is_read_by_what_its_parts_look_like(
    text: str, shape: tuple[str, int, str]
) -> None:
    from koalja_fn.commands.ghost import shape_of

    found = shape_of(text)
    assert (found.type, found.size, found.name) == shape


def test_what_is_no_value_at_all_is_refused() -> None:
    from koalja_fn.commands.ghost import shape_of

    with pytest.raises(UsageError):
        shape_of("a/b/c/d/e")


def test_a_ghost_that_is_sent_walks_once_however_often_it_is_sent(folder: Folder) -> None:
    home = folder(JOIN)
    (home / "big.csv").write_text("x" * 1000)
    words = ("send", home, "wind", "--ghost", home / "big.csv", "--id", "7", "-a", "site=roof")
    (first,) = told(*words)["accepted"]
    (again,) = told(*words)["accepted"]
    assert (first["duplicate"], again["duplicate"]) == (False, True)
    assert first["id"] == again["id"]
    report = told("trace", "-C", home, first["walk"])
    assert report["value"] == {"type": "text/csv", "size": 1000, "name": "big.csv"}
    assert set(report["ghosts"]) == {"wind", "mean", "shown"}
    assert len(told("list", "-C", home, "ghosts")["ghosts"]) == 3
    assert "ghost" in call(*words).output


def test_a_walk_is_forgotten_with_its_circuit(folder: Folder) -> None:
    from koalja_fn.registry import tasks
    from koalja_fn.registry.forgetting import forget

    home = folder(JOIN)
    call("run", "--once", home)
    told("ghost", home)
    registry = Registry(Path(home) / ".koalja/registry.db")
    registry.transact(lambda tx: forget(tx, tasks.circuit_id(tx, "c") or 0, "c"))
    registry.close()
    assert json.loads(call("list", "-C", home, "ghosts", "-o", "json").stdout) == {"ghosts": []}
