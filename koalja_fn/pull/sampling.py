"""Sampling: the files of a `from` pattern as values, in the order of names; none is read twice.

A file's value has an id of its own content and place, so that the same file is the same value in
every run, and a changed one another.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from koalja_fn.errors import NotFound, StoreError
from koalja_fn.ids import derive
from koalja_fn.local.patterns import Pattern, patterns_of
from koalja_fn.model import AnnotatedValue, Circuit
from koalja_fn.program.naming import media_type
from koalja_fn.pull.known import Known
from koalja_fn.pull.stamps import GONE, Stamp, stamp
from koalja_fn.store import Store


@dataclass(frozen=True, slots=True)
class Sample:
    """A file and the value that it is. `place` is its path as people know it."""

    value: AnnotatedValue
    path: Path
    place: str
    stamp: Stamp


class Sampler:
    """Samples source wires of one circuit.

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
        self._now = now
        self._most = most
        self._warn = warn

    def sample(self, wire: str) -> list[Sample]:
        """All files of a wire's patterns, or the first `most`.

        Raises:
            NotFound: The wire has no `from`.
            StoreError: A file can't be read, or changes while it is read.
        """
        patterns = list(patterns_of(self._circuit.wires[wire], self._folder))
        if not patterns:
            raise NotFound(
                f"wire {wire} has no files to sample",
                why="no task feeds it, and it has no `from`",
                cure=f"add to the wiring:  wire {wire}  and below it, indented:  from = FILES",
            )
        paths: list[Path] = []
        for pattern in patterns:
            found = list(pattern.files())
            self.listed.append((pattern, tuple(map(str, found))))
            paths += [path for path in found if self._inside(pattern, path) and path not in paths]
        return self._samples(wire, paths[: self._most])

    def renew(self, sample: Sample) -> None:
        """Put a file into the store again whose payload is missing or damaged there.

        Raises:
            StoreError: The file is not what it was.
        """
        stored = self._store.put_file(sample.path)
        if stored.digest != sample.value.digest:
            raise _changed(sample.path)

    def _samples(self, wire: str, paths: list[Path]) -> list[Sample]:
        before = [stamp(path) for path in paths]
        unread = [p for p, s in zip(paths, before, strict=True) if self._known.get(str(p), s) is None]
        stored = dict(zip(unread, self._store.put_files([p.resolve() for p in unread]), strict=True))
        samples = []
        for path, was in zip(paths, before, strict=True):
            if path in stored:
                if stamp(path) != was or was == GONE:
                    raise _changed(path)
                self._known.keep(str(path), was, stored[path].digest)
            samples.append(self._sample(wire, path, was))
        return samples

    def _sample(self, wire: str, path: Path, was: Stamp) -> Sample:
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
        real = path.resolve()
        if not real.is_file():
            return False
        if path.is_symlink() and not real.is_relative_to(pattern.base.resolve()):
            self._warn(f"{path} is not taken: it is a link to {real}, out of {pattern.base}")
            return False
        return True


def _changed(path: Path) -> StoreError:
    return StoreError(
        f"{path} changed while it was read",
        why="somebody is writing to it",
        cure="make again when it is whole; write it under another name and rename it",
    )
