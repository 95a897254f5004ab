"""Random specs and random histories for them.

A story has a theme: one where everything occurs, and one each for elastic windows, alignment and
sequences, which else would seldom get into interesting states.
"""

from hypothesis import strategies as st

from koalja_fn.snapshots import Arrival, Free, InputSpec, Spec, Time

WIRES = "abcdef"
THEMES = ("anything", "elastic", "align", "ordered")


@st.composite
def buffers(draw, theme="anything"):
    kinds = (
        ["elastic", "elastic", "elastic", "plain"]
        if theme == "elastic"
        else ["plain", "exact", "sliding", "elastic"]
    )
    kind = draw(st.sampled_from(kinds))
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
def inputs_of(draw, policy, theme):
    wires = iter(WIRES)
    inputs = []
    for n in range(draw(st.integers(1, 3))):
        mine = tuple(next(wires) for _ in range(draw(st.sampled_from([1, 1, 1, 2]))))
        passive = n > 0 and draw(st.sampled_from([False, False, True]))
        least, most, slide = draw(buffers(theme)) if passive or policy != "align" else (1, 1, 1)
        ordered = theme == "ordered" or (
            theme == "anything" and draw(st.sampled_from([False, False, False, True]))
        )
        inputs.append(InputSpec(f"in-{mine[0]}", mine, least, most, slide, passive, ordered))
    return tuple(draw(st.permutations(inputs)))


@st.composite
def specs(draw, policies=("all-new", "swap", "align"), theme="anything"):
    policy = "align" if theme == "align" and "align" in policies else draw(st.sampled_from(policies))
    inputs = draw(inputs_of(policy, theme))
    interval = draw(st.sampled_from([None, None, None, 5, 20]))
    within = draw(st.integers(1, 30)) if policy == "align" else draw(st.sampled_from([None, 1, 10, 30]))
    return Spec(inputs, policy, "key" if policy == "align" else None, interval, within)


@st.composite
def histories(draw, spec, theme="anything", most=60):
    """Arrivals at the next position of their wire, with times and free moments between them."""
    kinds = st.sampled_from(["arrival"] * 6 + ["time"] * 2 + ["free"] * (3 if theme == "elastic" else 1))
    positions = dict.fromkeys(spec.wires, 0)
    now = 0
    events = []
    for kind in draw(st.lists(kinds, min_size=10 if most > 10 else 0, max_size=most)):
        if kind == "time":
            now += draw(st.integers(-1, 6))
            events.append(Time(max(now, 0)))
        elif kind == "free":
            events.append(Free())
        else:
            wire = draw(st.sampled_from(spec.wires))
            events.append(draw(arrivals(wire, positions[wire], theme)))
            positions[wire] += 1
    return events


@st.composite
def arrivals(draw, wire, position, theme="anything"):
    few = theme == "align"
    one = theme == "ordered"
    return Arrival(
        wire,
        position,
        key=draw(st.sampled_from(["k1", "k1", "k2"] if few else ["k1", "k2", "k3", ""])),
        index=0 if few else draw(st.sampled_from([0, 0, 1])),
        source=draw(st.sampled_from(["s", "s", "t"])),
        sequence=draw(st.sampled_from([str(n) for n in range(12)] if one else ["", "x", "0", "1", "2", "3"])),
    )


@st.composite
def stories(draw, policies=("all-new", "swap", "align"), most=60, themes=THEMES):
    theme = draw(st.sampled_from(themes))
    spec = draw(specs(policies, theme))
    return spec, draw(histories(spec, theme, most))
