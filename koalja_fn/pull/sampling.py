"""Sampling: the files of a `from` pattern as values, in the order of names; none is read twice.

A file's value has an id of its own content and place, so that the same file is the same value in
every run, and a changed one another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from koalja_fn.errors import NotFound, StoreError
from koalja_fn.ids import derive
from koalja_fn.local.patterns import Pattern, patterns_of
from koalja_fn.model import AnnotatedValue, Circuit
from koalja_fn.program.naming import media_type
from koalja_fn.pull.known import Known
from koalja_fn.pull.stamps import GONE, Stamp, stamp
from koalja_fn.registry import making
from koalja_fn.registry.registry import Transaction
from koalja_fn.store import Store


@dataclass(frozen=True, slots=True)
class Sample:
    """A file and the value that it is. `place` is its path as people know it."""

    value: AnnotatedValue
    path: Path
    place: str
    stamp: Stamp


class Sources(Protocol):
    """Where the values of source wires are taken from."""

    @property
    def listed(self) -> list[tuple[Pattern, tuple[str, ...]]]:
        """The patterns that were listed, with the files that were found."""
        ...

    def sample(self, wires: Sequence[str]) -> dict[str, list[Sample]]:
        """The values of each wire, in their order.

        Raises:
            NotFound: A wire has no source.
            StoreError: A source can't be read.
        """
        ...

    def keep(self, tx: Transaction, kept: Sequence[tuple[AnnotatedValue, str]]) -> None:
        """Keep what was sampled: values, and the places that they come from."""
        ...

    def renew(self, sample: Sample) -> None:
        """Bring a payload again that is missing or damaged in the store.

        Raises:
            StoreError: It can't be had.
        """
        ...


class Sampler:
    """Samples the files of source wires of one circuit.

    Args:
        known: Files that were read before; what is read now is added to it.
        most: How many files of each wire are taken; None is all.
        warn: Told of files that are not taken.
    """

    def __init__(
        self,
        circuit: Circuit,
        folder: Path,
        store: Store,
        known: Known,
        now: int,
        *,
        most: int | None = None,
        warn: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.listed: list[tuple[Pattern, tuple[str, ...]]] = []
        self._circuit = circuit
        self._folder = folder
        self._store = store
        self._known = known
        self._stamps: dict[Path, Stamp] = {}
        self._now = now
        self._most = most
        self._warn = warn

    def sample(self, wires: Sequence[str]) -> dict[str, list[Sample]]:
        """All files of each wire's patterns, or the first of them; what is new is stored in one go.

        Raises:
            NotFound: A wire has no `from`.
            StoreError: A file can't be read, or changes while it is read.
        """
        paths = {wire: self._paths(wire) for wire in wires}
        self._read({path: stamp(path) for some in paths.values() for path in some})
        return {wire: [self._sample(wire, path) for path in some] for wire, some in paths.items()}

    def keep(self, tx: Transaction, kept: Sequence[tuple[AnnotatedValue, str]]) -> None:
        """Keep the files' values with their paths."""
        making.keep_samples(tx, kept)

    def renew(self, sample: Sample) -> None:
        """Put a file into the store again whose payload is missing or damaged there.

        Raises:
            StoreError: The file is not what it was.
        """
        stored = self._store.put_file(sample.path.resolve())
        if stored.digest != sample.value.digest:
            raise _changed(sample.path)

    def _paths(self, wire: str) -> list[Path]:
        patterns = list(patterns_of(self._circuit.wires[wire], self._folder))
        if not patterns:
            raise NotFound(
                f"wire {wire} has no files to sample",
                why="no task feeds it, and its `from` names no files",
                cure=f"add to the wiring:  wire {wire}  and below it, indented:  from = FILES",
            )
        paths: dict[Path, None] = {}
        for pattern in patterns:
            found = list(pattern.files())
            self.listed.append((pattern, tuple(map(str, found))))
            paths |= dict.fromkeys(path for path in found if self._inside(pattern, path))
        return list(paths)[: self._most]

    def _read(self, stamps: Mapping[Path, Stamp]) -> None:
        """Store the files that are not known as they are now."""
        self._stamps |= stamps
        unread = [path for path, now in stamps.items() if self._known.get(str(path), now) is None]
        stored = self._store.put_files([path.resolve() if path.is_symlink() else path for path in unread])
        for path, payload in zip(unread, stored, strict=True):
            if stamp(path) != stamps[path] or stamps[path] == GONE:
                raise _changed(path)
            self._known.keep(str(path), stamps[path], payload.digest)

    def _sample(self, wire: str, path: Path) -> Sample:
        was = self._stamps[path]
        digest = self._known.get(str(path), was)
        assert digest is not None  # just kept
        place = str(path.relative_to(self._folder)) if path.is_relative_to(self._folder) else str(path)
        named = derive("sampled", self._circuit.name, wire, place, digest)
        value = AnnotatedValue(
            id=named,
            circuit=self._circuit.name,
            wire=wire,
            position=0,
            source="file:" + place,
            created=was[1] // 1000,
            arrived=self._now,
            digest=digest,
            size=was[0],
            type=self._circuit.wires[wire].type or media_type(path.name),
            name=path.name,
            key=named,
        )
        return Sample(value, path, place, was)

    def _inside(self, pattern: Pattern, path: Path) -> bool:
        """Whether a file is where it seems to be: no link leads out of the pattern's folder."""
        if not path.is_symlink():
            return path.is_file()
        real = path.resolve()
        if not real.is_relative_to(pattern.base.resolve()):
            self._warn(f"{path} is not taken: it is a link to {real}, out of {pattern.base}")
            return False
        return real.is_file()


def _changed(path: Path) -> StoreError:
    return StoreError(
        f"{path} changed while it was read",
        why="somebody is writing to it",
        cure="make again when it is whole; write it under another name and rename it",
    )
