"""The application's layers: one for each slice that matches something, and one for the rest."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from koalja_fn.pack.building import Contribution
from koalja_fn.pack.errors import PhaseError
from koalja_fn.pack.oci.layer import Entry, layer_from_tree, parents, tree
from koalja_fn.pack.oci.values import Layer
from koalja_fn.pack.site import OWNER, Site


def app_layers(contributions: Sequence[Contribution], site: Site, out: Path) -> list[Layer]:
    """One layer for each slice that matches something, and one for the rest."""
    at = site.seen(site.app)
    rest = {entry.path: entry for entry in tree(site.app, at, OWNER, OWNER)}
    above = {entry.path: entry for entry in rest.values() if entry.kind == "folder"}
    made: list[Layer] = []
    for patterns in (patterns for one in contributions for patterns in one.slices):
        chosen = {p: rest[p] for p in _matching(patterns, rest, at)}
        if chosen:
            made.append(_app_layer(chosen.values(), above, at, out))
            for path in chosen:
                del rest[path]
    made.append(_app_layer(rest.values(), above, at, out))
    return made


def _app_layer(entries: Iterable[Entry], folders: Mapping[str, Entry], at: str, out: Path) -> Layer:
    chosen = {entry.path: entry for entry in entries}
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
