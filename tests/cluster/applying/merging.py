"""Server-side apply as the API server does it, for the objects that tests deal with.

Fields are known by their paths; items of lists by their `name`, or lists are one field. A manager owns
the fields that it applied last; what it no longer names goes, unless somebody else owns it, too.
"""

from __future__ import annotations

import copy
from typing import Any

Object = dict[str, Any]
Path = tuple[str, ...]


class Conflict(Exception):
    """A field belongs to another manager and has another value."""


def leaves(data: Any, path: Path = ()) -> dict[Path, Any]:
    """All fields with their values."""
    if isinstance(data, dict) and data:
        return {p: v for key, value in data.items() for p, v in leaves(value, (*path, str(key))).items()}
    if isinstance(data, list) and data and all(isinstance(one, dict) and "name" in one for one in data):
        return {p: v for one in data for p, v in leaves(one, (*path, f"[{one['name']}]")).items()}
    return {path: data}


def applied(
    live: Object | None, body: Object, manager: str, *, force: bool
) -> tuple[Object, dict[str, list[Path]]]:
    """The object afterwards, and who owns what."""
    body = copy.deepcopy(body)
    wanted = {
        p: v
        for p, v in leaves(body).items()
        if p[0] not in ("apiVersion", "kind") and p != ("metadata", "name")
    }
    if live is None:
        return body, {manager: list(wanted)}
    owners: dict[str, list[Path]] = {name: list(paths) for name, paths in live["_owners"].items()}
    now = leaves({key: value for key, value in live.items() if key != "_owners"})
    for path, value in wanted.items():
        for name, paths in owners.items():
            if name != manager and path in paths and now.get(path) != value:
                if not force:
                    raise Conflict(f'conflict with "{name}": .{".".join(path)}')
                paths.remove(path)
    result = copy.deepcopy({key: value for key, value in live.items() if key != "_owners"})
    for path in owners.get(manager, []):
        if path not in wanted and not any(path in paths for name, paths in owners.items() if name != manager):
            _remove(result, path)
    for path, value in wanted.items():
        _set(result, path, value)
    owners[manager] = list(wanted)
    return result, owners


def _step(data: Any, key: str, *, make: bool) -> Any:
    if key.startswith("["):
        found = next((one for one in data if one.get("name") == key[1:-1]), None)
        if found is None and make:
            data.append(found := {"name": key[1:-1]})
        return found
    if key not in data and make:
        data[key] = {}
    return data.get(key)


def _set(data: Any, path: Path, value: Any) -> None:
    for n, key in enumerate(path[:-1]):
        nested = path[n + 1].startswith("[")
        if nested and not isinstance(data.get(key) if isinstance(data, dict) else None, list):
            data[key] = []
        data = _step(data, key, make=True)
    if path[-1].startswith("["):
        _step(data, path[-1], make=True)
    else:
        data[path[-1]] = copy.deepcopy(value)


def _remove(data: Any, path: Path) -> None:
    for key in path[:-1]:
        data = _step(data, key, make=False) if data is not None else None
    if isinstance(data, dict):
        data.pop(path[-1], None)
    # An emptied item of a list goes with its last field.
