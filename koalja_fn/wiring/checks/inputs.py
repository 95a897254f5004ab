"""Checks on how a task takes its inputs: windows, triggers, policies."""

from __future__ import annotations

from koalja_fn.model import Input, Policy, Task, Wire
from koalja_fn.wiring.findings import Notebook
from koalja_fn.wiring.meaning import Draft, TaskDraft


def check_inputs(draft: Draft, notebook: Notebook) -> None:
    """Check each task's inputs."""
    for each in draft.tasks:
        if not each.task.inputs:
            continue
        _each_once(each.task, notebook)
        _triggers(each, notebook)
        _types(each, draft, notebook)
        _own_values(each.task, notebook)
        if each.task.policy is Policy.ALIGN:
            _align(each, notebook)


def triggering(task: Task) -> tuple[Input, ...]:
    """The inputs whose values form snapshots."""
    return tuple(i for i in task.streams if not i.passive)


def _each_once(task: Task, notebook: Notebook) -> None:
    wires: set[str] = set()
    names: set[str] = set()
    for given in task.inputs:
        twice = next((w for n, w in enumerate(given.wires) if w in wires or w in given.wires[:n]), None)
        wires.update(given.wires)
        if twice is not None:
            notebook.error(
                "wire-twice",
                f"wire '{twice}' is there twice in the inputs of '{task.name}'",
                given.place,
                "keep one; a program may still name it twice in its run line",
            )
        elif given.name in names:
            notebook.error(
                "input-twice",
                f"two inputs of '{task.name}' are called '{given.name}'",
                given.place,
                "give one of them another name: x as NAME",
            )
        names.add(given.name)


def _triggers(each: TaskDraft, notebook: Notebook) -> None:
    task = each.task
    if task.streams and not triggering(task):
        notebook.error(
            "all-passive",
            f"all inputs of '{task.name}' are passive: nothing ever makes it run",
            task.streams[0].place,
            "drop `passive` at one of them",
        )
    if task.backlog is None:
        return
    for given in task.streams:
        if task.backlog < given.buffer.most:
            at = each.own["backlog"].value if "backlog" in each.own else given.place
            notebook.error(
                "small-backlog",
                f"a backlog of {task.backlog} is below the window of '{given.name}', "
                f"which needs {given.buffer.most} values: the task would never run",
                at,
                f"write at least: backlog = {given.buffer.most}",
            )


def _types(each: TaskDraft, draft: Draft, notebook: Notebook) -> None:
    groups: list[tuple[Input, list[str]]] = [
        (i, list(i.wires)) for i in each.task.streams if len(i.wires) > 1
    ]
    if each.task.policy is Policy.MERGE and triggering(each.task):
        merged = triggering(each.task)
        groups = [(i, list(i.wires)) for i in each.task.streams if i.passive and len(i.wires) > 1]
        groups.append((merged[0], [w for i in merged for w in i.wires]))
    for first, wires in groups:
        typed: list[Wire] = [draft.circuit.wires[w] for w in wires if draft.circuit.wires[w].type]
        other = next((w for w in typed if w.type != typed[0].type), None)
        if other is not None:
            notebook.error(
                "merge-types",
                f"merged wires must carry one type: '{typed[0].name}' is {typed[0].type}, "
                f"'{other.name}' is {other.type}",
                first.place,
                "put a task in between that converts one of them",
            )


def _own_values(task: Task, notebook: Notebook) -> None:
    if task.strict:
        return
    own = set(task.output_wires)
    for given in task.streams:
        fed = next((w for w in given.wires if w in own), None)
        if given.passive and fed:
            notebook.error(
                "self-passive",
                f"'{task.name}' reads its own output '{fed}' passively: what it sees depends on timing",
                given.place,
                "add order = strict",
            )


def _align(each: TaskDraft, notebook: Notebook) -> None:
    task = each.task
    at = each.own["policy"].value if "policy" in each.own else task.place
    if task.within is None:
        notebook.error(
            "align-within",
            f"'{task.name}' aligns its inputs but not how long to wait for a partner",
            at,
            "add within = 10s, or what suits the sources",
        )
    for given in triggering(task):
        if not given.buffer.plain:
            notebook.error(
                "align-window",
                f"aligned inputs have one value for each key, '{given.name}' has a window",
                given.place,
                f"write plain '{given.name}', and collect windows in a task behind it",
            )
    if len(triggering(task)) == 1:
        notebook.warning(
            "no-effect", "a single input has nothing to be aligned with", at, "drop policy = align"
        )
