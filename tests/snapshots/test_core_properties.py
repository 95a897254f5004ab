"""What must hold for every wiring and every history."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise

from core_strategies import stories
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_core import NaiveCore

from koalja_fn.snapshots import (
    Arrival,
    Formed,
    Free,
    Spec,
    State,
    Superseded,
    Time,
    Unmatched,
    advance,
    due,
    eager,
    fresh,
    needed,
    pending,
)


def begin(spec):
    return fresh(spec, dict.fromkeys(spec.wires, 0))


def without_cause(outcomes):
    return [replace(o, cause=0) if isinstance(o, Formed) else o for o in outcomes]


@settings(max_examples=250)
@given(stories())
def test_the_core_does_what_the_plain_rules_say(story):
    spec, events = story
    _, outcomes = advance(spec, begin(spec), events)
    assert outcomes == NaiveCore(spec).run(events)


@settings(max_examples=80)
@given(stories(), st.data())
def test_it_does_not_matter_how_events_are_batched(story, data):
    spec, events = story
    whole, outcomes = advance(spec, begin(spec), events)
    state, pieces = begin(spec), []
    while events:
        size = data.draw(st.integers(1, 5))
        state, some = advance(spec, state, events[:size])
        pieces += some
        events = events[size:]
    assert state == whole
    assert state.to_json() == whole.to_json()
    assert without_cause(pieces) == without_cause(outcomes)


@settings(max_examples=80)
@given(stories())
def test_state_and_spec_survive_as_text_at_any_point(story):
    spec, events = story
    whole, outcomes = advance(spec, begin(spec), events)
    state, pieces = begin(spec), []
    for event in events:
        again = State.from_json(state.to_json())
        assert again == state
        state, some = advance(Spec.from_json(spec.to_json()), again, [event])
        pieces += some
    assert state == whole
    assert without_cause(pieces) == without_cause(outcomes)


@settings(max_examples=80)
@given(stories())
def test_advance_leaves_the_given_state_alone(story):
    spec, events = story
    state, _ = advance(spec, begin(spec), events[: len(events) // 2])
    text = state.to_json()
    advance(spec, state, events[len(events) // 2 :])
    assert state.to_json() == text


@settings(max_examples=80)
@given(stories())
def test_eager_tells_whether_a_free_moment_forms_a_snapshot(story):
    spec, events = story
    state = begin(spec)
    for event in events:
        state, _ = advance(spec, state, [event])
        _, outcomes = advance(spec, state, [Free()])
        assert eager(spec, state) == any(isinstance(o, Formed) for o in outcomes)


def visible(spec, state):
    """A state without the clock and without what only the clock makes old."""
    pairs = state.pairs and state.pairs._replace(expired=())
    return replace(state, now=0, pairs=pairs), eager(spec, state)


@settings(max_examples=120)
@given(stories(), st.integers(0, 40))
def test_time_changes_something_when_it_is_due_and_not_before(story, ahead):
    spec, events = story
    state, _ = advance(spec, begin(spec), events)
    at = due(spec, state)
    early = state.now + ahead if at is None else min(state.now + ahead, at - 1)
    if early >= state.now:
        later, outcomes = advance(spec, state, [Time(early)])
        assert not outcomes
        assert visible(spec, later) == visible(spec, state)
    if at is not None:
        later, outcomes = advance(spec, state, [Time(at)])
        assert outcomes or visible(spec, later) != visible(spec, state)


def leaves(spec, outcomes, name):
    """How often each value of an input left: used for the first time, superseded or unmatched."""
    gone = Counter()
    slide = {i.name: i.slide if i.least == i.most else None for i in spec.inputs}[name]
    for o in outcomes:
        if isinstance(o, Superseded) and o.input == name:
            gone.update(range(o.first, o.first + (slide or o.count)))
        if isinstance(o, Unmatched) and o.input == name:
            gone.update(range(o.first, o.first + o.count))
        if isinstance(o, Formed):
            (w,) = (w for w in o.windows if w.input == name)
            if w.fresh or spec.policy == "all-new":
                gone.update(range(w.first, w.first + (slide or w.count)))
    return gone


@settings(max_examples=80)
@given(stories())
def test_each_value_leaves_once_or_waits(story):
    """Nothing lost, nothing twice: what has left and what is pending are everything, without overlap."""
    spec, events = story
    state, outcomes = advance(spec, begin(spec), events)
    for i, s in zip(spec.inputs, state.series, strict=True):
        if i.passive:
            continue
        gone = leaves(spec, outcomes, i.name)
        waiting = (
            state.pairs.unmatched(i.name) if state.pairs else range(pending(spec, state)[i.name], s.next)
        )
        gone.update(waiting)
        assert gone == Counter(range(s.next))
        assert needed(spec, state)[i.name] <= min([*waiting, s.next])


@settings(max_examples=80)
@given(stories(policies=("swap",)))
def test_one_arrival_forms_at_most_one_snapshot_under_swap(story):
    spec, events = story
    if any(i.ordered for i in spec.inputs):
        return
    _, outcomes = advance(spec, begin(spec), events)
    causes = [o.cause for o in outcomes if isinstance(o, Formed)]
    assert len(causes) == len(set(causes))


@settings(max_examples=80)
@given(stories())
def test_snapshots_keep_their_distance_under_a_rate(story):
    spec, events = story
    if spec.interval is None:
        return
    _, outcomes = advance(spec, begin(spec), events)
    clock, now = [], 0
    for event in events:
        now = max(now, event.at) if isinstance(event, Time) else now
        clock.append(now)
    times = [clock[o.cause] for o in outcomes if isinstance(o, Formed)]
    assert all(b - a >= spec.interval for a, b in pairwise(times))


@given(stories())
def test_a_late_free_moment_and_a_late_time_leave_nothing_that_could_form(story):
    """After any event nothing is ready that the rate allows: snapshots form as soon as they can."""
    spec, events = story
    state = begin(spec)
    for event in events:
        state, _ = advance(spec, state, [event])
        before = state
        state, outcomes = advance(spec, state, [Time(0)])
        assert not [o for o in outcomes if isinstance(o, Formed)]
        assert before.now == state.now
        assert isinstance(event, Arrival | Time | Free)
