"""The concept map as text, in the spirit of the paper's figure 10, and in graphviz' language."""

from __future__ import annotations

from collections.abc import Iterator

from koalja_fn.engine.usual import spread
from koalja_fn.story.concept_map import ConceptMap, Reads, TaskConcept, WireConcept
from koalja_fn.story.superseding import recompute_line
from koalja_fn.story.telling import remark_text
from koalja_fn.story.usually import usual_text
from koalja_fn.story.words import local, plural, version

_DEEPEST = 12


def map_text(told: ConceptMap) -> str:
    """Topology first, then each wire and each task."""
    return "\n".join(_lines(told))


def _lines(told: ConceptMap) -> Iterator[str]:
    yield f"<begin CONCEPT MAP {told.circuit}>"
    yield from _topology(told)
    yield f"<end CONCEPT MAP {told.circuit}>"
    yield ""
    for wire in told.wires:
        yield wire_line(wire)
    for task in told.tasks:
        yield ""
        yield from task_lines(task)
    if told.recomputes:
        yield ""
    yield from (recompute_line(one) for one in told.recomputes)


def _topology(told: ConceptMap) -> Iterator[str]:
    """Each edge once, depth first from the sources; what was told already is not told again."""
    wires = {wire.name: wire for wire in told.wires}
    tasks = {task.counts.name: task for task in told.tasks if not task.counts.retired}
    starts = [("wire", w.name) for w in told.wires if not w.writer and w.readers]
    starts += [("task", name) for name, t in tasks.items() if not t.reads]
    # Whatever lies on a loop that nothing outside feeds is still to be told.
    starts += [("wire", w.name) for w in told.wires if w.writer or w.readers]
    seen: set[tuple[str, str]] = set()
    for start in starts:
        outside = start[0] == "wire" and not wires[start[1]].writer and start not in seen
        stack = [(f'(outside) --b(feeds)--> "{start[1]}"' if outside else "", start, 0)]
        while stack:
            text, node, depth = stack.pop()
            if text:
                yield "  " * min(depth, _DEEPEST) + text
            if node in seen:
                continue
            seen.add(node)
            following = [(edge, after, depth + 1) for edge, after in _edges(node, wires, tasks)]
            stack.extend(reversed(following))


def _edges(
    node: tuple[str, str], wires: dict[str, WireConcept], tasks: dict[str, TaskConcept]
) -> Iterator[tuple[str, tuple[str, str]]]:
    kind, name = node
    if kind == "task":
        for wire in tasks[name].outputs:
            yield f'({name}) --b(makes)--> "{wire}"', ("wire", wire)
        return
    for reader in wires[name].readers if name in wires else ():
        reads = next(r for r in tasks[reader].reads if name in r.wires)
        yield f'({name}) --{_verb(reads)}--> "{reader}"', ("task", reader)


def _verb(reads: Reads) -> str:
    if reads.implicit:
        return "b(is looked up by)"
    if reads.passive:
        return f"b(may determine{' ' + reads.buffer if reads.buffer else ''})"
    return f"b(triggers{' ' + reads.buffer if reads.buffer else ''})"


def wire_line(wire: WireConcept) -> str:
    """A wire in one line: how many values, of which kinds and sizes, how often."""
    line = f"wire {wire.name}: {plural(wire.count, 'value')}"
    if wire.types:
        line += ", " + ", ".join(name or "unknown type" for name, _ in wire.types)
        line += f", {spread('size', *wire.size)}"
    if wire.sampled > 1:
        line += f", every {spread('interval', *wire.interval)}"
    if wire.sampled < wire.count:
        line += f" (by the last {wire.sampled})"
    return line


def task_lines(task: TaskConcept) -> Iterator[str]:
    """A task's paragraph: promises, code, counts, what is usual and what was odd."""
    counts = task.counts
    yield f"task {counts.name}" + (" (removed)" if counts.retired else "")
    yield "  promises: " + ", ".join(f"{name} {text}" for name, text in task.promises)
    for known in task.versions[-3:]:
        yield f"  code: {version(known.digest)} since {local(known.seen)}" + (
            f": {known.run}" if known.run else ""
        )
    if len(task.versions) > 3:
        yield f"  code: and {plural(len(task.versions) - 3, 'older version')}"
    states = [("ready", counts.ready), ("running", counts.running), ("done", counts.done)]
    states += [("dead", counts.dead), ("skipped", counts.skipped)]
    shown = ", ".join(f"{count} {state}" for state, count in states if count)
    yield f"  snapshots: {counts.formed} formed" + (f", {shown}" if shown else "")
    for line in usual_text(task.usual):
        yield f"  {line}"
    if task.usual.anomalies:
        yield f"  anomalies: {task.usual.anomalies}"
    for remark in task.anomalies:
        yield f"    {local(remark.at)} {remark_text(remark)}"


def map_dot(told: ConceptMap) -> str:
    """The map for graphviz: boxes are tasks, ovals are wires."""
    lines = [f"digraph {_quoted(told.circuit)} {{", "  rankdir=LR;", '  node [fontname="sans-serif"];']
    for wire in told.wires:
        label = [wire.name, plural(wire.count, "value"), *(name for name, _ in wire.types[:2] if name)]
        lines.append(f"  {_node('wire', wire.name)} [shape=oval, label={_quoted(*label)}];")
    known = {wire.name for wire in told.wires}
    for task in told.tasks:
        label = [
            task.counts.name,
            *(f"{n} {t}" for n, t in task.promises if n in ("policy", "rate", "every")),
        ]
        if task.usual.executions:
            label.append(spread("duration", task.usual.duration.mean, task.usual.duration.deviation))
        style = ", style=dashed" if task.counts.retired else ", color=red" if task.counts.dead else ""
        lines.append(f"  {_node('task', task.counts.name)} [shape=box, label={_quoted(*label)}{style}];")
        lines += _dot_edges(task, known)
    return "\n".join([*lines, "}"])


def _dot_edges(task: TaskConcept, known: set[str]) -> Iterator[str]:
    here = _node("task", task.counts.name)
    for reads in task.reads:
        style = ", style=dotted" if reads.implicit else ", style=dashed" if reads.passive else ""
        for wire in reads.wires:
            if wire in known:
                yield f"  {_node('wire', wire)} -> {here} [label={_quoted(reads.buffer)}{style}];"
    for wire in task.outputs:
        if wire in known:
            yield f"  {here} -> {_node('wire', wire)};"


def _node(kind: str, name: str) -> str:
    return _quoted(f"{kind} {name}")


def _quoted(*lines: str) -> str:
    """A string as graphviz wants it; `\\n` parts the lines of a label."""
    escaped = (line.replace("\\", "\\\\").replace('"', '\\"') for line in lines)
    return '"' + "\\n".join(escaped) + '"'
