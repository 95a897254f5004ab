"""Random small circuits as text, and random things that happen to them."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

SOURCES = ("a", "b", "c")


def outputs(count: int) -> list[str]:
    return [f"o{n}" for n in range(count)]


plain_buffers = st.sampled_from(["", "", "", "[2]", "[3]", "[3/1]", "[4/2]"])
buffers = st.one_of(plain_buffers, st.sampled_from(["[1-2]", "[2-4]"]))


@st.composite
def inputs(draw: Any, policy: str, known: list[str]) -> str:
    """The inputs of one task; the first always triggers."""
    count = draw(st.integers(2 if policy in ("merge", "align") else 1, 3))
    wires = draw(st.permutations(known))[:4]
    if policy == "merge":
        return f"({', '.join(wires[:count])}){draw(buffers)}"
    found = []
    for number in range(count):
        if not wires:
            break
        wire = wires.pop()
        buffer = "" if policy == "align" else draw(buffers)
        if wires and policy != "align" and draw(st.integers(0, 3)) == 0:
            text = f"({wire} + {wires.pop()}){buffer} as m{number}"
        else:
            text = f"{wire}{buffer}"
            if number and draw(st.integers(0, 2)) == 0:
                text += " passive"
            elif wire in SOURCES and draw(st.integers(0, 3)) == 0:
                text += " ordered"
        found.append(text)
    return ", ".join(found)


@st.composite
def tasks(draw: Any, number: int, count: int) -> str:
    policy = draw(st.sampled_from(["all-new", "all-new", "swap", "swap", "merge", "align"]))
    # Mostly what comes from before it; now and then a loop.
    known = [*SOURCES, *outputs(count if draw(st.integers(0, 5)) == 0 else number)]
    attributes = [f"policy = {policy}"]
    within = draw(st.sampled_from([None, None, "3s", "20s"]))
    if policy == "align":
        within = within or "5s"
    if within:
        attributes.append(f"within = {within}")
    for name, choices in {
        "rate": [None, None, None, "1/s", "2/s"],
        "backlog": [None, None, "12"],
        "order": [None, None, None, "strict"],
        "concurrency": [None, "2", "3"],
        "retries": ["0", "1", "2"],
    }.items():
        value = draw(st.sampled_from(choices))
        if value is not None and not (name == "concurrency" and "order = strict" in attributes):
            attributes.append(f"{name} = {value}")
    lines = "".join(f"    {line}\n" for line in attributes)
    return f"({draw(inputs(policy, known))}) t{number} (o{number})\n{lines}"


@st.composite
def circuits(draw: Any, count: int) -> str:
    """A circuit of at most `count` tasks, some of them left out."""
    present = [n for n in range(count) if draw(st.integers(0, 6)) or count == 1]
    body = "".join(draw(tasks(n, count)) for n in present or [0])
    return f"[random]\n    max-hops = 3\n    start = {draw(st.sampled_from(['now', 'beginning']))}\n{body}"


numbers = st.integers(0, 30)
happenings = st.one_of(
    st.tuples(st.just("send"), st.sampled_from(SOURCES), st.integers(1, 5), numbers),
    st.tuples(st.just("send"), st.sampled_from(SOURCES), st.integers(1, 5), numbers),
    st.tuples(st.just("send to"), numbers, st.integers(1, 3), numbers),
    st.tuples(st.just("form"), numbers),
    st.tuples(st.just("form"), numbers),
    st.tuples(st.just("form all")),
    st.tuples(st.just("claim"), numbers, st.integers(1, 3)),
    st.tuples(st.just("claim"), numbers, st.integers(1, 3)),
    st.tuples(st.just("complete"), numbers, st.integers(0, 2)),
    st.tuples(st.just("complete"), numbers, st.just(1)),
    st.tuples(st.just("fail"), numbers, st.booleans()),
    st.tuples(st.just("release"), numbers),
    st.tuples(st.just("tick"), st.sampled_from([0.2, 1.0, 6.0, 40.0])),
    st.tuples(st.just("lose")),
    st.tuples(st.just("retry"), numbers),
    st.tuples(st.just("skip"), numbers),
    st.tuples(st.just("reopen")),
    st.tuples(st.just("rewire"), numbers, st.booleans()),
)
