"""Making: a folder is asked for wires, from its opening to the files that `to` names.

A run that finds all as the last one left it ends after one look at each file (see `trail`); only one that
does not opens the registry and the store.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from koalja_fn.local.holding import hold
from koalja_fn.local.opening import open_registry, state_folder
from koalja_fn.program.cancel import Cancel
from koalja_fn.pull import trail
from koalja_fn.pull.opening import Compiled, compiled
from koalja_fn.pull.runs import Built, Failure, Options


@dataclass(frozen=True, slots=True)
class Answer:
    """What a run came to. `wires` has for each wanted wire its values as plain data, in order.

    `made` is (task, number from 1, why) for each execution that was run, or would be; `cached` how many were
    known. `held_up` tasks lack what others failed to make (in a dry run: what is still to be made).
    """

    circuit: str
    wires: dict[str, list[dict[str, Any]]]
    made: list[tuple[str, int, str]] = field(default_factory=list)
    cached: int = 0
    failures: list[Failure] = field(default_factory=list)
    held_up: list[str] = field(default_factory=list)
    left: dict[str, dict[str, int]] = field(default_factory=dict)
    interrupted: bool = False
    unchanged: bool = False


def make(
    path: Path,
    wanted: Sequence[str],
    options: Options,
    stop: Cancel,
    *,
    patience: float = 0.0,
) -> Answer:
    """Bring wires of the circuit at `path` up to date; all its ends where none is wanted.

    Raises:
        WiringError, UsageError, NotFound: It can't be asked for that.
        Busy: Another process has the folder, and still has after `patience` seconds.
        StoreError, RegistryError: Disk trouble.
    """
    folder = folder_of(path)
    key = trail.key_of(path, wanted, options.most)
    known = trail.follow(state_folder(folder), key)
    if known is not None:
        return Answer(known["circuit"], known["wires"], cached=known["cached"], unchanged=True)
    found = compiled(path, state_folder(folder))
    with hold(found.folder, patience) as state:
        return _make(path, found, wanted, options, stop, state, key)


def folder_of(path: Path) -> Path:
    """The folder of a circuit that is named by its folder, its wiring file or its one program."""
    return (path if path.is_dir() else path.parent).resolve()


def _make(
    path: Path, found: Compiled, wanted: Sequence[str], options: Options, stop: Cancel, state: Path, key: str
) -> Answer:
    from koalja_fn.program.calling import Caller
    from koalja_fn.pull.building import build
    from koalja_fn.pull.course import Site
    from koalja_fn.pull.known import Known
    from koalja_fn.pull.opening import keep
    from koalja_fn.pull.planning import plan
    from koalja_fn.pull.writing import write_sinks
    from koalja_fn.registry import making
    from koalja_fn.store import FileStore

    if found.fresh:
        keep(found, path, state)
    goal = plan(found.circuit, wanted)
    with (
        closing(open_registry(found.folder)) as registry,
        closing(FileStore(state / "objects")) as store,
        closing(Caller(store, state / "scratch")) as caller,
    ):
        site = Site(registry, store, found, options, stop)
        known = Known(registry.read(making.known_files))
        if options.dry:
            built = build(site, caller, goal, known, 0)
            return _answer(found.circuit.name, built, {})
        names = [*goal.wanted, *wanted]
        run = registry.transact(
            lambda tx: making.begin_run(tx, found.circuit.name, registry.clock(), dict.fromkeys(names))
        )
        built = build(site, caller, goal, known, run)
        registry.transact(
            lambda tx: making.end_run(
                tx, run, registry.clock(), len(built.made), built.cached, len(built.failures)
            )
        )
        written = write_sinks(found, store, built.values)
        answer = _answer(found.circuit.name, built, written)
        sinks = any(not task.outputs for task in goal.tasks)
        if not (answer.failures or answer.held_up or answer.interrupted or sinks):
            trail.leave(state, key, path, found, built, written, answer.wires)
        return answer


def _answer(circuit: str, built: Built, written: dict[str, dict[str, Path]]) -> Answer:
    return Answer(
        circuit,
        {
            wire: [
                {
                    "id": value.id,
                    "digest": value.digest,
                    "size": value.size,
                    "type": value.type,
                    "name": value.name,
                    "position": value.position + 1,
                    "path": str(written[wire][value.id]) if wire in written else "",
                }
                for value in values
            ]
            for wire, values in built.values.items()
        },
        [(task, number + 1, why) for task, number, why in built.made],
        built.cached,
        built.failures,
        built.held_up,
        {task: dict(left) for task, left in built.left.items()},
        built.interrupted,
    )


def with_paths(folder: Path, values: Iterable[dict[str, Any]]) -> None:
    """Give each value that `to` has put nowhere the path of a read-only file that holds its payload.

    Raises:
        StoreError: It is not there any more.
    """
    placeless = [value for value in values if not value["path"]]
    if placeless:
        from koalja_fn.store import FileStore

        with closing(FileStore(state_folder(folder_of(folder)) / "objects")) as store:
            for value in placeless:
                value["path"] = str(store.path(value["digest"]))
