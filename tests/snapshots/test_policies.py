"""What DESIGN says of windows and policies, one sentence each."""

import pytest

from koalja_fn.errors import WiringError
from koalja_fn.model import Buffer, Input, Policy, Rate, Task
from koalja_fn.snapshots import (
    Admitted,
    Arrival,
    Formed,
    Free,
    InputSpec,
    Skipped,
    Spec,
    Superseded,
    Time,
    Unmatched,
    Window,
    advance,
    due,
    eager,
    fresh,
    spec_of,
)


class Play:
    """A task that is told what happens in a few letters, and answers with what came of it."""

    def __init__(self, *inputs, **attributes):
        self.spec = Spec(inputs, **attributes)
        self.state = fresh(self.spec, dict.fromkeys(self.spec.wires, 0))
        self.positions = dict.fromkeys(self.spec.wires, 0)

    def tell(self, *events):
        self.state, outcomes = advance(self.spec, self.state, events)
        return outcomes

    def arrive(self, wires, **more):
        events = []
        for wire in wires:
            events.append(Arrival(wire, self.positions[wire], **more))
            self.positions[wire] += 1
        return self.tell(*events)

    def formed(self, wires, **more):
        """Snapshots as "cause: first-last ..." from 1, as a person would write them."""
        return shown(self.arrive(wires, **more))


def shown(outcomes):
    return [
        (o.cause + 1, " ".join(f"{w.input}{w.first + 1}-{w.first + w.count}" for w in o.windows))
        for o in outcomes
        if isinstance(o, Formed)
    ]


def one(name, n=1, k=None, **more):
    return InputSpec(name, (name,), n, n, k or n, **more)


def elastic(name, least, most, **more):
    return InputSpec(name, (name,), least, most, most, **more)


# windows


def test_a_plain_input_gives_each_value_once():
    assert Play(one("x")).formed("xxx") == [(1, "x1-1"), (2, "x2-2"), (3, "x3-3")]


def test_a_buffer_of_five_gives_five_values_each_used_once():
    assert Play(one("x", 5)).formed("x" * 14) == [(5, "x1-5"), (10, "x6-10")]


def test_a_sliding_window_fires_when_full_and_then_at_every_second_value():
    assert [cause for cause, _ in Play(one("x", 10, 2)).formed("x" * 17)] == [10, 12, 14, 16]


def test_only_the_new_values_of_a_sliding_window_are_fresh():
    outcomes = Play(one("x", 10, 2)).arrive("x" * 12)
    assert [o.windows[0].fresh for o in outcomes] == [10, 2]


def test_an_elastic_window_fires_at_its_most():
    assert Play(elastic("x", 2, 4)).formed("x" * 9) == [(4, "x1-4"), (8, "x5-8")]


def test_an_elastic_window_closes_early_when_the_task_is_free_and_the_next_starts_right_after():
    play = Play(elastic("x", 2, 4))
    play.arrive("xxx")
    assert shown(play.tell(Free())) == [(1, "x1-3")]
    assert play.formed("xxxx") == [(4, "x4-7")]


def test_an_elastic_window_below_its_least_does_not_close():
    play = Play(elastic("x", 2, 4))
    play.arrive("x")
    assert not eager(play.spec, play.state)
    assert play.tell(Free(), Time(10**12)) == []


def test_an_elastic_window_closes_early_only_if_that_forms_a_snapshot():
    play = Play(elastic("x", 2, 4), one("y"))
    play.arrive("xx")
    assert play.tell(Free()) == []
    assert play.arrive("x") == []
    assert play.arrive("y") == []
    assert shown(play.tell(Free())) == [(1, "x1-3 y1-1")]


def test_within_counts_from_the_windows_first_value():
    play = Play(elastic("x", 2, 4), within=10)
    play.tell(Time(100))
    play.arrive("x")
    play.tell(Time(106))
    play.arrive("x")
    assert due(play.spec, play.state) == 110
    assert play.tell(Time(109)) == []
    assert shown(play.tell(Time(110))) == [(1, "x1-2")]


def test_within_closes_a_window_as_soon_as_it_has_its_least():
    play = Play(elastic("x", 2, 4), within=10)
    play.arrive("x")
    assert due(play.spec, play.state) is None
    play.tell(Time(50))
    assert play.formed("x") == [(1, "x1-2")]


def test_within_does_nothing_to_a_window_of_fixed_size():
    play = Play(one("x", 3), within=10)
    play.arrive("xx")
    assert due(play.spec, play.state) is None
    assert play.tell(Time(1000)) == []


def test_a_free_moment_forms_one_snapshot_under_swap_from_all_that_may_close():
    play = Play(elastic("x", 2, 4), elastic("y", 2, 4), policy="swap")
    play.arrive("xxyyy")
    assert shown(play.tell(Free())) == [(1, "x1-2 y1-3")]
    assert play.tell(Free()) == []


# all-new


def test_all_new_pairs_window_i_with_window_i():
    assert Play(one("a"), one("b")).formed("aabab") == [(3, "a1-1 b1-1"), (5, "a2-2 b2-2")]


def test_all_new_lets_thousands_of_windows_wait_as_counters():
    play = Play(one("a"), one("b"))
    play.arrive("a" * 5000)
    assert len(play.state.to_json()) < 120
    assert play.formed("b")[0] == (1, "a1-1 b1-1")


# swap


def test_swap_starts_when_every_input_has_a_window_and_then_fires_each_time():
    play = Play(one("a", 2), one("b"), policy="swap")
    assert play.formed("aabaab") == [(3, "a1-2 b1-1"), (5, "a3-4 b1-1"), (6, "a3-4 b2-2")]


def test_swap_records_what_was_replaced_before_it_was_used():
    outcomes = Play(one("a"), one("b"), policy="swap").arrive("aaab")
    assert outcomes[:2] == [Superseded("a", 0, 1), Superseded("a", 1, 1)]
    assert shown(outcomes) == [(4, "a3-3 b1-1")]


def test_under_swap_an_old_window_has_nothing_fresh():
    *_, last = Play(one("a"), one("b"), policy="swap").arrive("aba")
    assert [w.fresh for w in last.windows] == [1, 0]


# merge


def merge_task(*inputs, **more):
    return Task("t", inputs, policy=Policy.MERGE, **more)


def test_merge_is_one_merged_input_of_all_that_are_not_passive():
    buffer = Buffer(10, 10, 2)
    task = merge_task(
        Input("p", ("p",), passive=True), Input("a", ("a",), buffer), Input("b", ("b",), buffer)
    )
    passive, merged = spec_of(task).inputs
    assert merged == InputSpec("a", ("a", "b"), 10, 10, 2)
    assert passive == one("p", passive=True)
    assert spec_of(task).policy == "all-new"


def test_a_merged_input_takes_values_first_come_first_served():
    play = Play(InputSpec("m", ("a", "b"), 3, 3, 3))
    assert play.arrive("abaab") == [
        Admitted("m", 0, "a", 0),
        Admitted("m", 1, "b", 0),
        Admitted("m", 2, "a", 1),
        Formed((Window("m", 0, 3, 3),), 2),
        Admitted("m", 3, "a", 2),
        Admitted("m", 4, "b", 1),
    ]


# align


def aligned(*inputs, **more):
    return Play(*(inputs or (one("a"), one("b"))), policy="align", align="k", **{"within": 10, **more})


def test_align_pairs_by_key_in_any_order():
    play = aligned()
    play.arrive("a", key="1")
    play.arrive("a", key="2")
    assert play.formed("b", key="2") == [(1, "a2-2 b1-1")]
    assert play.formed("b", key="1") == [(1, "a1-1 b2-2")]


def test_align_pairs_several_values_of_a_key_by_output_index():
    play = aligned()
    play.arrive("a", key="1", index=0)
    play.arrive("a", key="1", index=1)
    assert play.formed("b", key="1", index=1) == [(1, "a2-2 b1-1")]


def test_align_pairs_repeats_first_come_first_served():
    play = aligned()
    play.arrive("aa", key="1")
    assert play.formed("bb", key="1") == [(1, "a1-1 b1-1"), (2, "a2-2 b2-2")]


def test_align_records_what_stayed_alone_and_what_came_late():
    play = aligned()
    play.arrive("a", key="1")
    assert due(play.spec, play.state) == 10
    assert play.tell(Time(10)) == [Unmatched("a", 0, 1, "alone")]
    assert play.arrive("b", key="1") == [Unmatched("b", 0, 1, "late")]
    play.tell(Time(20))
    assert play.arrive("b", key="1") == []


def test_align_records_values_without_a_key():
    assert aligned().arrive("a", key="") == [Unmatched("a", 0, 1, "no key")]


def test_align_is_not_shifted_by_a_branch_that_filters():
    """Under all-new the second pair would be a2 with b1, which have nothing in common."""
    play = aligned()
    for key in "123":
        play.arrive("a", key=key)
    assert play.formed("b", key="1") == [(1, "a1-1 b1-1")]
    assert play.formed("b", key="3") == [(1, "a3-3 b2-2")]


def test_align_refuses_a_buffer_on_an_input_that_triggers():
    task = Task("t", (Input("a", ("a",), Buffer(2, 2, 2)), Input("b", ("b",))), policy=Policy.ALIGN)
    with pytest.raises(WiringError, match="'a' has a buffer"):
        spec_of(task)


# passive


def test_a_passive_input_never_triggers_and_is_read_when_the_snapshot_forms():
    play = Play(one("a"), one("p", passive=True))
    assert play.formed("ppap") == [(3, "a1-1 p2-2")]
    assert play.formed("a") == [(1, "a2-2 p3-3")]


def test_a_passive_window_is_never_fresh():
    (formed,) = Play(one("a"), one("p", passive=True)).arrive("pa")
    assert [w.fresh for w in formed.windows] == [1, 0]


def test_under_all_new_each_snapshot_that_waited_for_a_passive_input_forms():
    play = Play(one("a"), one("p", passive=True))
    assert play.formed("aaap") == [(4, "a1-1 p1-1"), (4, "a2-2 p1-1"), (4, "a3-3 p1-1")]


def test_under_swap_one_snapshot_forms_when_the_passive_input_has_its_window():
    play = Play(one("a"), one("p", passive=True), policy="swap")
    assert play.formed("aaap") == [(4, "a3-3 p1-1")]


def test_a_passive_window_is_the_latest_complete_one():
    play = Play(one("a"), one("p", 2, passive=True))
    assert play.formed("pppa") == [(4, "a1-1 p1-2")]


# ordered


def ordered(play, *numbers, source="s"):
    return [o for n in numbers for o in play.arrive("x", source=source, sequence=str(n))]


def positions(outcomes):
    return [o.position for o in outcomes if isinstance(o, Admitted)]


def test_ordered_restores_the_order_of_a_source():
    play = Play(one("x", ordered=True))
    assert positions(ordered(play, 5, 7, 8, 6)) == [0, 3, 1, 2]


def test_ordered_compares_numbers_not_letters():
    play = Play(one("x", ordered=True))
    assert positions(ordered(play, 8, 10, 9)) == [0, 2, 1]


def test_each_source_has_its_own_order():
    play = Play(one("x", ordered=True))
    assert positions(ordered(play, 1, 3)) == [0]
    assert positions(ordered(play, 50, 51, source="t")) == [2, 3]


def test_a_gap_is_skipped_on_record_after_a_hundred_newer_values():
    play = Play(one("x", ordered=True))
    ordered(play, 1)
    assert ordered(play, *range(3, 102)) == []
    outcomes = ordered(play, 102)
    assert outcomes[0] == Skipped("x", "s", 1, 3)
    assert positions(outcomes) == list(range(1, 101))


def test_a_gap_is_skipped_on_record_when_within_is_over():
    play = Play(one("x", ordered=True), within=10)
    ordered(play, 1)
    play.tell(Time(100))
    ordered(play, 4)
    assert due(play.spec, play.state) == 110
    outcomes = play.tell(Time(110))
    assert outcomes[0] == Skipped("x", "s", 1, 4)
    assert shown(outcomes) == [(1, "x2-2")]


def test_a_value_behind_a_skipped_gap_is_let_in_when_it_comes():
    play = Play(one("x", ordered=True), within=10)
    ordered(play, 1, 4)
    play.tell(Time(10))
    assert positions(ordered(play, 2)) == [2]


def test_values_without_a_decimal_sequence_keep_the_order_of_arrival():
    play = Play(one("x", ordered=True))
    assert positions(ordered(play, 1, 3, "", "abc", "-2")) == [0, 2, 3, 4]


def test_a_repeated_number_is_not_lost():
    play = Play(one("x", ordered=True))
    assert positions(ordered(play, 1, 3, 3, 1, 2)) == [0, 3, 4, 1, 2]


# rate


def test_the_first_forms_at_once_then_one_for_each_interval():
    play = Play(one("x"), interval=10)
    play.tell(Time(100))
    assert play.formed("xxx") == [(1, "x1-1")]
    assert due(play.spec, play.state) == 110
    assert shown(play.tell(Time(109), Time(110), Time(500))) == [(2, "x2-2"), (3, "x3-3")]
    assert due(play.spec, play.state) is None


def test_under_swap_what_comes_meanwhile_is_coalesced_and_the_last_is_never_lost():
    play = Play(one("x"), policy="swap", interval=10)
    assert shown(play.arrive("x")) == [(1, "x1-1")]
    assert play.arrive("xxx") == [Superseded("x", 1, 1), Superseded("x", 2, 1)]
    assert shown(play.tell(Time(10))) == [(1, "x4-4")]


def test_a_held_back_early_close_is_due_when_the_rate_allows_it():
    play = Play(elastic("x", 1, 3), interval=10)
    play.arrive("xxx")
    play.arrive("x")
    assert not eager(play.spec, play.state)
    assert due(play.spec, play.state) == 10
    play.tell(Time(10))
    assert eager(play.spec, play.state)


def test_time_never_runs_backwards():
    play = Play(one("x"), interval=10)
    play.tell(Time(100))
    play.arrive("xx")
    assert play.tell(Time(50)) == []
    assert play.state.now == 100


# spec and house rules


def test_spec_of_turns_seconds_into_microseconds_and_leaves_out_implicit_inputs():
    task = Task("t", (Input("a", ("a",)), Input("s", ("s",), implicit=True)), rate=Rate(10, 1.0), within=0.5)
    spec = spec_of(task)
    assert (spec.wires, spec.interval, spec.within, spec.timed) == (("a",), 100_000, 500_000, True)


def test_equal_specs_give_equal_text_and_any_change_gives_another():
    specs = [Play(one("a")).spec, Play(one("a", passive=True)).spec, Play(one("a"), within=1).spec]
    assert len({s.to_json() for s in specs}) == 3
    assert Play(one("a")).spec.to_json() == specs[0].to_json()


def test_only_merged_and_ordered_inputs_are_numbered_by_admission():
    play = Play(one("a"), InputSpec("m", ("b", "c")), one("o", ordered=True))
    assert play.spec.indexed == {"m", "o"}


def test_a_wire_in_wire_order_is_numbered_by_its_positions():
    spec = Spec((one("a"),))
    _, (formed,) = advance(spec, fresh(spec, {"a": 40}), [Arrival("a", 40)])
    assert formed.windows[0].first == 40


def test_a_hole_in_a_wires_positions_is_not_passed_over():
    with pytest.raises(ValueError, match="position 1 came where 0 was due"):
        advance(Spec((one("a"),)), fresh(Spec((one("a"),)), {"a": 0}), [Arrival("a", 1)])


@pytest.mark.parametrize("policy", ["all-new", "swap"])
@pytest.mark.parametrize(("n", "k"), [(1, 1), (10, 2), (10_000, 1)])
def test_the_state_stays_small_for_100_000_values(policy, n, k):
    spec = Spec((one("a", n, k), InputSpec("m", ("b", "c"), 2, 5, 5)), policy, within=5)
    state = fresh(spec, {"a": 0})
    sizes = set()
    for start in range(0, 100_000, 20_000):
        events = [Arrival("a", i) for i in range(start, start + 20_000)]
        state, _ = advance(spec, state, [*events, Arrival("b", start), Time(start), Free()])
        sizes.add(len(state.to_json()))
    assert max(sizes) < 250
