"""Loops: allowed, and named, since values may go round in them."""

from __future__ import annotations

from koalja_fn.model import Circuit
from koalja_fn.wiring.findings import Notebook
from koalja_fn.wiring.meaning import Draft


def check_loops(draft: Draft, notebook: Notebook) -> None:
    """Note each group of tasks that feed one another, with one way round."""
    for cycle in loops(draft.circuit):
        task = draft.circuit.task(cycle[0])
        assert task is not None
        way = " → ".join([*cycle, cycle[0]])
        notebook.note(
            "loop",
            f"a loop: {way}",
            task.place,
            f"send a first value by hand to start it; max-hops = {task.max_hops} ends it",
        )


def loops(circuit: Circuit) -> list[list[str]]:
    """For each set of tasks that reach one another, the names along a shortest way round."""
    readers: dict[str, list[str]] = {}
    for task in circuit.tasks:
        for wire in {w for i in task.streams for w in i.wires}:
            readers.setdefault(wire, []).append(task.name)
    following = {t.name: [r for w in t.output_wires for r in readers.get(w, ())] for t in circuit.tasks}
    found = []
    for group in _components(following):
        if len(group) > 1 or group[0] in following[group[0]]:
            start = next(t.name for t in circuit.tasks if t.name in set(group))
            found.append(_way_round(start, following, set(group)))
    return found


def _way_round(start: str, following: dict[str, list[str]], group: set[str]) -> list[str]:
    came: dict[str, str] = {}
    queue = [start]
    for name in queue:
        for after in following[name]:
            if after == start:
                way = [name]
                while way[-1] != start:
                    way.append(came[way[-1]])
                return way[::-1]
            if after in group and after not in came:
                came[after] = name
                queue.append(after)
    return [start]


def _components(following: dict[str, list[str]]) -> list[list[str]]:
    """Strongly connected components (Tarjan's algorithm, without recursion)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    on_stack: set[str] = set()
    found: list[list[str]] = []
    for root in following:
        if root in index:
            continue
        work = [(root, iter(following[root]))]
        index[root] = low[root] = len(index)
        stack.append(root)
        on_stack.add(root)
        while work:
            name, rest = work[-1]
            after = next(rest, None)
            if after is None:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[name])
                if low[name] == index[name]:
                    cut = stack.index(name)
                    found.append(stack[cut:])
                    on_stack.difference_update(stack[cut:])
                    del stack[cut:]
            elif after not in index:
                index[after] = low[after] = len(index)
                stack.append(after)
                on_stack.add(after)
                work.append((after, iter(following[after])))
            elif after in on_stack:
                low[name] = min(low[name], index[after])
    return found
