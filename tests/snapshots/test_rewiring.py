"""A change of the wiring loses nothing and uses nothing twice."""

from collections import Counter

from core_strategies import specs, stories
from hypothesis import given, settings
from hypothesis import strategies as st

from koalja_fn.snapshots import (
    Admitted,
    Arrival,
    Formed,
    Free,
    InputSpec,
    Spec,
    State,
    Superseded,
    Time,
    Unmatched,
    advance,
    due,
    eager,
    fresh,
    held,
    pending,
    rewire,
    stragglers,
    unchanged,
)


def one(name, n=1, k=None, **more):
    return InputSpec(name, (name,), n, n, k or n, **more)


def grown(spec, wires, **more):
    positions = dict.fromkeys(spec.wires, 0)
    events = []
    for wire in wires:
        events.append(Arrival(wire, positions[wire], **more))
        positions[wire] += 1
    return advance(spec, fresh(spec, dict.fromkeys(spec.wires, 0)), events)[0]


def ranges(outcomes):
    return [tuple((w.first, w.count) for w in o.windows) for o in outcomes if isinstance(o, Formed)]


@given(stories())
def test_rewiring_to_the_same_wiring_changes_nothing(story):
    spec, events = story
    state, _ = advance(spec, fresh(spec, dict.fromkeys(spec.wires, 0)), events)
    assert rewire(spec, state, spec, {}, {}) == state


def test_an_unchanged_input_keeps_what_waits():
    old = Spec((one("a"), one("b")))
    new = Spec((one("a"), one("b", 2)))
    state = rewire(old, grown(old, "aaab"), new, {"b": 1}, {})
    _, outcomes = advance(new, state, [Arrival("b", 1), Arrival("b", 2), Arrival("a", 3)])
    assert ranges(outcomes) == [((1, 1), (1, 2))]


def test_new_windows_start_at_the_first_value_that_has_not_left_one():
    old, new = Spec((one("a", 5),)), Spec((one("a", 3),))
    state = grown(old, "a" * 7)
    assert pending(old, state) == {"a": 5}
    state = rewire(old, state, new, {"a": 5}, {})
    assert ranges(advance(new, state, [Arrival("a", i) for i in range(5, 11)])[1]) == [((5, 3),), ((8, 3),)]


def test_a_sliding_window_goes_on_with_its_overlap():
    old, new = Spec((one("a", 10, 2),)), Spec((one("a", 10, 5),))
    state = grown(old, "a" * 12)
    assert pending(old, state) == {"a": 4}
    state = rewire(old, state, new, {"a": 4}, {})
    _, (formed,) = advance(new, state, [Arrival("a", i) for i in range(4, 14)])
    assert (formed.windows[0].first, formed.windows[0].fresh) == (4, 2)


def test_from_all_new_to_swap_the_newest_is_used_and_the_rest_is_superseded_on_record():
    old, new = Spec((one("a"), one("b"))), Spec((one("a"), one("b")), "swap")
    state = rewire(old, grown(old, "baaaa"), new, {}, {})
    assert due(new, state) == state.now
    assert eager(new, state)
    assert advance(new, State.from_json(state.to_json()), [Time(0)])[1][0] == Superseded("a", 1, 1)
    assert ranges(advance(new, state, [Free()])[1]) == [((3, 1), (0, 1))]


def test_from_swap_to_all_new_what_was_used_is_not_used_again():
    old, new = Spec((one("a"), one("b")), "swap"), Spec((one("a"), one("b")))
    state = rewire(old, grown(old, "aba"), new, {}, {})
    _, outcomes = advance(new, state, [Arrival("a", 2), Arrival("b", 1), Arrival("b", 2)])
    assert ranges(outcomes) == [((2, 1), (1, 1))]


def test_without_the_passive_input_that_held_them_back_snapshots_form_with_the_next_event():
    old, new = Spec((one("a"), one("p", passive=True))), Spec((one("a"),))
    state = rewire(old, grown(old, "aa"), new, {}, {})
    assert due(new, state) == state.now
    assert ranges(advance(new, state, [Time(0)])[1]) == [((0, 1),), ((1, 1),)]


def test_a_changed_passive_input_reads_its_latest_window_again():
    old, new = Spec((one("a"), one("p", passive=True))), Spec((one("a"), one("p", 2, passive=True)))
    state = grown(old, "pppa")
    assert pending(old, state)["p"] == 2
    state = rewire(old, state, new, {"p": 2}, {})
    assert ranges(advance(new, state, [Arrival("p", 2), Arrival("p", 3), Arrival("a", 1)])[1]) == [
        ((1, 1), (2, 2))
    ]


def test_values_that_wait_for_their_turn_can_be_asked_for():
    spec = Spec((one("a", ordered=True),))
    state = fresh(spec, {"a": 0})
    events = [Arrival("a", n, source="s", sequence=str(s)) for n, s in enumerate([1, 5, 4])]
    state, _ = advance(spec, state, events)
    assert held(spec, state) == {"a": (("a", 2), ("a", 1))}


def aligned(*inputs, **more):
    return Spec(inputs, "align", "k", **{"within": 10, **more})


def keyed(*pairs):
    positions = Counter()
    events = []
    for wire, key in pairs:
        events.append(Arrival(wire, positions[wire], key=key))
        positions[wire] += 1
    return events


def test_align_with_one_input_more_waits_for_it_and_with_one_less_no_longer():
    two, three = aligned(one("a"), one("b")), aligned(one("a"), one("b"), one("c"))
    state, _ = advance(
        three, fresh(three, dict.fromkeys("abc", 0)), keyed(("a", "1"), ("b", "1"), ("a", "2"))
    )
    less = rewire(three, state, two, {}, {})
    assert ranges(advance(two, less, [Time(0)])[1]) == [((0, 1), (0, 1))]
    more = rewire(two, less, three, {"c": 0}, {})
    assert ranges(advance(three, more, [Arrival("c", 0, key="1")])[1]) == [((0, 1), (0, 1), (0, 1))]


def test_leaving_align_records_values_that_later_ones_have_overtaken():
    old, new = aligned(one("a"), one("b")), Spec((one("a"), one("b")))
    state, _ = advance(
        old, fresh(old, dict.fromkeys("ab", 0)), keyed(("a", "1"), ("a", "2"), ("a", "3"), ("b", "2"))
    )
    assert pending(old, state) == {"a": 2, "b": 1}
    assert stragglers(old, state, new) == [Unmatched("a", 0, 1, "rewired")]
    state = rewire(old, state, new, pending(old, state), {})
    _, outcomes = advance(new, state, [Arrival("a", 2), Arrival("b", 1)])
    assert ranges(outcomes) == [((2, 1), (1, 1))]


class Reader:
    """Reads wires as the engine does, through any number of wirings, and counts what left when."""

    def __init__(self, spec):
        self.spec = spec
        self.log = []
        self.length = Counter()
        self.state = fresh(spec, dict.fromkeys(spec.wires, 0))
        self.places = {}
        self.gone = Counter()

    def feed(self, events):
        self.state, outcomes = advance(self.spec, self.state, events)
        for o in outcomes:
            match o:
                case Admitted():
                    self.places[o.input, o.index] = (o.wire, o.position)
                case Superseded() | Unmatched():
                    self.leave(o.input, o.first, o.count)
                case Formed():
                    for w in o.windows:
                        passive = next(i.passive for i in self.spec.inputs if i.name == w.input)
                        if w.fresh or not (passive or self.spec.policy == "swap"):
                            self.leave(w.input, w.first, w.count)

    def leave(self, name, first, count):
        self.gone.update(self.place(self.spec, name, index) for index in range(first, first + count))

    def place(self, spec, name, index):
        (i,) = (i for i in spec.inputs if i.name == name)
        return self.places[name, index] if i.indexed else (i.wires[0], index)

    def waiting(self):
        """For each input, the places of its values from `pending` on."""
        first = pending(self.spec, self.state)
        return {
            i.name: [self.place(self.spec, i.name, n) for n in range(first[i.name], s.next)]
            for i, s in zip(self.spec.inputs, self.state.series, strict=True)
        }

    def rewire(self, new):
        waiting = self.waiting()
        again = set()
        for left in stragglers(self.spec, self.state, new):
            self.leave(left.input, left.first, left.count)
        kept = unchanged(self.spec, new)
        restarting = {w for i in new.inputs if i.name not in kept for w in i.wires}
        for i in self.spec.inputs:
            if i.passive and i.name not in kept:  # what passed through a passive input is done with
                here = {a[:2] for a in self.places_of(i.wires)} - set(waiting[i.name])
                self.gone.update(here - set(self.gone))
            if i.name not in kept:
                again.update(waiting[i.name])
        starts = {w: min([p for v, p in again if v == w], default=self.length[w]) for w in restarting}
        bases = {i.name: s.next for i, s in zip(self.spec.inputs, self.state.series, strict=True)}
        bases = {i.name: max(bases.get(i.name, 0), 1000 * (len(self.places) + 1)) for i in new.inputs}
        self.state = rewire(self.spec, self.state, new, starts, bases)
        self.spec = new
        self.feed([a for a in self.log if (a.wire, a.position) in again and a.wire in restarting])

    def places_of(self, wires):
        return [(w, p) for w in wires for p in range(self.length[w])]

    def arrive(self, wire, key):
        a = Arrival(wire, self.length[wire], key=key)
        self.log.append(a)
        self.length[wire] += 1
        self.feed([a])


@st.composite
def partitions(draw):
    """Wirings of the same three wires, without slides, so that each value is to leave exactly once."""
    order = draw(st.permutations("abc"))
    cut = draw(st.sampled_from([[1, 1, 1], [2, 1], [3], [1, 2]]))
    policy = draw(st.sampled_from(["all-new", "swap", "align"]))
    inputs = []
    for n, size in enumerate(cut):
        wires = tuple(order[:size])
        order = order[size:]
        least, most = draw(st.sampled_from([(1, 1), (1, 1), (2, 2), (3, 3), (2, 4)]))
        passive = n > 0 and draw(st.sampled_from([False, False, True]))
        if policy == "align" and not passive:
            least = most = 1
        inputs.append(InputSpec(wires[0], wires, least, most, most, passive))
    interval = draw(st.sampled_from([None, None, 5]))
    return Spec(tuple(inputs), policy, "k" if policy == "align" else None, interval, 10)


@settings(max_examples=250)
@given(st.data())
def test_through_any_rewirings_each_value_leaves_once_or_waits(data):
    reader = Reader(data.draw(partitions()))
    now = 0
    for _ in range(data.draw(st.integers(1, 3))):
        for step in data.draw(st.lists(st.sampled_from("aaabbbccctf"), max_size=25)):
            if step == "t":
                now += data.draw(st.integers(0, 8))
                reader.feed([Time(now)])
            elif step == "f":
                reader.feed([Free()])
            else:
                reader.arrive(step, data.draw(st.sampled_from(["1", "2", "3"])))
        reader.rewire(data.draw(partitions()))
        assert State.from_json(reader.state.to_json()) == reader.state
    reader.feed([Time(now)])
    for i in reader.spec.inputs:
        waiting = set(reader.waiting()[i.name])
        for place in reader.places_of(i.wires):
            if i.passive:
                assert reader.gone[place] <= 1
            elif reader.state.pairs is None:
                assert reader.gone[place] == (0 if place in waiting else 1)


@given(stories(most=20), st.data())
def test_any_wiring_can_follow_any_other(story, data):
    old, events = story
    new = data.draw(specs())
    state, _ = advance(old, fresh(old, dict.fromkeys(old.wires, 0)), events)
    starts = dict.fromkeys(new.wires, 0)
    state = rewire(old, state, new, starts, {})
    assert len(state.series) == len(new.inputs)
    advance(new, state, [Time(100), Free()])
    due(new, state)
