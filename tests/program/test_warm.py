"""Forked from a template, a Python program can't tell: all that it shows is as from a cold start."""

import os
import re
import signal
import stat
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from koalja_fn.program.contract import Limits, Reason, Result
from koalja_fn.program.pythonic import Unusual, recognised
from koalja_fn.program.starting import Child, Process, Start
from koalja_fn.program.template import Forked
from koalja_fn.program.warm import Warm, starter

from .conftest import Bench, bench_in
from .test_ending import alive, soon

# Another interpreter to compare the two starts of, such as python3.13's path.
PYTHON = os.environ.get("KOALJA_TEST_PYTHON", sys.executable)
HEAD = "import atexit, json, os, random, signal, sys, tempfile, threading, time\n"


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@dataclass
class Both:
    """A bench whose starter tells how each program was started."""

    bench: Bench
    starts: list[Process]
    last: Start | None = None

    def program(self, text: str, name: str = "program.py") -> str:
        path = self.bench.folder / name
        path.write_text(text)
        return str(path)

    def cold(self, *command: str, **more: Any) -> Result:
        result = self.bench.call(*command, **more)
        assert not isinstance(self.starts[-1], Forked)
        return self._told(result)

    def warm(self, *command: str, **more: Any) -> Result:
        result = self.maybe_warm(*command, **more)
        assert isinstance(self.starts[-1], Forked)
        return result

    def maybe_warm(self, *command: str, **more: Any) -> Result:
        return self._told(self.bench.call(*command, warm=True, **more))

    def prepare(self, *command: str, **more: Any) -> str | None:
        """Have a template made; why there is none, empty if there is."""
        for _ in range(2):
            self.maybe_warm(*command, **more)
        return self.why()

    def why(self) -> str | None:
        assert self.last is not None
        return self.starter.ready(self.last)

    @property
    def starter(self) -> Warm:
        found = self.bench.caller._starter
        assert isinstance(found, Noting)
        return found.warm

    def _told(self, result: Result) -> Result:
        self.bench.files = {f.wire: f.path.read_bytes() for f in result.outputs}  # type: ignore[attr-defined]
        if result.ok:
            self.bench.caller.discard(result)
        return result

    def shown(self, result: Result, *, stderr: bool = True) -> dict[str, object]:
        found = {
            "reason": result.reason,
            "status": result.status,
            "signal": result.signal,
            "files": self.bench.files,  # type: ignore[attr-defined]
            "stderr": result.stderr if stderr else "",
            "remarks": result.remarks,
            "message": result.message,
        }
        text = re.sub(r"/scratch/[^/]+/\d+/", "/SLOT/", repr(found))
        text = re.sub(r"0x[0-9a-f]+", "0x", text)
        return {"shown": text}


class Noting:
    """A warm starter that notes what it did."""

    def __init__(self, both: Both, folder: Path, **more: Any) -> None:
        self.both = both
        self.warm = Warm(folder, **more)

    def __call__(self, start: Start) -> Process:
        process = self.warm(start)
        self.both.last = start
        self.both.starts.append(process)
        return process

    def close(self) -> None:
        self.warm.close()


@pytest.fixture
def both(tmp_path: Path) -> Iterator[Both]:
    bench = bench_in(tmp_path, limits=Limits(grace=0.5))
    made = Both(bench, [])
    bench.caller._starter = Noting(made, tmp_path / "templates")
    yield made
    bench.caller.close()
    bench.store.close()


PROGRAMS = {
    "argv": "print(sys.argv, sys.orig_argv[-2:], sys.argv[0] == __file__)",
    "input": "print(open(sys.argv[2]).read(), os.stat(sys.argv[2]).st_mode)",
    "module path": "print(sys.path)",
    "main": "m = sys.modules['__main__']; print(m.__dict__ is globals(), __name__, __file__, __spec__, "
    "__builtins__, __package__, __loader__.__class__, sorted(k for k in globals() if k.startswith('__')))",
    "if name": "if __name__ == '__main__':\n    print('main')",
    "no trace of us": "print([n for n in sys.modules if 'custom' in n], "
    "[k for k in os.environ if 'TEMPL' in k or 'PYTHON' in k or k.startswith('_')])",
    "environment": "import subprocess; print(list(os.environ.items())); "
    "print(subprocess.run(['env'], capture_output=True).stdout)",
    "environment as the kernel sees it": "print(sorted(v for v in "
    "open('/proc/self/environ').read().split(chr(0)) if v))",
    "folder": "print(os.getcwd(), os.listdir(), os.path.expanduser('~'), tempfile.gettempdir())",
    "descriptors": "print(sorted(os.listdir('/proc/self/fd'))[:-1], "
    "[os.get_inheritable(n) for n in (0, 1, 2)])",
    "streams": "print([(s.encoding, s.errors, s.line_buffering, s.write_through, s.name, "
    "s.mode, s.seekable(), "
    "s.isatty()) for s in (sys.stdin, sys.stdout, sys.stderr)], sys.stdin.read())",
    "session": "print(os.getsid(0) == os.getpid() == os.getpgid(0))",
    "umask and limits": "import resource; print(os.umask(0), [resource.getrlimit(n) for n in range(10)])",
    "signals": "print([(s, str(signal.getsignal(s))[:30]) for s in sorted(signal.valid_signals())], "
    "signal.pthread_sigmask(signal.SIG_BLOCK, []))",
    "threads": "print(threading.main_thread() is threading.current_thread(), threading.active_count(), "
    "threading.main_thread().native_id == os.getpid())",
    "frames": "import traceback; traceback.print_stack(); print(sys._getframe().f_back)",
    "flags": "print(sys.flags, sys.warnoptions, sys._xoptions, sys.dont_write_bytecode)",
    "name": "print(open('/proc/self/comm').read())",
    "executable": "print(sys.executable, sys.prefix, sys.base_prefix, os.readlink('/proc/self/exe'))",
    "exit 0": "sys.exit()",
    "exit 3": "print('out'); sys.exit(3)",
    "exit text": "sys.exit('a reason')",
    "exit in a function": "def f():\n    raise SystemExit(300)\nf()",
    "exit at once": "print('lost'); os._exit(4)",
    "uncaught": "def f(n):\n    return 1 / n\nf(0)",
    "chained": "try:\n    {}['a']\nexcept KeyError as e:\n    raise ValueError('b') from e",
    "no syntax": "print('x'\n",
    "endless recursion": "def f():\n    f()\nf()",
    "interrupted": "raise KeyboardInterrupt",
    "a hook of its own": "sys.excepthook = lambda *a: "
    "print('hook', a[0], a[2].tb_frame.f_code.co_name)\n1 / 0",
    "killed": "os.kill(os.getpid(), signal.SIGKILL)",
    "terminated": "os.kill(os.getpid(), signal.SIGTERM)",
    "aborted": "import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); os.abort()",
    "handler": "signal.signal(signal.SIGUSR1, lambda *_: print('heard')); "
    "os.kill(os.getpid(), signal.SIGUSR1)",
    "atexit": "atexit.register(print, 'last'); atexit.register(print, 'first'); print('body'); sys.exit(5)",
    "atexit that fails": "atexit.register(lambda: 1 / 0)",
    "unflushed file": "f = open(os.environ['KOALJA_OUT'] + '/mean', 'w'); f.write('kept')",
    "unflushed file in a cycle": "class A: pass\n"
    "a = A(); a.a = a; a.f = open(os.environ['KOALJA_OUT'] + '/mean', 'w')\n"
    "a.f.write('kept'); del a",
    "finaliser": "class A:\n    def __del__(self): print('gone', json is not None)\na = A()",
    "broken standard output": "import io; os.close(1); print('x')",
    "thread goes on": "threading.Thread(target=lambda: (time.sleep(0.1), print('thread'))).start()\n"
    "print('main')",
    "daemon thread": "threading.Thread(target=time.sleep, args=(60,), daemon=True).start(); print('main')",
    "thread that fails": "t = threading.Thread(target=lambda: 1 / 0, name='t'); t.start(); t.join()",
    "children": "import subprocess; print(subprocess.run(['sh', '-c', 'exit 3']).returncode, "
    "subprocess.run([sys.executable, '-c', 'import sys; print(len(sys.path))'], capture_output=True).stdout)",
    "waits for its children": "pid = os.fork()\nif not pid: os._exit(7)\nprint(os.wait()[1])\n"
    "try: os.wait()\nexcept ChildProcessError: print('none')",
    "fork": "pid = os.fork()\nif pid: os.waitpid(pid, 0); print('parent')\nelse: print('child')",
    "local module": "import beside; print(beside.WHAT, beside.__file__)",
    "subreaper": "print(os.getppid() != 1)",
    "warning": "import warnings; warnings.warn('be careful')",
    "unraisable": "class A:\n    def __del__(self): 1 / 0\nA()",
    "large output": "sys.stdout.write('x' * 300000)",
    "processor time": "print(time.process_time() < 5)",
    "closed standard output": "print('x'); sys.stdout.close()",
    "full standard output": "os.dup2(os.open('/dev/full', os.O_WRONLY), 1); print('x')",
    "full standard output, small": "print('x' * 9, flush=False); os.dup2(os.open('/dev/full', 1), 1)",
    "standard output replaced": "sys.stdout = open(os.environ['KOALJA_OUT'] + '/mean', 'w'); print('x')",
    "standard output wrapped": "import io; sys.stdout = io.TextIOWrapper(sys.stdout.buffer); print('x')",
    "standard error replaced": "import io; sys.stderr = io.StringIO(); print('x', file=sys.stderr)",
    "exit without its file": "del __file__, __cached__; sys.exit(3)",
    "exit without any name": "exit = sys.exit; globals().clear(); raise SystemExit(3)",
    "end without its file": "del __file__",
    "exit in atexit": "atexit.register(sys.exit, 4)",
    "atexit in atexit": "atexit.register(lambda: atexit.register(print, 'inner'))",
    "atexit called by hand": "atexit.register(print, 'x'); atexit._run_exitfuncs(); print('after')",
    "atexit cleared": "atexit.register(print, 'x'); atexit._clear(); print('after')",
    "finaliser in a cycle": "class A:\n    def __del__(self): print('gone', WHAT)\n"
    "WHAT = 3; a = A(); a.a = a; del a; b = A(); b.b = b",
    "finalisers in their order": "class A:\n    def __init__(self, n): self.n = n\n"
    "    def __del__(self): print(self.n, HERE, type(self).__name__)\n"
    "HERE = 1; c = A('c'); _b = A('_b'); a = A('a'); __d__ = A('d')",
    "finaliser held by a function": "class A:\n    def __del__(self): print('gone', f is not None)\n"
    "def f(a=A()): return f",
    "finaliser in another module": "import beside\nclass A:\n"
    "    def __del__(self): print('gone', json is None)\nbeside.kept = A()",
    "finaliser in the builtins": "import builtins\nclass A:\n    def __del__(self): print('gone')\n"
    "builtins.kept = A()",
    "finaliser in sys": "class A:\n    def __del__(self): print('gone')\nsys.kept = A()",
    "finaliser that fails": "class A:\n    def __del__(self): 1 / 0\na = A(); a.a = a",
    "stack of a finaliser": "import traceback\nclass A:\n    def __del__(self): traceback.print_stack()\n"
    "a = A(); b = [A()]; b.append(b)",
    "forgotten file": "import warnings; warnings.simplefilter('always'); f = open(sys.argv[1])",
    "generator left": "def g():\n    try: yield\n    finally: print('closed')\nx = g(); next(x)",
    "weak reference called": "import weakref\nclass A: pass\na = A()\n"
    "r = weakref.ref(a, lambda _: print('r'))",
    "temporary folder left": "d = tempfile.TemporaryDirectory(); print(os.path.isdir(d.name))",
    "threads of a pool": "from concurrent.futures import ThreadPoolExecutor\n"
    "p = ThreadPoolExecutor(2); p.submit(lambda: (time.sleep(0.1), print('done')))",
    "C's own stream": "import ctypes; ctypes.CDLL(None).printf(b'from C')",
    "traced": "sys.setprofile(lambda *_: None); print('x')",
    "main replaced": "class A:\n    def __del__(self): print('gone')\na = A()\n"
    "sys.modules['__main__'] = type(sys)('__main__')",
    "finishing": "import weakref\nclass A: pass\na = A(); weakref.finalize(a, print, 'finalised')",
}  # fmt: skip


# Their standard error has lines of source or advice that come of no interpreter that is being taken apart.
LONGER = {"finaliser that fails", "forgotten file", "stack of a finaliser"}


def test_a_python_program_shows_the_same_from_both_starts(both: Both) -> None:
    both.program("WHAT = 'mine'\n", "beside.py")
    wrong = {}
    inputs = {"wind": [b"3 m/s"]}
    program = both.program(HEAD + "exec(compile(open(sys.argv[1]).read(), sys.argv[1], 'exec'))\n")
    cases = {name: both.program(f"{text}\n", f"{name}.txt") for name, text in PROGRAMS.items()}
    assert both.prepare(PYTHON, program, cases["exit 0"]) == ""
    for name, case in cases.items():
        command = (PYTHON, program, case, "{wind}")
        cold = both.shown(both.cold(*command, inputs=inputs), stderr=name not in LONGER)
        warm = both.shown(both.warm(*command, inputs=inputs), stderr=name not in LONGER)
        if cold != warm:
            wrong[name] = (cold, warm)
    assert not wrong, "\n".join(f"{name}\n  {c}\n  {w}" for name, (c, w) in wrong.items())


ENDS = (
    "import {}\nclass A:\n    def __del__(self):\n        {}\n        print(sys.is_finalizing())\na = A()\n"
)


@pytest.mark.parametrize(("imported", "does"), [("sys", ""), ("ctypes, sys", "ctypes.CDLL(None).puts(b'C')")])
@pytest.mark.skipif(sys.version_info >= (3, 14), reason="nobody has looked at how this interpreter ends")
def test_a_program_that_comes_to_its_end_is_spared_the_interpreters(
    both: Both, imported: str, does: str
) -> None:
    command = (sys.executable, both.program(ENDS.format(imported, does)))
    assert both.prepare(*command) == ""
    assert both.warm(*command).ok
    assert sorted(both.bench.files["mean"].split()) == [b"C"] * bool(does) + [b"False"]  # type: ignore[attr-defined]
    command = (sys.executable, both.program(ENDS.format(imported, does) + "sys.exit(0)\n", "exits.py"))
    assert both.prepare(*command) == ""
    assert both.warm(*command).ok
    assert sorted(both.bench.files["mean"].split()) == [b"C"] * bool(does) + [b"True"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "name", ["main", "no syntax", "uncaught", "frames", "endless recursion", "local module"]
)
def test_so_does_what_the_interpreter_itself_reads(both: Both, name: str) -> None:
    both.program("WHAT = 'mine'\n", "beside.py")
    command = (PYTHON, both.program(HEAD + PROGRAMS[name] + "\n"))
    cold = both.shown(both.cold(*command))
    assert both.prepare(*command) == ""
    assert both.shown(both.warm(*command)) == cold


MULTIPROCESSING = """
import multiprocessing, sys
def double(n): return 2 * n
if __name__ == "__main__":
    with multiprocessing.get_context(sys.argv[1]).Pool(2) as pool:
        print(pool.map(double, [1, 2, 3]), multiprocessing.current_process().name)
"""


@pytest.mark.parametrize("how", ["fork", "spawn", "forkserver"])
def test_multiprocessing_works_in_each_of_its_ways(both: Both, how: str) -> None:
    command = (sys.executable, both.program(MULTIPROCESSING), how)
    with tempfile.TemporaryDirectory(dir="/tmp") as short:  # a socket's path may have 107 characters
        env = (("TMPDIR", short),)
        cold = both.shown(both.cold(*command, env=env))
        assert both.prepare(*command, env=env) == ""
        assert both.shown(both.warm(*command, env=env)) == cold
    assert "[2, 4, 6]" in str(cold)


@pytest.mark.parametrize(
    ("first", "argv"),
    [
        ("#!/usr/bin/env python3", ()),
        (f"#!{sys.executable}", ()),
        (f"#!{sys.executable} -OO", ()),
        ("#!/usr/bin/env -S python3 -u -W ignore", ()),
        ("", (sys.executable, "-bb", "-X", "utf8")),
    ],
)
def test_first_lines_and_options_mean_what_they_mean(both: Both, first: str, argv: tuple[str, ...]) -> None:
    text = "import sys\nprint(sys.argv, sys.orig_argv, sys.flags, sys.executable, sys.stdout.write_through)\n"
    text += "print(open('/proc/self/comm').read())\n"
    program = both.program(f"{first}\n{text}")
    Path(program).chmod(0o755)
    env = (("PATH", f"{Path(sys.executable).parent}:/usr/bin:/bin"),)
    command = (*argv, program, "a b", "")
    cold = both.shown(both.cold(*command, env=env))
    assert both.prepare(*command, env=env) == ""
    assert both.shown(both.warm(*command, env=env)) == cold


@pytest.mark.parametrize(
    "words", [("-c", "import sys; print(sys.argv, sys.path)"), ("-m", "json.tool", "--help")]
)
def test_code_and_modules_given_to_the_interpreter(both: Both, words: tuple[str, ...]) -> None:
    command = (sys.executable, *words)
    cold = both.shown(both.cold(*command))
    assert both.prepare(*command) == ""
    assert both.shown(both.warm(*command)) == cold


def test_an_archive_is_run_by_what_is_in_it(both: Both, tmp_path: Path) -> None:
    archive = tmp_path / "program.pyz"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr(
            "__main__.py", "import csv, sys\nprint(sys.argv[1:], __file__, sys.path[0])\nsys.exit(3)\n"
        )
    command = (sys.executable, str(archive), "a")
    cold = both.shown(both.cold(*command))
    assert "'status': 3" in str(cold)
    assert both.prepare(*command) == ""
    assert both.shown(both.warm(*command)) == cold


def test_what_is_drawn_differs_between_executions(both: Both) -> None:
    text = "import random, uuid, secrets, ssl\n"
    text += "print(random.random(), uuid.uuid4(), uuid.uuid1(), secrets.token_hex(), ssl.RAND_bytes(8))"
    command = (sys.executable, both.program(text))
    assert both.prepare(*command) == ""
    seen = set()
    for _ in range(10):
        assert both.warm(*command).ok
        seen |= set(enumerate(both.bench.files["mean"].split(maxsplit=4)))  # type: ignore[attr-defined]
    assert len(seen) == 50


UNFIT = {
    "writes": ("print('hello')", "writes to standard output"),
    "threads": ("import threading, time; threading.Thread(target=time.sleep, args=(9,), daemon=True).start()",
        "threads"),
    "files": ("kept = open('/dev/null')", "opens files"),
    "generator": ("import random; mine = random.Random()", "random generator"),
    "hangs": ("import time; time.sleep(60)", "took longer"),
    "dies": ("import os; os._exit(3)", "ended the interpreter"),
    "fails": ("1 / 0", "ZeroDivisionError"),
    "processes": ("import subprocess; kept = subprocess.Popen(['sleep', '30'])", "starts processes"),
}  # fmt: skip


@pytest.mark.parametrize("kind", UNFIT)
def test_what_cannot_be_forked_is_started_anew_and_told_once(both: Both, tmp_path: Path, kind: str) -> None:
    text, said = UNFIT[kind]
    library = tmp_path / "site-packages"
    library.mkdir()
    (library / "peculiar.py").write_text(f"import sys\nif sys.argv[1:] == []:\n    {text}\n")
    both.starter._seconds = 2.0 if kind == "hangs" else 20.0
    command = (sys.executable, both.program("import peculiar\n"), "go")
    env = (("PYTHONPATH", str(library)),)
    why = both.prepare(*command, env=env)
    assert said in str(why)
    told = [both.maybe_warm(*command, env=env).remarks for _ in range(3)]
    assert not isinstance(both.starts[-1], Forked)
    assert [bool(remarks) for remarks in told] == [True, False, False]
    assert said in told[0][0]
    assert "warm = no" in told[0][0]


def test_only_libraries_are_imported_ahead_and_nothing_before_what_the_program_does_first(both: Both) -> None:
    both.program("import decimal\nopen(__file__ + '.ran', 'a').write('x')\nimport fractions\n", "beside.py")
    text = "import sys\nthere = [n for n in ('csv', 'decimal', 'fractions', 'wave') if n in sys.modules]\n"
    command = (
        sys.executable,
        both.program("import csv\nimport beside\nimport wave\n" + text + "print(there)"),
    )
    assert both.prepare(*command) == ""
    ran = both.bench.folder / "beside.py.ran"
    before = len(ran.read_text())
    assert both.warm(*command).ok
    assert len(ran.read_text()) == before + 1
    text = "import sys, csv\nprint([n for n in ('csv', 'wave', 'cgi') if n in sys.modules])\nimport wave\n"
    command = (sys.executable, both.program(text, "careful.py"))
    assert both.prepare(*command) == ""
    assert both.warm(*command).ok
    assert both.bench.files == {"mean": b"['csv']\n"}  # type: ignore[attr-defined]


def test_changed_code_is_run_as_it_is_now(both: Both) -> None:
    command = (sys.executable, both.program("import csv\nprint(1)\n"))
    assert both.prepare(*command) == ""
    assert both.warm(*command).ok
    both.program("import csv, wave\nprint(22)\n")
    both.cold(*command)
    assert both.maybe_warm(*command).ok
    assert both.bench.files == {"mean": b"22\n"}  # type: ignore[attr-defined]
    assert soon(lambda: bool(both.maybe_warm(*command)) and isinstance(both.starts[-1], Forked), 20)
    assert both.bench.files == {"mean": b"22\n"}  # type: ignore[attr-defined]
    both.program("CSV = 1\n", "csv.py")  # from now on the program's own is imported
    assert both.maybe_warm(*command).ok
    assert not isinstance(both.starts[-1], Forked)


def test_a_script_that_may_not_be_executed_any_more_is_not(both: Both) -> None:
    program = both.program(f"#!{sys.executable}\nprint(1)\n")
    Path(program).chmod(0o755)
    assert both.prepare(program) == ""
    assert both.warm(program).ok
    Path(program).chmod(0o644)
    assert both.maybe_warm(program).reason is Reason.NOT_STARTED


def test_each_environment_has_a_template_of_its_own(both: Both) -> None:
    command = (sys.executable, both.program("import os\nprint(os.environ['MINE'])\n"))
    for value in ("a", "b"):
        assert both.prepare(*command, env=(("MINE", value),)) == ""
        assert both.warm(*command, env=(("MINE", value),)).ok
        assert both.bench.files == {"mean": f"{value}\n".encode()}  # type: ignore[attr-defined]


def test_a_template_is_replaced_after_so_many_forks(both: Both) -> None:
    both.starter._forks = 3
    command = (sys.executable, both.program("print(1)\n"))
    assert both.prepare(*command) == ""
    assert [isinstance(both.starts[-1], Forked) for _ in range(5) if both.maybe_warm(*command).ok][:4] == [
        True,
        True,
        True,
        False,
    ]
    assert both.why() == ""
    assert both.warm(*command).ok


def test_timeouts_and_cancels_end_it_with_all_that_it_started(both: Both) -> None:
    text = "import os, time\n"
    text += "if not os.fork():\n    os.setsid()\n    print(os.getpid(), flush=True)\ntime.sleep(60)\n"
    command = (sys.executable, both.program(text))
    assert both.prepare(*command, timeout=0.2, outputs=()) == ""
    result = both.warm(*command, timeout=0.5, outputs=())
    assert (result.reason, result.signal) == (Reason.TIMEOUT, signal.SIGTERM)
    assert result.remarks == ()
    assert not alive(int(result.log))
    timer = threading.Timer(0.3, both.bench.stop.set)
    timer.start()
    assert both.warm(*command).reason is Reason.CANCELLED


def test_what_a_finished_program_left_running_is_ended(both: Both) -> None:
    text = "import os, time\nif not os.fork():\n    os.setsid()\n    if not os.fork():\n"
    text += (
        "        print(os.getpid(), flush=True)\n        time.sleep(60)\n    os._exit(0)\ntime.sleep(0.3)\n"
    )
    command = (sys.executable, both.program(text))
    assert both.prepare(*command, outputs=()) == ""
    result = both.warm(*command, outputs=())
    assert result.ok
    assert not alive(int(result.log))


def test_a_program_that_kills_its_template_harms_nobody_else(both: Both) -> None:
    text = "import os, signal, sys, time\n"
    text += "if sys.argv[1] == 'kill':\n    os.kill(os.getppid(), signal.SIGKILL)\n    sys.exit(6)\n"
    text += "open('began', 'w').close()\ntime.sleep(1)\nprint('slept')\n"
    program = both.program(text)
    assert both.prepare(sys.executable, program, "sleep") == ""
    results: list[Result] = []
    thread = threading.Thread(
        target=lambda: results.append(both.bench.call(sys.executable, program, "sleep", warm=True))
    )
    thread.start()
    scratch = both.bench.folder / ".koalja/scratch"
    assert soon(lambda: any(scratch.rglob("began")), 20)
    killer = both.bench.call(sys.executable, program, "kill", warm=True)
    assert (killer.reason, killer.status) == (Reason.EXIT, 6)
    thread.join()
    assert [file.path.read_bytes() for file in results[0].outputs] == [b"slept\n"]
    assert both.bench.call(sys.executable, program, "sleep", warm=True).ok


def test_many_threads_fork_from_one_template(both: Both) -> None:
    command = (sys.executable, both.program("import sys\nprint(open(sys.argv[1]).read())\n"))
    inputs = {"wind": [b"x"]}
    assert both.prepare(*command, inputs=inputs) == ""
    wrong: list[object] = []

    def work(number: int) -> None:
        for i in range(10):
            data = b"%d %d" % (number, i)
            result = both.bench.call(*command, inputs={"wind": [data]}, warm=True)
            got = [file.path.read_bytes() for file in result.outputs]
            if got != [data + b"\n"]:
                wrong.append((data, got, result))
            both.bench.caller.discard(result)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert all(isinstance(one, Forked) for one in both.starts[-80:])


def test_nothing_is_left_of_templates_and_programs(both: Both) -> None:
    command = (sys.executable, both.program("print(1)\n"))
    before = descriptors()
    assert both.prepare(*command) == ""
    with_template = descriptors()
    for _ in range(5):
        result = both.warm(*command)
        assert result.cpu > 0
    assert descriptors() == with_template
    forked = both.starts[-1]
    assert isinstance(forked, Forked)
    template = forked.template._process.pid
    both.starter.close()
    assert not alive(template)
    assert descriptors() == before - 1  # and the flag that gives up what is being made


def test_the_end_waits_for_no_template_that_is_being_made(both: Both, tmp_path: Path) -> None:
    library = tmp_path / "site-packages"
    library.mkdir()
    note = tmp_path / "note"
    (library / "slow.py").write_text(
        f"import os, sys, time\nif not sys.argv[1:]:\n    open({str(note)!r}, 'w').write(str(os.getpid()))\n"
        "    time.sleep(60)\n"
    )
    command = (sys.executable, both.program("import slow\n"), "go")
    for _ in range(2):
        both.maybe_warm(*command, env=(("PYTHONPATH", str(library)),))
    assert soon(lambda: note.exists() and bool(note.read_text()), 20)
    began = time.monotonic()
    both.starter.close()
    assert time.monotonic() - began < 10
    assert not alive(int(note.read_text()))


def test_templates_end_with_a_killed_runner(tmp_path: Path) -> None:
    import subprocess

    script = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from tests.program.conftest import bench_in
bench = bench_in(Path(sys.argv[1]))
program = bench.folder / "p.py"
program.write_text("import os\\nprint(os.getppid(), flush=True)\\n")
while True:
    result = bench.call(sys.executable, str(program), warm=True, env=(("S", "0"),))
    line = result.outputs[0].path.read_text()
    bench.caller.discard(result)
    if int(line) != __import__("os").getpid():
        print(line, flush=True)
        time.sleep(60)
"""
    here = Path(__file__).parents[2]
    runner = subprocess.Popen(
        [sys.executable, "-c", script, tmp_path, here], stdout=subprocess.PIPE, text=True
    )
    assert runner.stdout is not None
    template = int(runner.stdout.readline())
    assert alive(template)
    runner.kill()
    runner.wait()
    runner.stdout.close()
    assert soon(lambda: not alive(template), 20)


@pytest.mark.parametrize(("starts", "kinds"), [("warm", [Forked, Forked]), ("cold", [Child, Child])])
def test_all_starts_can_be_made_warm_or_cold(tmp_path: Path, starts: str, kinds: list[type]) -> None:
    program = tmp_path / "p.py"
    program.write_text("print(1)\n")
    made = starter(tmp_path / "templates", {"KOALJA_STARTS": starts})
    found = []
    for _ in kinds:
        with (tmp_path / "out").open("wb") as out:
            argv = [sys.executable, str(program)]
            process = made(Start(argv, str(tmp_path), {}, out.fileno(), out.fileno(), warm=True))
            found.append((type(process), process.reap()[0]))
    made.close()
    assert found == [(kind, 0) for kind in kinds]


def test_which_commands_are_python_programs(tmp_path: Path) -> None:
    program = tmp_path / "p.py"
    program.write_text("print(1)\n")
    path = str(Path(sys.executable).parent)
    found = recognised([sys.executable, "-u", "-W", "error", str(program), "a"], path)
    assert found is not None
    assert (found.skip, found.words[-1]) == (5, str(program))
    assert recognised([sys.executable], path) is None
    assert recognised([sys.executable, "p.py"], path) is None
    assert recognised(["/bin/sh", "-c", "true"], path) is None
    assert recognised([str(program), "a"], path) is None
    for option in ("-I", "-E", "-S", "-i"):
        with pytest.raises(Unusual, match=option):
            recognised([sys.executable, option, str(program)], path)
    false = tmp_path / "python3"
    false.write_text("#!/bin/sh\ntouch ran\n")
    false.chmod(false.stat().st_mode | stat.S_IXUSR)
    with pytest.raises(Unusual, match="no binary"):
        recognised([str(false), str(program)], path)


def test_a_stopped_template_holds_nobody_up(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    from koalja_fn.program import template as module

    monkeypatch.setattr(module, "_ANSWER_SECONDS", 0.5)
    command = (sys.executable, both.program("print(1)\n"))
    assert both.prepare(*command) == ""
    both.warm(*command)
    forked = both.starts[-1]
    assert isinstance(forked, Forked)
    os.kill(forked.template._process.pid, signal.SIGSTOP)
    began = time.monotonic()
    assert both.maybe_warm(*command).ok
    assert time.monotonic() - began < 20
    assert not isinstance(both.starts[-1], Forked)
