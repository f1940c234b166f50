"""A team works where it pays, one thread where it does not, and either is found out again when it changes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reptile_np.nn.native.threads import PERIOD, TRIAL, Pace

pytestmark = pytest.mark.usefixtures("real_trials")

costs = st.floats(1e-3, 1e3)
works = st.lists(st.integers(1, 10**9), min_size=1, max_size=5)


@pytest.fixture(scope="module")
def real_trials():
    """Other tests have no trials: every call is a team's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("reptile_np.nn.native.threads.TRIAL", TRIAL)
        yield


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
        with pace.members(3, work) as threads:
            clock.now += work * (alone if threads == 1 else together)
        shares.append(threads)
    return shares


@given(works=works, alone=costs, ratio=st.one_of(st.floats(0.1, 0.9), st.floats(1.1, 10)))
def test_after_a_trial_of_both_the_faster_way_is_kept(works, alone, ratio):
    pace, clock = Pace(clock := Clock()), clock
    shares = run(pace, clock, 2 * PERIOD, works, alone, alone * ratio)
    faster = 3 if ratio < 1 else 1
    trial = [3] * TRIAL + [1] * TRIAL
    assert shares == 2 * (trial + [faster] * (PERIOD - 2 * TRIAL))


@given(works=works, calls=st.integers(0, PERIOD))
def test_a_core_that_is_taken_or_given_back_is_noticed_within_a_period(works, calls):
    pace = Pace(clock := Clock())
    run(pace, clock, calls, works, alone=1.6, together=1.0)
    for together, faster in ((4.0, 1), (1.0, 3)):
        run(pace, clock, PERIOD + 2 * TRIAL, works, alone=1.6, together=together)
        shares = run(pace, clock, PERIOD, works, alone=1.6, together=together)
        assert PERIOD - shares.count(faster) <= TRIAL


@given(calls=st.integers(1, 3 * PERIOD))
def test_one_thread_is_one_thread(calls):
    pace = Pace()
    for _ in range(calls):
        with pace.members(1, 0) as threads:
            assert threads == 1


@given(order=st.permutations(range(2 * TRIAL)), later=st.integers(1, 9))
def test_calls_of_several_threads_may_end_in_any_order(order, later):
    pace = Pace(clock := Clock())
    calls = [pace.members(3, 1) for _ in order]
    shares = [call.__enter__() for call in calls]
    for i in order:
        clock.now += 1.0
        calls[i].__exit__(None, None, None)
    assert shares == [3] * TRIAL + [1] * TRIAL
    assert len(set(run(pace, clock, later, [1], 1.0, 1.0))) == 1
