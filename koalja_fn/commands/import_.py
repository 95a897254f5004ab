"""The verb `import`: a Pipeline of the first implementation becomes a circuit's folder."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from koalja_fn.commands.shared import emit_json, output_option, reports_errors
from koalja_fn.errors import NotFound, StoreError, UsageError, WiringError

if TYPE_CHECKING:
    from koalja_fn.pipelines.translating import Imported, Loss


@click.command(name="import")
@reports_errors
@click.argument("file", metavar="PIPELINE.yaml", type=click.Path(path_type=Path))
@click.argument("folder", metavar="[DIR]", type=click.Path(path_type=Path), required=False)
@click.option("--pipeline", metavar="NAME", default="", help="Which one, where the file has several.")
@output_option
def import_(file: Path, folder: Path | None, pipeline: str, output: str) -> None:
    """Make a circuit's folder of a Pipeline (koalja.aljabr.io/v1alpha1), and say what did not come along.

    DIR is made, by default under the pipeline's name; what is there already is never overwritten. Programs
    that are known by their image only get a file that says what to put there. What could not be carried over
    is listed, and stands as comments in the wiring.

    \b
    Examples:
      koalja-fn import pipeline.yaml
      koalja-fn import pipeline.yaml ./counting
      koalja-fn import several.yaml --pipeline tally -o json
    """
    from koalja_fn.pipelines.reading import read
    from koalja_fn.pipelines.translating import translate
    from koalja_fn.wiring.findings import render

    found, findings = read(_text(file), file=str(file), name=pipeline)
    if found is None:
        raise WiringError("\n".join(render(finding) for finding in findings))
    imported = translate(
        found, lambda name: shutil.which(name) is not None or (name[:1] == "/" and Path(name).exists())
    )
    place = folder or Path(imported.name)
    _write(imported, place)
    if output == "json":
        emit_json(_document(imported, place))
        return
    for loss in imported.losses:
        click.echo(_told(loss))
    count = len(imported.losses)
    things = "1 thing has" if count == 1 else f"{count} things have"
    click.echo(f"{things} not come along as it was" if count else "all has come along")
    click.echo(f"{place} is ready: koalja-fn check {shlex.quote(str(place))}")


def _text(file: Path) -> str:
    from koalja_fn.pipelines.reading import LIMIT

    try:
        with file.open("rb") as stream:
            return stream.read(LIMIT + 2).decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise WiringError(f"{file} is no text in UTF-8", why=str(error)) from error
    except OSError as error:
        raise NotFound(f"{file} can't be read", why=error.strerror or str(error)) from error


def _write(imported: Imported, place: Path) -> None:
    try:
        if place.exists() and (not place.is_dir() or any(place.iterdir())):
            raise UsageError(f"{place} is there already and not empty", cure="name a new folder")
        place.mkdir(parents=True, exist_ok=True)
        for folder in imported.folders:
            (place / folder).mkdir(exist_ok=True)
        for name, text in imported.programs.items():
            _new(place / name, text, 0o755)
        _new(place / f"{imported.name}.koalja", imported.wiring, 0o644)
    except OSError as error:
        raise StoreError(
            f"can't make {place}",
            why=error.strerror or str(error),
            cure="name a folder that you may write to",
        ) from error


def _new(path: Path, text: str, mode: int) -> None:
    with path.open("x", encoding="utf-8") as file:
        file.write(text)
    path.chmod(mode)


def _told(loss: Loss) -> str:
    of = f"task {loss.of}: " if loss.of else ""
    cure = f"\n  try: {loss.cure}" if loss.cure else ""
    return f"{loss.place.file}:{loss.place.line}: {of}{loss.what}{cure}"


def _document(imported: Imported, place: Path) -> dict[str, Any]:
    return {
        "circuit": imported.name,
        "folder": str(place),
        "files": [f"{imported.name}.koalja", *sorted(imported.programs)],
        "lost": [
            {
                "task": loss.of,
                "what": loss.what,
                "cure": loss.cure,
                "file": loss.place.file,
                "line": loss.place.line,
                "column": loss.place.column,
            }
            for loss in imported.losses
        ],
    }
