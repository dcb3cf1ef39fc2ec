"""Schedules on a simulated clock: by hand, as sums that must come out, and beside a real run."""

import random
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.simulate import simulate, slots_of
from benchmarks.simulated_cluster import SimulatedCluster
from hpc.cluster.autoscaler import ScalingLimits
from sweeps.scheduling.timed import critical_path_s, join_stages, schedule
from tests.sweeps.scheduling.test_timed import distinct_s, random_trees, timed

AT_ONCE = SimulatedCluster(decide_every_s=0.0)
LIMITS = ScalingLimits(
    max_workers=4, walltime_s=100, drain_before_s=10, successor_lead_s=0, idle_s=60, start_limit_s=50
)  # fmt: skip


def test_one_slot_takes_the_sum_of_all_stages() -> None:
    schedule = simulate(timed("root:5 a:3 b:1", "root:5 c:2", "d:4"), slots_of(1), AT_ONCE)
    assert schedule.makespan_s == schedule.work_s == schedule.in_stages_s == schedule.held_s == 15
    assert (schedule.utilisation, schedule.lost_s, schedule.unfinished) == (1, 0, 0)


def test_more_slots_do_not_help_along_the_critical_path() -> None:
    trials = timed("root:10 a:5", "root:10 b:5", "root:10 c:2")
    assert critical_path_s(trials) == 15
    assert simulate(trials, slots_of(2), AT_ONCE).makespan_s == 17
    wide = simulate(trials, slots_of(3), AT_ONCE)
    assert wide.makespan_s == 15
    assert wide.without_work_s == 2 * 10 + 1 * 3
    assert wide.limited_by == "critical path"
    assert simulate(trials, slots_of(1), AT_ONCE).limited_by == "slots"


def test_workers_come_with_the_work_and_idle_ones_go() -> None:
    trials = timed("root:50 a:300", "root:50 b:20", "root:50 c:20")
    limits = replace(LIMITS, walltime_s=10_000)
    schedule = simulate(trials, limits, SimulatedCluster(start_s=5))
    assert schedule.workers == 3  # one for the root, two more when it is there
    assert schedule.makespan_s == 5 + 50 + 300
    assert schedule.worker_s == pytest.approx(355 + 2 * (5 + 20 + 60), abs=0.1)


def test_of_idle_workers_the_last_that_worked_takes_what_comes_so_that_the_others_can_go() -> None:
    """Trials of 30 s one after the other; were three workers taken in turns, none would be idle for 60 s."""
    chain = [" ".join(f"s{place}:30" for place in range(length)) for length in range(1, 11)]
    schedule = simulate(timed(*chain, "a:10", "b:10"), replace(LIMITS, walltime_s=10_000), SimulatedCluster())
    assert schedule.makespan_s == 300
    assert schedule.workers == 3
    assert schedule.worker_s == pytest.approx(300 + 2 * (10 + 60), abs=0.1)


def test_a_queue_that_is_long_is_what_limits() -> None:
    trials = timed(*(f"s{number}:30" for number in range(16)))
    schedule = simulate(trials, replace(LIMITS, walltime_s=1000), SimulatedCluster(mean_queue_wait_s=5000, seed=1))
    assert schedule.limited_by == "queue"
    assert schedule.without_worker_s > 4 * 30 * 4


def test_a_walltime_costs_nothing_but_the_new_start_where_there_are_checkpoints() -> None:
    """A stage of 250 s on workers that compute for 85 s: 5 of 100 to start, 10 to drain."""
    limits = replace(LIMITS, max_workers=1)
    schedule = simulate(timed("a:250"), limits, SimulatedCluster(start_s=5, checkpoint_every_s=60))
    assert schedule.workers == 3
    assert schedule.lost_s == 0
    assert schedule.in_stages_s == 250
    assert schedule.makespan_s == pytest.approx(3 * 5 + 250, abs=0.1)


def test_without_checkpoints_a_stage_that_does_not_fit_begins_anew() -> None:
    limits = replace(LIMITS, max_workers=1)
    schedule = simulate(timed("a:60 b:60"), limits, SimulatedCluster())
    assert schedule.workers == 2
    assert schedule.lost_s == pytest.approx(40, abs=0.1)  # of b, when the first worker's 100 s were over
    assert schedule.makespan_s == pytest.approx(160, abs=0.1)
    fits = simulate(timed("a:60 b:35"), limits, SimulatedCluster())
    assert (fits.lost_s, fits.makespan_s) == (0, 95)  # drained at 90 s, and the stage went on


def test_a_drained_trial_stops_at_the_end_of_its_stage() -> None:
    schedule = simulate(timed("a:60 b:35 c:20"), replace(LIMITS, max_workers=1), SimulatedCluster())
    assert schedule.lost_s == 0
    assert schedule.makespan_s == 95 + 20
    assert schedule.workers == 2


def test_a_stage_that_can_never_end_is_refused() -> None:
    with pytest.raises(ValueError, match="a stage takes 120 s and a worker computes for 100 s"):
        simulate(timed("a:120"), LIMITS, SimulatedCluster())


def test_a_budget_that_is_used_up_leaves_trials_unfinished() -> None:
    limits = replace(LIMITS, gpu_hours_left=2.0, gpu_hours_per_worker=1.0, max_workers=1)
    schedule = simulate(timed(*(f"s{number}:80" for number in range(5))), limits, SimulatedCluster())
    assert (schedule.workers, schedule.unfinished) == (2, 3)


def test_trials_across_workers_hold_all_of_them() -> None:
    limits = replace(LIMITS, walltime_s=1000, max_workers=5, workers_per_slot=2)
    schedule = simulate(timed("a:30", "b:30", "c:30"), limits, SimulatedCluster())
    assert schedule.slots == 2
    assert schedule.makespan_s == 60
    assert schedule.worker_s == pytest.approx(4 * 60, abs=0.1)
    assert schedule.utilisation == pytest.approx(90 / 120, abs=0.01)


@pytest.mark.parametrize("seed", range(20))
def test_without_faults_every_stage_is_computed_once_and_no_bound_is_beaten(seed: int) -> None:
    rng = np.random.default_rng(seed)
    trials = random_trees(rng, 40)
    for slots in (1, 2, 7):
        found = simulate(join_stages(trials), slots_of(slots), AT_ONCE)
        assert found.in_stages_s == found.work_s == distinct_s(trials)
        assert found.makespan_s >= max(found.critical_path_s, found.work_s / slots)
        assert found.makespan_s * slots == pytest.approx(
            found.in_stages_s + found.without_work_s + found.without_worker_s
        )
        assert found.makespan_s == schedule(join_stages(trials), slots, 0.0)[0]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("shape", [(1, 1), (2, 1), (1, 2)])
def test_with_faults_what_is_lost_is_computed_again(seed: int, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(seed)
    trials = random_trees(rng, 60)
    limits = replace(LIMITS, walltime_s=400, slots_per_worker=shape[0], workers_per_slot=shape[1])
    faults = SimulatedCluster(
        start_s=3, mean_queue_wait_s=20, mean_time_to_failure_s=300, noticed_after_s=15, seed=seed
    )
    for every_s in (None, 5.0):
        cluster = replace(faults, checkpoint_every_s=every_s)
        schedule = simulate(join_stages(trials), limits, cluster)
        assert schedule.unfinished == 0
        assert schedule.failures > 0
        assert schedule.in_stages_s == pytest.approx(distinct_s(trials) + schedule.lost_s)
        assert 0 < schedule.utilisation <= 1
        assert schedule == simulate(join_stages(trials), limits, cluster), "the same seed, another schedule"
    assert schedule.lost_s <= 5 * schedule.failures * limits.slots_per_worker  # what the last checkpoints lacked


def test_a_failure_loses_what_was_not_stored() -> None:
    """Two nodes one after the other: the first fails at a time that is drawn, the second lives long enough."""

    def lives_s(seed: int) -> list[float]:
        draws = random.Random(seed)
        return [draws.expovariate(1 / 500) for _ in range(2)]

    seed = next(seed for seed in range(1000) if 200 < lives_s(seed)[0] < 900 and lives_s(seed)[1] > 1000)
    fails_s = lives_s(seed)[0]
    limits = replace(LIMITS, walltime_s=1e6, max_workers=1)
    failing = SimulatedCluster(mean_time_to_failure_s=500, noticed_after_s=15, seed=seed)
    bare = simulate(timed("a:100 b:900"), limits, failing)
    assert (bare.failures, bare.workers) == (1, 2)
    assert bare.lost_s == pytest.approx(fails_s - 100)
    assert bare.makespan_s == pytest.approx(fails_s + 15 + 900, abs=1.1)
    assert bare.worker_s == pytest.approx(fails_s + 900, abs=1.1)  # the driver looks once a second
    stored = simulate(timed("a:100 b:900"), limits, replace(failing, checkpoint_every_s=60))
    assert stored.lost_s == pytest.approx((fails_s - 100) % 60)
