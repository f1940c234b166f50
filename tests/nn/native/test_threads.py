"""All threads work if that is faster, one thread if not, and a change of either is noticed."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reptile_np.nn import native
from reptile_np.nn.native.threads import PERIOD, TRIAL, Pace, Team

costs = st.floats(1e-3, 1e3)
works = st.lists(st.integers(1, 10**9), min_size=1, max_size=5)
THREE = Team(3, least_work=0)


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


@given(works=works, alone=costs, ratio=st.one_of(st.floats(0.1, 0.9), st.floats(1.1, 10)))
def test_after_a_trial_of_both_the_faster_way_is_kept(works, alone, ratio):
    pace, clock = Pace(THREE, clock := Clock()), clock
    shares = run(pace, clock, 2 * PERIOD, works, alone, alone * ratio)
    faster = 3 if ratio < 1 else 1
    trial = [3] * TRIAL + [1] * TRIAL
    assert shares == 2 * (trial + [faster] * (PERIOD - 2 * TRIAL))


@given(works=works, calls=st.integers(0, PERIOD))
def test_a_core_that_is_taken_or_given_back_is_noticed_within_a_period(works, calls):
    pace = Pace(THREE, clock := Clock())
    run(pace, clock, calls, works, alone=1.6, together=1.0)
    for together, faster in ((4.0, 1), (1.0, 3)):
        run(pace, clock, PERIOD + 2 * TRIAL, works, alone=1.6, together=together)
        shares = run(pace, clock, PERIOD, works, alone=1.6, together=together)
        assert PERIOD - shares.count(faster) <= TRIAL


@given(calls=st.integers(1, 3 * PERIOD))
def test_one_thread_is_one_thread(calls):
    for pace in (Pace(Team(1, least_work=0)), Pace(Team(3, least_work=10))):
        for _ in range(calls):
            with pace.members(9) as threads:
                assert threads == 1


@given(order=st.permutations(range(2 * TRIAL)), later=st.integers(1, 9))
def test_calls_of_several_threads_may_end_in_any_order(order, later):
    pace = Pace(THREE, clock := Clock())
    calls = [pace.members(1) for _ in order]
    shares = [call.__enter__() for call in calls]
    for i in order:
        clock.now += 1.0
        calls[i].__exit__(None, None, None)
    assert shares == [3] * TRIAL + [1] * TRIAL
    assert len(set(run(pace, clock, later, [1], 1.0, 1.0))) == 1


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
