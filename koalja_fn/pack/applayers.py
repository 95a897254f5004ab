"""The application's layers: one for each slice, also if it is empty, and one for the rest."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from koalja_fn.pack.building import Contribution
from koalja_fn.pack.errors import PhaseError
from koalja_fn.pack.oci.layer import Entry, layer_from_tree, parents, tree
from koalja_fn.pack.oci.values import Layer
from koalja_fn.pack.site import OWNER, Site


def app_layers(contributions: Sequence[Contribution], site: Site, out: Path) -> list[tuple[Layer, str]]:
    """The layers, each with its line of history."""
    at = site.seen(site.app)
    rest = {entry.path: entry for entry in tree(site.app, at, OWNER, OWNER)}
    above = {entry.path: entry for entry in rest.values() if entry.kind == "folder"}
    made: list[Layer] = []
    for patterns in (patterns for one in contributions for patterns in one.slices):
        chosen = {p: rest[p] for p in _matching(patterns, rest, at)}
        made.append(_app_layer(chosen.values(), above, at, out))
        _take(chosen, rest)
    made.append(_app_layer(rest.values(), above, at, out))
    lines = [f"Application Slice: {number}" for number in range(1, len(made) + 1)]
    return list(zip(made, lines if len(made) > 1 else ["Application Layer"], strict=True))


def _take(chosen: Iterable[str], rest: dict[str, Entry]) -> None:
    """Take paths out of the rest, and the folders above them that hold nothing else."""
    above = {folder for path in chosen for folder in _above(path)}
    for path in chosen:
        rest.pop(path, None)
    for folder in sorted(above, key=len, reverse=True):
        if folder in rest and not any(other.startswith(f"{folder}/") for other in rest):
            del rest[folder]


def _above(path: str) -> Iterator[str]:
    while path.count("/") > 1:
        path = path.rpartition("/")[0]
        yield path


def _app_layer(entries: Iterable[Entry], folders: Mapping[str, Entry], at: str, out: Path) -> Layer:
    chosen = {entry.path: entry for entry in entries}
    if not chosen:
        return layer_from_tree([], out)
    for path in list(chosen):
        while len(path) > len(at):
            path = path.rpartition("/")[0]
            chosen.setdefault(path, folders[path])
    return layer_from_tree([*parents(at), *chosen.values()], out, order="path")


def _matching(patterns: Iterable[str], entries: Mapping[str, Entry], at: str) -> set[str]:
    """Paths that a pattern of Go's filepath.Match names, and all below them."""
    hits: set[str] = set()
    for pattern in patterns:
        inside = pattern if pattern.startswith("/") else os.path.normpath(f"{at}/{pattern}")
        if inside != at and not inside.startswith(f"{at}/"):
            raise PhaseError(f"the slice '{pattern}' leaves the application's folder", phase="export")
        words = [re.sub(r"\[\^", "[!", word) for word in inside.split("/")]
        for path in entries:
            parts = path.split("/")
            if len(parts) == len(words) and all(map(fnmatchcase, parts, words)):
                hits.add(path)
    return {path for path in entries if any(path == hit or path.startswith(f"{hit}/") for hit in hits)}
