"""What the verbs that only ask have in common: which folder, which words, how tables look."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ParamSpec, TypeVar

import click

from koalja_fn.errors import NotFound, UsageError
from koalja_fn.local.opening import Where, find_folder, open_registry, shared, state_folder
from koalja_fn.registry import Registry

P = ParamSpec("P")
R = TypeVar("R")


def folder_option(command: Callable[P, R]) -> Callable[P, R]:
    """Add `-C/--dir DIR`, passed on as `folder`."""
    return click.option(
        "-C",
        "--dir",
        "folder",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        metavar="DIR",
        help="The circuit's folder, instead of this one or the nearest above it.",
    )(command)


def last_option(default: int) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Add `-n/--last N`."""
    return click.option(
        "-n",
        "--last",
        type=click.IntRange(1, 1_000_000),
        default=default,
        show_default=True,
        metavar="N",
        help="How many of the latest.",
    )


def choose_folder(
    words: Sequence[str], folder: Path | None, *, needed: int = 0, known: Iterable[str] = ()
) -> tuple[Where, list[str]]:
    """What is asked about, and the other words.

    It is the folder that is named, else what the environment names ($KOALJA_REGISTRY), else the nearest one.
    A folder that is named and has no registry of its own shares what the environment names.
    The first word is the folder if it is one, or a circuit's file in it, as `run` takes it, unless it is one
    of the `known` words or all words are `needed`: a task's code often lies in a folder of the task's name.

    Raises:
        NotFound: No circuit has run there.
    """
    rest = list(words)
    if folder is None and len(rest) > needed and rest[0] not in known:
        first = Path(rest[0])
        if first.is_dir() or (first.suffix and first.is_file()):
            folder = first if first.is_dir() else first.parent
            del rest[0]
    if folder is None:
        return shared() or find_folder(Path.cwd()), rest
    if not (state_folder(folder) / "registry.db").is_file():
        if (together := shared()) is not None:
            return together, rest
        raise NotFound(
            f"no circuit has run in {folder}",
            why=f"{state_folder(folder) / 'registry.db'} is not there",
            cure=f"koalja-fn run {folder}",
        )
    return folder, rest


def own_circuit() -> str:
    """The circuit in whose console on a cluster this runs; its registry may have others. Else empty."""
    return os.environ.get("KOALJA_CIRCUIT", "") if os.environ.get("KOALJA_ROLE") == "console" else ""


def exactly_one(words: Sequence[str], what: str) -> str:
    """The only word.

    Raises:
        UsageError: There is none, or more.
    """
    if len(words) != 1:
        told = f"unexpected {' '.join(words[1:])!r}" if words else f"{what} is missing"
        raise UsageError(told, cure="see --help")
    return words[0]


def none_left(words: Sequence[str]) -> None:
    """Refuse words that mean nothing.

    Raises:
        NotFound: There is one; most likely a folder that is not there was meant.
    """
    if words:
        raise NotFound(f"no folder {words[0]!r}", cure="see --help")


@contextmanager
def opened(where: Where) -> Iterator[Registry]:
    """The registry there, closed afterwards."""
    registry = open_registry(where)
    try:
        yield registry
    finally:
        registry.close()
