"""Random specs and random histories for them."""

from hypothesis import strategies as st

from koalja_fn.snapshots import Arrival, Free, InputSpec, Spec, Time

WIRES = "abcdef"


@st.composite
def buffers(draw):
    kind = draw(st.sampled_from(["plain", "exact", "sliding", "elastic"]))
    if kind == "plain":
        return 1, 1, 1
    if kind == "exact":
        n = draw(st.integers(2, 4))
        return n, n, n
    if kind == "sliding":
        n = draw(st.integers(2, 5))
        return n, n, draw(st.integers(1, n))
    least = draw(st.integers(1, 3))
    most = draw(st.integers(least + 1, 5))
    return least, most, most


@st.composite
def specs(draw, policies=("all-new", "swap", "align")):
    policy = draw(st.sampled_from(policies))
    wires = iter(WIRES)
    inputs = []
    for n in range(draw(st.integers(1, 3))):
        mine = tuple(next(wires) for _ in range(draw(st.sampled_from([1, 1, 1, 2]))))
        passive = n > 0 and draw(st.sampled_from([False, False, True]))
        least, most, slide = draw(buffers()) if passive or policy != "align" else (1, 1, 1)
        ordered = draw(st.sampled_from([False, False, False, True]))
        inputs.append(InputSpec(f"in-{mine[0]}", mine, least, most, slide, passive, ordered))
    inputs = tuple(draw(st.permutations(inputs)))
    interval = draw(st.sampled_from([None, None, 5, 20]))
    within = draw(st.integers(1, 30)) if policy == "align" else draw(st.sampled_from([None, None, 1, 10, 30]))
    return Spec(inputs, policy, "key" if policy == "align" else None, interval, within)


@st.composite
def histories(draw, spec, most=60):
    """Arrivals at the next position of their wire, with times and free moments between them."""
    kinds = st.sampled_from(["arrival"] * 6 + ["time"] * 2 + ["free"] * 2)
    positions = dict.fromkeys(spec.wires, 0)
    now = 0
    events = []
    for kind in draw(st.lists(kinds, max_size=most)):
        if kind == "time":
            now += draw(st.integers(-1, 12))
            events.append(Time(max(now, 0)))
        elif kind == "free":
            events.append(Free())
        else:
            wire = draw(st.sampled_from(spec.wires))
            events.append(draw(arrivals(wire, positions[wire])))
            positions[wire] += 1
    return events


@st.composite
def arrivals(draw, wire, position):
    return Arrival(
        wire,
        position,
        key=draw(st.sampled_from(["k1", "k2", "k3", ""])),
        index=draw(st.sampled_from([0, 0, 1])),
        source=draw(st.sampled_from(["s", "t"])),
        sequence=draw(st.sampled_from(["", "x"] + [str(n) for n in range(8)])),
    )


@st.composite
def stories(draw, policies=("all-new", "swap", "align"), most=60):
    spec = draw(specs(policies))
    return spec, draw(histories(spec, most))
