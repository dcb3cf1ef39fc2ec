"""The workers of a Ray cluster on SLURM, managed by the driver: submitted, watched, drained, replaced, released."""

import threading
import time
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Literal, Protocol

import ray

from hpc.cluster.autoscaler import Actions, Failures, ScalingLimits, decide
from hpc.cluster.cluster_folder import ClusterFolder
from hpc.cluster.needs import START_LIMIT_S, RankNeed, gpus_of_worker, limits_of, worker_need
from hpc.cluster.nodes import WorkerNode, worker_nodes
from hpc.cluster.worker_job import WorkerJob
from hpc.errors import GpuHoursSpentError, SlurmError
from hpc.ray.private import drain_node, draining_nodes, release_node
from hpc.sites.site import Site
from hpc.slurm.calls import TRIES
from hpc.slurm.jobs import QueuedJob, cancel, queue, submit
from transtailor.plural import counted
from transtailor.waiting import start_in_thread

TICK_S = 1.0
LOOK_EVERY_S = 30.0  # two calls of squeue a minute while nothing happens
LOOK_AGAIN_S = 3.0  # after an event of which SLURM knows more
CLOSE_S = 5.0  # for SLURM's last answers
TICK_LIMIT_S = 10.0  # for the thread's last turn, in which Ray's head may no longer answer
PROVEN_S = 10.0  # a worker that is lost sooner after it joined counts as a failure
EventKind = Literal[
    "worker_submitted", "worker_joined", "worker_draining", "worker_lost", "worker_ended", "worker_refused"
]


class OnEvent(Protocol):
    """Receives the events of workers; called from the cluster's own threads."""

    def __call__(
        self, kind: EventKind, *, job: str | None = None, node: str | None = None, detail: str | None = None
    ) -> None:
        """Take one event: SLURM's id of the job, the node's host name, and details for people."""


class Cluster:
    """Keeps as many workers as the work can use, in a thread of its own, from `start` to `close`.

    A driver uses `start`, `wanted_slots`, `slots`, `check` and `close`; `tick` is one turn of the thread. SLURM's
    commands are called in further threads, and their answers are taken at the next tick: so a command that hangs delays
    only what it is for. At most one poll of the queue, one submission and one cancellation are under way.
    """

    def __init__(
        self,
        folder: ClusterFolder,
        site: Site,
        generation: str,
        need: RankNeed,
        worker_command: Sequence[str],
        on_event: OnEvent,
        gpu_hours_before: float = 0.0,
    ) -> None:
        """Take the cluster's parts; nothing runs before `start`.

        Args:
            generation: of the head that runs.
            need: of one rank.
            worker_command: words that start a worker, before folder and generation.
            on_event: receives what happens.
            gpu_hours_before: used by earlier drivers of the sweep.

        Raises:
            SiteError: the site cannot have such workers.
        """
        self.generation = generation
        self.job_name = folder.worker_name(generation)  # of all workers
        # Also those of the workers of earlier heads.
        self._job_names = sorted({self.job_name, *folder.job_names()} - {folder.controller_name})
        self.wanted_slots = 0  # set by the driver: trials that run and those that could start
        self.slots = 0  # trials that can run at once on the present workers
        self._folder = folder
        self._site = site
        self._need = need
        self._on_event = on_event
        self._worker_command = [*worker_command, str(folder.path), generation]
        self._limits = limits_of(site, need)
        self._jobs: dict[str, WorkerJob] = {}
        self._failures = Failures()
        self._surplus_since_s: float | None = None
        self._gpu_hours_ended = gpu_hours_before  # of workers that have ended
        self._lost_s = 0.0  # when a worker was lost last
        self._poll_at_s = 0.0  # when the queue is polled next
        self._polled_s = 0.0  # when the last poll began
        self._has_polled = False
        self._poll: Future[list[QueuedJob]] | None = None
        self._submission: Future[tuple[list[str], str | None]] | None = None
        self._cancellation: Future[None] | None = None
        self._to_cancel = set[str]()
        self._given_up = set[str]()  # jobs that SLURM may still list
        self._refusal: str | None = None  # of the last submission
        self._error: BaseException | None = None
        self._clock_s = time.time() - time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cluster", daemon=True)

    def start(self) -> None:
        """Start the thread; returns at once."""
        self._thread.start()

    def check(self) -> None:
        """Raise the error that ended the cluster's thread, if there is one."""
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """End the thread, and the jobs that have not joined; the others end with the head.

        If SLURM does not answer in time, jobs in its queue end by themselves once they start.
        """
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(TICK_LIMIT_S)
        if self._submission is not None:
            wait([self._submission], CLOSE_S)
        self._take_submission(self.now_s)
        not_joined = {job.id for job in self._jobs.values() if job.joined_s is None}
        ids = sorted(self._to_cancel | not_joined)
        if ids:
            cancellation = start_in_thread(lambda: self._cancel(ids))
            wait([cancellation], CLOSE_S)

    @property
    def now_s(self) -> float:
        """Seconds since 1970 by the clock as it was at the start. If the clock is set later, no wait changes."""
        return time.monotonic() + self._clock_s

    @property
    def waits_for(self) -> str | None:
        """What has to happen before a trial can run, as a message; None if there are slots."""
        if self.slots:
            return None
        queued = [job for job in self._jobs.values() if job.joined_s is None and not job.leaves]
        starting = [job for job in queued if job.started_s is not None]
        if starting:
            workers = counted(len(starting), "worker")
            return f"{workers} that SLURM has started to join Ray, at most {START_LIMIT_S:g} s each"
        if queued:
            reasons = "; ".join(sorted({job.reason for job in queued if job.reason}))
            # What SLURM said at the last poll: it may have started or ended one since.
            return f"{counted(len(queued), 'worker')} to start" + (f"; SLURM said: {reasons}" if reasons else "")
        return f"SLURM to take a worker: {self._refusal}" if self._refusal else "SLURM to take a worker"

    def lost_one_since(self, moment_s: float) -> bool:
        """Whether a worker was lost after that moment, by the clock of `now_s`."""
        return self._lost_s > moment_s

    def lost_nodes(self, nodes: Sequence[str]) -> list[str]:
        """Return those of the nodes (Ray's ids) that have died or are being drained."""
        alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}  # type: ignore[no-untyped-call]
        usable = alive - draining_nodes()
        return [node for node in nodes if node not in usable]

    def _run(self) -> None:
        try:
            while not self._over.is_set():
                self.tick(self.now_s)
                self._over.wait(TICK_S)
        except BaseException as error:  # noqa: BLE001  # the main thread raises it, see `check`
            self._error = error

    def tick(self, now_s: float) -> None:
        """Observe and reconcile once; called about once a second, with `now_s`."""
        self.observe(worker_nodes(self._need), draining_nodes(), now_s)
        self.reconcile(now_s)

    def reconcile(self, now_s: float) -> None:
        """Start the actions that bring the workers to the wanted number; waits for no command of SLURM."""
        self._take_submission(now_s)
        self._take_queue(now_s)
        if self._poll is None and now_s >= self._poll_at_s:
            # Ask SLURM for the jobs of this cluster, all in one call
            # The first poll is repeated if it fails: jobs of an earlier driver must not be submitted
            # again, so no decision is made before it. Later polls are not repeated, since the next one
            # follows soon.
            self._polled_s = now_s
            self._poll_at_s = now_s + LOOK_EVERY_S
            tries = 1 if self._has_polled else TRIES
            self._poll = start_in_thread(partial(queue, self._job_names, self._site.cluster, tries))
        if self._has_polled:
            actions = decide(
                [job.as_worker() for job in self._jobs.values()],
                self.wanted_slots,
                now_s,
                self._limits_now(),
                failures=self._failures,
                surplus_since_s=self._surplus_since_s,
            )
            self._surplus_since_s = actions.surplus_since_s
            self._carry_out(actions, now_s)
        if self._cancellation is not None and self._cancellation.done():
            with suppress(OSError):  # as above; those that the next poll still finds are cancelled again
                self._cancellation.result(0)
            self._cancellation = None
        if self._to_cancel and self._cancellation is None:
            ids = sorted(self._to_cancel)
            self._cancellation = start_in_thread(lambda: self._cancel(ids))
            self._to_cancel = set()

    def _limits_now(self) -> ScalingLimits:
        """Return the limits with the GPU-hours that are left; present workers count with all that they asked for.

        Raises:
            GpuHoursSpentError: too little is left for a worker, and no worker is present.
        """
        allowed_hours = self._site.limits.gpu_hours_per_sweep
        if allowed_hours is None:
            return self._limits
        hours_of_present = len(self._jobs) * self._limits.gpu_hours_per_worker
        limits = replace(self._limits, gpu_hours_left=allowed_hours - self._gpu_hours_ended - hours_of_present)
        if limits.affordable < 1 and not self._jobs:
            raise GpuHoursSpentError(
                f"{self._gpu_hours_ended:.1f} of limits.gpu_hours_per_sweep = {allowed_hours:g} are used, too little "
                "is left for another worker; raise it in the site's file and launch again"
            )
        return limits

    # --- the present state ---

    def observe(self, nodes: Mapping[str, WorkerNode], leaving: AbstractSet[str], now_s: float) -> None:
        """Take Ray's view: the workers' nodes by the ids of their jobs, and the ids of nodes that are drained."""
        for job_id, node in nodes.items():
            if node.alive and job_id not in self._jobs:
                self._adopt(job_id, now_s)
        for job in list(self._jobs.values()):
            self._observe_job(job, nodes.get(job.id), leaving, now_s)
        places = 0
        for job in self._jobs.values():
            node_of_job = nodes.get(job.id)
            if node_of_job is not None and node_of_job.alive and not job.leaves:
                places += node_of_job.places
        self.slots = places // self._need.ranks

    def _observe_job(self, job: WorkerJob, node: WorkerNode | None, leaving: AbstractSet[str], now_s: float) -> None:
        """Note whether a worker has joined, is being drained, has died, or is idle; `node` is None without one."""
        if node is not None and node.alive and job.joined_s is None:
            job.joined_s = now_s
            job.node = node.id
            job.host = node.host
            job.started_s = job.started_s or now_s
            self._failures = Failures()
            self._poll_at_s = min(self._poll_at_s, now_s + LOOK_AGAIN_S)  # SLURM knows when it ends
            self._report("worker_joined", job)
        if job.joined_s is None:
            return
        # SLURM warned it, or another program drained it; that may be seen only once it is dead.
        if node is not None and not job.leaves and (node.id in leaving or node.was_drained):
            job.leaves = True
            self._report("worker_draining", job, "its end is near")
        if node is None or not node.alive:
            death = f": {node.death}" if node is not None and node.death else ""
            self._forget(job, now_s, f"its Ray node died{death}")
        elif node.busy:
            job.idle_since_s = None
        else:
            job.idle_since_s = job.idle_since_s or now_s

    def _adopt(self, job_id: str, now_s: float) -> None:
        """Take over a worker that an earlier driver submitted for the same head."""
        if job_id not in self._given_up:
            self._jobs[job_id] = WorkerJob(id=job_id, submitted_s=now_s)

    def _forget(self, job: WorkerJob, now_s: float, why: str) -> None:
        """Forget a job that ended, wanted or not, and have SLURM cancel what is left of it."""
        del self._jobs[job.id]
        self._given_up.add(job.id)
        if job.joined_s is not None:
            self._lost_s = now_s
        if job.started_s is not None:
            self._gpu_hours_ended += gpus_of_worker(self._site, self._need) * (now_s - job.started_s) / 3600
        if job.leaves:
            self._report("worker_ended", job)
        else:
            was_of_use = job.joined_s is not None and now_s - job.joined_s >= PROVEN_S
            if not was_of_use:
                self._failures = self._failures.with_one_more(now_s)
            self._report("worker_lost", job, why)
        self._to_cancel.add(job.id)  # a remaining process would hold the node

    def _take_queue(self, now_s: float) -> None:
        """Take SLURM's view, once the poll of the queue has an answer."""
        if self._poll is None or not self._poll.done():
            return
        poll = self._poll
        self._poll = None
        self._has_polled = True
        try:
            listed = {job.id: job for job in poll.result(0) if job.name in self._job_names}
        except (SlurmError, OSError) as error:  # Ray's own view stays up to date meanwhile
            self._report("worker_refused", None, f"the queue cannot be read: {error}")
            return
        for listed_job in listed.values():
            is_of_earlier_head = listed_job.name != self.job_name
            if is_of_earlier_head or listed_job.id in self._given_up:  # the latter is not cancelled yet
                self._to_cancel.add(listed_job.id)
            if not is_of_earlier_head and listed_job.id not in self._jobs:
                self._adopt(listed_job.id, now_s)
        clock_was_set_by_s = round(time.time() - self.now_s)  # since the start; SLURM's times are by that clock
        for job in list(self._jobs.values()):
            queued = listed.get(job.id)
            if queued is not None:
                job.take_from_queue(queued, now_s, clock_was_set_by_s)
            # The look that follows a submission may be too early for squeue to list the job.
            elif job.joined_s is None and job.submitted_s < self._polled_s - 2 * LOOK_AGAIN_S:
                self._forget(job, now_s, f"its job ended before it joined; its log is in {self._folder.logs}")

    # --- actions ---

    def _carry_out(self, actions: Actions, now_s: float) -> None:
        if actions.submit and self._submission is None:
            self._submission = start_in_thread(lambda: self._submit(actions.submit))
        for job_id in actions.drain:
            job = self._jobs[job_id]
            assert job.node is not None
            left_s = (job.ends_at_s or now_s) - now_s
            drain_node(job.node, "its walltime ends", max(1.0, left_s))
            self._leave(job, "its walltime ends")
        for job_id in actions.release:
            job = self._jobs[job_id]
            assert job.node is not None
            if release_node(job.node):
                self._leave(job, "no work is left for it")
        for job_id in actions.cancel:
            job = self._jobs[job_id]
            if job.started_s is not None:
                self._forget(job, now_s, f"it did not join in {START_LIMIT_S:g} s; its log is in {self._folder.logs}")
            else:
                job.leaves = True
                self._forget(job, now_s, "")

    def _submit(self, number: int) -> tuple[list[str], str | None]:
        """Submit `number` workers, until one is refused; return the ids of their jobs, and the reason of a refusal.

        A call that fails is repeated later, with the back-off of `Failures`.
        """
        need = worker_need(self._site, self._need, self._folder.logs, self.job_name)
        submitted: list[str] = []
        try:
            while len(submitted) < number and not self._over.is_set():
                submitted.append(submit(self._site, need, self._worker_command, tries=1))
        except (SlurmError, OSError) as error:  # also where its file cannot be written
            return submitted, str(error)
        return submitted, None

    def _take_submission(self, now_s: float) -> None:
        if self._submission is None or not self._submission.done():
            return
        submission = self._submission
        self._submission = None
        submitted: list[str] = []
        try:
            submitted, self._refusal = submission.result(0)
        except OSError as error:  # no thread could be started for it
            self._refusal = str(error)
        for job_id in submitted:
            job = WorkerJob(id=job_id, submitted_s=now_s)
            if job.id not in self._given_up:  # it may have joined, or ended, while others were submitted
                self._jobs.setdefault(job.id, job)
            self._report("worker_submitted", job)
            self._poll_at_s = min(self._poll_at_s, now_s + LOOK_AGAIN_S)  # why it waits, if it does
        if self._refusal is not None:
            self._failures = self._failures.with_one_more(now_s)
            self._report("worker_refused", None, self._refusal)

    def _leave(self, job: WorkerJob, why: str) -> None:
        """Note that a worker's node was told to end."""
        job.leaves = True
        self._folder.release(job.id)
        self._report("worker_draining", job, why)

    def _cancel(self, ids: list[str]) -> None:
        try:
            cancel(ids, self._site.cluster, tries=1)
        except SlurmError as error:  # those that the next poll still finds are cancelled again
            self._report("worker_refused", None, f"{', '.join(ids)} cannot be cancelled: {error}")

    def _report(self, kind: EventKind, job: WorkerJob | None, detail: str | None = None) -> None:
        if job is None:
            self._on_event(kind, job=None, node=None, detail=detail or None)
        else:
            self._on_event(kind, job=job.id, node=job.host, detail=detail or None)
