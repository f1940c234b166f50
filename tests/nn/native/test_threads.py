"""All threads work if that is faster, one thread if not, and a change of either is noticed."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reptile_np.errors import UsageError
from reptile_np.nn import native
from reptile_np.nn.native.threads import HOLD, LONG, MOST_THREADS, TRIAL, Pace, Team, thread_count

works = st.lists(st.integers(1, 10**3), min_size=1, max_size=5)
short = st.floats(1e-9, LONG / 1e5)
"""Seconds of a unit of work: five calls take less than `LONG`, also if they are ten times slower."""
ratios = st.one_of(st.floats(0.11, 0.9), st.floats(1.1, 10))
THREE = Team(3, least_work=0)
PERIOD = 2 * TRIAL * (1 + HOLD)
"""Short calls from the start of one trial to the start of the next."""


class Clock:
    """A clock that goes on only as it is told."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def run(pace, clock, calls, works, alone, together):
    """How many threads each of `calls` calls got; a unit of work takes `alone` or `together` seconds."""
    shares = []
    for i in range(calls):
        work = works[i % len(works)]
        with pace.members(work) as threads:
            clock.now += work * (alone if threads == 1 else together)
        shares.append(threads)
    return shares


def test_by_default_all_cores_work_but_64_at_most(monkeypatch):
    monkeypatch.delenv("REPTILE_NP_THREADS", raising=False)
    for available, used in ((3, 3), (200, MOST_THREADS)):
        monkeypatch.setattr("reptile_np.nn.native.threads.cores", lambda n=available: n)
        assert thread_count(None) == used


@pytest.mark.parametrize("threads", [0, MOST_THREADS + 1, -1, 1.5, "2", True])
def test_a_number_of_threads_that_cannot_be_is_refused(threads):
    with pytest.raises(UsageError, match=f"^threads is {threads!r}; give a whole number from 1 to 64$"):
        thread_count(threads)


@given(works=works, alone=short, ratio=ratios)
def test_after_a_trial_of_both_the_faster_way_is_kept(works, alone, ratio):
    pace, clock = Pace(THREE, clock := Clock()), clock
    shares = run(pace, clock, 2 * PERIOD, works, alone, alone * ratio)
    faster = 3 if ratio < 1 else 1
    trial = [3] * TRIAL + [1] * TRIAL
    assert shares == 2 * (trial + [faster] * (PERIOD - 2 * TRIAL))


@given(alone=st.floats(10 * LONG, 1e3), ratio=ratios)
def test_two_long_calls_of_each_are_a_trial(alone, ratio):
    pace = Pace(THREE, clock := Clock())
    shares = run(pace, clock, 8 + 4 * HOLD, [1], alone, alone * ratio)
    trial = [3, 3, 1, 1]
    assert shares == trial + [3 if ratio < 1 else 1] * 4 * HOLD + trial


@given(seconds=st.floats(LONG / 8, LONG))
def test_half_of_a_trial_ends_after_five_calls_or_after_two_and_ten_milliseconds(seconds):
    pace = Pace(THREE, clock := Clock())
    shares = run(pace, clock, 2 * TRIAL + HOLD, [1], seconds, seconds)
    calls = shares.index(1)
    assert 2 <= calls <= TRIAL
    assert calls == TRIAL or calls * seconds * (1 + 1e-9) >= LONG
    assert calls == 2 or (calls - 1) * seconds < LONG


@given(seconds=st.floats(1e-6, 1.0), cold=st.integers(2, 100))
def test_a_first_call_into_new_memory_decides_nothing(seconds, cold):
    pace = Pace(THREE, clock := Clock())
    with pace.members(1) as threads:
        clock.now += cold * seconds
    assert threads == 3
    shares = run(pace, clock, 2 * TRIAL + HOLD, [1], alone=1.6 * seconds, together=seconds)
    assert set(shares[shares.index(1) :][TRIAL:]) == {3}


@given(work=st.integers(1, 9), seconds=st.floats(LONG, 1.0), first=st.integers(0, 1))
def test_calls_of_two_sizes_by_turns_are_compared_with_their_like(work, seconds, first):
    """A unit of work of the smaller size costs twice as much; two threads pay for both sizes."""
    pace, shares = Pace(THREE, clock := Clock()), []
    for i in range(40 * HOLD):
        small = i % 2 == first
        with pace.members(work if small else 4 * work) as threads:
            clock.now += (2 if small else 4) * seconds * (1.0 if threads == 3 else 1.6)
        shares.append(threads)
    assert shares.count(3) >= 0.95 * len(shares)


@given(works=works, calls=st.integers(0, PERIOD))
def test_a_core_that_is_taken_or_given_back_is_noticed_within_a_period(works, calls):
    pace = Pace(THREE, clock := Clock())
    run(pace, clock, calls, works, alone=1.6e-8, together=1e-8)
    for together, faster in ((4e-8, 1), (1e-8, 3)):
        run(pace, clock, PERIOD + 2 * TRIAL, works, alone=1.6e-8, together=together)
        shares = run(pace, clock, PERIOD, works, alone=1.6e-8, together=together)
        assert PERIOD - shares.count(faster) <= TRIAL


def test_a_call_that_ends_after_its_trial_changes_no_later_one():
    """Its core was taken; it used to begin the hold of the decision before anew."""
    pace = Pace(THREE, clock := Clock())
    late = pace.members(1)
    assert late.__enter__() == 3
    run(pace, clock, PERIOD, [1], alone=1.6e-8, together=1e-8)
    assert run(pace, clock, TRIAL + 2, [1], alone=1.6e-8, together=4e-8) == [3] * TRIAL + [1] * 2
    late.__exit__(None, None, None)
    shares = run(pace, clock, TRIAL, [1], alone=1.6e-8, together=4e-8)
    assert shares == [1] * TRIAL


def test_a_call_too_small_for_a_team_is_no_measurement():
    pace = Pace(Team(3, least_work=10), clock := Clock())
    assert run(pace, clock, TRIAL, [9], 1e-8, 1e-8) == [1] * TRIAL
    assert run(pace, clock, 2 * TRIAL, [10], 1e-8, 1e-8) == [3] * TRIAL + [1] * TRIAL


def test_a_trial_holds_for_forty_times_the_calls_of_both_of_its_halves():
    """Two long calls of all threads and five short ones of one thread: 280 calls."""
    pace = Pace(THREE, clock := Clock())
    trial = [3] * 2 + [1] * TRIAL
    shares = run(pace, clock, 2 * len(trial) + 280, [1], alone=LONG / 10, together=LONG)
    assert shares == trial + [1] * 280 + trial


def test_a_call_that_failed_is_no_measurement():
    pace = Pace(THREE, clock := Clock())
    for _ in range(TRIAL):
        with pytest.raises(MemoryError), pace.members(1):
            raise MemoryError
    assert run(pace, clock, 2 * TRIAL, [1], 1e-8, 1e-8) == [3] * TRIAL + [1] * TRIAL


@given(calls=st.integers(1, 3 * PERIOD))
def test_one_thread_is_one_thread(calls):
    for pace in (Pace(Team(1, least_work=0)), Pace(Team(3, least_work=10))):
        for _ in range(calls):
            with pace.members(9) as threads:
                assert threads == 1


@given(order=st.permutations(range(3 * TRIAL)), ratio=st.sampled_from((0.5, 2.0)))
def test_calls_of_several_threads_may_end_in_any_order(order, ratio):
    pace = Pace(THREE, clock := Clock())
    calls = [pace.members(1) for _ in order]
    assert [call.__enter__() for call in calls] == [3] * len(calls)  # none has ended yet
    for i in order:
        clock.now += 1e-6
        calls[i].__exit__(None, None, None)
    middle = (len(calls) + 1) / 2 * 1e-6  # the median of 1, 2, ..., in microseconds
    shares = run(pace, clock, PERIOD, [1], alone=ratio * middle, together=middle)
    assert shares[:TRIAL] == [1] * TRIAL
    assert set(shares[TRIAL:]) == {3 if ratio > 1 else 1}


def test_a_team_without_trials_is_always_all_of_its_threads():
    pace = Pace(Team(3, least_work=0, trials=False))
    for _ in range(2 * PERIOD):
        with pace.members(1) as threads:
            assert threads == 3


def test_a_call_that_one_thread_does_in_no_time_starts_no_other():
    team = Team(3, least_work=30)
    assert [team.members(work) for work in (0, 29, 30)] == [1, 1, 3]


@pytest.mark.skipif(not native.available(), reason="native kernels are not built here")
def test_load_hands_its_arguments_to_the_team():
    assert native.load(threads=3, least_work=30, trials=False).kernels.team == Team(3, 30, False)
    assert native.load(threads=2).kernels.team == Team(2)


def test_several_threads_may_share_a_pace():
    """Two of them used to take the median of the same measurements, which the first had cleared."""
    pace = Pace(THREE)

    def work(_):
        for _ in range(20 * PERIOD):
            with pace.members(1) as threads:
                assert threads in (1, 3)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))


def test_a_number_of_threads_may_be_numpys():
    assert thread_count(np.int64(3)) == thread_count(np.uint8(3)) == 3


def test_digits_that_are_no_number_are_refused(monkeypatch):
    monkeypatch.setenv("REPTILE_NP_THREADS", "²")
    with pytest.raises(UsageError, match=r"^REPTILE_NP_THREADS is ²; give a whole number"):
        thread_count(None)
