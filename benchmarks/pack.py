"""Speed of packing: from an edit to an image in a registry, beside buildah and docker on the same machine.

The peers build the same from a Dockerfile with their caches warm: the runtime's wheels are installed in one
layer, the program is copied into the next. At their best they only copy the program upon an image that was
given the runtime beforehand, which nobody asks of them to check.

    python benchmarks/pack.py [--quick] [--report FILE]

Needs docker-registry and mmdebstrap (tests/run installs them), and runc and root for the container's start.
The peers are installed by apt where that is possible; else it is said why one is missing. Runs alternate;
medians are given with their spread. Exit status 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from koalja_fn.pack.oci.client import RegistryClient
from koalja_fn.pack.oci.image import compose, load_base
from koalja_fn.pack.oci.publishing import publish
from koalja_fn.pack.oci.reference import target
from koalja_fn.pack.oci.values import Platform
from koalja_fn.pack.wheels import ready
from tests.pack import conftest, containers
from tests.pack.oci.conftest import registry_running

WIRING = "[bench]\n(in) double (out)\n    run = ./double.py {in}\n"
PROGRAM = "import sys\nprint(2 * int(open(sys.argv[1]).read()))\n"
RUNTIME = "/layers/koalja_function/runtime"
ROOT = Path(__file__).resolve().parents[1]
SAME, BEST = "Dockerfile", "Dockerfile.best"
DEBIAN = {"buildah": "buildah", "dockerd": "docker.io"}


@dataclass
class Row:
    """One line of the report: figures in `unit`; a `goal` holds for `value`, `least` is for ratios."""

    what: str
    value: float | None
    unit: str
    spread: float = 0.0
    goal: float | None = None
    least: bool = False
    note: str = ""

    @property
    def missed(self) -> bool:
        """Whether there is a goal, and it was not reached."""
        if self.goal is None or self.value is None:
            return False
        return self.value < self.goal if self.least else self.value > self.goal

    def line(self) -> str:
        """The row in Markdown."""
        if self.value is None:
            return f"| {self.what} | – | | | {self.note} |"
        goal = (
            ""
            if self.goal is None
            else f"{'at least' if self.least else 'at most'} {self.goal:g} {self.unit}"
        )
        ratio = "" if self.goal is None else f"{self.value / self.goal:.2f}"
        told = f"{self.value:.{2 if self.unit == 's' or not self.unit else 1}f} {self.unit}".strip()
        spread = f" (spread {self.spread:.2f})" if self.spread else ""
        note = f"{self.note}{' MISSED' if self.missed else ''}".strip()
        return f"| {self.what} | {told}{spread} | {goal} | {ratio} | {note} |"


@dataclass
class Bench:
    """A registry with a base image in it, and a folder for all that is made."""

    room: Path
    host: str
    peers: dict[str, Callable[[str], float]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    edits: int = 0

    @property
    def base(self) -> str:
        """The base image's name."""
        return f"{self.host}/bench/debian:12"

    @property
    def program(self) -> Path:
        """The folder that is packed, by all alike."""
        return self.room / "program"

    def edit(self) -> None:
        """Another line at the end of the program."""
        self.edits += 1
        with (self.program / "double.py").open("a") as file:
            file.write(f"# edit {self.edits}\n")

    def pack(self, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
        """`koalja-fn pack` in a process of its own."""
        words = [sys.executable, "-m", "koalja_fn", "pack", str(folder or self.program), "-o", "json"]
        words += ["--to", f"{self.host}/bench", "--run-image", self.base, "--packer", "embedded"]
        done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=ROOT)
        if done.returncode != 0:
            raise SystemExit(f"koalja-fn pack failed:\n{done.stderr}")
        return done

    @property
    def image(self) -> str:
        """What the packing of the program makes."""
        return f"{self.host}/bench/bench-double:latest"


def timed(action: Callable[[], object]) -> float:
    """Seconds for it."""
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def median(values: list[float]) -> tuple[float, float]:
    """Median and spread (largest less smallest)."""
    return statistics.median(values), max(values) - min(values)


def base_layout() -> str:
    """The base image of the tests: Debian with Python, by mmdebstrap, made once and kept."""
    folder = conftest.cache_of_tests()
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "base" / "index.json").is_file():
        conftest._make_base(folder)
    return f"oci:{folder / 'base'}"


@contextmanager
def bench() -> Iterator[Bench]:
    """The registry, filled; all that was started ends with it."""
    with ExitStack() as stack:
        room = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kb-")))
        room.chmod(0o755)
        running = stack.enter_context(registry_running(room))
        os.environ["KOALJA_CACHE"] = str(room / "cache")
        made = Bench(room, running.host)
        with RegistryClient() as client:
            base = load_base(target(base_layout()), Platform.here(), client)
            publish(compose(base, []), target(made.base), client)
        made.program.mkdir()
        (made.program / "bench.koalja").write_text(WIRING)
        (made.program / "double.py").write_text(PROGRAM + "# a line of a program of ten kilobytes\n" * 256)
        made.pack()
        context = peers_context(made)
        for name, opener in (("buildah", buildah), ("docker", docker)):
            try:
                made.peers[name] = stack.enter_context(opener(made, context))
            except (OSError, RuntimeError, subprocess.SubprocessError) as why:
                said = getattr(why, "stderr", "") or str(why)
                made.missing[name] = said.strip().splitlines()[-1] if said.strip() else "it can't be started"
        yield made


def peers_context(made: Bench) -> Path:
    """A Dockerfile for the same, as written by hand: the runtime first, since it seldom changes."""
    context = made.room / "context"
    for name in ("wheels", "lib"):
        shutil.copytree(ready() / "koalja" / name, context / "koalja" / name)
    end = ["COPY program /workspace", "WORKDIR /workspace", "USER 1000:1000"]
    end += [f'ENTRYPOINT ["{RUNTIME}/bin/koalja-runtime"]', ""]
    run = f"RUN python3 -I /koalja/lib/install.py /koalja/wheels {RUNTIME}"
    (context / "Dockerfile").write_text("\n".join([f"FROM {made.base}", "COPY koalja /koalja", run, *end]))
    (context / "Dockerfile.best").write_text("\n".join([f"FROM {made.image}", *end]))
    return context


def installed(program: str) -> str:
    """The program's path; from Debian where it is not there."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    if shutil.which(program, path=path) is None and os.geteuid() == 0 and shutil.which("apt-get"):
        words = ["apt-get", "install", "-qq", "-y", "--no-install-recommends", DEBIAN[program]]
        subprocess.run(words, capture_output=True, check=False)
    found = shutil.which(program, path=path)
    if found is None:
        raise RuntimeError(f"{program} is not here: apt-get install {DEBIAN[program]}")
    return found


def call(words: list[str], environ: dict[str, str] | None = None) -> None:
    """Run it; its words are in the error if it fails."""
    subprocess.run(words, capture_output=True, text=True, check=True, env={**os.environ, **(environ or {})})


def fresh(made: Bench, context: Path) -> None:
    """The program as it is now, in the peers' context."""
    shutil.copytree(made.program, context / "program", dirs_exist_ok=True)


@contextmanager
def buildah(made: Bench, context: Path) -> Iterator[Callable[[str], float]]:
    """Buildah with a storage of its own: build with its cache of layers, then push."""
    program = installed("buildah")
    if os.geteuid() != 0:
        raise RuntimeError("it is measured as root only, with overlays of the kernel")
    home = made.room / "buildah"
    home.mkdir()
    (home / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    common = [
        program,
        "--root",
        str(home / "root"),
        "--runroot",
        str(home / "run"),
        "--storage-driver",
        "overlay",
    ]
    plain = ["--tls-verify=false", "--signature-policy", str(home / "policy.json")]
    environ = {"BUILDAH_ISOLATION": "chroot"}
    image = f"{made.host}/peers/buildah"

    def once(file: str) -> float:
        fresh(made, context)
        build = [*common, "build", "-q", "--pull=false", *plain, "-f", str(context / file), "-t", image]
        build += ["--layers=false" if file == BEST else "--layers", str(context)]
        return timed(lambda: (call(build, environ), call([*common, "push", "-q", *plain, image], environ)))

    for name in (made.base, made.image):
        call([*common, "pull", "-q", *plain, name], environ)
    once(SAME)
    try:
        yield once
    finally:
        for kind in ("root", "run"):
            subprocess.run(["umount", "-q", str(home / kind / "overlay")], capture_output=True, check=False)


@contextmanager
def docker(made: Bench, context: Path) -> Iterator[Callable[[str], float]]:
    """A Docker engine of our own, without networks: build with its cache, then push."""
    engine, client = installed("dockerd"), shutil.which("docker")
    if os.geteuid() != 0 or client is None:
        raise RuntimeError("the engine needs root, and the command `docker`")
    home = made.room / "d"
    home.mkdir()
    socket = f"unix://{home}/s"
    words = [engine, "--data-root", f"{home}/data", "--exec-root", f"{home}/exec", "-H", socket]
    words += ["--pidfile", f"{home}/pid", "--iptables=false", "--bridge=none"]
    environ = {"DOCKER_BUILDKIT": "0", "DOCKER_HOST": socket, "DOCKER_CONFIG": str(home)}
    image = f"{made.host}/peers/docker"

    def once(file: str) -> float:
        fresh(made, context)
        build = [client, "build", "-q", "--network", "none", "-f", str(context / file), "-t", image]
        build.append(str(context))
        return timed(lambda: (call(build, environ), call([client, "push", "-q", image], environ)))

    with (home / "log").open("wb") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True)
    try:
        for _ in range(200):
            if (
                subprocess.run(
                    [client, "version"], capture_output=True, env={**os.environ, **environ}
                ).returncode
                == 0
            ):
                break
            if process.poll() is not None:
                raise RuntimeError((home / "log").read_text().strip().splitlines()[-1])
            time.sleep(0.1)
        for file in (SAME, BEST):
            once(file)
        yield once
    finally:
        process.terminate()
        process.wait(30)


def loop(made: Bench, times: int) -> list[Row]:
    """Edits and calls without one, each way in turn."""
    ours: list[float] = []
    still: list[float] = []
    sent: list[float] = []
    others: dict[str, list[float]] = {name: [] for name in made.peers}
    best: dict[str, list[float]] = {name: [] for name in made.peers}
    made.pack()
    for _ in range(times):
        made.edit()
        done: list[subprocess.CompletedProcess[str]] = []
        ours.append(timed(lambda done=done: done.append(made.pack())))
        sent.append(json.loads(done[0].stdout)["tasks"][0]["sent"] / 1000)
        still.append(timed(lambda: made.pack()))
        for name, once in made.peers.items():
            others[name].append(once(SAME))
            made.edit()
            best[name].append(once(BEST))
    rows = [
        Row("edit of 10 KB to image in the registry", median(ours)[0], "s", median(ours)[1], 0.5),
        Row("nothing changed", median(still)[0], "s", median(still)[1], 0.15),
        Row("bytes sent for the edit", max(sent), "KB", 0, 64),
    ]
    for name in ("buildah", "docker"):
        if name in made.missing:
            rows.append(Row(f"{name} build and push of the same", None, "s", note=made.missing[name]))
            continue
        rows.append(
            Row(f"{name} build and push of the same", median(others[name])[0], "s", median(others[name])[1])
        )
        ratios = [theirs / mine for theirs, mine in zip(others[name], ours, strict=True)]
        middle, spread = median(ratios)
        rows.append(Row(f"times faster than {name}", middle, "", spread, 2, least=True))
        middle, spread = median(best[name])
        rows.append(Row(f"{name} at its best: copying upon an image with the runtime", middle, "s", spread))
    return rows


def memory(made: Bench, megabytes: int) -> Row:
    """Peak of one packing with a layer that does not compress."""
    folder = made.room / "large"
    folder.mkdir()
    (folder / "large.koalja").write_text(WIRING.replace("bench", "large"))
    (folder / "double.py").write_text(PROGRAM)
    with (folder / "data.bin").open("wb") as file:
        for _ in range(megabytes):
            file.write(os.urandom(1 << 20))
    measure = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=2);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    words = [sys.executable, "-m", "koalja_fn", "pack", str(folder), "--to", f"{made.host}/bench"]
    words += ["--run-image", made.base, "--packer", "embedded"]
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", measure, *words], capture_output=True, text=True, check=True, cwd=ROOT
    )
    seconds = time.perf_counter() - begin
    shutil.rmtree(folder)
    peak = int(done.stdout) / 1024
    return Row(f"peak memory, layer of {megabytes} MB", peak, "MB", 0, 150, note=f"in {seconds:.0f} s")


def start(made: Bench, times: int) -> list[Row]:
    """From `runc run` to the first answer of the runtime, beside Python's own server in the same place."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    if os.geteuid() != 0 or shutil.which("runc", path=path) is None:
        return [Row("container's start to the first answer", None, "s", note="needs root and runc")]
    bundle = containers.unpack(made.image, made.room / "started")
    plain = ["/usr/bin/python3", "-m", "http.server", "--bind", "127.0.0.1"]
    found: tuple[list[float], list[float]] = ([], [])
    for _ in range(times):
        found[0].append(_answering(bundle, None, "/healthz"))
        found[1].append(_answering(bundle, plain, "/"))
    return [
        Row(
            "container's start to the first answer of /healthz (runc)",
            median(found[0])[0],
            "s",
            median(found[0])[1],
        ),
        Row("the same for `python3 -m http.server`", median(found[1])[0], "s", median(found[1])[1]),
    ]


def _answering(bundle: containers.Bundle, args: list[str] | None, page: str) -> float:
    port = containers.free_port()
    words = [*args, str(port)] if args else None
    begin = time.perf_counter()
    with containers.started(bundle, words, env={"PORT": str(port), "KOALJA_HOST": "127.0.0.1"}):
        while time.perf_counter() - begin < 30:
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
                connection.request("GET", page)
                if connection.getresponse().status == 200:
                    return time.perf_counter() - begin
            time.sleep(0.002)
    raise SystemExit(f"the container does not answer:\n{(bundle.folder / 'log').read_text()}")


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer runs and a layer of 100 MB")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write the table there, too")
    arguments = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # users have byte code
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # what was started ends with us
    with bench() as made:
        rows = loop(made, 3 if arguments.quick else 15)
        rows += start(made, 3 if arguments.quick else 9)
        rows.append(memory(made, 100 if arguments.quick else 500))
    lines = ["| what | figure | goal | figure/goal | |", "| --- | --- | --- | --- | --- |"]
    text = "\n".join([*lines, *(row.line() for row in rows)]) + "\n"
    print(text)
    if arguments.report:
        arguments.report.write_text(text)
    sys.exit(1 if any(row.missed for row in rows) else 0)


if __name__ == "__main__":
    main()
