"""`--cluster`: a verb on a deployed circuit. The very same verb runs in the circuit's console.

There is no second implementation of any of them: their words go there as they are, what they write comes
back as it is, and so does their exit status.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from koalja_fn.commands.clusters import reached, told
from koalja_fn.commands.shared import reports_errors
from koalja_fn.errors import StoreError, UsageError

if TYPE_CHECKING:
    from koalja_fn.cluster.console import Console

FLAG = "--cluster"


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a verb on a cluster: whose circuit, the words that go there, and where the answer comes."""

    words: tuple[str, ...]
    circuit: str = ""
    namespace: str | None = None
    context: str | None = None
    to: str = ""


def called(arguments: Sequence[str], *, files: bool = False) -> Call:
    """Take our options out of the words. The word behind `--cluster` is the circuit, if it is no option.

    With `files`, `--to FILE` is one of ours: the file is on this machine.

    Raises:
        UsageError: An option has no value.
    """
    left: list[str] = []
    options = {"-n": "namespace", "--namespace": "namespace", "--context": "context"}
    options |= {"--to": "to"} if files else {}
    found: dict[str, str] = {}
    rest = list(arguments)
    expects_circuit = False
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        option = options.get(name)
        if name == FLAG:
            found["circuit"] = value
            expects_circuit = not equals
        elif option is not None:
            if not equals and not rest:
                raise UsageError(f"{name} needs a value")
            found[option] = value if equals else rest.pop(0)
        elif expects_circuit and not word.startswith("-"):
            found["circuit"], expects_circuit = word, False
        else:
            expects_circuit = False
            left.append(word)
    circuit = found.pop("circuit", "")
    return Call(tuple(left), circuit, found.get("namespace"), found.get("context"), found.get("to", ""))


def remotely(verb: str) -> click.Command:
    """The verb as it is with `--cluster`."""

    @click.command(
        name=verb,
        context_settings={"ignore_unknown_options": True},
        add_help_option=False,
    )
    @click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
    @reports_errors
    def run(arguments: tuple[str, ...]) -> None:
        call = called(arguments, files=verb == "get")
        sys.exit(_run(verb, call))

    return run


def _run(verb: str, call: Call) -> int:
    from koalja_fn.cluster.console import console_of, meant

    cluster, namespace = reached(call.context, call.namespace)
    circuit, spare = meant(cluster, namespace, call.circuit)
    with told() as teller:
        console = console_of(cluster, namespace, circuit, teller)
    words = [verb, *([spare] if spare else []), *call.words]
    if call.to:
        return _written(console, words, Path(call.to))
    return passed_on(console, words)


def passed_on(console: Console, words: Sequence[str], stdin: bytes = b"") -> int:
    """Run `koalja-fn WORDS` in a console; what it writes is written here, and its exit status returned."""
    out = _flushed(sys.stdout.buffer)
    return console.command(words, stdin, out=out, err=_flushed(sys.stderr.buffer)).status


def _written(console: Console, words: Sequence[str], target: Path) -> int:
    """As `passed_on`; standard output comes into a file of this machine, whole or not at all."""
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with part.open("xb") as file:
            out, err = _flushed(file), _flushed(sys.stderr.buffer)
            status = console.command(words, out=out, err=err).status
        if status == 0:
            part.replace(target)
        return status
    except OSError as error:
        raise StoreError(f"{target} can't be written", why=error.strerror or str(error)) from error
    finally:
        part.unlink(missing_ok=True)


def _flushed(stream: BinaryIO) -> Callable[[bytes], None]:
    def write(data: bytes) -> None:
        stream.write(data)
        stream.flush()

    return write
