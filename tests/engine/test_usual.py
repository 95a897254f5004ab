"""What usually happens, and what stands out."""

import statistics
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koalja_fn.engine.usual import Anomaly, Running, Usual, duration, size

SECOND = 1_000_000


def after(executions, usual=None):
    """The statistics after executions (seconds, in, out, at), and all anomalies."""
    usual, odd = usual or Usual(), []
    for execution in executions:
        usual, more = usual.with_execution(*execution)
        odd += more
    return usual, odd


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=200))
def test_mean_and_deviation_are_the_true_ones_while_nothing_fades(values):
    running = Running()
    for value in values:
        running = running.with_value(value)
    assert running.mean == pytest.approx(statistics.fmean(values), rel=1e-6, abs=1e-6)
    assert running.deviation == pytest.approx(statistics.pstdev(values), rel=1e-4, abs=1e-3)


def test_old_executions_fade():
    running = Running()
    for value in [1.0] * 5000 + [2.0] * 5000:
        running = running.with_value(value)
    assert running.number == 10000
    assert running.mean == pytest.approx(2.0, abs=0.01)


def test_a_slow_execution_is_odd_and_says_so():
    _, odd = after([(0.10 + 0.01 * (n % 3), 10, 10, n * SECOND) for n in range(1, 30)])
    assert odd == []
    usual, _ = after([(0.10 + 0.01 * (n % 3), 10, 10, n * SECOND) for n in range(1, 30)])
    after_it, odd = usual.with_execution(2.3, 10, 10, 30 * SECOND)
    assert [anomaly.text for anomaly in odd] == ["unusual duration: 2.3 s, usually 0.11 ± 0.01 s"]
    assert after_it.anomalies == 1


def test_nothing_is_odd_before_there_is_enough_to_compare_with():
    _, odd = after([(0.1, 10, 10, n * SECOND) for n in range(1, 20)] + [(50.0, 10**9, 10**9, 10**12)])
    assert odd == []


def test_milliseconds_are_never_odd():
    usual, _ = after([(0.001, 10, 10, n * SECOND) for n in range(1, 100)])
    assert usual.with_execution(0.002, 30, 0, 100 * SECOND)[1] == ()


def test_sizes_and_long_pauses_are_odd():
    usual, _ = after([(0.1, 1000, 2000, n * SECOND) for n in range(1, 100)])
    _, odd = usual.with_execution(0.1, 10_000_000, 0, 3600 * SECOND)
    assert [a.what for a in odd] == [
        "size of inputs",
        "size of outputs",
        "time since the last one",
    ]


def test_text_and_back():
    usual, _ = after([(0.1 * n, n, 2 * n, n * SECOND) for n in range(1, 30)])
    assert Usual.from_json(usual.to_json()) == usual
    assert Usual.from_json("{}") == Usual.from_json("") == Usual()


def test_one_execution_costs_less_than_twenty_microseconds_or_so():
    """A generous bound, for a machine that is shared; it takes about 4."""
    usual = Usual()
    best = 1.0
    for _ in range(20):
        began = time.perf_counter()
        for n in range(100):
            usual, _ = usual.with_execution(0.1, 100, 100, n * SECOND)
        best = min(best, (time.perf_counter() - began) / 100)
    assert best < 100e-6


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.00 ms"),
        (0.0023, "2.3 ms"),
        (0.1, "0.10 s"),
        (59.96, "60.0 s"),
        (270, "4.5 min"),
        (86400 * 3, "3.0 d"),
    ],
)
def test_durations_for_people(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(("count", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2e9, "2.0 GB")])
def test_sizes_for_people(count, text):
    assert size(count) == text


def test_an_anomaly_of_sizes_is_in_bytes():
    assert (
        Anomaly("size of inputs", 5e6, 1e3, 10).text
        == "unusual size of inputs: 5.0 MB, usually 1.00 ± 0.01 kB"
    )
