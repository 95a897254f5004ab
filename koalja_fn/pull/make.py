"""Making: a folder is asked for wires, from its opening to the files that `to` names.

Only a run that does not find all as the last one left it (see `trail`) comes this far.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from koalja_fn.local.holding import hold
from koalja_fn.local.opening import open_payloads, open_registry, state_folder
from koalja_fn.program.calling import Caller
from koalja_fn.program.cancel import Cancel
from koalja_fn.pull import trail
from koalja_fn.pull.asking import Answer, Options
from koalja_fn.pull.building import build
from koalja_fn.pull.course import Site
from koalja_fn.pull.known import Known
from koalja_fn.pull.opening import Compiled, compiled, keep
from koalja_fn.pull.planning import plan
from koalja_fn.pull.runs import Built
from koalja_fn.pull.writing import write_sinks
from koalja_fn.registry import making


def make(path: Path, wanted: Sequence[str], options: Options, stop: Cancel, patience: float) -> Answer:
    """As `asking.ask`, but for a trail that is followed."""
    found = compiled(path, state_folder(folder_of(path)))
    with hold(found.folder, patience) as state:
        return _make(path, found, wanted, options, stop, state)


def folder_of(path: Path) -> Path:
    """The folder of a circuit that is named by its folder, its wiring file or its one program."""
    return (path if path.is_dir() else path.parent).resolve()


def _make(
    path: Path, found: Compiled, wanted: Sequence[str], options: Options, stop: Cancel, state: Path
) -> Answer:
    if found.fresh:
        keep(found, path, state)
    goal = plan(found.circuit, wanted)
    with (
        closing(open_registry(found.folder)) as registry,
        closing(open_payloads(found.folder)) as store,
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
        always = any(not task.outputs or task.cache is False for task in goal.tasks)
        if not (answer.failures or answer.held_up or answer.interrupted or always):
            places = [place for some in written.values() for place in some.values()]
            files = [place for place in places if isinstance(place, Path)]
            if len(files) == len(places):  # whether an object is still there shows no look at files
                trail.leave(state, path, wanted, options.most, found, built, files, answer.wires)
        return answer


def _answer(circuit: str, built: Built, written: dict[str, dict[str, Path | str]]) -> Answer:
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
        with closing(open_payloads(folder_of(folder))) as store:
            for value in placeless:
                value["path"] = str(store.path(value["digest"]))
