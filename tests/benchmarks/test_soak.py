"""What the soak makes of its samples; that it runs is seen by running it."""

import random
from dataclasses import replace

import pytest

from benchmarks.soak import FILES_GOAL, MEMORY_GOAL_MB, Sample, growth, slope_of

BEFORE = Sample(at_s=0.0, trials=0, driver_mb=900.0, driver_files=10.0, head_mb=40.0, raylet_mb=30.0)


def wandering(chance: random.Random, count: int, memory: float) -> list[float]:
    """Noise of which each value goes on from the one before."""
    values = [chance.gauss(0.0, 1.0)]
    while len(values) < count:
        values.append(memory * values[-1] + chance.gauss(0.0, 1.0))
    return values


def seen(mb_per_trial: float, files_per_trial: float) -> list[Sample]:
    """Samples of a driver that swells while it warms up and when it writes its report, and grows in between."""
    chance = random.Random(7)
    samples = [
        replace(
            BEFORE,
            at_s=float(trials),
            trials=trials,
            driver_files=40.0 + files_per_trial * trials,
            driver_mb=min(200.0, 100.0 + trials) + mb_per_trial * trials + chance.gauss(0.0, 0.5),
        )  # fmt: skip
        for trials in range(0, 2000, 5)
    ]
    end = replace(samples[-1], trials=2000)
    return [*samples, end, replace(end, driver_mb=900.0, driver_files=400.0)]


def test_the_slope_of_a_line_is_told_per_1000_trials() -> None:
    found = slope_of(range(0, 2000, 10), [3.0 + 0.002 * trials for trials in range(0, 2000, 10)], related=20)
    assert (found.low, found.value, found.high) == pytest.approx((2.0, 2.0, 2.0))


def test_the_interval_holds_the_truth_also_where_samples_go_together() -> None:
    trials, held, held_alone = range(400), 0, 0
    for seed in range(100):
        values = wandering(random.Random(seed), 400, memory=0.8)
        together, alone = (slope_of(trials, values, related) for related in (30, 0))
        held += together.low < 0.0 < together.high
        held_alone += alone.low < 0.0 < alone.high
    assert held >= 82  # 95 of the endless series that Newey and West have in mind
    assert held_alone < 70


@pytest.mark.parametrize(
    ("mb_per_trial", "files_per_trial", "verdicts"),
    [(0.0, 0.0, ("met", "met")), (0.02, 0.0, ("missed", "met")), (0.0, 0.01, ("met", "missed"))],
)
def test_growth_is_found_and_a_warm_up_is_none(
    mb_per_trial: float, files_per_trial: float, verdicts: tuple[str, str]
) -> None:
    rows = {str(row[0]): row for row in growth(seen(mb_per_trial, files_per_trial))}
    memory, files = (rows[f"the driver's {what}, per 1,000 trials"] for what in ("memory", "open files"))
    assert (memory[-1], files[-1]) == verdicts
    assert (memory[-2], files[-2]) == (MEMORY_GOAL_MB, FILES_GOAL)
    assert memory[2] == pytest.approx(1000 * mb_per_trial, abs=1.0)
    assert files[2] == pytest.approx(1000 * files_per_trial)


def test_a_launch_that_is_too_short_tells_nothing() -> None:
    with pytest.raises(ValueError, match="too short"):
        growth(seen(0.0, 0.0)[:4])
    with pytest.raises(ValueError, match="too short"):
        growth([BEFORE] * 100)
