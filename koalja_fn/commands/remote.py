"""`--cluster`: a verb on a deployed circuit. The very same verb runs in the circuit's console.

There is no second implementation of any of them: their words go there as they are, what they write comes
back as it is, and so does their exit status.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import click

from koalja_fn.commands.clusters import reached, told
from koalja_fn.commands.shared import reports_errors
from koalja_fn.errors import UsageError

FLAG = "--cluster"


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a verb on a cluster: whose circuit, and the words that go there."""

    words: tuple[str, ...]
    circuit: str = ""
    namespace: str | None = None
    context: str | None = None


def called(arguments: Sequence[str]) -> Call:
    """Take our options out of the words. The word behind `--cluster` is the circuit, if it is no option.

    Raises:
        UsageError: An option has no value.
    """
    left: list[str] = []
    found: dict[str, str] = {}
    rest = list(arguments)
    expects_circuit = False
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        option = {"-n": "namespace", "--namespace": "namespace", "--context": "context"}.get(name)
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
    return Call(tuple(left), found.get("circuit", ""), found.get("namespace"), found.get("context"))


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
        call = called(arguments)
        sys.exit(_run(verb, call))

    return run


def _run(verb: str, call: Call) -> int:
    from koalja_fn.cluster.console import console_of, meant

    cluster, namespace = reached(call.context, call.namespace)
    circuit, spare = meant(cluster, namespace, call.circuit)
    with told() as teller:
        console = console_of(cluster, namespace, circuit, teller)
    words = [verb, *([spare] if spare else []), *call.words]
    out, err = sys.stdout.buffer, sys.stderr.buffer

    def to_out(data: bytes) -> None:
        out.write(data)
        out.flush()

    def to_err(data: bytes) -> None:
        err.write(data)
        err.flush()

    return console.command(words, out=to_out, err=to_err).status
