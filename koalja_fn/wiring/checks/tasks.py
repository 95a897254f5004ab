"""Checks on a task's attributes: those that have no effect, and tasks that nothing starts."""

from __future__ import annotations

from koalja_fn.model import Place, Policy, Task
from koalja_fn.wiring.findings import Notebook
from koalja_fn.wiring.meaning import Draft, TaskDraft


def check_tasks(draft: Draft, notebook: Notebook) -> None:
    """Check each task's attributes. Defaults of the circuit are silent where they have no effect."""
    if not draft.tasks and not draft.partial:
        start = Place(notebook.file, 1, 1)
        notebook.error("no-tasks", "this circuit has no tasks", start, "write one: (inputs) task (outputs)")
    for each in draft.tasks:
        _starts(each, notebook)
        for key, why, cure in _idle(each.task):
            if key in each.own:
                notebook.warning("no-effect", f"`{key}` has no effect here: {why}", each.own[key].key, cure)


def _starts(each: TaskDraft, notebook: Notebook) -> None:
    task = each.task
    if not task.streams and task.every is None and not any(o.implicit for o in task.outputs):
        notebook.warning(
            "no-start",
            f"'{task.name}' has no inputs that trigger it and no `every`: it runs only when asked for",
            each.name,
            "add every = 1h, or give it an input",
        )


def _idle(task: Task) -> list[tuple[str, str, str]]:
    """Attributes that change nothing: key, why, cure."""
    streams = task.streams
    waits = (
        task.policy is Policy.ALIGN
        or any(i.buffer.elastic for i in streams)
        or any(i.ordered for i in streams)
    )
    found = []
    if not waits:
        why = "there is no elastic window x[2-4], no `ordered` input and no policy = align"
        found.append(("within", why, "drop it"))
    if task.policy is not Policy.ALIGN:
        found.append(("align", "the policy is not align", "add policy = align and within = 10s"))
    if streams and task.every is not None:
        found.append(("every", "the task has inputs, which trigger it", "drop it, or drop the inputs"))
    if not streams:
        why = "the task has no inputs"
        found += [(key, why, "drop it") for key in ("policy", "backlog", "start")]
    if task.retries == 0:
        found.append(("backoff", "retries is 0", "drop it"))
    if task.strict and task.concurrency > 1:
        found.append(("concurrency", "order = strict runs one snapshot at a time", "drop one of the two"))
    return found
