"""How executions end: by themselves, by the clock, by a cancel; and nothing of them goes on."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from koalja_fn.errors import StoreError
from koalja_fn.program.calling import Caller
from koalja_fn.program.cancel import Cancel
from koalja_fn.program.contract import Limits, Reason
from koalja_fn.program.starting import Child, Start

from .conftest import Bench, bench_in, outputs


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


def soon(condition: Callable[[], bool], seconds: float = 5.0) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.01)
    return condition()


def test_an_exit_status_is_a_failure_with_the_tail_of_standard_error(bench: Bench) -> None:
    result = bench.sh("echo one >&2; echo two >&2; exit 3")
    assert (result.reason, result.status, result.signal) == (Reason.EXIT, 3, None)
    assert result.stderr == "one\ntwo\n"
    assert not result.permanent
    assert "exit status 3" in result.message


def test_a_signal_is_told_by_its_name(bench: Bench) -> None:
    for name in ("KILL", "SEGV", "TERM"):
        result = bench.sh(f"ulimit -c 0; kill -{name} $$")
        assert (result.reason, result.status) == (Reason.SIGNAL, None)
        assert result.signal == signal.Signals[f"SIG{name}"]
        assert f"SIG{name}" in result.message


def test_a_failed_scratch_folder_is_kept_to_be_looked_at(bench: Bench) -> None:
    result = bench.sh("echo note > note; exit 1", inputs={"wind": [b"x"]}, label="average-7-1")
    assert result.scratch == bench.folder / ".koalja/scratch/failed/average-7-1"
    assert (result.scratch / "work/note").read_text() == "note\n"
    assert (result.scratch / "in/wind.0001.txt").read_bytes() == b"x"


def test_only_the_newest_failures_are_kept(bench: Bench) -> None:
    for number in range(25):
        bench.sh("mkdir -p a/b; chmod 000 a; exit 1", label=f"average-{number}")
    kept = {p.name for p in (bench.folder / ".koalja/scratch/failed").iterdir()}
    assert kept == {f"average-{number}" for number in range(5, 25)}


def test_a_successful_scratch_folder_is_cleared_whatever_is_in_it(bench: Bench) -> None:
    script = "mkdir -p a/b/c; touch a/b/c/d; chmod 000 a/b; chmod 500 a; ln -s /etc link; touch ../x.list"
    for _ in range(3):
        result = bench.sh(script)
        assert result.ok
        bench.caller.discard(result)
        assert outputs(bench.sh("ls -A . ../out; ls ..")) == {
            "mean": [b".:\n\n../out:\nin\nout\nstderr\nstdout\nwork\n"]
        }
    assert Path("/etc/passwd").exists()


def test_a_very_deep_folder_is_removed(bench: Bench) -> None:
    result = bench.python("import os\nfor i in range(3000):\n    os.mkdir('d'); os.chdir('d')\n", outputs=())
    assert result.ok
    bench.caller.discard(result)
    assert outputs(bench.sh("ls -A")) == {}


def test_a_program_that_hangs_is_ended_at_its_timeout(bench: Bench) -> None:
    started = time.monotonic()
    result = bench.sh("echo begun >&2; sleep 60", timeout=0.3)
    assert time.monotonic() - started < 20
    assert result.reason is Reason.TIMEOUT
    assert "0.3 s" in result.message
    assert result.stderr == "begun\n"


def test_a_program_that_ignores_sigterm_is_killed(bench: Bench) -> None:
    started = time.monotonic()
    result = bench.sh("trap '' TERM; while :; do sleep 0.1; done", timeout=0.3)
    assert result.reason is Reason.TIMEOUT
    assert result.signal == signal.SIGKILL
    assert time.monotonic() - started < 20


def test_a_program_that_was_stopped_is_ended_too(bench: Bench) -> None:
    result = bench.sh("kill -STOP $$", timeout=0.3)
    assert result.reason is Reason.TIMEOUT


def test_a_program_may_tidy_up_at_sigterm(bench: Bench) -> None:
    note = bench.folder / "tidied"
    result = bench.sh(f"trap 'echo > {note}; exit 0' TERM; while :; do sleep 0.05; done", timeout=0.3)
    assert result.reason is Reason.TIMEOUT
    assert note.exists()


def test_a_cancel_ends_what_runs_and_starts_nothing_more(bench: Bench) -> None:
    results = []
    thread = threading.Thread(target=lambda: results.append(bench.sh("sleep 60")))
    thread.start()
    time.sleep(0.3)
    started = time.monotonic()
    bench.stop.set()
    thread.join()
    assert time.monotonic() - started < 20
    assert results[0].reason is Reason.CANCELLED
    result = bench.sh(f"touch {bench.folder}/started")
    assert result.reason is Reason.CANCELLED
    assert not (bench.folder / "started").exists()


def test_one_cancel_ends_many(bench: Bench) -> None:
    stop, reasons = Cancel(), []
    job = bench.job("/bin/sleep", "60")
    threads = [
        threading.Thread(target=lambda: reasons.append(bench.caller.call(job, stop).reason)) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    stop.set()
    for thread in threads:
        thread.join(10)
    assert reasons == [Reason.CANCELLED] * 8
    stop.close()


FOREVER = "while :; do sleep 0.05; date >> {file}; done"
BACKGROUND = {
    "same group": f"sh -c 'echo $$; {FOREVER}' &",
    "own session": f"setsid sh -c 'echo $$; {FOREVER}' &",
    "daemon": f"(setsid sh -c 'echo $$; exec >&- 2>&-; cd /; {FOREVER}' &)",
    "ignores all": f"setsid sh -c 'trap \"\" TERM HUP INT; echo $$; {FOREVER}' &",
}


@pytest.mark.parametrize("kind", BACKGROUND)
@pytest.mark.parametrize("end", ["sleep 0.3; exit 0", "sleep 60"])
def test_nothing_that_a_program_started_outlives_it(bench: Bench, kind: str, end: str) -> None:
    """In its group, in a session of its own, as a daemon: ended before outputs are read."""
    script = BACKGROUND[kind].format(file=bench.folder / "ticks")
    result = bench.sh(f"{script}\n{end}", timeout=1.0 if "60" in end else 30.0, outputs=())
    assert result.reason in (Reason.NONE, Reason.TIMEOUT)
    (pid,) = result.log.split()
    assert not alive(int(pid))
    assert result.remarks == ()


def test_a_background_process_of_a_running_program_is_left_to_it(bench: Bench) -> None:
    """An orphan of one program is not ended when another program ends."""
    results = []
    script = "(setsid sh -c 'sleep 0.8; echo 7 > late' &); sleep 1.5; cat late"
    thread = threading.Thread(target=lambda: results.append(bench.sh(script)))
    thread.start()
    time.sleep(0.3)
    for _ in range(5):
        assert bench.call("/bin/true").ok
    thread.join()
    assert outputs(results[0]) == {"mean": [b"7\n"]}


def test_children_of_the_wrapper_itself_are_left_alone(bench: Bench) -> None:
    own = subprocess.Popen(["/bin/sh", "-c", "exit 7"], start_new_session=True)
    time.sleep(0.1)
    for _ in range(3):
        assert bench.call("/bin/true").ok
    assert own.wait() == 7


RUNNER = """
import sys, threading
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from tests.program.conftest import bench_in
bench = bench_in(Path(sys.argv[1]))
for script in ("echo $$ > {}/a; sleep 60", "setsid sh -c 'echo $$ > {}/b; sleep 60' & sleep 60"):
    threading.Thread(target=bench.sh, args=(script.format(bench.folder),), daemon=True).start()
threading.Event().wait()
"""


def test_programs_of_a_killed_runner_are_ended_at_the_next_start(tmp_path: Path) -> None:
    here = Path(__file__).parents[2]
    runner = subprocess.Popen([sys.executable, "-c", RUNNER, tmp_path, here])
    notes = [tmp_path / "circuit" / name for name in "ab"]
    assert soon(lambda: all(note.exists() and note.read_text() for note in notes), 20)
    runner.kill()
    runner.wait()
    pids = [int(note.read_text()) for note in notes]
    assert all(alive(pid) for pid in pids)
    bench = bench_in(tmp_path)
    assert not any(alive(pid) for pid in pids)
    left = [p.name for p in (bench.folder / ".koalja/scratch").iterdir()]
    assert len(left) == 2  # its own folder, and its lock
    bench.caller.close()
    bench.store.close()


def test_a_program_that_kills_its_runner_leaves_no_mark(tmp_path: Path) -> None:
    script = RUNNER.partition("for script")[0] + "bench.sh('kill -KILL $PPID; sleep 60')"
    here = Path(__file__).parents[2]
    runner = subprocess.run([sys.executable, "-c", script, tmp_path, here], check=False)
    assert runner.returncode == -signal.SIGKILL
    bench = bench_in(tmp_path)
    assert bench.call("/bin/true").ok
    bench.caller.close()
    bench.store.close()


def test_a_flood_on_standard_error_fills_no_disk_and_keeps_its_tail(tmp_path: Path) -> None:
    bench = bench_in(tmp_path, limits=Limits(log=1 << 20, tail=2000, grace=0.2))
    largest = 0
    stop = threading.Event()

    def measure() -> None:
        nonlocal largest
        while not stop.wait(0.02):
            for file in (bench.folder / ".koalja/scratch").rglob("std*"):
                largest = max(largest, file.stat().st_size)

    thread = threading.Thread(target=measure)
    thread.start()
    lines = "head -c 200000 /dev/zero | tr '\\0' x >&2; echo >&2; sleep 0.02"
    flood = f"for i in $(seq 60); do {lines}; done"
    result = bench.sh(flood + "; echo the end >&2; exit 1")
    stop.set()
    thread.join()
    assert result.reason is Reason.EXIT
    assert result.stderr.endswith("the end\n")
    assert len(result.stderr) < 3000
    assert 0 < largest < 6 << 20
    bench.caller.close()
    bench.store.close()


def test_a_log_on_standard_output_is_bounded_too(tmp_path: Path) -> None:
    bench = bench_in(tmp_path, limits=Limits(log=100_000, tail=2000))
    result = bench.sh(
        "for i in 1 2 3 4 5 6; do head -c 100000 /dev/zero; sleep 0.1; done; echo end", outputs=()
    )
    assert result.ok
    assert result.log.endswith("end\n")
    assert len(result.log) < 3000
    bench.caller.close()
    bench.store.close()


def test_standard_error_that_is_no_text_is_shown_as_far_as_it_goes(bench: Bench) -> None:
    result = bench.sh("printf 'a\\377\\000b' >&2; exit 1")
    assert result.stderr == "a\ufffd\ufffdb"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (None, "there is no such program"),
        (("", 0o755), "can't execute"),
        (("#!/no/such/interpreter\n", 0o755), "interpreter in its first line"),
        (("#!/bin/sh\n", 0o644), "chmod +x"),
    ],
)
def test_what_cannot_start_says_why_and_what_to_do(
    bench: Bench, make: tuple[str, int] | None, said: str
) -> None:
    program = bench.folder / "program"
    if make is not None:
        program.write_text(make[0])
        program.chmod(make[1])
    result = bench.call("./program", inputs={"wind": [b"x"]})
    assert result.reason is Reason.NOT_STARTED
    assert result.permanent
    assert said in result.message
    assert result.status is None


def test_a_bare_name_is_looked_up_in_the_folder_then_on_path(bench: Bench) -> None:
    assert outputs(bench.call("echo", "path")) == {"mean": [b"path\n"]}
    (bench.folder / "echo").write_text("#!/bin/sh\n/bin/echo folder\n")
    (bench.folder / "echo").chmod(0o755)
    assert outputs(bench.call("echo", "path")) == {"mean": [b"folder\n"]}
    assert bench.call("no-such-program").reason is Reason.NOT_STARTED


def test_a_missing_payload_is_an_error_not_a_result(bench: Bench) -> None:
    value = bench.value(b"x")
    bench.store.delete(value.digest)
    with pytest.raises(StoreError, match="missing"):
        bench.call("/bin/true", inputs={"wind": [value]})
    assert bench.call("/bin/true").ok


def test_many_threads_call_at_once(bench: Bench) -> None:
    wrong: list[object] = []

    def work(number: int) -> None:
        for i in range(15):
            data = b"%d %d" % (number, i)
            result = bench.call("/bin/cat", inputs={"wind": [data]})
            got = outputs(result)
            if got != {"mean": [data]}:
                wrong.append((data, got))
            bench.caller.discard(result)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(list((bench.folder / ".koalja/scratch").iterdir())) == 2


def test_no_zombie_and_no_descriptor_is_left(bench: Bench) -> None:
    bench.caller.discard(bench.call("/bin/true"))
    before = len(list(Path("/proc/self/fd").iterdir()))
    earlier = zombies()
    for _ in range(20):
        bench.caller.discard(bench.sh("sleep 0 & exit 0"))
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert zombies() <= earlier


def zombies() -> set[Path]:
    return {p for p in Path("/proc").glob("[0-9]*/stat") if f") Z {os.getpid()} " in _read(p)}


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def test_the_start_of_programs_can_be_replaced(tmp_path: Path) -> None:
    seen = []

    class Starter:
        def __call__(self, start: Start) -> Child:
            seen.append(start)
            return Child(subprocess.Popen(["/bin/sh", "-c", "exit 4"], start_new_session=True).pid)

        def close(self) -> None:
            seen.append(None)

    bench = bench_in(tmp_path, starter=Starter())
    assert isinstance(bench.caller, Caller)
    assert bench.call("/bin/true").status == 4
    assert len(seen) == 1
    bench.caller.close()
    assert seen[1:] == [None]
    bench.store.close()
