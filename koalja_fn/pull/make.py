"""Making: a folder is asked for wires, from its opening to the files that `to` names.

Only a run that does not find all as the last one left it (see `trail`) comes this far.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from koalja_fn.local.holding import hold
from koalja_fn.local.opening import Shared, home_of, open_payloads, open_registry, state_folder
from koalja_fn.program.calling import Caller
from koalja_fn.program.cancel import Cancel
from koalja_fn.pull.asking import Answer, Options
from koalja_fn.pull.building import build
from koalja_fn.pull.claims import Claims
from koalja_fn.pull.course import Site
from koalja_fn.pull.known import in_folder, in_registry
from koalja_fn.pull.looking import named_home
from koalja_fn.pull.narrowing import narrowed
from koalja_fn.pull.opening import Compiled, compiled, keep
from koalja_fn.pull.planning import Plan, plan
from koalja_fn.pull.runs import Built
from koalja_fn.pull.trail import Trail, leave
from koalja_fn.pull.trailing import joined, trail_of
from koalja_fn.pull.writing import Sinks
from koalja_fn.registry import making


def make(
    path: Path,
    wanted: Sequence[str],
    options: Options,
    stop: Cancel,
    patience: float,
    earlier: Trail | None = None,
) -> Answer:
    """As `asking.ask`, but for a trail that holds; what one that does not quite hold still tells is used."""
    found = compiled(path, state_folder(folder_of(path)))
    with hold(found.folder, patience) as state:
        return _make(path, found, wanted, options, stop, state, earlier)


def folder_of(path: Path) -> Path:
    """The folder of a circuit that is named by its folder, its wiring file or its one program."""
    return (path if path.is_dir() else path.parent).resolve()


def _make(
    path: Path,
    found: Compiled,
    wanted: Sequence[str],
    options: Options,
    stop: Cancel,
    state: Path,
    earlier: Trail | None,
) -> Answer:
    if found.fresh:
        keep(found, path, state)
        earlier = None
    goal = plan(found.circuit, wanted)
    part = narrowed(found.circuit, goal, earlier) if earlier else None
    if part is None:
        part, earlier = goal, None
    home = home_of(found.folder)
    with (
        closing(open_registry(home)) as registry,
        closing(open_payloads(home, registry)) as store,
        closing(Caller(store, state / "scratch")) as caller,
        closing(Claims(registry)) as claims,
    ):
        shared = isinstance(home, Shared)  # else nobody is at work here but who holds the folder
        site = Site(registry, store, found, options, stop, claims if shared else None)
        known = in_folder(state, named_home()) if site.shared else in_registry(registry)
        sinks = Sinks(found, store)
        if options.dry:
            built = build(site, caller, part, known, sinks, 0)
            return _whole(answer_of(found.circuit.name, built, {}), part, goal, earlier)
        names = [*goal.wanted, *wanted]
        run = registry.transact(
            lambda tx: making.begin_run(tx, found.circuit.name, registry.clock(), dict.fromkeys(names))
        )
        built = build(site, caller, part, known, sinks, run)
        written = sinks.written
        answer = _whole(answer_of(found.circuit.name, built, written), part, goal, earlier)
        if options.publish:
            from koalja_fn.pull.publishing import publish

            count = publish(path, site, built.values)
            options.told(f"{count} published: readers take them up when the circuit runs")
        registry.transact(
            lambda tx: making.end_run(
                tx, run, registry.clock(), len(answer.made), answer.cached, len(answer.failures)
            )
        )
        always = any(not task.outputs or task.cache is False for task in goal.tasks)
        if not (answer.failures or answer.held_up or answer.interrupted or always):
            places = [place for some in written.values() for place in some.values()]
            files = [place for place in places if isinstance(place, Path)]
            if len(files) == len(places):  # whether an object is still there shows no look at files
                left = trail_of(found.folder, built, files, answer)
                left = left if earlier is None else joined(earlier, left, set(part.wanted))
                leave(state, path, wanted, options.most, left, found.watched)
        return answer


def _whole(answer: Answer, part: Plan, goal: Plan, earlier: Trail | None) -> Answer:
    """The answer to the whole question, where a part of it was looked at anew."""
    if earlier is None:
        return answer
    behind = {task.name for task in part.tasks}
    wires = {wire: values for wire, values in earlier.wires.items() if wire not in part.wanted} | answer.wires
    cached = sum(count for task, count in earlier.counts.items() if task not in behind)
    return replace(
        answer,
        wires={wire: wires[wire] for wire in goal.wanted if wire in wires},
        cached=answer.cached + cached,
    )


def answer_of(circuit: str, built: Built, written: dict[str, dict[str, Path | str]]) -> Answer:
    """What a run came to, as plain data."""
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
        with closing(open_payloads(home_of(folder_of(folder)))) as store:
            for value in placeless:
                value["path"] = str(store.path(value["digest"]))
