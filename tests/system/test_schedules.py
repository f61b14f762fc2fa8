"""Schedules of pipeline stages beside their closed forms, and laws they obey."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.errors import InputError
from archsim.system.llm.schedules import bubble_share, walk

#: Whole numbers, so that sums are exact.
TIMES = st.integers(1, 9).map(float)


@given(st.integers(1, 8), st.integers(1, 20), TIMES, TIMES, st.sampled_from(["gpipe", "1f1b"]))
@settings(deadline=None)
def test_equal_stages_idle_as_gpipe_says(stages, micro, forward, backward, schedule):
    # arXiv 1811.06965, section 2.3: (K - 1) / (M + K - 1), of either schedule
    walked = walk([forward] * stages, [backward] * stages, micro, schedule)
    assert walked.latency_s == (micro + stages - 1) * (forward + backward)
    assert walked.bubble == pytest.approx(bubble_share(stages, micro), abs=1e-12)


@given(st.lists(st.tuples(TIMES, TIMES), min_size=1, max_size=6), st.integers(1, 12))
@settings(deadline=None)
def test_unequal_stages_wait_for_the_longest(stages, micro):
    forward, backward = zip(*stages, strict=True)
    walked = walk(forward, backward, micro)
    flushes = [sum(times) + (micro - 1) * max(times) for times in (forward, backward)]
    assert walked.latency_s == sum(flushes)
    # no schedule is shorter than the way to a stage, its work, and the way back
    for schedule in ("gpipe", "1f1b"):
        latency = walk(forward, backward, micro, schedule).latency_s
        for k in range(len(stages)):
            work = micro * (forward[k] + backward[k])
            assert latency >= sum(forward[:k]) + work + sum(backward[:k])


@given(st.integers(1, 8), st.integers(1, 20))
@settings(deadline=None)
def test_one_forward_one_backward_keeps_fewer_activations(stages, micro):
    times = [1.0] * stages
    assert walk(times, times, micro).held == (micro,) * stages
    expected = tuple(min(stages - k, micro) for k in range(stages))
    assert walk(times, times, micro, "1f1b").held == expected


@given(st.integers(1, 6), st.integers(1, 8), st.integers(0, 5), st.sampled_from(["gpipe", "1f1b"]))
def test_sending_is_never_free(stages, micro, send, schedule):
    times = [1.0] * stages
    near = walk(times, times, micro, schedule)
    far = walk(times, times, micro, schedule, send_s=float(send))
    assert far.latency_s >= near.latency_s + 2 * send * (stages - 1)
    assert walk(times, times, micro, schedule, send_s=float(send + 1)).latency_s >= far.latency_s


@pytest.mark.parametrize(
    ("options", "words"),
    [((([1.0], [1.0], 1), "zigzag"), "unknown schedule"), ((([], [], 1), "gpipe"), "stages"),
     ((([1.0], [1.0, 2.0], 1), "gpipe"), "two times"), ((([1.0], [1.0], 0), "gpipe"), "micro")],
)  # fmt: skip
def test_a_mistake_is_named(options, words):
    (forward, backward, micro), schedule = options
    with pytest.raises(InputError, match=words):
        walk(forward, backward, micro, schedule)
