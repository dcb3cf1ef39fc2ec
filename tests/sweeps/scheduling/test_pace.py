"""How long the rest of a sweep may take, by how fast it has been."""

import pytest

from sweeps.scheduling.pace import MOMENTS, Pace


def left_s(*moments: tuple[float, float], left: float = 60.0) -> tuple[float, float | None] | None:
    """After work was done at these moments, each (seconds, work)."""
    pace = Pace()
    for at_s, done in moments:
        pace.note(at_s, done)
    return pace.left_s(*moments[-1], left)


def test_nothing_is_known_of_the_rest_before_something_was_done_or_after_all_planned_work() -> None:
    assert left_s((4.0, 30.0)) is None
    assert left_s((40.0, 1.0)) is None
    assert left_s((40.0, 30.0), left=0.0) is None


def test_an_even_pace_tells_the_rest_and_an_uneven_one_its_bounds() -> None:
    even = [(float(second), float(second)) for second in range(1, 41)]
    assert left_s(*even) == pytest.approx((60 * 0.7, 60 * 1.6))  # 40% are done
    assert left_s(*even, left=0.4) == pytest.approx((0.4, 0.4), rel=0.02)
    began_late = [(0.0, 0.0), (100.0, 0.0), *[(100.0 + second, done) for second, done in even]]
    assert left_s(*began_late) == pytest.approx(left_s(*even))
    slower = [*even[:20], *[(20.0 + second, 20.0 + second / 4) for second in range(1, 21)]]
    known = 25 / 85
    assert left_s(*slower) == pytest.approx((60 / (25 / 40) * (1 + known) / 2, 60 / (1 / 4) * (2 - known)))
    stopped = [*even, *[(40.0 + second, 40.0) for second in range(1, 41)]]
    assert left_s(*stopped) == (pytest.approx(120.0 * 0.7), None)


def test_an_answer_changes_no_later_one() -> None:
    pace, other = Pace(), Pace()
    for second in range(1, 41):
        pace.note(float(second), float(second))
        other.note(float(second), float(second))
        other.left_s(second + 0.9, second + 5.0, 10.0)
    assert pace.left_s(40.0, 40.0, 60.0) == other.left_s(40.0, 40.0, 60.0)


def test_a_long_sweep_is_remembered_in_few_moments() -> None:
    pace = Pace()
    for second in range(1, 100_001):
        pace.note(float(second), float(second))
    assert len(pace._at_s) < 12 * MOMENTS


def test_work_that_is_done_at_the_moment_of_the_start_has_no_speed_of_zero() -> None:
    pace = Pace()
    pace.note(3.0, 0.0)
    pace.note(3.0, 1.0)
    left = pace.left_s(20.0, 1.0, 1.0)
    assert left is not None and left[0] > 0.0
