"""What an execution was made from, and what differs between two of them; its key is in `engine.keys`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from koalja_fn.engine import keys
from koalja_fn.model import Circuit, Members, Task
from koalja_fn.program.located import Located

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Code:
    """A task's code. `files` are paths seen from the circuit's folder, with digests; `by` is what runs it."""

    located: Located
    files: Mapping[str, str]
    by: str


def key_of(circuit: Circuit, task: Task, code: Code, members: Sequence[Members]) -> str:
    """The key of one execution."""
    return keys.key_of(circuit, task, code.located.version, code.by, members)


def told(task: Task, code: Code, members: Sequence[Members], places: Mapping[str, str]) -> dict[str, Any]:
    """What an execution was made from, for the next one to compare with; `places` are files' paths by id."""
    return {
        "run": task.run or "",
        "env": dict(task.env),
        "by": code.by,
        "version": code.located.version,
        "files": dict(code.files),
        "inputs": {
            member.input: [[value.digest, places.get(value.id, ""), value.id] for value in member.values]
            for member in members
        },
    }


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Why an execution is not the one that was made before, in words."""
    found = [*_settings(before, now), *_code(before, now), *_inputs(before["inputs"], now["inputs"])]
    return "; ".join(found) or "something that it depends on differs"


def _settings(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    if before["run"] != now["run"]:
        yield f"its run line was {before['run'] or 'none'!r}"
    for name in sorted(before["env"].keys() | now["env"].keys()):
        if before["env"].get(name) != now["env"].get(name):
            yield f"env.{name} was {before['env'].get(name, 'not set')!r}"
    if before["by"] != now["by"]:
        yield "what runs it is another version"


def _code(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    names = sorted(before["files"].keys() | now["files"].keys())
    changed = [name for name in names if before["files"].get(name) != now["files"].get(name)]
    if changed:
        yield f"its code changed: {_some(changed)}"
    elif not names and before["version"] != now["version"]:  # the files are in an image
        yield "its code is another version"


def _inputs(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for name in now:
        old, new = before.get(name), now[name]
        if old is None:
            yield f"input {name} is new"
            continue
        if len(old) != len(new):
            yield f"{name} has {len(new)} values, it had {len(old)}"
        changed = [
            place or f"{name}[{n}]"
            for n, (one, (digest, place, _)) in enumerate(zip(old, new, strict=False))
            if one[0] != digest or one[1] != place
        ]
        if changed:
            yield f"{name} changed: {_some(changed)}"
    for name in before.keys() - now.keys():
        yield f"input {name} is gone"


def _some(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
