"""The policies against an independent library: ReactiveX's zip, combine_latest, merge and buffers."""

from core_strategies import specs
from hypothesis import given
from hypothesis import strategies as st
from reactivex import combine_latest, merge
from reactivex import operators as ops
from reactivex import zip as zipped
from reactivex.subject import Subject

from koalja_fn.snapshots import Admitted, Arrival, Formed, InputSpec, Spec, advance, fresh

buffers = st.integers(1, 6).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n)))
walks = st.lists(st.sampled_from("abc"), max_size=80)


def ours(spec, walk):
    """Snapshots as lists of (wire, position), and the arrival that formed each."""
    positions = dict.fromkeys(spec.wires, 0)
    events = []
    for wire in walk:
        events.append(Arrival(wire, positions[wire]))
        positions[wire] += 1
    _, outcomes = advance(spec, fresh(spec, dict.fromkeys(spec.wires, 0)), events)
    names = {i.name: i.wires[0] for i in spec.inputs}
    admitted = {(o.input, o.index): (o.wire, o.position) for o in outcomes if isinstance(o, Admitted)}

    def members(w):
        return [admitted.get((w.input, i), (names[w.input], i)) for i in range(w.first, w.first + w.count)]

    return [(o.cause, tuple(members(w) for w in o.windows)) for o in outcomes if isinstance(o, Formed)]


def theirs(build, wires, walk):
    """What ReactiveX emits for the same arrivals, with the arrival that made it emit."""
    subjects = {wire: Subject() for wire in wires}
    positions = dict.fromkeys(wires, 0)
    found = []
    step = 0
    build(subjects).subscribe(lambda snapshot: found.append((step, tuple(snapshot))))
    for step, wire in enumerate(walk):  # noqa: B007  the subscriber reads it
        subjects[wire].on_next((wire, positions[wire]))
        positions[wire] += 1
    return found


def windows(stream, n, k):
    return stream.pipe(ops.buffer_with_count(n, k), ops.filter(lambda members: len(members) == n))


def three(policy, sizes):
    return Spec(tuple(InputSpec(w, (w,), *(sizes[w][0], *sizes[w])) for w in "abc"), policy)


sizes_of_three = st.fixed_dictionaries(dict.fromkeys("abc", buffers))


@given(sizes_of_three, walks)
def test_all_new_is_zip_over_windows(sizes, walk):
    found = theirs(lambda s: zipped(*(windows(s[w], *sizes[w]) for w in "abc")), "abc", walk)
    assert ours(three("all-new", sizes), walk) == found


@given(sizes_of_three, walks)
def test_swap_is_combine_latest_of_windows(sizes, walk):
    found = theirs(lambda s: combine_latest(*(windows(s[w], *sizes[w]) for w in "abc")), "abc", walk)
    assert ours(three("swap", sizes), walk) == found


@given(buffers, walks)
def test_merge_is_merge_before_the_window(size, walk):
    n, k = size
    found = theirs(lambda s: windows(merge(*s.values()), n, k).pipe(ops.map(lambda w: (w,))), "abc", walk)
    assert ours(Spec((InputSpec("a", ("a", "b", "c"), n, n, k),)), walk) == found


@given(buffers, walks)
def test_a_passive_input_is_with_latest_from_once_it_has_a_window(size, walk):
    """ReactiveX's drops what comes before; ours keeps it, so the comparison starts behind that."""
    walk = ["b", *walk]
    spec = Spec((InputSpec("a", ("a",), *(size[0], *size)), InputSpec("b", ("b",), passive=True)))
    latest = {}

    def build(s):
        s["b"].subscribe(lambda value: latest.update(b=value))
        return windows(s["a"], *size).pipe(ops.map(lambda w: (w, [latest["b"]])))

    walk = [w for w in walk if w != "c"]
    assert ours(spec, walk) == theirs(build, "ab", walk)


@given(specs(policies=("all-new",)))
def test_specs_read_each_wire_once(spec):
    assert len(spec.wires) == len(set(spec.wires)) == len(spec.route)
