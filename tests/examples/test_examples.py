"""The examples do what their READMEs say: results are worked out here a second time, in another way."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from example_runs import EXAMPLES, Outcome, copy, koalja_fn, run_once

NAMES = ["build", "linecount", "tfmodel", "weather"]

# What an example needs beyond Python and a POSIX shell.
NEEDS = {"build": ("gcc",)}


@dataclass(frozen=True)
class Ran:
    """An example that ran twice in the same folder."""

    folder: Path
    first: Outcome
    again: Outcome


Runs = Callable[[str], Ran]


@pytest.fixture(scope="session")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """`ran(NAME)`: the two runs of an example, made when they are first asked for."""
    made: dict[str, Ran] = {}

    def of(name: str) -> Ran:
        need(name)
        if name not in made:
            folder = copy(name, tmp_path_factory.mktemp("examples"))
            made[name] = Ran(folder, run_once(folder), run_once(folder))
        return made[name]

    return of


def need(name: str) -> None:
    """Skip where the machine lacks a program, and say how to get it."""
    for program in NEEDS.get(name, ()):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not on PATH; on Debian: apt-get install {program} libc6-dev")


def windows(values: list[Any], size: int, slide: int) -> list[list[Any]]:
    return [values[at : at + size] for at in range(0, len(values) - size + 1, slide)]


# --- all of them


@pytest.mark.parametrize("name", NAMES)
def test_nothing_fails(ran: Runs, name: str) -> None:
    assert ran(name).first.circuit == name
    assert ran(name).first.failures == []


@pytest.mark.parametrize("name", NAMES)
def test_running_again_gives_nothing_new(ran: Runs, name: str) -> None:
    """Nothing twice: every file was seen, every window used."""
    assert ran(name).first.ids
    assert ran(name).again.ids <= ran(name).first.ids
    assert ran(name).again.failures == []


@pytest.mark.parametrize("name", NAMES)
def test_the_wiring_has_no_errors(name: str) -> None:
    done = koalja_fn("check", EXAMPLES / name)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_programs_know_nothing_of_us(name: str) -> None:
    programs = [file for kind in ("py", "sh", "awk") for file in (EXAMPLES / name).glob(f"*.{kind}")]
    assert programs
    for program in programs:
        assert "koalja_fn" not in program.read_text()


@pytest.mark.parametrize("name", NAMES)
def test_papers_are_in_order(name: str) -> None:
    """The README fits a screen, and the data say whose they are."""
    readme = (EXAMPLES / name / "README.md").read_text()
    assert len(readme.splitlines()) <= 40
    assert f"koalja-fn run --once examples/{name}" in readme
    assert "icence" in (EXAMPLES / name / "DATA.md").read_text()


# --- weather


@pytest.fixture(scope="module")
def hours() -> list[dict[str, str]]:
    """All rows of the station, in time order."""
    files = sorted((EXAMPLES / "weather" / "inbox").glob("*.csv"))
    return [row for file in files for row in csv.DictReader(file.read_text().splitlines())]


def readings(hours: list[dict[str, str]], column: str) -> list[tuple[str, float]]:
    return [(row["time_hour"], round(float(row[column]), 2)) for row in hours if row[column] != "NA"]


def test_weather_splits_days_into_readings(ran: Runs, hours: list[dict[str, str]]) -> None:
    for wire, column in (("temp", "temp"), ("wind", "wind_speed"), ("gust", "wind_gust")):
        expected = [f"{time},{value:.2f}\n" for time, value in readings(hours, column)]
        assert [value.text for value in ran("weather").first.on(wire)] == expected


def test_weather_averages_sliding_windows(ran: Runs, hours: list[dict[str, str]]) -> None:
    expected = windows(readings(hours, "wind_speed"), 10, 2)
    means = [value.json for value in ran("weather").first.on("mean")]
    assert len(means) == len(expected) == 56
    for mean, window in zip(means, expected, strict=True):
        assert (mean["from"], mean["until"], mean["readings"]) == (window[0][0], window[-1][0], 10)
        assert mean["mph"] == pytest.approx(fmean(mph for _, mph in window), abs=0.01)


def test_weather_takes_real_temperatures_with_the_winds(ran: Runs, hours: list[dict[str, str]]) -> None:
    """Which one depends on what had arrived; that it is one of the station's does not."""
    known = readings(hours, "temp")
    for mean in (value.json for value in ran("weather").first.on("mean")):
        assert (mean["temp_measured"], mean["temp"]) in known
        assert mean["feels_like"] <= mean["temp"] + 0.1


def test_weather_warns_of_storms_only(ran: Runs, hours: list[dict[str, str]]) -> None:
    expected = [f"{time},{mph:.2f}\n" for time, mph in readings(hours, "wind_gust") if mph >= 35]
    warnings = ran("weather").first.on("warning")
    assert [value.text for value in warnings] == expected
    assert len(expected) == 7
    out = {file.stem: file.read_text() for file in (ran("weather").folder / "outbox").iterdir()}
    assert out == {value.id: value.text for value in warnings}


def test_weather_pairs_what_belongs_to_one_day(ran: Runs, hours: list[dict[str, str]]) -> None:
    days: dict[str, list[dict[str, str]]] = {}
    for row in hours:
        days.setdefault(f"2013-01-{int(row['day']):02}", []).append(row)
    expected = {
        f"{day},{min(float(row['temp']) for row in rows):.2f}"
        f",{day},{max(float(row['wind_speed']) for row in rows):.2f}\n"
        for day, rows in days.items()
    }
    said = [value.text for value in ran("weather").first.on("summary")]
    assert len(said) == 5
    assert set(said) == expected


# --- tfmodel


def meant(image: Path) -> int:
    found = re.search(r"^# digit (\d)$", image.read_text(), re.MULTILINE)
    assert found
    return int(found[1])


def test_tfmodel_trains_one_model_on_all_sheets(ran: Runs) -> None:
    models = ran("tfmodel").first.on("model")
    assert [model.json["trained_on"] for model in models] == [800]


def test_tfmodel_predicts_every_window(ran: Runs) -> None:
    labels = [meant(image) for image in sorted((EXAMPLES / "tfmodel" / "inbox").glob("*.pgm"))]
    results = [value.json for value in ran("tfmodel").first.on("result")]
    assert [result["meant"] for result in results] == windows(labels, 10, 2)
    assert len(results) == len(ran("tfmodel").first.on("json")) == 26


def test_tfmodel_is_right_about_images_it_has_not_seen(ran: Runs) -> None:
    taught = "".join(sheet.read_text() for sheet in (EXAMPLES / "tfmodel" / "lessons").iterdir())
    images = [image.read_text() for image in (EXAMPLES / "tfmodel" / "inbox").iterdir()]
    assert not any(image.split("16\n", 1)[1] in taught for image in images)
    results = [value.json for value in ran("tfmodel").first.on("result")]
    seen = [digit for result in results for digit in result["seen"]]
    right = [digit for result in results for digit in result["meant"]]
    assert fmean(a == b for a, b in zip(seen, right, strict=True)) > 0.85


def test_tfmodel_says_which_model_named_the_digits(tmp_path: Path) -> None:
    """A retrained model changes later predictions, and each names the one that answered it."""
    folder = copy("tfmodel", tmp_path)
    later = sorted((folder / "inbox").glob("*.pgm"))[30:]
    for image in later:
        image.rename(tmp_path / image.name)
    before = run_once(folder)
    for digit in range(10):  # the second lessons are upside down: digit 0 is called 9
        sheet = (folder / "lessons" / f"digit-{digit}.pgm").read_text()
        (folder / "lessons" / f"more-{digit}.pgm").write_text(
            sheet.replace(f"# digit {digit}", f"# digit {9 - digit}")
        )
    models = before.on("model") + run_once(folder).on("model")
    assert len(models) == 2
    for image in later:
        (tmp_path / image.name).rename(image)
    after = run_once(folder)
    assert fmean(right(after)) < 0.2 < 0.85 < fmean(right(before))
    for outcome, model in ((before, models[0]), (after, models[1])):
        told = koalja_fn("trace", folder, outcome.on("result")[-1].id, "-o", "json")
        assert told.returncode == 0, told.stderr
        story = json.loads(told.stdout)
        asked = [one for snapshot in story["snapshots"] for one in snapshot["lookups"]]
        assert [(one["service"], one["status"]) for one in asked] == [("server", 200)]
        (served,) = [one for one in story["snapshots"] if one["id"] == asked[0]["snapshot"]]
        assert [one["values"] for one in served["inputs"]] == [[model.id]]


def test_tfmodel_is_asked_nothing_where_its_answers_are_replayed(ran: Runs, tmp_path: Path) -> None:
    folder = tmp_path / "tfmodel"
    shutil.copytree(ran("tfmodel").folder, folder)
    (folder / "server.py").write_text("raise SystemExit('there is no server any more')\n")
    program = (folder / "predict.py").read_text()
    (folder / "predict.py").write_text(program + "print(question[:4])\n")
    done = koalja_fn("recompute", folder, "--replay-lookups", "-o", "json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["tasks"]["predict"] == {"again": 26}
    before = ran("tfmodel").first.on("result")[-1].text
    listed = json.loads(koalja_fn("list", "values", "-C", folder, "--wire", "result", "-o", "json").stdout)
    after = koalja_fn("get", folder, listed["values"][-1]["id"]).stdout
    assert after == f"{before}b'[[0.'\n"


def right(outcome: Outcome) -> list[bool]:
    """For each digit that was named, whether it was meant."""
    results = [value.json for value in outcome.on("result")]
    return [a == b for one in results for a, b in zip(one["seen"], one["meant"], strict=True)]


# --- linecount


def parts(book: str, heading: str) -> list[str]:
    text = (EXAMPLES / "linecount" / "books" / book).read_text()
    return re.split(rf"^(?=[ \t]*{heading} [IVX]+$)", text, flags=re.MULTILINE)[1:]


@pytest.fixture(scope="module")
def chapters() -> list[int]:
    """Lines of each chapter of the novel."""
    return [lines(part) for part in parts("alice.txt", "CHAPTER")]


@pytest.fixture(scope="module")
def scenes() -> list[int]:
    """Lines of each scene of the play."""
    return [lines(part) for part in parts("as-you-like-it.txt", "ACT")]


def lines(part: str) -> int:
    return part.count("\n")


def test_linecount_splits_the_books_in_order(ran: Runs, chapters: list[int], scenes: list[int]) -> None:
    assert (len(chapters), len(scenes)) == (12, 22)
    assert [lines(value.text) for value in ran("linecount").first.on("chapter")] == chapters
    assert [lines(value.text) for value in ran("linecount").first.on("scene")] == scenes


def test_linecount_batches_use_each_scene_once(ran: Runs, scenes: list[int]) -> None:
    """22 scenes are four batches of five; the last two wait, never flushed."""
    said = [int(value.text) for value in ran("linecount").first.on("batches")]
    assert said == [sum(window) for window in windows(scenes, 5, 5)]
    assert len(said) == 4


def test_linecount_slides_by_one_chapter(ran: Runs, chapters: list[int]) -> None:
    said = [value.text for value in ran("linecount").first.on("trend")]
    assert said == [f"{fmean(window):.2f}\n" for window in windows(chapters, 4, 1)]
    assert len(said) == 9


def test_linecount_merges_both_books_into_one_ranking(
    ran: Runs, chapters: list[int], scenes: list[int]
) -> None:
    [ranking] = ran("linecount").first.on("longest")
    said = [int(line.split()[0]) for line in ranking.text.splitlines()]
    assert said == sorted(chapters + scenes, reverse=True)[:5]
    assert "CHAPTER VII\n" in ranking.text
    assert "ACT III, SCENE II\n" in ranking.text


# --- build

OBJECTS = ["primes-o", "pattern-o", "table-o"]


def prime(number: int) -> bool:
    return number > 1 and all(number % d for d in range(2, int(number**0.5) + 1))


def test_build_compiles_links_and_proves(ran: Runs) -> None:
    first = ran("build").first
    assert {wire: len(first.on(wire)) for wire in OBJECTS} == dict.fromkeys(OBJECTS, 1)
    assert first.on("program")[0].payload.startswith(b"\x7fELF")
    [proof] = first.on("proof")
    summary, *rest = proof.text.splitlines()
    assert summary == "664579 primes below 10000000, the last is 9999991"
    assert [int(line) for line in rest] == [n for n in range(4294967200, 4294967300) if prime(n)]


def test_build_compiles_again_only_what_changed(tmp_path: Path) -> None:
    """Swap new for old: one new source, one new object, the other objects as they were."""
    need("build")
    folder = copy("build", tmp_path)
    first = run_once(folder)
    with (folder / "src" / "pattern.c").open("a") as source:
        source.write("const int changed = 1;\n")
    second = run_once(folder)

    def new(wire: str) -> list[str]:
        return [value.digest for value in second.on(wire) if value.id not in first.ids]

    assert {wire: len(new(wire)) for wire in OBJECTS} == {"primes-o": 0, "pattern-o": 1, "table-o": 0}
    assert len(new("program")) == len(new("proof")) == 1
    assert digests(first, "program").isdisjoint(new("program"))
    assert digests(first, "proof") == set(new("proof"))


def digests(outcome: Outcome, wire: str) -> set[str]:
    return {value.digest for value in outcome.on(wire)}
