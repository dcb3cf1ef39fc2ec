"""The workers of a Ray cluster on SLURM, from the driver's side: asked for, watched, drained, replaced, given back."""

import threading
import time
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import Future, wait
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal, Protocol

import ray

from hpc.cluster.autoscaler import Actions, Failures, ScalingLimits, Worker, decide
from hpc.cluster.needs import START_LIMIT_S, RankNeed, gpus_of_worker, limits_of, worker_need
from hpc.cluster.nodes import WorkerNode, worker_nodes
from hpc.errors import GpuHoursSpentError, SlurmError
from hpc.folders.cluster_folder import ClusterFolder
from hpc.ray.private import drain_node, draining_nodes, release_node
from hpc.sites.site import Site
from hpc.slurm.jobs import ONCE, PATIENCE, Job, QueuedJob, cancel, queue, submit
from transtailor.waiting import in_thread

TICK_S = 1.0
LOOK_EVERY_S = 30.0  # two calls of squeue a minute while nothing happens
LOOK_AGAIN_S = 3.0  # after something happened that SLURM knows more of
SUBMISSION = replace(PATIENCE, tries=1)  # what fails is tried again later anyway, with the back-off of `Failures`
CLOSE_S = 5.0  # for SLURM's last answers
TICK_LIMIT_S = 10.0  # for the thread's last turn, in which Ray's head may no longer answer
PROVEN_S = 10.0  # a worker that was lost earlier after it had joined was of no use
EventKind = Literal[
    "worker_submitted", "worker_joined", "worker_draining", "worker_lost", "worker_ended", "worker_refused"
]


class OnEvent(Protocol):
    """Told what happens to workers; called from the cluster's own threads."""

    def __call__(
        self, kind: EventKind, *, job: str | None = None, node: str | None = None, detail: str | None = None
    ) -> None:
        """Takes one event: SLURM's id of the job, the node's host name, and more in words."""


@dataclass(kw_only=True)
class _Job:
    """A worker's job, as far as it is known here; times are seconds since 1970."""

    id: str
    submitted_s: float
    started_s: float | None = None
    joined_s: float | None = None
    ends_at_s: float | None = None
    idle_since_s: float | None = None
    node: str | None = None  # Ray's id
    host: str | None = None
    reason: str = ""  # why it waits in the queue
    leaves: bool = False  # drained, released or cancelled


@dataclass
class Cluster:
    """Keeps as many workers as the work can use, in a thread of its own, from `start` to `close`.

    SLURM's commands are called in further threads, and their answers taken at the next tick: one that hangs delays what
    it was called for, and nothing else. At most one look at the queue, one submission and one cancellation are under
    way.

    Args:
        folder: where the jobs meet.
        site: of the jobs.
        generation: of the head that runs.
        need: what a rank takes.
        worker_command: words that start a worker, before folder and generation.
        on_event: told what happens.
        gpu_hours_before: what earlier drivers of the sweep have had of the site's limit.
    """

    folder: ClusterFolder
    site: Site
    generation: str
    need: RankNeed
    worker_command: tuple[str, ...]
    on_event: OnEvent
    gpu_hours_before: float = 0.0
    wanted_slots: int = 0  # set by the user of the cluster: trials that run and those that could start
    slots: int = 0  # trials that can run at once on the workers that are there
    _jobs: dict[str, _Job] = field(default_factory=dict)
    _failures: Failures = field(default_factory=Failures)
    _surplus_since_s: float | None = None
    _gpu_hours_ended: float = 0.0  # of workers that have ended
    _lost_s: float = 0.0  # when a worker was lost last, in seconds since 1970
    _look_at_s: float = 0.0
    _has_looked: bool = False
    _looked_s: float = 0.0  # when the look that is under way began
    _look: Future[list[QueuedJob]] | None = None
    _submission: Future[tuple[list[Job], str | None]] | None = None
    _cancellation: Future[None] | None = None
    _to_cancel: set[str] = field(default_factory=set)
    _given_up: set[str] = field(default_factory=set)  # jobs that SLURM may still list
    _refusal: str | None = None  # of the last submission
    _error: BaseException | None = None
    _over: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        """Raise SiteError if the site cannot have such workers."""
        self.limits = limits_of(self.site, self.need)
        self._thread = threading.Thread(target=self._keep, name="cluster", daemon=True)

    @property
    def job_name(self) -> str:
        """The name of the jobs of this generation's workers."""
        return self.folder.worker_name(self.generation)

    def start(self) -> None:
        """Begins; returns at once."""
        self._thread.start()

    def check(self) -> None:
        """Raises what ended the cluster's thread, if something did."""
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Ends the thread, and the jobs that have not joined; the others end with the head.

        Where SLURM does not answer in time, those that wait in its queue end by themselves once they start.
        """
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(TICK_LIMIT_S)
        if self._submission is not None:
            wait([self._submission], CLOSE_S)
        self._take_submission(time.time())
        ids = self._to_cancel | {job.id for job in self._jobs.values() if job.joined_s is None}
        if ids:
            wait([in_thread(partial(self._cancel, sorted(ids)))], CLOSE_S)

    @property
    def waits_for_slurm(self) -> bool:
        """Whether a command of SLURM was called whose answer has not been taken yet."""
        return any(call is not None for call in (self._look, self._submission, self._cancellation))

    @property
    def waits_for(self) -> str | None:
        """What has to come before a trial can run, in words; None where there are slots."""
        if self.slots:
            return None
        queued = [job for job in self._jobs.values() if job.joined_s is None and not job.leaves]
        starting = sum(job.started_s is not None for job in queued)
        if starting:
            return f"{starting} workers that SLURM has started to join Ray, at most {START_LIMIT_S:g} s each"
        if queued:
            reasons = "; ".join(sorted({job.reason for job in queued if job.reason}))
            return f"{len(queued)} workers in the SLURM queue" + (f": {reasons}" if reasons else "")
        return f"SLURM to take a worker: {self._refusal}" if self._refusal else "SLURM to take a worker"

    def lost_one_since(self, moment_s: float) -> bool:
        """Whether a worker was lost after that moment, in seconds since 1970."""
        return self._lost_s > moment_s

    def lost_nodes(self, nodes: Sequence[str]) -> list[str]:
        """Those of the nodes (Ray's ids) that have died or are being drained."""
        alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]} - draining_nodes()  # type: ignore[no-untyped-call]
        return [node for node in nodes if node not in alive]

    def _keep(self) -> None:
        try:
            while not self._over.is_set():
                self.tick(time.time())
                self._over.wait(TICK_S)
        except BaseException as error:  # noqa: BLE001  # the main thread raises it, see `check`
            self._error = error

    def tick(self, now_s: float) -> None:
        """Sees what there is and does what is to be done; called about once a second, with the time since 1970."""
        self.observe(worker_nodes(self.need), draining_nodes(), now_s)
        self.reconcile(now_s)

    def reconcile(self, now_s: float) -> None:
        """Does what is to be done about what was seen; waits for no command of SLURM."""
        self._take_submission(now_s)
        self._take_queue(now_s)
        if self._look is None and now_s >= self._look_at_s:
            self._poll_queue(now_s)
        if self._has_looked:
            self._decide(now_s)
        self._begin_cancellation()

    def _decide(self, now_s: float) -> None:
        actions = decide(
            [self._as_worker(job) for job in self._jobs.values()],
            self.wanted_slots,
            now_s,
            self._limits_now(),
            failures=self._failures,
            surplus_since_s=self._surplus_since_s,
        )
        self._surplus_since_s = actions.surplus_since_s
        self._carry_out(actions, now_s)

    def _limits_now(self) -> ScalingLimits:
        """The limits, with what is left of the GPU-hours: workers that are there may use all that they asked for.

        Raises:
            ClusterError: too little is left for a worker, and none is there.
        """
        whole = self.site.limits.gpu_hours_per_sweep
        if whole is None:
            return self.limits
        asked = len(self._jobs) * self.limits.gpu_hours_per_worker
        limits = replace(self.limits, gpu_hours_left=whole - self.gpu_hours_before - self._gpu_hours_ended - asked)
        if limits.affordable < 1 and not self._jobs:
            used = self.gpu_hours_before + self._gpu_hours_ended
            raise GpuHoursSpentError(
                f"{used:.1f} of limits.gpu_hours_per_sweep = {whole:g} are used, too little is left for another "
                "worker; raise it in the site's file and launch again"
            )
        return limits

    # --- what there is ---

    def observe(self, nodes: Mapping[str, WorkerNode], leaving: AbstractSet[str], now_s: float) -> None:
        """Takes what Ray says: the workers' nodes by the ids of their jobs, and the ids of nodes that are drained."""
        for job_id in [job_id for job_id, node in nodes.items() if node.alive and job_id not in self._jobs]:
            self._adopt(job_id, now_s)
        for job in list(self._jobs.values()):
            node = nodes.get(job.id)
            if node is not None and node.alive and job.joined_s is None:
                self._joined(job, node, now_s)
            if job.joined_s is None:
                continue
            # SLURM warned it, or somebody else drained it; that may be seen only once it is dead.
            if node is not None and not job.leaves and (node.id in leaving or node.was_drained):
                job.leaves = True
                self._tell("worker_draining", job, "its end is near")
            if node is None or not node.alive:
                self._gone(job, now_s, "its Ray node died" + (f": {node.death}" if node and node.death else ""))
                continue
            job.idle_since_s = None if node.busy else (job.idle_since_s or now_s)
        staying = [node for job in self._jobs.values() if not job.leaves and (node := nodes.get(job.id)) and node.alive]
        self.slots = sum(node.places for node in staying) // self.need.ranks

    def _adopt(self, job_id: str, now_s: float) -> None:
        """A worker that an earlier driver asked for, and that serves the same head."""
        if job_id not in self._given_up:
            self._jobs[job_id] = _Job(id=job_id, submitted_s=now_s)

    def _joined(self, job: _Job, node: WorkerNode, now_s: float) -> None:
        job.joined_s, job.node, job.host = now_s, node.id, node.host
        job.started_s = job.started_s or now_s
        self._failures = Failures()
        self._look_at_s = min(self._look_at_s, now_s + LOOK_AGAIN_S)  # SLURM knows when it ends
        self._tell("worker_joined", job)

    def _gone(self, job: _Job, now_s: float, why: str) -> None:
        """A job that ended, as it was to or not."""
        del self._jobs[job.id]
        self._given_up.add(job.id)
        self._lost_s = now_s if job.joined_s is not None else self._lost_s
        if job.started_s is not None:
            self._gpu_hours_ended += gpus_of_worker(self.site, self.need) * (now_s - job.started_s) / 3600
        if not job.leaves and (job.joined_s is None or now_s - job.joined_s < PROVEN_S):
            self._failures = self._failures.with_one_more(now_s)
        self._tell("worker_ended" if job.leaves else "worker_lost", job, None if job.leaves else why)
        self._to_cancel.add(job.id)  # what is left of it holds a node

    def _poll_queue(self, now_s: float) -> None:
        """Asks SLURM for the jobs of this cluster; all in one call.

        The first look is worth some patience: what an earlier driver has submitted is not to be submitted again, so
        nothing is decided before it. The others are not: the next one is soon.
        """
        self._looked_s, self._look_at_s = now_s, now_s + LOOK_EVERY_S
        self._look = in_thread(partial(queue, ONCE if self._has_looked else PATIENCE))

    def _take_queue(self, now_s: float) -> None:
        if self._look is None or not self._look.done():
            return
        look, self._look, self._has_looked = self._look, None, True
        try:
            listed = {job.id: job for job in look.result(0) if job.name.startswith(self.folder.worker_prefix)}
        except SlurmError as error:  # Ray's own view goes on meanwhile
            self._tell("worker_refused", None, f"the queue cannot be read: {error}")
            return
        # Of an earlier head; and those of which a cancellation was called before, and had no effect yet.
        self._to_cancel |= {job.id for job in listed.values() if job.name != self.job_name or job.id in self._given_up}
        for job_id in [job.id for job in listed.values() if job.name == self.job_name and job.id not in self._jobs]:
            self._adopt(job_id, now_s)
        for job in list(self._jobs.values()):
            found = listed.get(job.id)
            if found is not None:
                _note(job, found, now_s)
            elif job.joined_s is None and job.submitted_s < self._looked_s - LOOK_AGAIN_S:
                self._gone(job, now_s, f"its job ended before it joined; its log is in {self.folder.logs}")

    # --- what is to be done ---

    def _carry_out(self, actions: Actions, now_s: float) -> None:
        if actions.submit and self._submission is None:
            self._submission = in_thread(partial(self._submit, actions.submit))
        for job_id in actions.drain:
            job = self._jobs[job_id]
            assert job.node is not None
            drain_node(job.node, "its walltime ends", max(1.0, (job.ends_at_s or now_s) - now_s))
            self._leave(job, "its walltime ends")
        for job_id in actions.release:
            job = self._jobs[job_id]
            assert job.node is not None
            if release_node(job.node):
                self._leave(job, "nothing is left for it to do")
        for job_id in actions.cancel:
            job = self._jobs[job_id]
            if job.started_s is not None:
                self._gone(job, now_s, f"it did not join in {START_LIMIT_S:g} s; its log is in {self.folder.logs}")
            else:
                job.leaves = True
                self._gone(job, now_s, "")

    def _submit(self, number: int) -> tuple[list[Job], str | None]:
        """Submits so many workers, until one is refused: those that were submitted, and why the next one was not."""
        need = worker_need(self.site, self.need, self.folder, self.job_name)
        words = [*self.worker_command, str(self.folder.path), self.generation]
        submitted: list[Job] = []
        try:
            while len(submitted) < number and not self._over.is_set():
                submitted.append(submit(self.site, need, words, SUBMISSION))
        except SlurmError as error:
            return submitted, str(error)
        return submitted, None

    def _take_submission(self, now_s: float) -> None:
        if self._submission is None or not self._submission.done():
            return
        submission, self._submission = self._submission, None
        submitted, refusal = submission.result(0)
        self._refusal = refusal
        for job in [_Job(id=job.ids[0], submitted_s=now_s) for job in submitted]:
            if job.id not in self._given_up:  # it may have joined, or ended, while others were submitted
                self._jobs.setdefault(job.id, job)
            self._tell("worker_submitted", job)
        if refusal is not None:
            self._failures = self._failures.with_one_more(now_s)
            self._tell("worker_refused", None, refusal)

    def _leave(self, job: _Job, why: str) -> None:
        job.leaves = True
        self.folder.release(job.id)
        self._tell("worker_draining", job, why)

    def _begin_cancellation(self) -> None:
        if self._cancellation is not None and self._cancellation.done():
            self._cancellation.result(0)
            self._cancellation = None
        if self._to_cancel and self._cancellation is None:
            self._cancellation = in_thread(partial(self._cancel, sorted(self._to_cancel)))
            self._to_cancel = set()

    def _cancel(self, ids: list[str]) -> None:
        try:
            cancel(ids, ONCE)
        except SlurmError as error:  # those that the next look still finds are cancelled again
            self._tell("worker_refused", None, f"{', '.join(ids)} cannot be cancelled: {error}")

    def _tell(self, kind: EventKind, job: _Job | None, detail: str | None = None) -> None:
        self.on_event(
            kind, job=None if job is None else job.id, node=None if job is None else job.host, detail=detail or None
        )

    def _as_worker(self, job: _Job) -> Worker:
        state: Literal["waiting", "starting", "ready", "draining"] = "waiting"
        if job.leaves:
            state = "draining"
        elif job.joined_s is not None:
            state = "ready"
        elif job.started_s is not None:
            state = "starting"
        return Worker(
            job=job.id,
            state=state,
            ends_at_s=job.ends_at_s,
            busy=job.idle_since_s is None,
            idle_since_s=job.idle_since_s if state == "ready" else None,
            starting_since_s=job.started_s if state == "starting" else None,
        )


def _note(job: _Job, found: QueuedJob, now_s: float) -> None:
    """What SLURM says of a job."""
    if found.state.state == "PENDING":
        job.reason = found.state.explanation
        return
    job.started_s = job.started_s or now_s
    if found.ends_at is not None:
        job.ends_at_s = found.ends_at.timestamp()
