"""Schedules by hand, and beside their bounds."""

from collections.abc import Iterable

import numpy as np
import pytest

from sweeps.scheduling.timed import TimedStep, TimedTrial, critical_path_s, join_stages, schedule


def timed(*trials: str) -> list[TimedTrial]:
    """Trials from their stages, "a:5 b:3", named by their place; stages take the seconds behind the colon."""
    parsed = [[part.split(":") for part in trial.split()] for trial in trials]
    return join_stages([(str(n), [(key, float(s), float(s)) for key, s in stages]) for n, stages in enumerate(parsed)])


def lone_steps(trials: Iterable[tuple[str, list[tuple[str, float, float]]]]) -> list[TimedTrial]:
    """Every stage as a step of its own: the slow form of what `join_stages` gives."""
    return [
        TimedTrial(
            trial_id=trial_id,
            steps=tuple(TimedStep(key=key, work=work, ends_s=(seconds,)) for key, work, seconds in stages),
        )
        for trial_id, stages in trials
    ]


def random_trees(rng: np.random.Generator, count: int) -> list[tuple[str, list[tuple[str, float, float]]]]:
    """Trials that share beginnings, with whole seconds so that sums are exact."""
    made: list[tuple[str, list[tuple[str, float, float]]]] = []
    for number in range(count):
        shared: list[tuple[str, float, float]] = []
        if made and rng.random() < 0.8:
            other = made[rng.integers(len(made))][1]
            shared = other[: rng.integers(1, len(other) + 1)]
        own = []
        for place in range(rng.integers(1, 6)):
            seconds = float(rng.integers(1, 60))
            own.append((f"{number}-{place}", seconds, seconds))
        made.append((str(number), [*shared, *own]))
    return made


def distinct_s(trials: list[tuple[str, list[tuple[str, float, float]]]]) -> float:
    return sum({key: seconds for _, stages in trials for key, _, seconds in stages}.values())


def test_one_slot_takes_the_sum_of_all_stages() -> None:
    assert schedule(timed("root:5 a:3 b:1", "root:5 c:2", "d:4"), 1, 0.0) == (15, 15)


def test_more_slots_do_not_help_along_the_critical_path() -> None:
    trials = timed("root:10 a:5", "root:10 b:5", "root:10 c:2")
    assert critical_path_s(trials) == 15
    assert [schedule(trials, slots, 0.0)[0] for slots in (1, 2, 3, 9)] == [22, 17, 15, 15]


def test_a_slot_is_held_between_two_trials_for_a_while() -> None:
    """The second slot waits from 10 s on for the root, which ends at 50 s."""
    trials = timed("root:50 a:30", "root:50 b:30", "c:10")
    assert [schedule(trials, 2, idle_s) for idle_s in (0.0, 15.0, 1e9)] == [(80, 120), (80, 135), (80, 160)]


def test_nothing_takes_no_time() -> None:
    assert schedule([], 3, 0.0) == (0, 0)
    assert schedule([TimedTrial(trial_id="finished", steps=())], 3, 0.0) == (0, 0)


@pytest.mark.parametrize("seed", range(30))
def test_joined_stages_give_the_schedule_of_single_ones(seed: int) -> None:
    rng = np.random.default_rng(seed)
    trials = random_trees(rng, int(rng.integers(2, 40)))
    fast, slow = join_stages(trials), lone_steps(trials)
    assert sum(len(trial.steps) for trial in fast) < sum(len(trial.steps) for trial in slow)
    for slots in (1, 3):
        assert schedule(fast, slots, 5.0) == schedule(slow, slots, 5.0)


@pytest.mark.parametrize("seed", range(20))
def test_every_stage_is_computed_once_and_no_bound_is_beaten(seed: int) -> None:
    trials = random_trees(np.random.default_rng(seed), 40)
    joined = join_stages(trials)
    for slots in (1, 2, 7):
        makespan_s, held_s = schedule(joined, slots, 0.0)
        assert held_s == distinct_s(trials)
        assert max(critical_path_s(joined), held_s / slots) <= makespan_s <= critical_path_s(joined) + held_s / slots
