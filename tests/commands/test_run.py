"""`run`, as a process of its own: what people see, and what happens when things go wrong."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from circuit_runs import (
    COMMAND,
    alive,
    disk_of,
    end,
    folder_of,
    koalja,
    once,
    post,
    rows,
    running,
    texts,
    wait_for,
)

ONE = "(in) t (out)\n    run = ./t.sh {in}\n    backoff = 1ms\n    retries = 0\n"


def send(folder: Path, wire: str, *values: str) -> None:
    for value in values:
        done = koalja("send", folder, wire, "-", stdin=value)
        assert done.returncode == 0, done.stderr


# What `--once` tells


def test_once_prints_a_summary_for_people(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "(in) t (out)\n    run = cat {in}\n")
    done = koalja("run", "--once", folder, "--lines", "in", stdin="a\nb\n")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "in: 2 new, 2 in all"
    assert lines[3] == "out: 2 new, 2 in all"
    assert re.fullmatch(r"  [0-9a-f]{12} +1 B  a", lines[4])
    assert "t #1 done" in done.stderr
    again = koalja("run", "--once", folder, "-q")
    assert again.stdout.splitlines() == ["in: 0 new, 2 in all", "out: 0 new, 2 in all"]
    assert again.stderr == ""


def test_the_summary_shows_how_text_begins_and_where_anything_else_is(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "(in) t (out)\n    run = cat {in}\n")
    shown: list[str] = []
    for texts_ in ((b"plain\n", b"first\nsecond\n", b"w" * 100), (b"\x1b[31mred", b"\xff\xfe")):
        for text in texts_:
            assert koalja("send", folder, "in", "-", stdin=text).returncode == 0
        shown += koalja("run", "--once", folder, "-q").stdout.splitlines()
    values = [line.split(maxsplit=3)[3] for line in shown if line.startswith("  ")]
    assert values[:3] == ["plain", "first …", "w" * 72 + " …"]
    assert [Path(text).read_bytes() for text in values[3:]] == [b"\x1b[31mred", b"\xff\xfe"]
    send(folder, "in", *"1234")
    assert "out: 4 new, 9 in all; the last 3:" in koalja("run", "--once", folder, "-q").stdout


def test_the_summary_for_people_makes_no_file_of_each_value(tmp_path: Path) -> None:
    """Small payloads are rows; a run with a hundred thousand would end with as many files."""
    folder = folder_of(tmp_path, "(in[100]) t (out)\n    run = cat {in.list}\n")
    koalja("run", "--once", folder, "--lines", "in", stdin="\n".join(str(n) for n in range(90)))
    assert len([p for p in (folder / ".koalja/objects").rglob("*") if p.is_file()]) < 10


def test_once_prints_json_for_programs(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "(in) t (out)\n    run = cat {in}\nwire out\n    type = text/plain\n")
    found = once(folder, "--lines", "in", stdin="a\n")
    assert set(found) == {"circuit", "executions", "wires", "totals", "failures", "status", "talk"}
    assert (found["circuit"], found["executions"], found["failures"]) == ("circuit", 1, [])
    assert found["totals"] == {"in": 1, "out": 1}
    (value,) = found["wires"]["out"]
    assert set(value) == {"id", "path", "digest", "size", "type", "name", "position"}
    assert re.fullmatch("[0-9a-f]{64}", value["id"])
    assert re.fullmatch("sha256:[0-9a-f]{64}", value["digest"])
    assert (value["size"], value["type"], value["position"]) == (1, "text/plain", 1)
    assert Path(value["path"]).read_bytes() == b"a"


def test_a_dead_letter_is_told_with_its_standard_error_and_exit_status_4(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, ONE, t_sh="#!/bin/sh\necho oh dear >&2\nexit 7\n")
    found = once(folder, "--lines", "in", stdin="a\n")
    assert found["status"] == 4
    (failure,) = found["failures"]
    assert set(failure) == {"task", "snapshot", "attempts", "reason", "status", "message", "stderr"}
    assert (failure["task"], failure["attempts"], failure["reason"], failure["status"]) == ("t", 1, "exit", 7)
    assert failure["stderr"] == "oh dear\n"
    told = koalja("run", "--once", folder)
    assert told.returncode == 4
    assert "dead letter: t " in told.stdout
    assert "exit status 7" in told.stdout
    cure = told.stdout.splitlines()[-1]
    assert cure.startswith("  try: koalja-fn failures ")
    assert koalja("failures", cure.split()[3]).returncode == 0


def test_a_failed_attempt_is_tried_again_within_one_run(tmp_path: Path) -> None:
    program = '#!/bin/sh\n[ -e "$KOALJA_CODE/tried" ] || { touch "$KOALJA_CODE/tried"; exit 1; }\necho fine\n'
    folder = folder_of(tmp_path, ONE.replace("retries = 0", "retries = 2"), t_sh=program)
    found = once(folder, "--lines", "in", stdin="a\n")
    assert (found["status"], texts(found, "out"), found["executions"]) == (0, ["fine\n"], 2)
    assert "again in 0.0 s" in found["talk"]


# Ways in


def test_files_come_in_by_a_pattern_in_order_of_their_names(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "(in[3]) t (out)\n    run = cat {in}\n")
    for name in "cab":
        (tmp_path / f"{name}.txt").write_text(name)
    found = once(folder, "--in", f"in={tmp_path}/*.txt")
    assert texts(found, "out") == ["abc"]
    again = once(folder, "--in", f"in={tmp_path}/*.txt")
    assert len(again["wires"]["in"]) in (0, 3)


def test_standard_input_is_one_value_or_one_for_each_line(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "(in) t (out)\n    run = cat {in}\n")
    assert texts(once(folder, "--in", "in=-", stdin="a\nb\n"), "out") == ["a\nb\n"]
    assert texts(once(folder, "--lines", "in", stdin="a\nb"), "out") == ["a", "b"]


def test_an_unknown_wire_is_named_with_those_that_there_are(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "(in) t (out)\n    run = cat {in}\n")
    done = koalja("run", "--once", folder, "--lines", "inn", stdin="a\n")
    assert done.returncode == 7, done.stderr
    assert "inn" in done.stderr
    assert "Traceback" not in done.stderr


def test_values_that_were_sent_while_nothing_ran_are_worked_off(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "(in) t (out)\n    run = cat {in}\n")
    send(folder, "in", "a", "b")
    assert texts(once(folder), "out") == ["a", "b"]


def test_an_in_tray_and_an_out_tray(tmp_path: Path) -> None:
    folder = folder_of(
        tmp_path,
        "(in) t (out)\n    run = cat {in}\n"
        "wire in\n    from = inbox/*.txt\nwire out\n    to = outbox/{name}\n",
    )
    (folder / "inbox").mkdir()
    (folder / "inbox/1.txt").write_text("one")
    assert once(folder)["totals"] == {"in": 1, "out": 1}
    assert [path.read_text() for path in (folder / "outbox").iterdir()] == ["one"]
    assert once(folder)["totals"] == {"in": 1, "out": 1}


# What keeps it from running


def test_a_second_run_on_the_folder_is_refused_and_the_first_is_unharmed(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "(in) t (out)\n    run = cat {in}\n")
    with running(folder) as first:
        second = koalja("run", folder)
        assert second.returncode == 6
        assert f"{folder} is in use by another koalja-fn" in second.stderr
        assert f"process {first.pid} has it" in second.stderr
        assert koalja("run", "--once", folder).returncode == 6
        assert post(folder, "in", b"a") == 202
        wait_for(lambda: rows(folder, "SELECT head FROM wire WHERE name = 'out'") == [(1,)])
        end(first)
        assert first.returncode == 0
    assert once(folder)["totals"] == {"in": 1, "out": 1}


def test_a_registry_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "(in) t (out)\n    run = cat {in}\n")
    once(folder)
    with sqlite3.connect(folder / ".koalja/registry.db") as raw:
        raw.execute("PRAGMA user_version = 999")
    done = koalja("run", "--once", folder)
    assert done.returncode == 8
    assert "has version 999" in done.stderr
    assert "pip install --upgrade koalja-fn" in done.stderr


def test_broken_wiring_is_refused_with_all_findings(tmp_path: Path) -> None:
    folder = folder_of(
        tmp_path,
        "(in[2/3]) a (x)\n    run = cat {in}\n    polici = swap\n(x) b (y)\n    run = ./missing.sh\n",
    )
    done = koalja("run", folder)
    assert done.returncode == 3
    for place in ("circuit.koalja:2:", "circuit.koalja:4:", "circuit.koalja:5:"):
        assert place in done.stderr, done.stderr
    assert "policy" in done.stderr  # did you mean
    assert "^" in done.stderr
    assert not (folder / ".koalja").exists()


def test_a_missing_program_is_found_before_anything_runs(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "(in) nobody (out)\n")
    done = koalja("run", "--once", folder)
    assert done.returncode == 3
    assert "nobody" in done.stderr


def test_a_program_that_is_not_executable_is_named_with_the_cure(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "(in) t (out)\n    run = ./t.bin\n", t_bin="#!/bin/sh\n")
    (folder / "t.bin").chmod(0o644)
    done = koalja("run", "--once", folder)
    assert done.returncode == 3
    assert "chmod +x" in done.stderr


def test_an_empty_folder_and_one_that_is_not_there_are_not_found(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere"):
        done = koalja("run", "--once", path)
        assert (done.returncode, done.stdout) == (7, "")
        assert "koalja-fn init" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    import socket

    folder = folder_of(tmp_path, "(in) t (out)\n    run = cat {in}\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = koalja("run", folder, "--port", taken.getsockname()[1])
    assert done.returncode == 6
    assert "leave --port out" in done.stderr


@pytest.mark.skipif(
    os.geteuid() == 0 and not Path("/usr/bin/setpriv").exists(), reason="root may write anywhere"
)
def test_a_folder_that_may_not_be_written_is_told(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "(in) t (out)\n    run = cat {in}\n")
    folder.chmod(0o555)
    done = subprocess.run(
        [*unprivileged(), *COMMAND, "run", "--once", str(folder)], capture_output=True, text=True, timeout=60
    )
    folder.chmod(0o755)
    if done.returncode == 1 and "setpriv" in done.stderr:
        pytest.skip("setpriv can't drop the privileges of root here")
    assert done.returncode == 8, done.stderr
    assert "can't make" in done.stderr
    assert "Traceback" not in done.stderr


def unprivileged() -> list[str]:
    """Root without the capability to write where only the mode forbids it."""
    if os.geteuid() != 0:
        return []
    return ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all"]


# Programs that misbehave

MISBEHAVE = {
    "fails": ("echo no >&2; exit 3", "exit", "exit status 3"),
    "is killed": ("kill -9 $$", "signal", "SIGKILL"),
    "hangs": ("sleep 1000", "timeout", "timeout"),
    "writes a link into its outputs": ('ln -s /etc/passwd "$KOALJA_OUT/out"', "outputs", "link"),
    "writes a name that no wire has": ('echo x > "$KOALJA_OUT/other"', "outputs", "other"),
    "writes outside of its outputs": ('echo x > "$KOALJA_OUT/../evil"', "outputs", "beside"),
    "makes a pipe of its output": ('mkfifo "$KOALJA_OUT/out"', "outputs", "out"),
}


@pytest.mark.parametrize("what", MISBEHAVE)
def test_a_program_that(tmp_path: Path, what: str) -> None:
    text, reason, message = MISBEHAVE[what]
    folder = folder_of(
        tmp_path,
        ONE + "    timeout = 500ms\n" + "(fine) other (kept)\n    run = cat {fine}\n",
        t_sh=f"#!/bin/sh\n{text}\n",
    )
    send(folder, "in", "a")
    found = once(folder, "--lines", "fine", stdin="good\n")
    assert found["status"] == 4
    (failure,) = found["failures"]
    assert failure["reason"] == reason, failure
    assert message in failure["message"], failure
    assert texts(found, "out") == []
    assert texts(found, "kept") == ["good"]


def test_a_program_that_floods_standard_error_keeps_a_tail_of_it(tmp_path: Path) -> None:
    program = "#!/bin/sh\nyes 'a line of a flood' | head -c 200000000 >&2\necho the end >&2\nexit 1\n"
    folder = folder_of(tmp_path, ONE, t_sh=program)
    found = once(folder, "--lines", "in", stdin="a\n")
    (failure,) = found["failures"]
    assert failure["stderr"].endswith("the end\n")
    assert len(failure["stderr"]) < 100_000
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 100_000_000


def test_a_program_that_writes_a_gigabyte_does_not_fill_the_memory(tmp_path: Path) -> None:
    """The gigabyte is sparse, so that it fits everywhere; what is read of it is a gigabyte all the same."""
    folder = folder_of(
        tmp_path, ONE + "    timeout = 60s\n", t_sh='#!/bin/sh\ntruncate -s 1G "$KOALJA_OUT/out"\n'
    )
    send(folder, "in", "a")
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_DATA, (400 << 20,) * 2);"
        "from koalja_fn.commands import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "run", "--once", "-o", "json", str(folder)],
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    (value,) = json.loads(done.stdout)["wires"]["out"]
    assert value["size"] == 1 << 30
    assert value["digest"] == "sha256:49bc20df15e412a64472421e13fe86ff1c5165e18b2afccf160d4dc19fe68a14"
    Path(value["path"]).unlink()


def test_a_large_output_of_real_bytes_goes_on_to_the_next_program(tmp_path: Path) -> None:
    folder = folder_of(
        tmp_path,
        '(in) big (out)\n    run = sh -c "head -c 30000000 /dev/zero" {in}\n'
        "(out) count (n)\n    run = wc -c {out}\n",
    )
    found = once(folder, "--lines", "in", stdin="a\n")
    assert texts(found, "n")[0].split()[0] == "30000000"


# Ending

SLOW = '#!/bin/sh\necho $$ > "$KOALJA_CODE/pid"\nsleep 987 &\nsleep 987\necho done\n'


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_cleanly_and_the_next_run_goes_on(tmp_path: Path, sign: signal.Signals) -> None:
    folder = folder_of(tmp_path, ONE, t_sh=SLOW)
    with running(folder) as process:
        post(folder, "in", b"a")
        wait_for(lambda: (folder / "pid").exists() and (folder / "pid").read_text())
        assert alive(str(folder))
        _, talk = end(process, sign)
        assert process.returncode == 0, talk
        assert "ended" in talk
    assert alive(str(folder)) == []
    assert not (folder / ".koalja/run.json").exists()
    assert rows(folder, "SELECT state, attempts FROM snapshot") == [("ready", 0)]
    assert rows(folder, "SELECT outcome FROM execution") == [("cancelled",)]
    (folder / "t.sh").write_text("#!/bin/sh\necho now\n")
    found = once(folder)
    assert (found["status"], texts(found, "out")) == (0, ["now\n"])


def test_a_full_disk_ends_once_with_8_and_what_was_accepted_waits(tmp_path: Path) -> None:
    with disk_of(tmp_path / "disk", "4m") as disk:
        folder = folder_of(disk, "(in) t (out)\n    run = cat {in}\n")
        send(folder, "in", "a")
        large = tmp_path / "large"
        large.write_bytes(b"x" * (8 << 20))
        refused = koalja("send", folder, "in", large)
        assert refused.returncode == 8
        assert "free some disk space" in refused.stderr
        assert shutil.disk_usage(disk).free > 1 << 20  # half a copy of it would keep the room
        ballast = disk / "ballast"
        for room in (64 << 10, 0):  # enough to begin; not even that
            with ballast.open("ab") as file:
                file.write(b"x" * (shutil.disk_usage(disk).free - room))
            done = koalja("run", "--once", folder)
            assert done.returncode == 8, done.stderr
            assert "free some disk space" in done.stderr
            assert done.stderr.count("can't be used") < 5
            assert "Traceback" not in done.stderr
        ballast.unlink()
        assert texts(once(folder), "out") == ["a"]


def test_a_run_goes_on_when_nobody_reads_what_it_tells(tmp_path: Path) -> None:
    """`koalja-fn run --once 2>&1 | head -1`."""
    folder = folder_of(tmp_path, "(in[1]) t (out)\n    run = cat {in}\n")
    ours, theirs = os.pipe()
    os.close(ours)
    try:
        done = subprocess.run(
            [*COMMAND, "run", "--once", "--lines", "in", str(folder)],
            input=b"1\n2\n3\n",
            stdout=subprocess.PIPE,
            stderr=theirs,
            timeout=60,
        )
    finally:
        os.close(theirs)
    assert done.returncode == 0
    assert b"out: 3 new" in done.stdout


def test_a_signal_ends_once_with_130_and_what_was_accepted_waits(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, ONE, t_sh=SLOW)
    send(folder, "in", "a")
    process = subprocess.Popen(
        [*COMMAND, "run", "--once", str(folder)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_for(lambda: (folder / "pid").exists() and (folder / "pid").read_text())
    output, talk = end(process)
    assert (process.returncode, output) == (130, "")
    assert "what was accepted waits" in talk
    assert alive(str(folder)) == []
    (folder / "t.sh").write_text("#!/bin/sh\necho now\n")
    assert texts(once(folder), "out") == ["now\n"]


def test_a_killed_run_leaves_nothing_behind_that_the_next_does_not_clear(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, ONE.replace("retries = 0", "retries = 3"), t_sh=SLOW)
    with running(folder) as process:
        post(folder, "in", b"a")
        wait_for(lambda: (folder / "pid").exists() and (folder / "pid").read_text())
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    (folder / "t.sh").write_text("#!/bin/sh\necho now\n")
    found = once(folder)
    assert (found["status"], texts(found, "out")) == (0, ["now\n"])
    assert alive(str(folder)) == []
    assert rows(folder, "SELECT outcome FROM execution ORDER BY id") == [("lost",), ("done",)]


# Rewiring


def test_a_task_that_was_removed_is_told_and_can_be_discarded(tmp_path: Path) -> None:
    two = "(in) t (out)\n    run = cat {in}\n(in[2]) pair (two)\n    run = cat {in}\n"
    folder = folder_of(tmp_path, two)
    once(folder, "--lines", "in", stdin="a\n")
    folder_of(tmp_path, "(in) t (out)\n    run = cat {in}\n")
    found = once(folder, "--lines", "in", stdin="b\n")
    assert "pair: retired 1 values wait" in found["talk"]
    assert "pair: discarded 2 values" in once(folder, "--discard", "pair")["talk"]
    folder_of(tmp_path, two)
    found = once(folder, "--lines", "in", stdin="c\nd\n")
    assert "pair: resumed" in found["talk"]
    assert texts(found, "two") == ["cd"]
    done = koalja("run", "--once", folder, "--discard", "pair")
    assert done.returncode == 7


def test_new_code_is_noticed(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, ONE, t_sh="#!/bin/sh\necho one\n")
    once(folder)
    (folder / "t.sh").write_text("#!/bin/sh\necho two\n")
    assert "t: new code sha256:" in once(folder)["talk"]


# The disk


def test_a_full_disk_is_told_and_loses_nothing(tmp_path: Path) -> None:
    with disk_of(tmp_path / "disk", "16m") as disk:
        folder = folder_of(disk, "(in) t (out)\n    run = cat {in}\n    backoff = 1ms\n")
        once(folder, "--lines", "in", stdin="first\n")
        filler = disk / "filler"
        with open(filler, "wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(b"x" * 4096)
        done = koalja(
            "run", "--once", folder, "--lines", "in", stdin="".join(f"{n:05000}\n" for n in range(40))
        )
        assert done.returncode in (4, 8), done.stderr
        assert "Traceback" not in done.stderr
        filler.unlink()
        found = once(folder)
        totals = found["totals"]
        dead = [failure["snapshot"] for failure in found["failures"]]
        assert totals["out"] + len(dead) == totals["in"]
        verified = koalja("doctor", folder, "--verify", "-o", "json")
        assert next(f for f in json.loads(verified.stdout) if f["what"] == "records")["ok"]


# On a terminal


def on_terminal(folder: Path, until: bytes) -> tuple[int, bytes]:
    """Run on a terminal until some text is drawn, then press ^C; return the status and all that was drawn."""
    master, slave = pty.openpty()
    environment = {k: v for k, v in os.environ.items() if k not in ("CI", "NO_COLOR")}
    process = subprocess.Popen(
        [*COMMAND, "run", str(folder)],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**environment, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "40"},
        start_new_session=True,
    )
    os.close(slave)
    drawn = b""
    pressed = False
    while True:
        ready, _, _ = select.select([master], [], [], 30)
        assert ready, drawn
        try:
            block = os.read(master, 65536)
        except OSError:
            break
        if not block:
            break
        drawn += block
        if until in drawn and not pressed:
            pressed = True
            process.send_signal(signal.SIGINT)
    os.close(master)
    return process.wait(30), drawn


def test_on_a_terminal_a_table_is_drawn_and_taken_down_cleanly(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "(in) shout (out)\n    run = cat {in}\n(out) weep ()\n    run = false\n")
    send(folder, "in", "a", "b")
    status, drawn = on_terminal(folder, b"weep")
    assert status == 0, drawn.decode()
    text = re.sub(rb"\x1b\[[0-9;?]*[a-zA-Z]", b"", drawn).decode()
    for word in ("task", "waiting", "running", "dead", "shout", "weep"):
        assert word in text
    # The cursor that was hidden is shown again, and nothing is left in the alternate screen.
    assert drawn.rfind(b"\x1b[?25h") > drawn.rfind(b"\x1b[?25l")
    assert drawn.count(b"\x1b[?1049h") == drawn.count(b"\x1b[?1049l")
    assert "Traceback" not in text


def test_elsewhere_there_are_plain_lines_without_colours(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "(in) t (out)\n    run = cat {in}\n")
    with running(folder) as process:
        post(folder, "in", b"a")
        wait_for(lambda: rows(folder, "SELECT head FROM wire WHERE name = 'out'") == [(1,)])
        output, talk = end(process)
    assert output == ""
    assert "\x1b" not in talk
    assert re.search(r"^\d\d:\d\d:\d\d t #1 done \d\.\d+ s -> out 1$", talk, re.MULTILINE)
    assert re.search(r"listens at http://127\.0\.0\.1:\d+; \^C ends it", talk)


# Odd corners


def test_feeding_waits_while_a_backlog_is_full(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "(in) t (out)\n    run = cat {in}\n    backlog = 2\n")
    found = once(folder, "--lines", "in", stdin="".join(f"{n}\n" for n in range(12)))
    assert texts(found, "out") == [str(n) for n in range(12)]


def test_a_task_without_inputs_runs_once(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "() tick (out)\n    run = echo tick\n    every = 1h\n")
    assert texts(once(folder), "out") == ["tick\n"]
    assert texts(once(folder), "out") == []


def test_standard_error_that_is_no_text_is_shown_all_the_same(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, ONE, t_sh="#!/bin/sh\nprintf 'a\\377\\000b\\n' >&2\nexit 1\n")
    found = once(folder, "--lines", "in", stdin="a\n")
    (failure,) = found["failures"]
    assert failure["stderr"].startswith("a")
    assert koalja("run", "--once", folder).returncode == 4


@pytest.mark.parametrize("name", [b"caf\xe9.txt", b"new\nline.txt", b"-rf.txt", b"{in}.txt", b" .txt"])
def test_a_file_with_an_odd_name_goes_through_in_tray_program_and_out_tray(
    tmp_path: Path, name: bytes
) -> None:
    folder = folder_of(
        tmp_path,
        "(in) t (out)\n    run = cat {in}\nwire in\n    from = inbox/*\n    to = outbox/{name}\n",
    )
    (folder / "inbox").mkdir()
    with open(os.fsencode(folder / "inbox") + b"/" + name, "wb") as file:
        file.write(b"x")
    found = once(folder)
    assert texts(found, "out") == ["x"], found["talk"]
    assert [path.read_text() for path in (folder / "outbox").iterdir()] == ["x"]
    told = koalja("run", "--once", folder)
    assert told.returncode == 0, told.stderr
    assert koalja("log", folder).returncode == 0


def test_signposts_with_anything_in_them_never_make_an_execution_fail(tmp_path: Path) -> None:
    program = (
        "#!/bin/sh\n"
        """printf '{"text":"a\\\\ud800b\\\\u0000","x":"\\\\ud800","\\\\ud801":1}\\n' > $KOALJA_SIGNPOSTS\n"""
        """printf 'plain \\377\\n{"kind":"\\\\ud800"}\\n[1]\\n{"n":NaN}\\n' >> $KOALJA_SIGNPOSTS\n"""
        "echo fine\n"
    )
    folder = folder_of(tmp_path, ONE, t_sh=program)
    found = once(folder, "--lines", "in", stdin="a\n")
    assert (found["status"], texts(found, "out")) == (0, ["fine\n"])
    assert ("a\\ud800b\x00",) in rows(folder, "SELECT text FROM remark")
    assert koalja("visits", "t", cwd=folder).returncode == 0


def test_a_second_interrupt_ends_it_at_once(tmp_path: Path) -> None:
    stubborn = "#!/bin/sh\ntrap '' TERM INT\necho $$ > \"$KOALJA_CODE/pid\"\nwhile :; do sleep 1; done\n"
    # The attempt may be lost, which counts; it is tried again.
    folder = folder_of(tmp_path, "(in) t (out)\n    backoff = 1ms\n", t_sh=stubborn)
    with running(folder) as process:
        post(folder, "in", b"a")
        wait_for(lambda: (folder / "pid").exists() and (folder / "pid").read_text())
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
        assert process.returncode in (0, 130, -signal.SIGINT)
    (folder / "t.sh").write_text("#!/bin/sh\necho now\n")
    done = once(folder)
    assert texts(done, "out") == ["now\n"], done
    assert [pid for pid in alive(str(folder)) if pid != process.pid] == []


# Code that is edited meanwhile

DONE = "SELECT count(*) FROM snapshot WHERE state = 'done'"


def test_a_program_that_is_edited_while_it_runs_is_a_new_version_from_its_next_execution_on(
    tmp_path: Path,
) -> None:
    folder = folder_of(tmp_path, ONE, t_sh="#!/bin/sh\ncat $1; echo one\n")
    with running(folder) as process:
        for number, text in enumerate(["one", "two", "two", "one"], 1):
            (folder / "t.sh").write_text(f"#!/bin/sh\ncat $1; echo {text}\n")
            post(folder, "in", str(number).encode())
            wait_for(lambda number=number: rows(folder, DONE) == [(number,)])
        _, talk = end(process, signal.SIGTERM)
    assert talk.count("t: new code sha256:") == 2
    versions = [row[0] for row in rows(folder, "SELECT version FROM execution ORDER BY rowid")]
    assert versions[0] == versions[3] != versions[1] == versions[2]
    assert "new code" not in koalja("run", "--once", folder).stderr


def test_a_module_that_is_added_while_it_runs_belongs_to_the_code(tmp_path: Path) -> None:
    folder = tmp_path / "mycode"
    folder.mkdir()
    (folder / "main.py").write_text("print(1)\n")
    with running(folder) as process:
        post(folder, "in", b"1", circuit="mycode")
        wait_for(lambda: rows(folder, DONE) == [(1,)])
        (folder / "helper.py").write_text("")

        def told() -> bool:
            post(folder, "in", b"2", circuit="mycode")
            return len(rows(folder, "SELECT DISTINCT version FROM execution")) == 2

        wait_for(told)
        end(process, signal.SIGTERM)


def test_visits_tell_a_failure_in_one_line_and_failures_the_cure(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, ONE, t_sh="#!/no/such/interpreter\n")
    send(folder, "in", "a")
    assert once(folder)["status"] == 4
    cure = "correct the line that starts with #!"
    visits = koalja("visits", folder, "t").stdout
    assert re.search("the interpreter in its first line is not there in .* version", visits)
    assert cure not in visits
    assert f"try: {cure}, then koalja-fn retry" in koalja("failures", folder).stdout


def test_the_summary_names_some_of_very_many_dead_letters(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "(in) t (out)\n    run = false {in}\n    retries = 0\n")
    done = koalja("run", "--once", "-q", folder, "--lines", "in", stdin="a\n" * 30)
    assert done.returncode == 4
    assert done.stdout.count("dead letter: ") == 20
    assert "and 10 more dead letters" in done.stdout
