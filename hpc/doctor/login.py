"""Run the doctor on the login node: checks without a job, the jobs, and the removal of all that it made."""

import fcntl
import secrets
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

import hpc
from hpc.cluster.cluster_folder import ClusterFolder
from hpc.cluster.needs import RankNeed, controller_need, default_devices, limits_of
from hpc.doctor.checklist import Checklist
from hpc.doctor.finding import Checks, DoctorFolder, Finding, NodeState, environment, failure, fine, unknown
from hpc.doctor.names import NAMES_LIMIT_S, make_names, write_verdict
from hpc.doctor.slurm_checks import accounting, partition_gpus, ping
from hpc.doctor.watch import EDIT, Stopped, Watch, clock_finding
from hpc.errors import ClusterError, SiteError, SlurmError
from hpc.sites.site import Need, Site
from hpc.slurm.calls import call_of
from hpc.slurm.jobs import QueuedJob, cancel, jobs, queue, requeue, signal_steps, submit, would_start
from transtailor.documents import Record
from transtailor.waiting import WaitedTooLong, wait_for

PARTS = ("main", "walltime", "whole")  # its jobs, by the end of their names
NEEDED = ("sbatch", "squeue", "scancel", "scontrol")
WALLTIME_MIN = 15  # more than all limits below
MEMORY_GB = 4.0  # torch with CUDA takes most of it
SIGNAL_BEFORE_S = 30
ANSWER_LIMIT_S = 120.0  # after SLURM's start of the job: for setup lines, the start of Python, a slow file system
SIGNAL_LIMIT_S = 30.0
END_LIMIT_S = 90.0
CLEAN_END_LIMIT_S = 20.0
PEER_LIMIT_S = 60.0  # between the start of the second job and the question to both
REQUEUE_LIMIT_S = 60.0
RESTART_LIMIT_S = 300.0  # a requeued job waits as long as a credential lasts, by default two minutes
SHORT_WALLTIME_MIN = 2
# The nodes' checks in their order: title, and the longest time after the report of the check before.
NODE_CHECKS = {
    "environment": ("Python environment", 60.0),
    "scratch": ("scratch folder", 60.0),
    "limits": ("limits of processes", 60.0),
    "locks": ("locks", 60.0),
    "submission": ("jobs submitted by nodes", 90.0),
    "ports": ("ports between nodes", 120.0),
    "gpus": ("GPUs", 150.0),
    "all-reduce": ("all-reduce between nodes", 150.0),
    "ray": ("Ray head and worker", 330.0),
    "names": ("files of other machines", NAMES_LIMIT_S + 30.0),
}


@dataclass
class Doctor:
    """One examination of a site.

    Args:
        parent: a folder that all nodes should see; a new one is made in it.
        limit_s: how long a job may wait in the queue.
        thorough: also ask for all GPUs of a node, and wait for a requeued job and for the signal of a real walltime.
    """

    site: Site
    parent: Path
    checklist: Checklist
    limit_s: float
    thorough: bool = False
    _name: str = field(default_factory=lambda: f"doctor-{secrets.token_hex(4)}")
    _path: Path | None = None
    _jobs: list[str] = field(default_factory=list)
    _whole_jobs: dict[str, str] = field(default_factory=dict)  # title of a check -> id
    _lock: BinaryIO | None = None

    def run(self) -> bool:
        """Run all checks, and clear what they made in any case; return whether all of them passed."""
        try:
            self._check_login_node()
            watch = self._start_jobs()
            self._check_nodes(watch)
            for title, job in self._whole_jobs.items():
                self._try(title, partial(self._whole, job))
            self._signal(watch)
            self._requeue(watch)
            if self.thorough:
                self._walltime()
        except Stopped as stopped:
            self.checklist.add("all further checks", unknown(f"not done, as {stopped}"))
        finally:
            self._clear()
        return not self.checklist.misses

    def _try(self, title: str, check: Callable[[], Finding], advice: str = EDIT) -> bool:
        """Run a check and print its finding; return False if something is missing. An error is a miss."""
        try:
            finding = check()
        except (SiteError, SlurmError, ClusterError, OSError) as error:
            finding = failure(str(error), advice)
        self.checklist.add(title, finding)
        return finding.state != "missing"

    # --- without a job ---

    def _check_login_node(self) -> None:
        absent = [name for name in NEEDED if shutil.which(name) is None]
        if absent:
            self.checklist.add(
                "commands", failure(f"no {', '.join(absent)} on PATH", "go to a login node of the cluster")
            )
            raise Stopped("SLURM's commands are missing")
        self.checklist.add("commands", fine(", ".join(NEEDED)))
        ping_command = shlex.join(call_of(self.site.cluster, "scontrol", "ping"))
        if not self._try("SLURM answers", lambda: ping(self.site.cluster), f"type: {ping_command}"):
            raise Stopped("SLURM does not answer")
        self.checklist.add("accounting", accounting(self.site.cluster))
        self._try("site", self._limits)
        devices = f"{default_devices(self.site)}, unless [resources] gpus_per_rank of the spec says otherwise"
        self.checklist.add("devices of trials", fine(devices))
        self.checklist.add("GPUs of the partition", partition_gpus(self.site))
        if not self._try("folder", self._make_folder, "give a folder of yours that all nodes see: --folder"):
            raise Stopped("there is no folder for its files")
        worker = Need(log_folder=self._logs, signal_before_s=self.site.drain_before_s, requeue=False)
        is_worker_accepted = self._try("a worker's job", lambda: fine(would_start(self.site, worker, ["true"])))
        controller_site = self.site.controller_site()
        controller = controller_need(self.site, self._logs, f"{self._name}-controller")
        self._try("the controller's job", lambda: fine(would_start(controller_site, controller, ["true"])))
        if not is_worker_accepted:
            raise Stopped("SLURM takes no such jobs")

    def _limits(self) -> Finding:
        limits = limits_of(self.site, RankNeed(ranks=1, cpus_per_rank=1, gpus_per_rank=0.0))
        most = "as many workers as wanted" if self.site.limits.max_jobs is None else f"{limits.max_workers} workers"
        return fine(f"{self.site.partition or 'default partition'}, {most}, {self.site.walltime_min} min each")

    def _make_folder(self) -> Finding:
        self._path = Path(tempfile.mkdtemp(prefix=f".{self._name}-", dir=self.parent))
        file = self._path / "file"
        file.touch(mode=0o600)
        rights = tuple(oct(path.stat().st_mode & 0o777) for path in (self._path, file))
        site = self.site.model_copy(update={"scratch_folder": None})
        ClusterFolder(self._path / "main" / "cluster").make(site, self._name)
        self._logs.mkdir()
        return _rights_finding(rights) or fine(f"{self.parent} is writable, and what is made private there is so")

    @property
    def _logs(self) -> Path:
        assert self._path is not None
        return self._path / "logs"

    # --- the job ---

    def _start_jobs(self) -> Watch:
        """Start two jobs, each on another node, as workers are; only one if the site gives no second."""
        watch: Watch | None = None

        def check() -> Finding:
            nonlocal watch
            watch = self._submit("main", 0, WALLTIME_MIN, SIGNAL_BEFORE_S)
            return watch.wait_until_started(self.limit_s)

        if not self._try("job starts", check) or watch is None:
            raise Stopped("its job did not start")
        second_job = self._start_second_job(watch)
        if second_job is not None:
            watch = replace(watch, ids=[*watch.ids, second_job], ranks=range(2))
        self._ask(watch)
        self._submit_whole_jobs()
        return watch

    def _submit_whole_jobs(self) -> None:
        """Submit a worker's and a controller's job as a sweep does, which do nothing: `_whole` looks at them later."""
        name = f"{self._name}-whole"
        worker = Need(log_folder=self._logs, job_name=name, signal_before_s=self.site.drain_before_s, requeue=False)
        controller = controller_need(self.site, self._logs, name)
        for title, site, need in (
            ("a worker's whole job", self.site, worker),
            ("the controller's whole job", self.site.controller_site(), controller),
        ):
            plain_site = site.model_copy(update={"scratch_folder": None, "setup": (), "container": ()})
            try:
                self._whole_jobs[title] = submit(plain_site, need, ["true"]).ids[0]
            except SlurmError as error:  # such as a limit of jobs in the queue, in which the doctor's own are
                self.checklist.add(title, unknown(f"not tried beside the doctor's own jobs: {error}"))
            else:
                self._jobs.append(self._whole_jobs[title])

    def _whole(self, job: str) -> Finding:
        """Return whether SLURM, which takes jobs that are too large or long on most clusters, will ever start this."""
        state = jobs([job], self.site.cluster)[job]
        if state.waits_for_good:
            return failure(f"it would wait for ever: {state.explanation} ({state.reason})", EDIT)
        return fine("it has started, or waits for its turn")

    def _start_second_job(self, first: Watch) -> str | None:
        """Start a second job on another node than the first, and return its id; None, after a line, without one."""
        try:
            excluded_nodes = [str(self.site.sbatch.get("exclude", ""))]
            excluded_nodes += [job.nodes for job in self._queue() if job.id in first.ids]
            flags = dict(self.site.sbatch)
            if any(excluded_nodes):
                flags["exclude"] = ",".join(nodes for nodes in excluded_nodes if nodes)
            site = self._small_site.model_copy(update={"sbatch": flags})
            would_start(site, self._need("main", WALLTIME_MIN, SIGNAL_BEFORE_S), ["true"])
            second = self._submit("main", 1, WALLTIME_MIN, SIGNAL_BEFORE_S, site)
            finding = second.wait_until_started(self.limit_s)
            if finding.state == "fine":
                self.checklist.add("second job starts", finding)
                return second.ids[0]
            cancel(second.ids, self.site.cluster)
            fault = finding.text
        except (SiteError, SlurmError) as error:
            fault = str(error)
        self.checklist.add(
            "two nodes", unknown(f"no job gets another one, nothing between nodes can be checked: {fault}")
        )
        return None

    @property
    def _small_site(self) -> Site:
        # The job makes the folder for temporary files on each of its nodes: setup lines run only on the first.
        return self.site.model_copy(update={"scratch_folder": None, "exclusive": False})

    @property
    def _gpus(self) -> int:
        return self.site.gpus_per_node if self.thorough else min(1, self.site.gpus_per_node)

    def _need(self, part: str, walltime_min: int, signal_before_s: int) -> Need:
        memory_gb = self.site.memory_gb
        return Need(
            log_folder=self._logs,
            job_name=f"{self._name}-{part}",
            cpus=1,
            memory_gb=None if memory_gb is None else min(MEMORY_GB, memory_gb),
            gpus=self._gpus,
            walltime_min=min(walltime_min, self.site.walltime_min),
            signal_before_s=signal_before_s,
        )

    def _submit(self, part: str, rank: int, walltime_min: int, signal_before_s: int, site: Site | None = None) -> Watch:
        """Submit the job of one rank, which waits for `_ask`, in a folder for all ranks."""
        assert self._path is not None
        folder = DoctorFolder(self._path / part)
        folder.path.mkdir(exist_ok=True)
        if self._lock is None:
            self._lock = folder.lock.open("wb")
            with suppress(OSError):  # if the file system has no locks, the nodes report it
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        code = Path(next(iter(hpc.__path__))).parent
        arguments = [str(folder.path), str(rank), f"{self.limit_s + PEER_LIMIT_S:g}"]
        command = ["env", f"PYTHONPATH={code}", sys.executable, "-P", "-u", "-m", "hpc.doctor.job", *arguments]
        job = submit(site or self._small_site, self._need(part, walltime_min, signal_before_s), command)
        self._jobs += job.ids
        return Watch([job.ids[0]], folder, self._logs, self.checklist, range(1), self.site.cluster)

    def _queue(self) -> list[QueuedJob]:
        """Return the doctor's own jobs that have not ended."""
        return queue([f"{self._name}-{part}" for part in PARTS], self.site.cluster)

    def _ask(self, watch: Watch, *, signal_alone: bool = False) -> None:
        """Let the started jobs begin their checks."""
        question = Checks(
            ranks=len(watch.ranks), gpus=self._gpus, interface=self.site.network_interface,
            scratch=self.site.scratch_folder, environment=environment(), workers=self.site.limits.max_jobs,
            signal_alone=signal_alone,
        )  # fmt: skip
        watch.folder.write("question", question)

    def _check_nodes(self, watch: Watch) -> None:
        self._check_folder(watch)
        for check, (title, limit_s) in NODE_CHECKS.items():
            what = f"{title} (at most {limit_s:g} s)"
            try:
                finding = watch.wait_for_finding(check, limit_s, what)
            except ClusterError as error:
                self.checklist.add(title, failure(str(error), "its log says why; the text above is its end"))
                raise Stopped("the job did not resume") from error
            self.checklist.add(title, finding)
            if check == "names":
                write_verdict(self.parent, finding)
            if finding.state == "missing":
                self.checklist.print_lines(f"    the ends of the job's logs{watch.log_end()}")

    def _check_folder(self, watch: Watch) -> None:
        try:
            what = f"the nodes' answers (at most {ANSWER_LIMIT_S:g} s)"
            answers = watch.wait_for_answers("hello", NodeState, ANSWER_LIMIT_S, what)
        except ClusterError as error:
            advice = (
                f"if there is no log: do the nodes see {self.parent}? Set shared_folder in the site, or give --folder; "
                "otherwise the log says what fails: see setup and container in the site"
            )
            self.checklist.add("folder shared", failure(str(error), advice))
            raise Stopped("the nodes do not answer") from error
        nodes = ", ".join(answer.node for answer in answers)
        self.checklist.add("folder shared", fine(f"{self.parent} is seen by {nodes}, both ways"))
        self.checklist.add("rights on the nodes", _rights_on_nodes(answers))
        asked_s = time.time()
        watch.folder.write("clock", Record())
        try:
            times = watch.wait_for_answers("clock", NodeState, ANSWER_LIMIT_S, "the nodes' clocks")
        except ClusterError as error:
            self.checklist.add("clocks", failure(str(error), "are files seen only late? Try another --folder"))
            raise Stopped("the nodes do not answer") from error
        self.checklist.add("clocks", clock_finding(times, asked_s, time.time()))
        make_names(watch.folder, range(len(watch.ranks)))

    # --- what SLURM does to jobs ---

    def _signal(self, watch: Watch) -> None:
        def check() -> Finding:
            watch.wait_for_answers("listens", Record, ANSWER_LIMIT_S, "the end of the checks on the nodes")
            signal_steps(watch.ids, "USR2", self.site.cluster)
            finding = watch.wait_for_finding("signal", SIGNAL_LIMIT_S, f"the signal (at most {SIGNAL_LIMIT_S:g} s)")
            if finding.state == "missing":
                return finding
            how = "sent by scancel as SLURM does before a walltime, without waiting for one"
            if not self.thorough:
                how += ": --thorough does"
            return fine(f"USR2 reaches the processes ({how})")

        self._try("signal", check, "does container or setup start the command in a way that keeps signals from it?")

    def _requeue(self, watch: Watch) -> None:
        def check() -> Finding:
            requeue(watch.ids[0], self.site.cluster)
            if self.thorough:
                what = f"the requeued job (at most {RESTART_LIMIT_S:g} s)"
                self.checklist.show_wait(what)
                wait_for(lambda: watch.folder.read("restarted", Record), what, RESTART_LIMIT_S, error=ClusterError)
                return fine("the job was queued again and has started a second time")
            waits = ("PENDING", "REQUEUED", "REQUEUE_HOLD")

            requeued = replace(watch, ids=watch.ids[:1])  # of two jobs, `state` prefers one that has ended

            def is_queued_again() -> bool:  # it may start again between two polls, and then reports that
                return requeued.state().state in waits or watch.folder.read("restarted", Record) is not None

            wait_for(is_queued_again, "the job to be queued again", REQUEUE_LIMIT_S, error=ClusterError)
            return fine("the job was queued again")

        advice = (
            "may you requeue your own jobs here (JobRequeue, scontrol requeue)? Without, a sweep ends at its walltime"
        )
        self._try("requeue", check, advice)

    def _walltime(self) -> None:
        limit_s = 60 * min(SHORT_WALLTIME_MIN, self.site.walltime_min)
        before_s = limit_s // 2

        def check() -> Finding:
            watch = self._submit("walltime", 0, SHORT_WALLTIME_MIN, before_s)
            start = watch.wait_until_started(self.limit_s)
            if start.state == "missing":
                return start
            self._ask(watch, signal_alone=True)
            started_s = time.monotonic()
            finding = watch.wait_for_finding("signal", limit_s, f"the signal before a walltime of {limit_s} s")
            if finding.state == "missing":  # the job came to its end without it
                return finding
            after_s = time.monotonic() - started_s
            return fine(
                f"USR2 came {after_s:.0f} s after the start, asked for {before_s} s before a walltime of {limit_s} s"
            )

        self._try("signal before walltime", check, "does this SLURM keep to sbatch --signal? Ask its administrator")

    # --- the end ---

    def _end(self, ids: list[str]) -> None:
        """Have jobs end by themselves, so that they clear their files on the nodes; cancel those that do not.

        Raises:
            SlurmError: SLURM failed.
            ClusterError: they have not ended in time.
        """
        cluster = self.site.cluster
        running = [job for job, state in jobs(ids, cluster).items() if state.state == "RUNNING"]
        if running:
            with suppress(SlurmError, WaitedTooLong):  # then they are cancelled; SLURM kills them soon after
                signal_steps(running, "TERM", cluster)
                wait_for(lambda: _are_over(running, cluster), "a clean end", CLEAN_END_LIMIT_S)
        cancel(ids, cluster)
        what = f"job {', '.join(ids)} to end; type: {shlex.join(call_of(cluster, 'scancel', *ids))}"
        wait_for(lambda: _are_over(ids, cluster), what, END_LIMIT_S, error=ClusterError)

    def _clear(self) -> None:
        def check() -> Finding:
            also_queued = [job.id for job in self._queue() if job.id not in self._jobs]  # if sbatch hung
            self._end([*self._jobs, *also_queued])
            if self._lock is not None:
                self._lock.close()
            if self._path is not None:
                shutil.rmtree(self._path)
            return fine("no job, no folder")

        if self._path is not None:
            look = shlex.join(call_of(self.site.cluster, "squeue", "--me"))
            self._try("nothing left behind", check, f"look yourself: {look}; rm -r {shlex.quote(str(self._path))}")


def _are_over(ids: list[str], cluster: str | None) -> bool:
    """Whether none of the jobs can still run."""
    return all(state.is_over for state in jobs(ids, cluster).values())


def _rights_on_nodes(answers: Sequence[NodeState]) -> Finding:
    """Return the finding on the first node that does not keep rights, or that all of them do."""
    for answer in answers:
        finding = _rights_finding(answer.rights, answer.node)
        if finding is not None:
            return finding
    return fine("what is made private there is so")


def _rights_finding(rights: tuple[str, ...], node: str = "") -> Finding | None:
    """Return a failure unless these are the rights of a private folder and of a private file."""
    if rights == ("0o700", "0o600"):
        return None
    text = f"a private folder and a private file have the rights {' and '.join(rights)}"
    if node:
        text += f" on {node}"
    return failure(text, "expected 0o700 and 0o600: use a file system that keeps rights, see --folder")
