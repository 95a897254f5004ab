"""`koalja-fn fmt`: wiring files in their regular form, in either view."""

from __future__ import annotations

import difflib
import os
import stat
import sys
import tempfile
from pathlib import Path

import click

from koalja_fn.commands.shared import reports_errors
from koalja_fn.errors import NotFound, UsageError, WiringError
from koalja_fn.wiring.writing import View, write


@click.command()
@reports_errors
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option(
    "--check", "only_check", is_flag=True, help="Write nothing; exit with 1 if a file would change."
)
@click.option("--diff", "show_diff", is_flag=True, help="Write nothing; print what would change.")
@click.option(
    "--view",
    type=click.Choice(["triples", "make"]),
    help="Write every task in this view [default: each as it is].",
)
def fmt(files: tuple[str, ...], only_check: bool, show_diff: bool, view: View | None) -> None:
    """Write wiring files in their regular form, or in the other view of the same circuit.

    No meaning changes and no comment is lost. A file with syntax errors stays untouched (exit status 3).
    `-` reads standard input and writes standard output; a folder stands for its .koalja files.

    \b
    Examples:
      koalja-fn fmt weather.koalja
      koalja-fn fmt --check .
      koalja-fn fmt --view make --diff weather.koalja
      koalja-fn fmt - < weather.koalja
    """
    changed = False
    failures: list[WiringError] = []
    for name in _expanded(files):
        try:
            before = _text(name)
            after = write(before, view, file=name if name != "-" else "<stdin>")
        except WiringError as error:
            failures.append(error)
            continue
        differs = after != before
        changed |= differs
        if show_diff:
            _show(name, before, after)
        if only_check and differs:
            click.echo(f"{name} is not in its regular form", err=True)
        if not (only_check or show_diff):
            _put(name, after, differs)
    if failures:
        raise WiringError(
            "\n".join(str(error) for error in failures), cure="mend these first; nothing was changed there"
        )
    if only_check and changed:
        sys.exit(1)


def _expanded(names: tuple[str, ...]) -> list[str]:
    found: list[str] = []
    for name in names:
        path = Path(name)
        if name != "-" and path.is_dir():
            inside = sorted(str(p) for p in path.glob("*.koalja") if p.is_file())
            if not inside:
                next(path.iterdir(), None)  # a folder that may not be read is none without files
                raise NotFound(
                    f"there is no .koalja file in {name}", cure="koalja-fn init DIR makes a circuit"
                )
            found += inside
        elif name == "-" or path.is_file():
            found.append(name)
        else:
            raise NotFound(f"there is no {name}", cure="name a .koalja file, or a folder with one")
    return found


def _text(name: str) -> str:
    data = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise WiringError(f"{name} is no text in UTF-8", why=str(error)) from error


def _show(name: str, before: str, after: str) -> None:
    lines = difflib.unified_diff(
        before.splitlines(keepends=True), after.splitlines(keepends=True), name, f"{name} (regular)"
    )
    for line in lines:
        click.echo(line, nl=not line.endswith("\n"))


def _put(name: str, text: str, differs: bool) -> None:
    if name == "-":
        click.echo(text.encode(), nl=False)
    elif differs:
        replace_text(Path(name), text)
        click.echo(f"{name} rewritten", err=True)


def replace_text(path: Path, text: str) -> None:
    """Replace a file's content at once: a reader sees the old or the new text, never half of one.

    Raises:
        UsageError: It can't be written.
    """
    path = path.resolve()
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(text.encode())
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).chmod(stat.S_IMODE(path.stat().st_mode))
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise UsageError(
            f"{path} can't be written",
            why=error.strerror or str(error),
            cure="see that you may write to its folder, or have it printed: koalja-fn fmt --diff",
        ) from error
