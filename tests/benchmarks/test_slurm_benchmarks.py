"""What the benchmarks on a real SLURM make of what they saw; that they run is seen by running them."""

import pytest

from benchmarks.cluster_start import ALL_WORKERS, CALLS, GOALS, Took, row
from benchmarks.utilisation import overlap


def test_only_what_goes_beyond_slurms_own_wait_is_held_against_us() -> None:
    took = [Took(what=ALL_WORKERS, value=100.0, slurms_own=80.0), Took(what=ALL_WORKERS, value=90.0, slurms_own=50.0)]
    found = row(ALL_WORKERS, took)
    assert [found[name] for name in ("what", "unit", "times", "goal")] == [ALL_WORKERS, "s", 2, GOALS[ALL_WORKERS]]
    assert [found[name] for name in ("median", "slurms_own", "beyond_it", "verdict")] == [95.0, 65.0, 30.0, "met"]
    assert row(ALL_WORKERS, took[1:])["verdict"] == "missed"
    calls = row(CALLS, [Took(what=CALLS, value=2.5)])
    assert (calls["unit"], calls["goal"]) == ("per minute", 2.0)


@pytest.mark.parametrize(
    ("spans", "seconds"),
    [
        ({}, 0.0),
        ({"whole": (12.0, 15.0)}, 3.0),
        ({"began before": (5.0, 12.0), "ended after": (18.0, 30.0)}, 4.0),
        ({"before": (1.0, 9.0), "after": (21.0, 22.0)}, 0.0),
        ({"all": (0.0, 100.0)}, 10.0),
    ],
)
def test_what_lies_between_two_moments(spans: dict[str, tuple[float, float]], seconds: float) -> None:
    assert overlap(spans, 10.0, 20.0) == seconds
