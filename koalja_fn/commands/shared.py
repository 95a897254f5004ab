"""What the verbs share: how errors, JSON and guesses look."""

from __future__ import annotations

import difflib
import json
import sys
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import click

from koalja_fn.errors import KoaljaError

P = ParamSpec("P")
R = TypeVar("R")


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """The choice that was most likely meant, if any is close."""
    found = difflib.get_close_matches(word, list(choices), n=1, cutoff=0.6)
    return found[0] if found else None


def output_option(command: Callable[P, R]) -> Callable[P, R]:
    """Add `-o/--output text|json`, passed on as `output`."""
    return click.option(
        "-o",
        "--output",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        help="For people or for programs.",
    )(command)


def emit_json(data: Any) -> None:
    """Print one JSON document on standard output."""
    click.echo(json.dumps(data, indent=2, ensure_ascii=False))


def reports_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Show our errors as a message with their exit status; a traceback only with --debug.

    Goes right under `@click.command`, above the options.
    """

    @wraps(command)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        ctx = click.get_current_context()
        try:
            return command(*args, **kwargs)
        except KoaljaError as error:
            if (ctx.find_root().obj or {}).get("debug"):
                raise
            click.echo(f"koalja-fn: {error}", err=True)
            sys.exit(error.exit_status)
        except KeyboardInterrupt:
            sys.exit(130)

    return call
