"""How many workers: by hand, and over random histories of a small cluster of which everything is known."""

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from hpc.cluster.autoscaler import BACKOFF_MAX_S, BACKOFF_S, Actions, Failures, ScalingLimits, Worker, decide

LONG = pytest.mark.long
LIMITS = ScalingLimits(
    max_workers=8, walltime_s=3600, drain_before_s=90, successor_lead_s=60, idle_s=30, start_limit_s=120
)  # fmt: skip
NOW_S = 10_000.0


def waiting(job: str) -> Worker:
    return Worker(job=job, state="waiting")


def starting(job: str, for_s: float = 1) -> Worker:
    return Worker(job=job, state="starting", ends_at_s=NOW_S + 3600 - for_s, starting_since_s=NOW_S - for_s)


def busy(job: str, left_s: float = 3000) -> Worker:
    return Worker(job=job, state="ready", ends_at_s=NOW_S + left_s)


def idle(job: str, for_s: float, left_s: float = 3000) -> Worker:
    return Worker(job=job, state="ready", ends_at_s=NOW_S + left_s, idle_since_s=NOW_S - for_s)


def draining(job: str) -> Worker:
    return Worker(job=job, state="draining", ends_at_s=NOW_S + 60)


def decided(*workers: Worker, wanted: int, surplus_since_s: float | None = None, **changes: Any) -> Actions:
    failures = changes.pop("failures", Failures())
    limits = dataclasses.replace(LIMITS, **changes)
    return decide(workers, wanted, NOW_S, limits, failures=failures, surplus_since_s=surplus_since_s)


def test_as_many_as_the_work_can_use_within_the_limit() -> None:
    assert decided(wanted=5) == Actions(submit=5)
    assert decided(wanted=50) == Actions(submit=8)
    assert decided(wanted=5, slots_per_worker=2) == Actions(submit=3)
    assert decided(waiting("a"), starting("b"), busy("c"), wanted=5) == Actions(submit=2)
    assert decided(wanted=0) == Actions()


def test_trials_that_span_workers_get_all_of_them_or_none() -> None:
    assert decided(wanted=2, workers_per_slot=3) == Actions(submit=6)
    assert decided(wanted=5, workers_per_slot=3) == Actions(submit=6)  # 8 would leave two that no trial can use


def test_a_worker_that_drains_is_replaced_though_the_limit_is_reached() -> None:
    full = [busy(f"w{number}") for number in range(7)]
    assert decided(*full, draining("d"), wanted=8) == Actions(submit=1)
    assert decided(*full, busy("d", left_s=89), wanted=8) == Actions(drain=("d",), submit=1)
    assert decided(*full, busy("d", left_s=91), wanted=8) == Actions()  # near its end, but there is no room yet


def test_a_successor_is_asked_for_once_and_before_its_predecessor_drains() -> None:
    assert decided(busy("a", left_s=151), wanted=1) == Actions()
    assert decided(busy("a", left_s=150), wanted=1) == Actions(submit=1)
    assert decided(busy("a", left_s=150), waiting("b"), wanted=1) == Actions()
    assert decided(busy("a", left_s=90), waiting("b"), wanted=1) == Actions(drain=("a",))


def test_an_idle_worker_is_given_back_when_nothing_has_needed_it_for_long() -> None:
    long_ago_s = NOW_S - 30
    rest = {"surplus_since_s": long_ago_s}
    assert decided(idle("a", 30), busy("b"), wanted=1, **rest) == Actions(release=("a",), **rest)
    assert decided(idle("a", 29), busy("b"), wanted=1, **rest) == Actions(**rest)
    assert decided(idle("a", 30), busy("b"), wanted=1) == Actions(surplus_since_s=NOW_S)  # needed until now
    assert decided(idle("a", 30), busy("b"), wanted=2, **rest) == Actions()


def test_of_several_idle_workers_the_one_that_ends_first_goes() -> None:
    workers = [idle("a", 40, left_s=2000), idle("b", 50, left_s=900), busy("c", left_s=800)]
    actions = decided(*workers, wanted=2, surplus_since_s=NOW_S - 40)
    assert actions.release == ("b",)


def test_jobs_that_wait_are_given_up_before_workers_are_and_the_last_first() -> None:
    workers = [idle("a", 40), busy("b"), waiting("c"), waiting("d"), starting("e")]
    since = {"surplus_since_s": NOW_S - 30}
    assert decided(*workers, wanted=4, **since) == Actions(cancel=("d",), **since)
    assert decided(*workers, wanted=2, **since) == Actions(cancel=("d", "c"), release=("a",), **since)


def test_a_worker_near_its_end_goes_when_its_successor_is_there() -> None:
    assert decided(idle("a", 40, left_s=120), waiting("b"), wanted=1) == Actions()
    assert decided(idle("a", 40, left_s=120), busy("b"), wanted=1) == Actions(release=("a",))


def test_a_worker_that_does_not_join_is_given_up_and_replaced_after_the_back_off() -> None:
    assert decided(starting("a", for_s=119), wanted=1) == Actions()
    assert decided(starting("a", for_s=120), wanted=1) == Actions(cancel=("a",))
    failed = Failures().with_one_more(NOW_S)
    assert decided(wanted=1, failures=failed) == Actions()
    assert decided(wanted=1, failures=Failures(waves=1, last_wave_s=NOW_S - BACKOFF_S)) == Actions(submit=1)


def test_after_failures_few_workers_are_on_their_way_at_a_time() -> None:
    once = Failures(waves=1, last_wave_s=NOW_S - 60)
    often = Failures(waves=9, last_wave_s=NOW_S - BACKOFF_MAX_S)
    assert decided(wanted=8, failures=once) == Actions(submit=2)
    assert decided(waiting("a"), busy("b"), wanted=8, failures=once) == Actions(submit=1)
    assert decided(waiting("a"), starting("b"), wanted=8, failures=once) == Actions()
    assert decided(wanted=8, failures=often) == Actions(submit=1)


def test_what_dies_during_the_back_off_belongs_to_the_same_wave() -> None:
    failures = Failures()
    for late_s in (0.0, 1.0, 4.9):
        failures = failures.with_one_more(100 + late_s)
    assert failures == Failures(waves=1, last_wave_s=100)
    assert failures.with_one_more(105).backoff_ends_s == 105 + 2 * BACKOFF_S
    assert Failures(waves=5000, last_wave_s=0).backoff_ends_s == BACKOFF_MAX_S


def test_no_more_is_asked_for_than_the_budget_allows() -> None:
    assert decided(wanted=8, gpu_hours_left=9.9, gpu_hours_per_worker=4) == Actions(submit=2)
    assert decided(busy("a"), wanted=8, gpu_hours_left=3.9, gpu_hours_per_worker=4) == Actions()
    assert decided(wanted=3, gpu_hours_left=-1, gpu_hours_per_worker=0) == Actions(submit=3)  # a site without GPUs
    three_tenths = 0.1 + 0.1 + 0.1
    assert decided(wanted=8, gpu_hours_left=three_tenths, gpu_hours_per_worker=0.1) == Actions(submit=3)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"walltime_s": 150}, "leave nothing of a walltime of 150 s"),
        ({"slots_per_worker": 2, "workers_per_slot": 2}, "at least one of the two is 1"),
    ],
)
def test_limits_that_cannot_be_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(LIMITS, **changes)


@dataclass
class Cluster:
    """Workers that wait, start, join, work and die at random, as `decide` sees them; checks every decision."""

    rng: np.random.Generator
    limits: ScalingLimits
    dies_at_once: float  # the fraction of workers that die when they start
    dies_per_s: float  # of those that joined
    workers: dict[str, Worker] = field(default_factory=dict)
    now_s: float = 0.0
    submitted: int = 0
    given_back: int = 0
    failures: Failures = Failures()
    surplus_since_s: float | None = None

    def tick(self, wanted: int, seconds: float = 1.0) -> Actions:
        self.now_s += seconds
        for job, worker in list(self.workers.items()):
            if worker.ends_at_s is not None and worker.ends_at_s <= self.now_s:
                del self.workers[job]
            elif worker.state == "waiting" and self.rng.random() < 0.2:
                self._start(worker)
            elif worker.state == "starting" and self.rng.random() < 0.3:
                self._change(worker, state="ready", idle_since_s=self.now_s, starting_since_s=None)
                self.failures = Failures()
            elif worker.state == "ready" and self.rng.random() < self.dies_per_s:
                del self.workers[job]
        self._spread(wanted)
        actions = self._decide(wanted)
        self._check(actions)
        self._apply(actions)
        if not actions.cancel:  # what did not join was a failure, so the next decision may be another
            again = self._decide(wanted)
            assert again == Actions(surplus_since_s=again.surplus_since_s), "not all was decided at once"
        return actions

    def kept(self) -> list[Worker]:
        return [worker for worker in self.workers.values() if worker.state != "draining"]

    def _decide(self, wanted: int) -> Actions:
        workers = list(self.workers.values())
        return decide(
            workers, wanted, self.now_s, self.limits, failures=self.failures, surplus_since_s=self.surplus_since_s
        )

    def _start(self, worker: Worker) -> None:
        if self.rng.random() < self.dies_at_once:
            del self.workers[worker.job]
            self.failures = self.failures.with_one_more(self.now_s)
            return
        ends_at_s = self.now_s + self.limits.walltime_s
        self._change(worker, state="starting", ends_at_s=ends_at_s, starting_since_s=self.now_s)

    def _spread(self, wanted: int) -> None:
        """The first ready workers work."""
        for worker in [worker for worker in self.workers.values() if worker.state == "ready"]:
            works, wanted = wanted > 0, wanted - self.limits.slots_per_worker
            idle_since_s = None if works else self.now_s if worker.idle_since_s is None else worker.idle_since_s
            self._change(worker, idle_since_s=idle_since_s)

    def _check(self, actions: Actions) -> None:
        given_back = (*actions.release, *actions.cancel)
        assert not (actions.submit and actions.release), "given back and asked for at once"
        named = (*actions.drain, *given_back)
        assert len(set(named)) == len(named)
        for job in actions.drain:
            assert self.workers[job].state == "ready"
        for job in actions.release:
            worker = self.workers[job]
            assert worker.state == "ready" and worker.idle_since_s is not None
            assert self.now_s - worker.idle_since_s >= self.limits.idle_s
        for job in actions.cancel:
            assert self.workers[job].state in ("waiting", "starting")
        for worker in self.kept():  # none that has a say is left to run into its walltime
            if worker.state == "ready" and worker.job not in named and worker.ends_at_s is not None:
                assert worker.ends_at_s - self.now_s > self.limits.drain_before_s

    def _apply(self, actions: Actions) -> None:
        self.surplus_since_s = actions.surplus_since_s
        for job in (*actions.drain, *actions.release):
            self._change(self.workers[job], state="draining")
        for job in actions.cancel:
            if self.workers[job].state == "starting":
                self.failures = self.failures.with_one_more(self.now_s)
            del self.workers[job]
        self.given_back += len(actions.release) + len(actions.cancel)
        for _ in range(actions.submit):
            self.submitted += 1
            self.workers[f"job{self.submitted}"] = waiting(f"job{self.submitted}")
        if self.limits.gpu_hours_left is not None:
            left = self.limits.gpu_hours_left - actions.submit * self.limits.gpu_hours_per_worker
            assert left >= 0
            self.limits = dataclasses.replace(self.limits, gpu_hours_left=left)
        assert len(self.kept()) <= self.limits.max_workers

    def _change(self, worker: Worker, **changes: Any) -> None:
        self.workers[worker.job] = dataclasses.replace(worker, **changes)


def random_limits(rng: np.random.Generator) -> ScalingLimits:
    slots = [(1, 1), (3, 1), (1, 2)][rng.integers(3)]
    drain_before_s, successor_lead_s = float(rng.integers(5, 40)), float(rng.integers(0, 60))
    budgets = [None, float(rng.integers(5, 40))]
    return ScalingLimits(
        max_workers=int(rng.integers(2, 12)),
        walltime_s=drain_before_s + successor_lead_s + float(rng.integers(20, 300)),
        drain_before_s=drain_before_s,
        successor_lead_s=successor_lead_s,
        idle_s=float(rng.integers(1, 40)),
        start_limit_s=float(rng.integers(5, 30)),
        slots_per_worker=slots[0],
        workers_per_slot=slots[1],
        gpu_hours_left=budgets[rng.integers(2)],
        gpu_hours_per_worker=1.0,
    )


@pytest.mark.parametrize("seed", [*range(20), *(pytest.param(seed, marks=LONG) for seed in range(20, 60))])
def test_no_history_breaks_the_rules(seed: int) -> None:
    rng = np.random.default_rng(seed)
    cluster = Cluster(rng, random_limits(rng), dies_at_once=rng.choice([0.0, 0.3]), dies_per_s=rng.choice([0.0, 0.02]))
    wanted = 0
    for _ in range(400):
        if rng.random() < 0.1:
            wanted = int(rng.integers(0, 30))
        cluster.tick(wanted)
    assert cluster.submitted or cluster.limits.affordable == 0


@pytest.mark.parametrize("seed", [*range(10), *(pytest.param(seed, marks=LONG) for seed in range(10, 20))])
def test_steady_work_gets_its_workers_and_keeps_them(seed: int) -> None:
    rng = np.random.default_rng(seed)
    limits = dataclasses.replace(random_limits(rng), gpu_hours_left=None, walltime_s=10_000, start_limit_s=1000)
    cluster = Cluster(rng, limits, dies_at_once=0.0, dies_per_s=0.0)
    wanted = int(rng.integers(1, 30))
    for _ in range(300):
        cluster.tick(wanted)
    assert cluster.submitted == limits.workers_for(wanted) == len(cluster.kept())
    assert cluster.given_back == 0


@pytest.mark.parametrize("seed", [*range(4), *(pytest.param(seed, marks=LONG) for seed in range(4, 10))])
def test_walltimes_cost_one_successor_each(seed: int) -> None:
    """Once all are there, somebody works at every moment, and no worker is asked for beside the successors."""
    rng = np.random.default_rng(seed)
    limits = dataclasses.replace(LIMITS, walltime_s=400, start_limit_s=1000)
    cluster = Cluster(rng, limits, dies_at_once=0.0, dies_per_s=0.0)
    for second in range(3000):
        cluster.tick(3)
        assert second < 100 or any(worker.state == "ready" for worker in cluster.workers.values())
    generations = math.ceil(3000 / (400 - 90 - 60)) + 1
    assert 3 * (3000 // 400) <= cluster.submitted <= 3 * generations


def test_work_that_comes_and_goes_each_second_moves_no_worker() -> None:
    """As when trials end and set others free: without patience a job would be cancelled and submitted each second."""
    cluster = Cluster(np.random.default_rng(0), LIMITS, dies_at_once=0.0, dies_per_s=0.0)
    for second in range(1000):
        cluster.tick(6 if second % 2 else 2)
    assert cluster.submitted == 6
    assert cluster.given_back == 0


def test_a_site_where_every_worker_dies_at_once_gets_few_jobs() -> None:
    cluster = Cluster(np.random.default_rng(0), LIMITS, dies_at_once=1.0, dies_per_s=0.0)
    in_ten_minutes = 0
    for second in range(6 * 3600):
        cluster.tick(50)
        in_ten_minutes = cluster.submitted if second < 600 else in_ten_minutes
    assert in_ten_minutes <= 20
    assert cluster.submitted - in_ten_minutes <= 6 * 4 + 2  # one each quarter of an hour


def test_no_work_leaves_no_worker() -> None:
    cluster = Cluster(np.random.default_rng(0), LIMITS, dies_at_once=0.0, dies_per_s=0.0)
    for _ in range(60):
        cluster.tick(8)
    for _ in range(100):
        cluster.tick(0)
    assert cluster.kept() == []
