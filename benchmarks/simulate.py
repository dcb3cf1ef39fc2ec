"""A sweep on a simulated cluster, with the driver's own functions for the next trial and the number of workers.

Stages take given seconds; workers wait, join, end and fail as `SimulatedCluster` says. Not modelled: stages that slow
each other down on a node, and failures of the controller.
"""

import heapq
import math
import random
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from benchmarks.simulated_cluster import SimulatedCluster, SimulationResult
from hpc.cluster.autoscaler import Failures, ScalingLimits, Worker, decide
from sweeps.scheduling.order import QueuedTrial, StageClaim, TrialQueue
from sweeps.scheduling.timed import TimedStep, TimedTrial, critical_path_s

SLACK_S = 1e-3  # a decision comes this much after its time, so that rounding cannot put it before


def simulate(trials: Sequence[TimedTrial], limits: ScalingLimits, cluster: SimulatedCluster) -> SimulationResult:
    """Simulate a sweep to its end.

    Raises:
        ValueError: a stage takes longer than a worker lives, without checkpoints, so it would never end.
    """
    steps = (step.ends_s for trial in trials for step in trial.steps)
    longest_s = max((end - begin for ends in steps for begin, end in pairwise((0.0, *ends))), default=0.0)
    lives_s = limits.walltime_s - cluster.start_s - cluster.trial_start_s
    if cluster.checkpoint_every_s is None and longest_s > lives_s:
        raise ValueError(
            f"a stage takes {longest_s:.0f} s and a worker computes for {lives_s:.0f} s; give a longer walltime, or "
            "checkpoint_every_s"
        )
    return _Simulation(trials, limits, cluster).run()


@dataclass(kw_only=True, eq=False)
class _Node:
    """A worker and the trials that run on it."""

    record: Worker  # as `decide` sees it
    free: int
    started_s: float = math.inf
    runs: "dict[str, _Run]" = field(default_factory=dict)  # by trial
    is_alive: bool = True

    def change(self, **changes: object) -> None:
        self.record = replace(self.record, **changes)  # type: ignore[arg-type]


@dataclass(kw_only=True, eq=False)
class _Run:
    """An attempt of a trial: since `since_s` it computes a step, of which `done_s` seconds were done before."""

    trial: TimedTrial
    nodes: list[_Node]
    number: int = 0
    done_s: float = 0.0
    since_s: float = 0.0
    stopped_s: float = math.inf  # when its node failed
    leaves: bool = False  # at the end of the present stage
    is_alive: bool = True

    @property
    def step(self) -> TimedStep:
        return self.trial.steps[self.number]

    def reached_s(self, now_s: float) -> float:
        """Return how many seconds of the step are done."""
        return self.done_s + max(0.0, min(now_s, self.stopped_s) - self.since_s)


class _Simulation:
    """Events in the order of their times; after each, free slots take trials, and `decide` adjusts the workers."""

    def __init__(self, trials: Sequence[TimedTrial], limits: ScalingLimits, cluster: SimulatedCluster) -> None:
        self._trials = {trial.trial_id: trial for trial in trials}
        self._limits, self._cluster = limits, cluster
        self._slots = limits.workers_for(10**9) // limits.workers_per_slot * limits.slots_per_worker
        waiting = [
            QueuedTrial(trial_id=t.trial_id, claims=tuple(StageClaim(key=s.key, work=s.work) for s in t.steps))
            for t in trials
        ]
        self._queue = TrialQueue(waiting, (), slots=max(1, self._slots))
        self._finished: set[str] = set()
        self._saved_s: dict[str, float] = {}  # step -> how much of it is stored
        self._nodes: dict[str, _Node] = {}  # in the order of submission
        self._open: dict[str, _Node] = {}  # ready ones with a free slot
        self._runs: set[_Run] = set()
        self._failures = Failures()
        self._surplus_since_s: float | None = None
        self._random = random.Random(cluster.seed)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._pushed = 0
        self._now_s = self._makespan_s = 0.0
        self._decided_s, self._decides = -math.inf, False
        self._in_stages_s = self._lost_s = self._worker_s = self._without_worker_s = self._without_work_s = 0.0
        self._submitted = self._failed = 0

    def run(self) -> SimulationResult:
        self._look_again()
        while self._events and (self._queue.waiting or self._runs):
            self._pass_to(self._events[0][0])
            while self._events and self._events[0][0] == self._now_s:
                heapq.heappop(self._events)[2]()
            self._fill()
        for node in list(self._nodes.values()):
            self._end(node, self._makespan_s)
        workers_per_slot = self._limits.workers_per_slot / self._limits.slots_per_worker
        seconds = {step.key: step.seconds for trial in self._trials.values() for step in trial.steps}
        return SimulationResult(
            makespan_s=self._makespan_s,
            trials=len(self._trials),
            unfinished=self._queue.waiting,
            slots=self._slots,
            work_s=sum(seconds.values()),
            critical_path_s=critical_path_s(list(self._trials.values())),
            in_stages_s=self._in_stages_s,
            lost_s=self._lost_s,
            held_s=self._worker_s / workers_per_slot,
            worker_s=self._worker_s,
            without_worker_s=self._without_worker_s,
            without_work_s=self._without_work_s,
            workers=self._submitted,
            failures=self._failed,
        )

    # --- time ---

    def _push(self, time_s: float, what: Callable[[], None]) -> None:
        if time_s < math.inf:
            self._pushed += 1
            heapq.heappush(self._events, (time_s, self._pushed, what))

    def _pass_to(self, time_s: float) -> None:
        """Move the clock, and count the slots that could not be used meanwhile."""
        wanted = min(self._slots, len(self._runs) + self._queue.could_start)
        self._without_worker_s += (wanted - len(self._runs)) * (time_s - self._now_s)
        self._without_work_s += (self._slots - wanted) * (time_s - self._now_s)
        self._now_s = time_s

    def _look_again_at(self, time_s: float) -> None:
        self._push(time_s + SLACK_S, self._look_again)

    def _drawn_s(self, mean_s: float) -> float:
        return mean_s if mean_s in (0.0, math.inf) else self._random.expovariate(1 / mean_s)

    # --- trials ---

    def _fill(self) -> None:
        """Start trials on free slots, first on the worker that was freed last, so that others can be released."""
        while self._queue.could_start and len(self._open) >= self._limits.workers_per_slot:
            choice = self._queue.next()
            assert isinstance(choice, QueuedTrial)
            nodes = [self._open[job] for job in list(reversed(self._open))[: self._limits.workers_per_slot]]
            run = _Run(trial=self._trials[choice.trial_id], nodes=nodes)
            self._runs.add(run)
            for node in nodes:
                node.free -= 1
                node.runs[choice.trial_id] = run
                node.change(idle_since_s=None)
                if not node.free:
                    del self._open[node.record.job]
            self._look_again()
            self._begin(run, self._now_s + self._cluster.trial_start_s)

    def _begin(self, run: _Run, since_s: float) -> None:
        """Start the next unfinished step, or end the trial."""
        while run.number < len(run.trial.steps) and run.step.key in self._finished:
            run.number += 1
        if run.number == len(run.trial.steps):
            self._leave(run, finished=True)
            return
        run.since_s, run.done_s = since_s, self._saved_s.get(run.step.key, 0.0)
        number = run.number
        self._push(since_s + run.step.seconds - run.done_s, lambda: self._step_ended(run, number))

    def _step_ended(self, run: _Run, number: int) -> None:
        if not run.is_alive or run.number != number:
            return
        self._in_stages_s += run.step.seconds - run.done_s
        self._finished.add(run.step.key)
        self._saved_s.pop(run.step.key, None)
        self._queue.stage_finished(run.step.key)
        self._look_again()  # others may start now
        is_over = all(step.key in self._finished for step in run.trial.steps[number:])
        if run.leaves and not is_over:
            self._leave(run, finished=False)
        else:
            run.number += 1
            self._begin(run, self._now_s)

    def _stop(self, run: _Run, at_s: float, *, cleanly: bool) -> None:
        """End an attempt inside a stage; what was computed since the last stored state is lost."""
        reached_s = run.reached_s(at_s)
        kept_s = reached_s if cleanly else max(run.done_s, self._stored_s(run.step, reached_s))
        self._in_stages_s += reached_s - run.done_s
        self._lost_s += reached_s - kept_s
        self._saved_s[run.step.key] = kept_s
        self._leave(run, finished=False)

    def _stored_s(self, step: TimedStep, reached_s: float) -> float:
        ended = bisect_right(step.ends_s, reached_s)
        stage_s = step.ends_s[ended - 1] if ended else 0.0
        every_s = self._cluster.checkpoint_every_s
        return stage_s if every_s is None else stage_s + (reached_s - stage_s) // every_s * every_s

    def _leave(self, run: _Run, *, finished: bool) -> None:
        """Free the slot."""
        run.is_alive = False
        self._runs.discard(run)
        self._queue.trial_ended(run.trial.trial_id, finished=finished)
        self._makespan_s = self._now_s
        for node in run.nodes:
            del node.runs[run.trial.trial_id]
            node.free += 1
            if not node.runs:
                node.change(idle_since_s=self._now_s)
                self._look_again_at(self._now_s + self._limits.idle_s)
            if node.record.state == "draining" and not node.runs:
                self._end(node, self._now_s)
            elif node.is_alive and node.record.state == "ready":
                self._open[node.record.job] = node
        self._look_again()

    # --- workers ---

    def _look_again(self) -> None:
        """Schedule the next decision on the number of workers, as soon as allowed."""
        if not self._decides:
            self._decides = True
            self._push(max(self._now_s, self._decided_s + self._cluster.decide_every_s), self._decide)

    def _decide(self) -> None:
        self._fill()  # events at this moment may have freed slots and trials
        self._decides, self._decided_s = False, self._now_s
        records = [node.record for node in self._nodes.values()]
        wanted = len(self._runs) + self._queue.could_start
        actions = decide(
            records, wanted, self._now_s, self._limits, failures=self._failures, surplus_since_s=self._surplus_since_s
        )
        if actions.surplus_since_s is not None and self._surplus_since_s is None:
            self._look_again_at(self._now_s + self._limits.idle_s)
        self._surplus_since_s = actions.surplus_since_s
        for job in actions.drain:
            self._drain(self._nodes[job])
        for job in (*actions.release, *actions.cancel):
            self._end(self._nodes[job], self._now_s)
        for _ in range(actions.submit):
            self._submit()

    def _submit(self) -> None:
        self._submitted += 1
        limits = self._limits
        if limits.gpu_hours_left is not None:
            self._limits = replace(limits, gpu_hours_left=limits.gpu_hours_left - limits.gpu_hours_per_worker)
        record = Worker(job=str(self._submitted), state="waiting")
        node = self._nodes[record.job] = _Node(record=record, free=limits.slots_per_worker)
        self._push(self._now_s + self._drawn_s(self._cluster.mean_queue_wait_s), lambda: self._start(node))

    def _start(self, node: _Node) -> None:
        if not node.is_alive:
            return
        now_s, limits = self._now_s, self._limits
        node.started_s, ends_s = now_s, now_s + limits.walltime_s
        node.change(state="starting", starting_since_s=now_s, ends_at_s=ends_s)
        self._push(now_s + self._cluster.start_s, lambda: self._join(node))
        self._look_again_at(now_s + limits.start_limit_s)
        self._look_again_at(ends_s - limits.drain_before_s - limits.successor_lead_s)
        self._look_again_at(ends_s - limits.drain_before_s)
        self._push(ends_s, lambda: self._lose(node, ends_s))
        fails_s = now_s + self._drawn_s(self._cluster.mean_time_to_failure_s)
        if fails_s < ends_s:
            self._push(fails_s, lambda: self._fail(node))

    def _join(self, node: _Node) -> None:
        if node.is_alive and node.record.state == "starting":
            node.change(state="ready", starting_since_s=None, idle_since_s=self._now_s)
            self._open[node.record.job] = node
            self._failures = Failures()
            self._look_again_at(self._now_s + self._limits.idle_s)
            self._look_again()

    def _fail(self, node: _Node) -> None:
        """Stop a node. The loss is not noticed yet, but no trial starts there, as on a node that does not answer."""
        if not node.is_alive:
            return
        self._failed += bool(node.runs)
        self._open.pop(node.record.job, None)
        failed_s = self._now_s
        for run in node.runs.values():
            run.is_alive, run.stopped_s = False, min(failed_s, run.stopped_s)
        self._push(failed_s + self._cluster.noticed_after_s, lambda: self._lose(node, failed_s))

    def _lose(self, node: _Node, at_s: float) -> None:
        """Put the trials that ran there until `at_s` back into the queue."""
        if not node.is_alive:
            return
        if node.record.state == "starting":
            self._failures = self._failures.with_one_more(self._now_s)
            self._look_again_at(self._failures.backoff_ends_s)
        self._end(node, at_s)
        for run in list(node.runs.values()):
            self._stop(run, at_s, cleanly=False)
        self._look_again()

    def _drain(self, node: _Node) -> None:
        """Start no new trials here; running ones store a checkpoint, or run to the end of their stage."""
        node.change(state="draining")
        self._open.pop(node.record.job, None)
        for run in [run for run in node.runs.values() if run.is_alive]:
            if self._cluster.checkpoint_every_s is not None:
                self._stop(run, self._now_s, cleanly=True)
                continue
            run.leaves = True
            ended = bisect_right(run.step.ends_s, run.reached_s(self._now_s))
            if ended + 1 < len(run.step.ends_s):  # the end of the last stage is that of the step
                number, stage_ends_s = run.number, run.since_s + run.step.ends_s[ended] - run.done_s
                self._push(stage_ends_s, lambda run=run, number=number: self._stage_ended(run, number))  # type: ignore[misc]
        if not node.runs:
            self._end(node, self._now_s)

    def _stage_ended(self, run: _Run, number: int) -> None:
        if run.is_alive and run.number == number:
            self._stop(run, self._now_s, cleanly=True)

    def _end(self, node: _Node, at_s: float) -> None:
        """End the worker's job."""
        if node.is_alive:
            node.is_alive = False
            self._nodes.pop(node.record.job)
            self._open.pop(node.record.job, None)
            self._worker_s += max(0.0, at_s - node.started_s)


def slots_of(count: int, *, workers_per_slot: int = 1) -> ScalingLimits:
    """Return limits for workers that exist from the start to the end, as on one machine."""
    return ScalingLimits(
        max_workers=count * workers_per_slot, walltime_s=math.inf, drain_before_s=0.0, successor_lead_s=0.0,
        idle_s=math.inf, start_limit_s=math.inf, workers_per_slot=workers_per_slot,
    )  # fmt: skip
