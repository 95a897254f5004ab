"""`init`: a folder with a circuit that runs, to begin with."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from koalja_fn.commands.shared import reports_errors
from koalja_fn.errors import StoreError, UsageError

_CURE = "name a folder below one that you may write to, on a disk with room"

_WIRING = """\
# A circuit: (inputs) task (outputs). Try `koalja-fn check .` and `koalja-fn map .`

[{name}]

# Each temperature is converted as it arrives ...
(celsius) convert (fahrenheit)
    run = awk '{{print $1 * 9 / 5 + 32}}' {{celsius}}

# ... and of the last three, moving on by one, the mean is taken.
(fahrenheit[3/1]) average (mean)
    run = ./average.sh {{fahrenheit}}

wire celsius
    from = inbox/*.txt
    type = text/plain

wire mean
    to = outbox/{{position}}.txt
"""

_AVERAGE = """\
#!/bin/sh
# The files of the snapshot come as arguments; what is printed is the value of the output.
cat "$@" | awk '{ sum += $1 } END { printf "%.1f\\n", sum / NR }'
"""

_README = """\
# {name}

    koalja-fn run --once .                 # works off what is in inbox/ and ends
    cat outbox/*                           # the means of three
    koalja-fn trace outbox/000001.txt      # where did this come from?

Put another file into `inbox/`, or leave `koalja-fn run .` running and send values:

    echo 21.5 | koalja-fn send . celsius -
"""


@click.command()
@reports_errors
@click.argument("folder", type=click.Path(path_type=Path))
def init(folder: Path) -> None:
    """Make FOLDER with a small circuit that runs.

    \b
    Examples:
      koalja-fn init demo && koalja-fn run --once demo
    """
    try:
        used = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    except OSError as error:
        raise StoreError(f"can't make {folder}", why=error.strerror or str(error), cure=_CURE) from error
    if used:
        raise UsageError(f"{folder} is there already and not empty", cure="name a new folder")
    name = _label(folder.resolve().name)
    files = {
        f"{name}.koalja": _WIRING.format(name=name),
        "average.sh": _AVERAGE,
        "README.md": _README.format(name=name),
        ".gitignore": ".koalja/\noutbox/\n",
        **{f"inbox/{n}.txt": f"{celsius}\n" for n, celsius in enumerate((18.5, 19.0, 21.5, 22.0), 1)},
    }
    try:
        for relative, text in files.items():
            path = folder / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        (folder / "average.sh").chmod(0o755)
    except OSError as error:
        raise StoreError(f"can't make {folder}", why=error.strerror or str(error), cure=_CURE) from error
    click.echo(f"{folder} is ready: koalja-fn run --once {shlex.quote(str(folder))}")


def _label(name: str) -> str:
    """A circuit's name for a folder's."""
    label = "".join(c if c.isalnum() and c.isascii() else "-" for c in name.lower()).strip("-")
    return label[:63].strip("-") or "demo"
