"""Speed of `koalja-fn make` beside other build tools, in one run.

    python benchmarks/pull.py [--quick] [--report FILE] [--without snakemake,redun]

Two shapes: a chain of tasks that copy a file, each the one before's result, and a fan of tasks that copy a
file each. Three situations: cold, nothing to do, one source changed. GNU make is the machine's; ninja, doit,
snakemake and redun are installed from PyPI into an environment of their own. Rounds alternate; medians are
given.
Exit status 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

JOBS = len(os.sched_getaffinity(0))
PEERS = {"ninja": "ninja", "doit": "doit", "snakemake": "snakemake", "redun": "redun"}


@dataclass(frozen=True)
class Shape:
    """A graph of copies: for each result the file that it is copied from."""

    name: str
    copies: tuple[tuple[str, str], ...]

    @property
    def sources(self) -> list[str]:
        made = {to for to, _ in self.copies}
        return sorted({origin for _, origin in self.copies} - made)

    @property
    def ends(self) -> list[str]:
        read = {origin for _, origin in self.copies}
        return [to for to, _ in self.copies if to not in read]


def chain(count: int) -> Shape:
    return Shape("chain", tuple((f"w{n + 1}", f"w{n}") for n in range(count)))


def fan(count: int) -> Shape:
    return Shape("fan", tuple((f"o{n}", f"s{n}") for n in range(count)))


class Tool:
    """A build tool in a folder of its own."""

    def __init__(self, name: str, shape: Shape, place: Path, command: list[str]) -> None:
        self.name = name
        self.folder = place / f"{shape.name}-{name}"
        self.folder.mkdir()
        self.shape = shape
        self.command = command
        (self.folder / "src").mkdir()
        (self.folder / "out").mkdir()
        self.rounds = 0
        for source in shape.sources:
            (self.folder / f"src/{source}").write_text(f"{source}\n")
        WRITERS[name](self)

    def path(self, wire: str) -> str:
        return f"src/{wire}" if wire in set(self.shape.sources) else f"out/{wire}"

    def run(self) -> float:
        begin = time.perf_counter()
        done = subprocess.run(self.command, cwd=self.folder, capture_output=True, text=True)
        seconds = time.perf_counter() - begin
        assert done.returncode == 0, f"{self.name}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
        for end in self.shape.ends[:3]:
            assert (self.folder / f"out/{end}").exists(), f"{self.name} made no {end}"
        return seconds

    def clean(self) -> None:
        for left in (".koalja", "out", ".doit.db", ".snakemake", ".redun", ".ninja_log", ".ninja_deps"):
            path = self.folder / left
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        (self.folder / "out").mkdir()

    def change(self) -> None:
        self.rounds += 1
        time.sleep(0.02)
        source = self.shape.sources[len(self.shape.sources) // 2]
        (self.folder / f"src/{source}").write_text(f"changed {self.rounds}\n")


def write_koalja(tool: Tool) -> None:
    lines = [f"[{tool.shape.name}]"]
    for to, origin in tool.shape.copies:
        lines += [f"({origin}) t-{to} ({to})", f"    run = cp {{{origin}}} {{out.{to}}}"]
    for source in tool.shape.sources:
        lines += [f"wire {source}", f"    from = src/{source}"]
    for end in tool.shape.ends:
        lines += [f"wire {end}", f"    to = out/{end}"]
    (tool.folder / "bench.koalja").write_text("\n".join(lines) + "\n")


def write_make(tool: Tool) -> None:
    lines = ["all: " + " ".join(f"out/{end}" for end in tool.shape.ends)]
    lines += [f"{tool.path(to)}: {tool.path(origin)}\n\tcp $< $@" for to, origin in tool.shape.copies]
    (tool.folder / "Makefile").write_text("\n".join(lines) + "\n")


def write_ninja(tool: Tool) -> None:
    lines = ["rule copy", "  command = cp $in $out"]
    lines += [f"build {tool.path(to)}: copy {tool.path(origin)}" for to, origin in tool.shape.copies]
    (tool.folder / "build.ninja").write_text("\n".join(lines) + "\n")


def write_doit(tool: Tool) -> None:
    copies = [(tool.path(to), tool.path(origin)) for to, origin in tool.shape.copies]
    (tool.folder / "dodo.py").write_text(
        f"COPIES = {copies!r}\n"
        "def task_copy():\n"
        "    for to, origin in COPIES:\n"
        "        yield {'name': to, 'actions': [['cp', origin, to]], 'file_dep': [origin], 'targets': [to]}\n"
    )


def write_snakemake(tool: Tool) -> None:
    lines = ["rule all:", f"    input: {[f'out/{end}' for end in tool.shape.ends]!r}"]
    for to, origin in tool.shape.copies:
        lines += [f"rule r_{to}:", f"    input: '{tool.path(origin)}'", f"    output: '{tool.path(to)}'"]
        lines += ["    shell: 'cp {input} {output}'"]
    (tool.folder / "Snakefile").write_text("\n".join(lines) + "\n")


def write_redun(tool: Tool) -> None:
    copies = [(tool.path(to), tool.path(origin)) for to, origin in tool.shape.copies]
    (tool.folder / "workflow.py").write_text(
        "import subprocess\nfrom redun import File, task\nredun_namespace = 'bench'\n"
        f"COPIES = {copies!r}\n"
        "@task()\ndef copy(origin: File, to: str) -> File:\n"
        "    subprocess.run(['cp', origin.path, to], check=True)\n    return File(to)\n"
        "@task()\ndef main() -> list:\n    made = {}\n"
        "    for to, origin in COPIES:\n"
        "        made[to] = copy(made[origin] if origin in made else File(origin), to)\n"
        "    return list(made.values())\n"
    )


WRITERS: dict[str, Callable[[Tool], None]] = {
    "koalja-fn": write_koalja,
    "make": write_make,
    "ninja": write_ninja,
    "doit": write_doit,
    "snakemake": write_snakemake,
    "redun": write_redun,
}


def commands(place: Path, without: set[str]) -> dict[str, list[str]]:
    """How each tool is called; peers are installed where they are missing."""
    found = {"koalja-fn": [sys.executable, "-m", "koalja_fn", "make", "-q", "-j", str(JOBS)]}
    if shutil.which("make"):
        found["make"] = ["make", "-s", f"-j{JOBS}"]
    wanted = {name: package for name, package in PEERS.items() if name not in without}
    if wanted:
        venv.create(place / "peers", with_pip=True)
        bin_ = place / "peers/bin"
        for name, package in wanted.items():
            done = subprocess.run([bin_ / "pip", "install", "-q", package], capture_output=True, text=True)
            if done.returncode:
                print(f"{name} is left out: {done.stderr.splitlines()[-1:]}", file=sys.stderr)
                continue
            arguments = {
                "ninja": [f"-j{JOBS}", "--quiet"],
                "doit": ["-n", str(JOBS), "-v", "0"],
                "snakemake": ["-j", str(JOBS), "-q", "all"],
                "redun": ["run", "workflow.py", "main"],
            }[name]
            found[name] = [str(bin_ / name), *arguments]
    return found


def bare(shape: Shape, place: Path) -> float:
    """The same programs called one by one, without any tool."""
    folder = place / f"{shape.name}-bare"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "out").mkdir(parents=True)
    (folder / "src").mkdir()
    sources = set(shape.sources)
    for source in sources:
        (folder / f"src/{source}").write_text(f"{source}\n")

    def copy(pair: tuple[str, str]) -> None:
        to, origin = pair
        place = "src" if origin in sources else "out"
        subprocess.run(["cp", f"{place}/{origin}", f"out/{to}"], cwd=folder, check=True)

    begin = time.perf_counter()
    if shape.name == "chain":
        for pair in shape.copies:
            copy(pair)
    else:
        with ThreadPoolExecutor(JOBS) as pool:
            list(pool.map(copy, shape.copies))
    return time.perf_counter() - begin


def interpreter() -> float:
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return time.perf_counter() - begin


SITUATIONS = ("cold", "no-op", "changed")


def measure(
    shape: Shape, place: Path, calls: dict[str, list[str]], times: int
) -> dict[tuple[str, str], float]:
    """Median seconds for each tool and situation."""
    tools = [Tool(name, shape, place, command) for name, command in calls.items()]
    found: dict[tuple[str, str], list[float]] = {}
    for n in range(times):
        for tool in tools:
            slow = tool.name in ("snakemake", "redun")
            if slow and n:
                continue  # their figures are far from the goal's edge
            tool.clean()
            found.setdefault((tool.name, "cold"), []).append(tool.run())
            for _ in range(1 if slow else 3):
                found.setdefault((tool.name, "no-op"), []).append(tool.run())
            tool.change()
            found.setdefault((tool.name, "changed"), []).append(tool.run())
            tool.run()
        found.setdefault(("bare", "cold"), []).append(bare(shape, place))
    return {key: statistics.median(some) for key, some in found.items()}


def growth(place: Path) -> tuple[float, float, float]:
    """Seconds for a no-op of 1,000 and of 10,000 tasks, and the larger one's peak memory in MB."""
    seconds = []
    command = [sys.executable, "-m", "koalja_fn", "make", "-q", "-j", str(JOBS)]
    for count in (1_000, 10_000):
        (place / str(count)).mkdir()
        tool = Tool("koalja-fn", fan(count), place / str(count), command)
        tool.run()
        seconds.append(statistics.median(tool.run() for _ in range(3)))
    return seconds[0], seconds[1], resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def goals(chain_: dict, fan_: dict) -> list[tuple[str, float, float]]:
    """What is to be shown: the text, the figure, and the most that it may be."""
    ours = "koalja-fn"
    start = statistics.median(interpreter() for _ in range(9))
    found = [
        ("no-op of the fan, times GNU make", fan_[ours, "no-op"] / fan_["make", "no-op"], 1.0),
        ("no-op of the chain, ms above an empty interpreter", 1000 * (chain_[ours, "no-op"] - start), 60.0),
        ("cold fan, times bare subprocess", fan_[ours, "cold"] / fan_["bare", "cold"], 1.5),
        ("cold chain, times bare subprocess", chain_[ours, "cold"] / chain_["bare", "cold"], 1.5),
        (
            "one changed source of the fan, times GNU make",
            fan_[ours, "changed"] / fan_["make", "changed"],
            2.0,
        ),
        (
            "changed source of the chain, times GNU make",
            chain_[ours, "changed"] / chain_["make", "changed"],
            2.0,
        ),
    ]
    for shape, name in ((chain_, "chain"), (fan_, "fan")):
        for peer in ("snakemake", "redun"):
            for situation in SITUATIONS:
                if (peer, situation) in shape:
                    text = f"{situation} {name}: part of {peer}'s time"
                    found.append((text, shape[ours, situation] / shape[peer, situation], 1 / 20))
    return found


def report(quick: bool, without: set[str], place: Path) -> tuple[list[str], bool]:
    times = 1 if quick else 5
    calls = commands(place, without | (set(PEERS) - {"ninja"} if quick else set()))
    shapes = (chain(20), fan(100)) if quick else (chain(100), fan(1000))
    results = [measure(shape, place, calls, times) for shape in shapes]
    lines = [f"| {' | '.join(['seconds', *calls, 'bare'])} |", "| --- " * (len(calls) + 2) + "|"]
    for shape, result in zip(shapes, results, strict=True):
        for situation in SITUATIONS:
            cells = [
                f"{result[name, situation]:.3f}" if (name, situation) in result else ""
                for name in (*calls, "bare")
            ]
            lines.append(f"| {shape.name} of {len(shape.copies)}, {situation} | {' | '.join(cells)} |")
    lines += ["", "| goal | figure | at most | |", "| --- | --- | --- | --- |"]
    fine = True
    for text, figure, most in goals(*results):
        met = figure <= most
        fine = fine and (met or quick)
        lines.append(f"| {text} | {figure:.3g} | {most:.3g} | {'' if met else 'MISSED'} |")
    if not quick:
        small, large, memory = growth(place)
        lines.append(f"| no-op of 10,000 tasks, times that of 1,000 | {large / small:.3g} | 10 | |")
        lines.append(
            f"| peak memory with 10,000 tasks, MB | {memory:.0f} | 200 | {'' if memory < 200 else 'MISSED'} |"
        )
        fine = fine and memory < 200
    return lines, fine


def main() -> int:
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # all tools of Python as people have them
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--without", default="", help="peers to leave out, separated by commas")
    parser.add_argument("--report", type=Path)
    arguments = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="bench-", dir=os.environ.get("KOALJA_BENCH_DIR", ".")))
    try:
        lines, fine = report(arguments.quick, set(arguments.without.split(",")), place.resolve())
    finally:
        shutil.rmtree(place, ignore_errors=True)
    text = "\n".join(lines) + "\n"
    print(text)
    if arguments.report:
        arguments.report.write_text(text)
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
