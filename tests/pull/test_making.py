"""`make`: what is asked for is brought up to date, and nothing else runs."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner
from workshop import Workshop, tasks_of, whys

from koalja_fn.commands import main
from koalja_fn.errors import Busy, NotFound, StoreError, UsageError
from koalja_fn.local.holding import hold
from koalja_fn.local.opening import open_payloads
from koalja_fn.program.cancel import Cancel
from koalja_fn.pull.narrowing import narrowed
from koalja_fn.pull.opening import compiled
from koalja_fn.pull.planning import plan
from koalja_fn.pull.trail import follow

CHAIN = """[w]
(a) first (b)
    run = ./copy {a} {out.b}
(b) second (c)
    run = ./copy {b} {out.c}
wire a
    from = src/*.txt
"""
DIAMOND = """[w]
(a) left (l)
    run = ./upper {a} {out.l}
(a) right (r)
    run = ./copy {a} {out.r}
(l, r) join (end)
    run = ./both {l} {r} {out.end}
wire a
    from = src/a.txt
"""


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    made = Workshop(tmp_path / "w")
    made.program("copy", 'cat "$1" > "$2"')
    made.program("upper", 'tr a-z A-Z < "$1" > "$2"')
    made.program("both", 'cat "$1" "$2" > "$3"')
    return made


def test_the_first_time_everything_runs_and_the_second_nothing(shop: Workshop) -> None:
    shop.wire(DIAMOND)
    shop.source("src/a.txt", "x")
    answer = shop.make()
    assert shop.texts(answer, "end") == ["Xx"]
    assert shop.ran() == ["join", "left", "right"]
    again = shop.make()
    assert again.wires["end"][0]["id"] == answer.wires["end"][0]["id"]
    assert (again.made, again.cached, again.unchanged) == ([], 3, True)
    assert shop.ran() == []


def test_only_what_depends_on_a_changed_file_runs(shop: Workshop) -> None:
    shop.wire(
        DIAMOND.replace("(a) right", "(z) right").replace("{a} {out.r}", "{z} {out.r}")
        + "wire z\n    from = src/z.txt\n"
    )
    shop.source("src/a.txt", "x")
    shop.source("src/z.txt", "z")
    shop.make()
    shop.ran()
    shop.source("src/z.txt", "y")
    answer = shop.make()
    assert shop.ran() == ["join", "right"]
    assert whys(answer) == {"right": "z changed: src/z.txt", "join": "r changed: r[0]"}


FAN = "".join(
    f"""
({n}in) copy{n} ({n}out)
    run = ./copy {{{n}in}} {{out.{n}out}}
wire {n}in
    from = src/{n}.txt
wire {n}out
    to = out/{n}.txt
"""
    for n in "xyz"
)


def test_the_answer_is_whole_where_only_a_part_was_looked_at(shop: Workshop) -> None:
    shop.wire(f"[w]{FAN}")
    for n in "xyz":
        shop.source(f"src/{n}.txt", n)
    first = shop.make()
    assert shop.ran() == ["copyx", "copyy", "copyz"]
    shop.source("src/y.txt", "new")
    (shop.folder / "out/z.txt").unlink()
    answer = shop.make()
    assert shop.ran() == ["copyy"]
    assert (tasks_of(answer.made), answer.cached) == (["copyy"], 2)
    assert list(answer.wires) == list(first.wires)
    assert answer.wires["xout"] == first.wires["xout"]
    assert [(shop.folder / f"out/{n}.txt").read_text() for n in "xyz"] == ["x", "new", "z"]
    again = shop.make()
    assert (again.unchanged, again.cached, again.wires) == (True, 3, answer.wires)
    (shop.folder / "src/x.txt").unlink()
    assert shop.make().wires == {**again.wires, "xout": []}


def test_a_changed_file_has_only_what_is_behind_it_planned(shop: Workshop) -> None:
    shop.wire(f"[w]{FAN}")
    for n in "xyz":
        shop.source(f"src/{n}.txt", n)
    shop.make()
    shop.source("src/y.txt", "new")
    earlier = follow(str(shop.folder), (), None)
    assert earlier is not None
    assert earlier.changed == [str(shop.folder / "src/y.txt")]
    circuit = compiled(shop.folder, shop.folder / ".koalja").circuit
    part = narrowed(circuit, plan(circuit, ()), earlier)
    assert part is not None
    assert [task.name for task in part.tasks] == ["copyy"]
    assert part.sources == ("yin",)


def test_a_failure_in_the_part_that_changed_leaves_the_rest_answered(shop: Workshop) -> None:
    shop.wire(f"[w]{FAN}")
    shop.program("copy", 'grep -v wrong "$1" > "$2"')
    for n in "xyz":
        shop.source(f"src/{n}.txt", n)
    shop.make()
    shop.source("src/y.txt", "wrong")
    answer = shop.make()
    assert [failure.task for failure in answer.failures] == ["copyy"]
    assert sorted(answer.wires) == ["xout", "zout"]
    shop.source("src/y.txt", "right")
    assert sorted(shop.make().wires) == ["xout", "yout", "zout"]


def test_a_result_that_is_as_before_stops_the_rebuild_there(shop: Workshop) -> None:
    shop.wire(CHAIN.replace("./copy {a}", "./upper {a}"))
    shop.source("src/a.txt", "word")
    shop.make()
    shop.ran()
    shop.source("src/a.txt", "WORD")
    assert tasks_of(shop.make().made) == ["first"]
    assert shop.ran() == ["first"]


def test_a_touched_file_with_the_same_content_runs_nothing(shop: Workshop) -> None:
    shop.wire(CHAIN)
    path = shop.source("src/a.txt", "x")
    shop.make()
    shop.ran()
    os.utime(path, (1, 1))
    assert shop.make().made == []
    assert shop.ran() == []


def test_going_back_to_what_was_once_made_runs_nothing(shop: Workshop) -> None:
    shop.wire(CHAIN)
    for text in ("x", "y"):
        shop.source("src/a.txt", text)
        shop.make()
    shop.ran()
    shop.source("src/a.txt", "x")
    assert shop.texts(shop.make(), "c") == ["x"]
    assert shop.ran() == []


def test_a_file_that_is_changed_back_and_forth_quickly_is_never_missed(shop: Workshop) -> None:
    shop.wire(CHAIN)
    for n in range(12):
        shop.source("src/a.txt", f"{n % 10}")  # same length, within one tick of the clock
        assert shop.texts(shop.make(), "c") == [f"{n % 10}"]


@pytest.mark.parametrize(
    ("edit", "why"),
    [
        (lambda s: s.program("copy", 'cat "$1" > "$2" # better'), "its code changed: copy"),
        (
            lambda s: s.wire(CHAIN.replace("{a} {out.b}", "{a} {out.b} x")),
            "its run line was './copy {a} {out.b}'",
        ),
        (
            lambda s: s.wire(CHAIN.replace("(b)\n", "(b)\n    env.LEVEL = high\n", 1)),
            "env.LEVEL was 'not set'",
        ),
    ],
)
def test_code_run_line_and_environment_count(shop: Workshop, edit, why: str) -> None:
    shop.wire(CHAIN)
    shop.source("src/a.txt", "x")
    shop.make()
    shop.ran()
    edit(shop)
    preview = shop.make(dry=True)
    assert whys(preview)["first"] == why
    assert shop.ran() == []
    shop.make()
    assert "first" in shop.ran()


def test_a_dry_run_tells_what_would_run_and_runs_nothing(shop: Workshop) -> None:
    shop.wire(DIAMOND)
    shop.source("src/a.txt", "x")
    first = shop.make(dry=True)
    assert whys(first) == {"left": "it was never made", "right": "it was never made"}
    assert first.held_up == ["join"]
    assert shop.ran() == []
    shop.make()
    shop.ran()
    nothing = shop.make(dry=True)
    assert (nothing.made, nothing.cached) == ([], 3)


def test_a_wire_in_the_middle_may_be_asked_for(shop: Workshop) -> None:
    shop.wire(CHAIN)
    shop.source("src/a.txt", "x")
    answer = shop.make("b")
    assert list(answer.wires) == ["b"]
    assert shop.ran() == ["first"]


def test_each_file_of_a_pattern_is_a_value_in_the_order_of_names(shop: Workshop) -> None:
    shop.wire(CHAIN)
    for name in "cab":
        shop.source(f"src/{name}.txt", name)
    assert shop.texts(shop.make(), "c") == ["a", "b", "c"]
    shop.ran()
    shop.source("src/aa.txt", "aa")
    answer = shop.make()
    assert shop.texts(answer, "c") == ["a", "aa", "b", "c"]
    assert shop.ran() == ["first", "second"]
    (shop.folder / "src/a.txt").unlink()
    assert shop.texts(shop.make(), "c") == ["aa", "b", "c"]
    assert shop.ran() == []


def test_windows_take_the_files_in_order_and_tell_what_no_window_has(shop: Workshop) -> None:
    shop.program("cat-all", 'cat "$@"')
    shop.wire("[w]\n(a[3/2]) t (b)\n    run = ./cat-all {a}\nwire a\n    from = src/*.txt\n")
    for n in range(6):
        shop.source(f"src/{n}.txt", str(n))
    answer = shop.make()
    assert shop.texts(answer, "b") == ["012", "234"]
    assert answer.left == {"t": {"a": 1}}


def test_an_elastic_window_closes_early_at_the_end(shop: Workshop) -> None:
    shop.program("cat-all", 'cat "$@"')
    shop.wire("[w]\n(a[2-4]) t (b)\n    run = ./cat-all {a}\nwire a\n    from = src/*.txt\n")
    for n in range(6):
        shop.source(f"src/{n}.txt", str(n))
    assert shop.texts(shop.make(), "b") == ["0123", "45"]


def test_swap_takes_the_newest_and_passive_inputs_are_read(shop: Workshop) -> None:
    shop.program("cat-all", 'cat "$@"')
    shop.wire(
        "[w]\n(a, p passive) t (b)\n    policy = swap\n    run = ./cat-all {a} {p}\n"
        "wire a\n    from = src/*.txt\nwire p\n    from = p/*\n"
    )
    for n in range(3):
        shop.source(f"src/{n}.txt", str(n))
        shop.source(f"p/{n}.txt", f"p{n}")
    assert shop.texts(shop.make(), "b") == ["2p2"]


def test_align_pairs_what_comes_of_the_same_file(shop: Workshop) -> None:
    shop.program("even", 'grep -q "[02468]" "$1" && cat "$1" > "$2" || true')
    shop.wire(
        "[w]\n(a) left (l)\n    run = ./even {a} {out.l}\n(a) right (r)\n    run = ./copy {a} {out.r}\n"
        "(l, r) join (end)\n    policy = align\n    within = 1m\n    run = ./both {l} {r} {out.end}\n"
        "wire a\n    from = src/*.txt\n"
    )
    for n in range(5):
        shop.source(f"src/{n}.txt", str(n))
    assert shop.texts(shop.make(), "end") == ["00", "22", "44"]


def test_a_sample_takes_the_first_files_only(shop: Workshop) -> None:
    shop.wire(CHAIN)
    for n in range(5):
        shop.source(f"src/{n}.txt", str(n))
    assert shop.texts(shop.make(most=2), "c") == ["0", "1"]
    assert shop.texts(shop.make(), "c") == ["0", "1", "2", "3", "4"]


def test_a_failure_is_told_with_what_the_program_said_and_stops_what_follows(shop: Workshop) -> None:
    shop.program("broken", "echo no such luck >&2; exit 3")
    shop.wire(CHAIN.replace("./copy {a} {out.b}", "./broken {a} {out.b}"))
    shop.source("src/a.txt", "x")
    answer = shop.make()
    assert [(f.task, f.stderr) for f in answer.failures] == [("first", "no such luck\n")]
    assert answer.held_up == ["second"]
    shop.program("broken", 'cat "$1" > "$2"')
    assert shop.texts(shop.make(), "c") == ["x"]


def test_after_a_failure_nothing_more_is_started(shop: Workshop) -> None:
    shop.program("broken", "exit 1")
    wiring = "".join(f"(a) t{n} (o{n})\n    run = ./broken {{a}} {{out.o{n}}}\n" for n in range(20))
    shop.wire(f"[w]\n{wiring}wire a\n    from = src/a.txt\n")
    shop.source("src/a.txt", "x")
    assert len(shop.make(jobs=1).failures) == 1
    assert len(shop.ran()) == 1
    assert len(shop.make(jobs=2, keep_going=True).failures) == 20


def test_results_are_written_while_others_are_being_made(shop: Workshop) -> None:
    shop.program("wait", 'until test -s "$2"; do sleep 0.02; done; cat "$1" > "$3"')
    shop.wire(
        "[w]\n(a) early (b)\n    run = ./copy {a} {out.b}\n"
        f"(a) late (c)\n    run = ./wait {{a}} {shop.folder}/out/b.txt {{out.c}}\n    timeout = 60s\n"
        "wire a\n    from = src/a.txt\nwire b\n    to = out/b.txt\n"
    )
    shop.source("src/a.txt", "x")
    assert shop.texts(shop.make(), "c") == ["x"]


def test_what_is_made_is_on_record_while_the_next_program_takes_its_time(shop: Workshop) -> None:
    shop.program("wait", 'until test -e "$2"; do sleep 0.02; done; cat "$1" > "$3"')
    quick = "".join(f"(a) t{n} (o{n})\n    run = ./copy {{a}} {{out.o{n}}}\n" for n in range(4))
    shop.wire(
        f"[w]\n{quick}(a) slow (z)\n    run = ./wait {{a}} {shop.folder}/go {{out.z}}\n    timeout = 60s\n"
        "wire a\n    from = src/a.txt\n"
    )
    shop.source("src/a.txt", "x")
    thread = threading.Thread(target=shop.make)
    thread.start()
    try:
        until = time.monotonic() + 30
        while _on_record(shop) < 4:
            assert time.monotonic() < until
            time.sleep(0.05)
    finally:
        (shop.folder / "go").touch()
        thread.join()
    assert _on_record(shop) == 5


def _on_record(shop: Workshop) -> int:
    path = shop.folder / ".koalja/registry.db"
    if not path.exists():
        return 0
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        try:
            return int(database.execute("SELECT count(*) FROM made").fetchone()[0])
        except sqlite3.OperationalError:  # its tables are being made
            return 0


@pytest.mark.parametrize("text", ["small", "large" * 10_000])
@pytest.mark.parametrize("words", [(), ("-o", "json"), ("--dry-run",)])
def test_a_result_that_somebody_deleted_from_the_store_is_made_again(
    shop: Workshop, text: str, words: tuple[str, ...]
) -> None:
    shop.wire(CHAIN)
    shop.program("twice", 'cat "$1" "$1" > "$2"')
    shop.wire(CHAIN.replace("./copy {b}", "./twice {b}"))
    shop.source("src/a.txt", text)
    (value,) = shop.make().wires["c"]
    shop.ran()
    with closing(open_payloads(shop.folder)) as store:
        store.delete(value["digest"])
    assert shop.make().unchanged  # nothing was looked at in the store
    done = CliRunner().invoke(main, ["make", str(shop.folder), *words])
    assert done.exit_code == 0, done.output
    if "--dry-run" in words:
        assert "second: would run: what it made is gone" in done.output
        assert shop.ran() == []
    else:
        assert "looked at anew" in done.output
        assert shop.ran() == ["second"]
        assert shop.texts(shop.make(), "c") == [text * 2]


def test_keep_going_makes_all_that_does_not_depend_on_the_failure(shop: Workshop) -> None:
    shop.program("broken", "exit 1")
    wiring = "".join(
        f"(a) t{n} (o{n})\n    run = ./{'broken' if n == 0 else 'copy'} {{a}} {{out.o{n}}}\n"
        for n in range(4)
    )
    shop.wire(f"[w]\n{wiring}wire a\n    from = src/a.txt\n")
    shop.source("src/a.txt", "x")
    answer = shop.make(jobs=1, keep_going=True)
    assert len(answer.failures) == 1
    assert sorted(answer.wires) == ["o1", "o2", "o3"]


def test_what_is_written_comes_back_when_it_was_deleted_or_changed(shop: Workshop) -> None:
    shop.wire(CHAIN + "wire c\n    to = out/result.txt\n")
    shop.source("src/a.txt", "x")
    shop.make()
    shop.ran()
    result = shop.folder / "out/result.txt"
    assert result.read_text() == "x"
    result.unlink()
    shop.make()
    assert result.read_text() == "x"
    result.write_text("meddled")
    shop.make()
    assert result.read_text() == "x"
    assert shop.ran() == []


def test_a_damaged_payload_is_found_rebuilt_and_told(shop: Workshop) -> None:
    shop.wire(CHAIN)
    shop.source("src/a.txt", "x")
    shop.make()
    shop.ran()
    with sqlite3.connect(shop.folder / ".koalja/objects/small.db") as database:
        assert database.execute("UPDATE small SET data = CAST('y' AS BLOB)").rowcount
    shop.said.clear()
    shop.wire(CHAIN.replace("{b} {out.c}", "{b} {out.c} more"))
    assert shop.texts(shop.make(), "c") == ["x"]
    assert shop.ran() == ["first", "second"]
    assert any("damaged" in said for said in shop.said)


def test_a_loop_is_named(shop: Workshop) -> None:
    shop.wire(
        "[w]\n(a, c) first (b)\n    run = ./both {a} {c} {out.b}\n"
        "(b) second (c)\n    run = ./copy {b} {out.c}\n"
    )
    with pytest.raises(UsageError, match=r"first -> second -> first|second -> first -> second"):
        shop.make("c")


def test_a_wire_that_is_not_there_is_guessed(shop: Workshop) -> None:
    shop.wire(CHAIN.replace("(c)", "(result)").replace("out.c", "out.result"))
    with pytest.raises(NotFound, match="no wire 'resutl'") as caught:
        shop.make("resutl")
    assert caught.value.cure == "did you mean result?"


def test_a_source_without_files_to_sample_says_what_to_write(shop: Workshop) -> None:
    shop.wire("[w]\n(a) first (b)\n    run = ./copy {a} {out.b}\n")
    with pytest.raises(NotFound, match="wire a has no files"):
        shop.make()


def test_services_are_refused_clearly(shop: Workshop) -> None:
    shop.wire(
        "[w]\n(a) model (look implicit)\n    run = ./copy {a}\n"
        "(a, look implicit) ask (b)\n    run = ./copy {a} {out.b}\n"
        "wire a\n    from = src/a.txt\n"
    )
    with pytest.raises(UsageError, match="needs services"):
        shop.make()


def test_a_link_out_of_the_folder_is_not_followed(shop: Workshop, tmp_path: Path) -> None:
    shop.wire(CHAIN)
    shop.source("src/a.txt", "x")
    (tmp_path / "secret").write_text("secret")
    (shop.folder / "src/b.txt").symlink_to(tmp_path / "secret")
    assert shop.texts(shop.make(), "c") == ["x"]
    assert any("out of" in said for said in shop.said)


def test_two_at_once_on_one_folder_the_second_is_told_who_has_it(shop: Workshop) -> None:
    shop.wire(CHAIN)
    shop.source("src/a.txt", "x")
    with hold(shop.folder), pytest.raises(Busy, match="in use"):
        shop.make()


def test_an_interrupted_run_keeps_what_was_finished(shop: Workshop) -> None:
    shop.program("slow", 'cat "$1" > "$2"; sleep 60')
    shop.wire(CHAIN.replace("./copy {b}", "./slow {b}"))
    shop.source("src/a.txt", "x")
    stop = Cancel()

    def interrupt() -> None:
        while "second" not in shop.log.read_text():
            time.sleep(0.01)
        stop.set()

    thread = threading.Thread(target=interrupt)
    thread.start()
    begin = time.monotonic()
    answer = shop.make(stop=stop)
    thread.join()
    stop.close()
    assert time.monotonic() - begin < 30
    assert answer.interrupted
    assert not answer.failures
    shop.ran()
    shop.program("slow", 'cat "$1" > "$2"')
    assert shop.texts(shop.make(), "c") == ["x"]
    assert shop.ran() == ["second"]


def test_a_file_that_grows_while_it_is_read_is_an_error_not_a_result(shop: Workshop) -> None:
    shop.wire(CHAIN)
    path = shop.source("src/a.txt", "x" * 30_000_000)
    stop = threading.Event()

    def grow() -> None:
        with path.open("a") as file:
            while not stop.is_set():
                file.write("y")
                file.flush()

    thread = threading.Thread(target=grow)
    thread.start()
    try:
        with pytest.raises(StoreError, match="changed"):
            shop.make()
    finally:
        stop.set()
        thread.join()


def test_a_task_without_inputs_runs_once_for_all(shop: Workshop) -> None:
    shop.program("date", 'echo today > "$1"')
    shop.wire(
        "[w]\n() clock (now)\n    run = ./date {out.now}\n    every = 1h\n"
        "(now) t (b)\n    run = ./copy {now} {out.b}\n"
    )
    assert shop.texts(shop.make(), "b") == ["today\n"]
    assert shop.ran() == ["clock", "t"]
    shop.make()
    assert shop.ran() == []


def test_a_sink_runs_whenever_it_is_asked_for_and_else_never(shop: Workshop) -> None:
    shop.program("notify", "true")
    shop.wire(CHAIN + "(c) tell ()\n    run = ./notify {c}\n(b) side (d)\n    run = ./copy {b} {out.d}\n")
    shop.source("src/a.txt", "x")
    shop.make()
    assert "tell" not in shop.ran()
    for _ in range(2):
        shop.make("tell")
        assert "tell" in shop.ran()
