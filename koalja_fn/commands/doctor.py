"""`doctor`: what this machine lacks, one line each with the cure."""

from __future__ import annotations

import os
import platform
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from koalja_fn.commands.clusters import cluster_options, reached, told
from koalja_fn.commands.shared import emit_json, output_option, reports_errors

_ROOM = 1 << 30


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; `needed` is false for what one can do without."""

    what: str
    ok: bool
    found: str
    cure: str = ""
    needed: bool = True


@click.command()
@reports_errors
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False), default=".")
@click.option("--verify", is_flag=True, help="Replay all logs and hash all payloads of FOLDER again.")
@click.option("--cluster", "cluster", is_flag=True, help="Look at a cluster, and at what is deployed there.")
@cluster_options
@output_option
def doctor(
    folder: Path, verify: bool, cluster: bool, namespace: str | None, context: str | None, output: str
) -> None:
    """Look for what this machine lacks to run circuits in FOLDER, or what a cluster lacks.

    \b
    Examples:
      koalja-fn doctor
      koalja-fn doctor ./mycode -o json
      koalja-fn doctor ./mycode --verify
      koalja-fn doctor --cluster -n prod

    \b
    Exit status: 0 nothing is missing; 1 something is.
    """
    findings = _on_cluster(context, namespace) if cluster else list(_look(folder))
    if verify and not cluster:
        findings.append(_verify(folder))
    if output == "json":
        emit_json([asdict(finding) if cluster else _plain(finding) for finding in findings])
    else:
        for finding in findings:
            mark = "ok  " if finding.ok else "MISS" if finding.needed else "none"
            click.echo(f"{mark}  {finding.what}: {finding.found}")
            if not finding.ok:
                click.echo(f"      try: {finding.cure}")
    sys.exit(0 if all(finding.ok or not finding.needed for finding in findings) else 1)


def _plain(finding: Finding) -> dict[str, object]:
    """Of this machine nothing is looked at that is not needed."""
    return {name: said for name, said in asdict(finding).items() if name != "needed"}


def _on_cluster(context: str | None, namespace: str | None) -> list[Finding]:
    from koalja_fn.cluster.checking import look

    cluster, where = reached(context, namespace)
    with told() as teller:
        return [Finding(**asdict(one)) for one in look(cluster, where, teller)]


def _look(folder: Path) -> Iterator[Finding]:
    yield Finding(
        "system", sys.platform == "linux", platform.platform(), "run it on Linux, or in a container"
    )
    version = platform.python_version()
    yield Finding("Python", sys.version_info >= (3, 11), version, "install Python 3.11 or later")
    yield Finding(
        "SQLite",
        sqlite3.sqlite_version_info >= (3, 37),
        sqlite3.sqlite_version,
        "use a Python whose SQLite is 3.37 or later (STRICT tables)",
    )
    yield _writable(folder)
    room = shutil.disk_usage(folder).free
    yield Finding("room on the disk", room >= _ROOM, f"{room / (1 << 30):.1f} GiB", "make some room")
    yield _links(folder)
    for program in ("sh", "awk"):
        found = shutil.which(program)
        yield Finding(program, found is not None, found or "not found", f"install {program}")
    yield _circuit(folder)
    yield from _registry(folder)


def _writable(folder: Path) -> Finding:
    ok = os.access(folder, os.W_OK | os.X_OK)
    return Finding(
        "folder", ok, f"{folder.resolve()} is {'' if ok else 'not '}writable", "run where you may write"
    )


def _links(folder: Path) -> Finding:
    """Hard links make inputs cost nothing; without them they are copied."""
    try:
        with tempfile.TemporaryDirectory(dir=folder) as name:
            (Path(name) / "a").write_text("")
            os.link(Path(name) / "a", Path(name) / "b")
    except OSError as error:
        return Finding(
            "hard links",
            False,
            error.strerror or str(error),
            "inputs are copied: slower, but right; put the folder on a local file system",
        )
    return Finding("hard links", True, "large inputs are linked, not copied")


def _circuit(folder: Path) -> Finding:
    from koalja_fn.errors import KoaljaError
    from koalja_fn.program.folder import open_circuit

    try:
        opened = open_circuit(folder)
    except KoaljaError as error:
        return Finding("circuit", True, f"none here ({error.what})")
    errors = sum(finding.severity == "error" for finding in opened.findings)
    return Finding(
        "circuit",
        not errors,
        f"{opened.circuit.name if opened.circuit else folder.name}, {errors} errors",
        f"koalja-fn check {folder}",
    )


def _registry(folder: Path) -> Iterator[Finding]:
    """Whether the registry of a folder in which a circuit has run can be read, and by this version."""
    from koalja_fn.registry.registry import migrations

    path = folder / ".koalja" / "registry.db"
    if not path.is_file():
        return
    cure = "restore it from a copy, or move it away to start anew"
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
            version = int(database.execute("PRAGMA user_version").fetchone()[0])
    except sqlite3.Error as error:
        yield Finding("registry", False, f"{path} can't be read: {error}", cure)
        return
    newer = version > (known := len(migrations()))
    why = f", this koalja-fn knows versions up to {known}" if newer else ""
    yield Finding("registry", not newer, f"version {version}{why}", "pip install --upgrade koalja-fn")


def _verify(folder: Path) -> Finding:
    """Whether the registry and the store keep their promises."""
    from koalja_fn.engine.auditing import audit
    from koalja_fn.local.opening import find_folder, open_payloads, open_registry, shared
    from koalja_fn.registry import overview

    home = shared() or find_folder(folder)
    registry = open_registry(home)
    store = open_payloads(home, registry)
    try:
        wrong = registry.read(
            lambda tx: [
                text for circuit in overview.circuits(tx) for text in audit(tx, circuit.id, store.verify)
            ]
        )
    finally:
        store.close()
        registry.close()
    if not wrong:
        return Finding("records", True, "logs, snapshots, positions and payloads agree")
    return Finding("records", False, "; ".join(wrong[:20]), "keep a copy of .koalja and report it")
