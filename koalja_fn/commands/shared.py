"""What the verbs share: how errors, JSON and guesses look."""

from __future__ import annotations

import contextlib
import difflib
import json
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import click

from koalja_fn.errors import KoaljaError, StoreError

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


@contextmanager
def signals_call(end: Callable[[int], None]) -> Iterator[None]:
    """Have `end` called by ^C, SIGTERM, and SIGHUP (the terminal was closed) unless it is ignored (nohup)."""

    def call(number: int, _frame: object) -> None:
        end(number)

    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, call) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def have_streams() -> None:
    """Give a process that was started without standard streams (`<&-`) the null device in their place.

    Else the next files that are opened would be taken for them.
    """
    for descriptor, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # the lowest that is free, which is this one
            stream = open(opened, mode, encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
            setattr(sys, name, stream)


def reports_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Show our errors, and files that can't be used, as a message with an exit status.

    A traceback comes only with --debug. Goes right under `@click.command`, above the options.
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
        except BrokenPipeError:  # `| head`: click ends quietly
            raise
        except OSError as error:
            if (ctx.find_root().obj or {}).get("debug"):
                raise
            click.echo(f"koalja-fn: {_of_system(error)}", err=True)
            sys.exit(StoreError.exit_status)
        except KeyboardInterrupt:
            sys.exit(130)

    return call


def _of_system(error: OSError) -> StoreError:
    """What the operating system refused, said as our own errors are."""
    why = error.strerror or str(error)
    if error.filename is None:
        out = sys.__stdout__
        if out is not None and out is sys.stdout:  # what is in its buffer can't be written at the end, either
            with contextlib.suppress(OSError):
                out.close()
        return StoreError(
            "can't read or write", why=why, cure="see whether there is room where the output goes"
        )
    return StoreError(
        f"can't use {os.fsdecode(error.filename)}",
        why=why,
        cure="see that it is there, that you may read and write it, and that its disk has room",
    )
