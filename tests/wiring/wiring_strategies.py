"""Random circuits that have no errors, and random texts."""

from __future__ import annotations

from hypothesis import strategies as st

from koalja_fn.model import Buffer, Circuit, Input, Output, Policy, Rate, Task, Wire

NAMES = [f"{a}{b}" for a in ("wind", "t", "in", "out", "snapshot", "x.y", "A_b") for b in ("", "1", "-z")]
SECONDS = st.one_of(
    st.integers(1, 10**7).map(float),
    st.integers(1, 10**6).map(lambda n: n / 1000),
    st.sampled_from([60.0, 3600.0]),
)
TEXT = st.text(
    st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_categories=["Cs"]), min_size=1, max_size=20
)
RUNS = st.one_of(
    st.sampled_from(
        ["./t.py {in}", "sort", "FOO=1 x", "(x) y (z)", "a: b", "sh -c 'a # b | c'", "x \\# y", "[x] y"]
    ),
    st.text("ab{}[]()=:#'\"\\ ./", min_size=1, max_size=12).map(str.strip),
)


def plain_runs() -> st.SearchStrategy[str]:
    """Run lines that can be said in one line, without a comment in them, and that split."""
    from koalja_fn.wiring.runline import RunLineError, split
    from koalja_fn.wiring.syntax import split_comment

    def fine(run: str) -> bool:
        try:
            return bool(split(run)) and run[0] != "#" and not split_comment(" " + run)[1]
        except RunLineError:
            return False

    return RUNS.filter(bool).filter(fine)


@st.composite
def buffers(draw: st.DrawFn) -> Buffer:
    most = draw(st.integers(1, 50))
    if draw(st.booleans()):
        least = draw(st.integers(1, most))
        if least < most:
            return Buffer(least, most, most)
    return Buffer(most, most, draw(st.integers(1, most)))


@st.composite
def tasks(draw: st.DrawFn, name: str, wires: list[str], services: list[str], outputs: list[Output]) -> Task:
    policy = draw(st.sampled_from(Policy))
    group = draw(buffers())
    inputs = []
    waiting = list(wires)
    for number in range(draw(st.integers(0, 3))):
        count = min(draw(st.sampled_from([1, 1, 1, 2, 3])), len(waiting))
        if not count:
            break
        mine, waiting = tuple(waiting[:count]), waiting[count:]
        passive = number > 0 and draw(st.booleans())
        buffer = draw(buffers()) if draw(st.booleans()) else Buffer()
        if policy is Policy.MERGE and not passive:
            buffer = group
        if policy is Policy.ALIGN and not passive:
            buffer = Buffer()
        alias = f"alias-{number}" if draw(st.booleans()) else mine[0]
        inputs.append(Input(alias, mine, buffer, passive=passive, ordered=draw(st.booleans())))
    inputs += [Input(s, (s,), implicit=True) for s in services if draw(st.booleans())]
    optional = {
        "run": plain_runs(),
        "align": st.sampled_from(["station", "x_y"]),
        "rate": st.builds(Rate, st.integers(1, 100), SECONDS),
        "within": SECONDS,
        "retries": st.integers(0, 99),
        "backoff": SECONDS,
        "timeout": st.none() | SECONDS,
        "start": st.sampled_from(["beginning", "now"]),
        "cache": st.booleans(),
        "on_update": st.just("recompute"),
        "warm": st.booleans(),
        "region": st.just("north"),
        "scale": st.integers(1, 9),
        "concurrency": st.integers(1, 9),
        "every": SECONDS,
        "mode": st.just("job"),
        "max_hops": st.integers(1, 99),
        "backlog": st.integers(50, 99),
    }
    values = {key: draw(value) for key, value in optional.items() if draw(st.integers(0, 3)) == 0}
    if policy is Policy.ALIGN:
        values["within"] = draw(SECONDS)
    names = draw(st.sets(st.sampled_from(["A", "B_1", "path"]), max_size=2))
    env = tuple((variable, draw(TEXT | st.just(""))) for variable in sorted(names))
    return Task(name, tuple(inputs), tuple(outputs), policy, strict=True, env=env, **values)


@st.composite
def circuits(draw: st.DrawFn) -> Circuit:
    """A circuit that `read` has no errors for, apart from placeholders that a random run line may hold."""
    wires = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=8, unique=True))
    services = ["service-a", "service-b"]
    free = list(wires)
    made = []
    for number in range(draw(st.integers(1, 4))):
        outputs = [Output(free.pop()) for _ in range(min(len(free), draw(st.integers(0, 2))))]
        if number == 0:
            outputs += [Output(s, implicit=True) for s in services]
        mine = draw(st.permutations(wires))
        # a name that the make view can derive, and one that it must say
        name = draw(st.sampled_from([f"task-{number}", *([outputs[0].wire] if outputs and number else [])]))
        made.append(draw(tasks(name, mine, services, outputs)))
    used = {w for t in made for i in t.inputs for w in i.wires} | {o.wire for t in made for o in t.outputs}
    known = {w: Wire(w) for w in used}
    for wire in sorted(used - set(services)):
        if draw(st.integers(0, 3)) == 0:
            sink = draw(st.none() | TEXT)
            known[wire] = Wire(wire, "text/csv", draw(st.none() | SECONDS), sink=sink, identity="content")
    return Circuit(draw(st.sampled_from(["c", "Big-1"])), tuple(made), known)


PIECES = """( ) a b [5] [x] [10/2] + , : = # wire as passive implicit ordered ./x {a}""".split(" ")  # noqa: SIM905
PIECES += [
    " ",
    "\n",
    "\n    ",
    "\t",
    "# c\n",
    "policy = swap",
    "run = x",
    "task = y",
    "(a) t (b)\n",
    "x: y\n",
]
LINES = [
    "",
    "",
    "[c]",
    "[c] # why",
    "# above",
    "    # indented",
    "(a) t (b)",
    "  (a, # why",
    "   b) u (c, d) # so",
    "() v ()",
    "((a + b)[5] as r, c passive) w (e)",
    "(a, b)[10/2] m (f)",
    "x: y",
    "x2 y2: (y + z) as r z2 # so",
    ": q",
    "o: (a, (b + c) ordered)[2-4] # group",
    "wire a",
    "wire b # b",
    "    policy = merge",
    "    policy=swap # word",
    "    run = ./t.py {a}  # run",
    "    run = x=y",
    "    ./tool.sh {a} 'x # y' # tool",
    "    task = named # named",
    "    env.X = '# x'",
    "    env.Y =#y",
    "    within = 5s",
    "    rate = 5 / s",
    "  type = text/csv",
    "    # below",
    "    every = 1h",
    "(z + y) long-name (z1 implicit)",
    "(z1 implicit, k[3]) other (k2)",
    "",
]
WIRING_TEXT = st.one_of(st.text(max_size=80), st.lists(st.sampled_from(PIECES), max_size=40).map("".join))
WIRING_LINES = st.lists(st.sampled_from(LINES), max_size=14).map("\n".join)
