"""`why ID` and `diff ID ID`: what a result owes its existence to, and in what two of them differ."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from circuit_runs import folder_of, koalja, once
from click.testing import CliRunner

from koalja_fn.commands import main

WIRING = "(in, temp passive) up (mid)\n    env.MARK = one\n"
OLD = "#!/bin/sh\nprintf 'first\\n'; cat $1\n"
NEW = "#!/bin/sh\nprintf 'first\\nsecond\\n'; cat $1\n"


def ask(*words: object) -> Any:
    """A verb that only asks, without a process of its own."""
    return CliRunner().invoke(main, [str(word) for word in words])


def told(*words: object, status: int = 0) -> Any:
    done = ask(*words, "-o", "json")
    assert done.exit_code == status, done.output
    return json.loads(done.stdout)


def mids(folder: Path) -> list[str]:
    return [value["id"] for value in told("list", "values", "--wire", "mid", "-C", folder)["values"]]


def circuit(home: Path) -> Path:
    folder = folder_of(home, WIRING, up=OLD)
    assert koalja("send", folder, "temp", "-d", "20").returncode == 0
    once(folder, "--lines", "in", stdin="a\nb\n")
    return folder


def test_why_names_the_input_that_is_another_one_than_at_the_visit_before(tmp_path: Path) -> None:
    folder = circuit(tmp_path)
    first, second = mids(folder)
    assert told("why", first, "-C", folder)["previous"] is None
    reason = told("why", second, "-C", folder)
    assert "in 0002 arrived" in reason["because"]
    assert [(d["what"], d["text"]) for d in reason["differences"]] == [("input", "in[0] has other bytes")]
    source = told("list", "values", "--wire", "in", "-C", folder)["values"][0]["id"]
    assert "came from outside" in told("why", source, "-C", folder)["because"]


def test_why_and_diff_name_the_version_that_a_recompute_brought(tmp_path: Path) -> None:
    folder = circuit(tmp_path)
    before = mids(folder)[0]
    (folder / "up").write_text(NEW)
    assert koalja("recompute", folder, "-q").returncode == 0
    now = mids(folder)[0]
    reason = told("why", now, "-C", folder)
    assert "recompute 1 made it again" in reason["because"]
    assert [d["what"] for d in reason["differences"]] == ["version"]
    found = told("diff", before, now, "-C", folder, status=1)
    assert [d["what"] for d in found["differences"]] == ["version", "payload"]
    assert "+second" in found["diff"]
    assert "+second" in ask("diff", before, now, "-C", folder).output


def test_diff_of_two_snapshots_and_of_one_with_itself(tmp_path: Path) -> None:
    folder = circuit(tmp_path)
    first, second = mids(folder)
    rows = told("list", "snapshots", "-C", folder)["snapshots"]
    found = told("diff", rows[0]["id"], rows[1]["id"], "-C", folder, status=1)
    assert [d["what"] for d in found["differences"]] == ["input"]
    assert told("diff", first, first, "-C", folder)["differences"] == []
    assert ask("diff", first, second, "-C", folder, "-n", "x").exit_code == 2
    assert ask("diff", first, "ffff", "-C", folder).exit_code == 7


def test_why_of_what_make_made_names_the_file_that_changed(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "(in) up (mid)\nwire in\n    from = *.txt\n", up=OLD)
    (folder / "a.txt").write_text("one\n")
    assert koalja("make", folder).returncode == 0
    (folder / "a.txt").write_text("two\n")
    made = json.loads(koalja("make", folder, "-o", "json").stdout)
    value = made["wires"]["mid"][0]["id"]
    reason = told("why", value, "-C", folder)
    assert "run 2 of make" in reason["because"]
    assert [d["what"] for d in reason["differences"]] == ["input"]
