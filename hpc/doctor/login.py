"""Run the doctor on the login node: checks without a job, the jobs, and the removal of all that it made."""

import fcntl
import secrets
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import hpc
from hpc.cluster.cluster_folder import ClusterFolder
from hpc.cluster.needs import RankNeed, controller_need, limits_of
from hpc.doctor.finding import (
    Checks,
    DoctorFolder,
    Finding,
    State,
    environment,
    failure,
    fine,
    rights_finding,
    unknown,
)
from hpc.doctor.names import NAMES_LIMIT_S, make_names, write_verdict
from hpc.doctor.slurm_checks import partition_gpus, ping
from hpc.errors import ClusterError, SiteError, SlurmError
from hpc.sites.site import Need, Site
from hpc.slurm.calls import call_of
from hpc.slurm.jobs import WAITS, JobState, cancel, jobs, queue, requeue, signal_steps, submit, would_start
from transtailor.documents import Record
from transtailor.lines import lines_of
from transtailor.terminal import say
from transtailor.waiting import WaitedTooLong, wait_for

MARKS: dict[State, str] = {"fine": "✓", "missing": "✗", "unknown": "–"}
EDIT = "edit the site"
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
LOOK_EVERY_S = 5.0  # at the queue
LATER_EVERY_S = 15.0
LOG_LINES = 5
LOG_COLUMNS = 200
# The nodes' checks in their order: title, and the longest time after the report of the check before.
NODE_CHECKS = {
    "environment": ("Python environment", 60.0),
    "scratch": ("scratch folder", 60.0),
    "locks": ("locks", 60.0),
    "submission": ("jobs submitted by nodes", 90.0),
    "gpus": ("GPUs", 150.0),
    "all-reduce": ("all-reduce between nodes", 150.0),
    "ray": ("Ray head and worker", 330.0),
    "names": ("files of other machines", NAMES_LIMIT_S + 30.0),
}


class Stopped(Exception):
    """The remaining checks are not possible."""


@dataclass
class Doctor:
    """One examination of a site.

    Args:
        parent: a folder that all nodes should see; a new one is made in it.
        limit_s: how long a job may wait in the queue.
    """

    site: Site
    parent: Path
    limit_s: float
    misses: int = 0
    unknowns: int = 0
    _name: str = field(default_factory=lambda: f"doctor-{secrets.token_hex(4)}")
    _path: Path | None = None
    _ids: list[str] = field(default_factory=list)  # of its jobs, one for each rank
    _lock: BinaryIO | None = None

    def run(self) -> bool:
        """Run all checks, and clear what they made in any case; return whether all of them passed."""
        try:
            self._check_login_node()
            self._start_jobs()
            self._check_nodes()
            advice = "does container or setup start the command in a way that keeps signals from it?"
            self._try("signal", self._signal, advice)
            advice = (
                "may you requeue your own jobs here (JobRequeue, scontrol requeue)? Without, a sweep ends at its "
                "walltime"
            )
            self._try("requeue", self._requeue, advice)
        except Stopped as stopped:
            self._add("all further checks", unknown(f"not done, as {stopped}"))
        finally:
            if self._path is not None:
                look = shlex.join(call_of(self.site.cluster, "squeue", "--me"))
                advice = f"look yourself: {look}; rm -r {shlex.quote(str(self._path))}"
                self._try("nothing left behind", self._clear, advice)
        return not self.misses

    def _try(self, title: str, check: Callable[[], Finding], advice: str = EDIT) -> bool:
        """Run a check and print its finding; return False if something is missing. An error is a miss."""
        try:
            finding = check()
        except (SiteError, SlurmError, ClusterError, OSError) as error:
            finding = failure(str(error), advice)
        self._add(title, finding)
        return finding.state != "missing"

    def _add(self, title: str, finding: Finding) -> None:
        """Print the result of one check."""
        say(f"{MARKS[finding.state]} {title}: {finding.text}")
        self.unknowns += finding.state == "unknown"
        self.misses += finding.state == "missing"
        if finding.state == "missing" and finding.advice:
            say(f"    -> {finding.advice}")

    # --- without a job ---

    def _check_login_node(self) -> None:
        absent = [name for name in NEEDED if shutil.which(name) is None]
        if absent:
            self._add("commands", failure(f"no {', '.join(absent)} on PATH", "go to a login node of the cluster"))
            raise Stopped("SLURM's commands are missing")
        self._add("commands", fine(", ".join(NEEDED)))
        ping_command = shlex.join(call_of(self.site.cluster, "scontrol", "ping"))
        if not self._try("SLURM answers", lambda: ping(self.site.cluster), f"type: {ping_command}"):
            raise Stopped("SLURM does not answer")
        self._try("site", self._limits)
        self._add("GPUs of the partition", partition_gpus(self.site))
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
        site = self.site.model_copy(update={"scratch_folder": None})
        ClusterFolder(self._path / "cluster").make(site, self._name)
        self._logs.mkdir()
        self._lock = self._folder.lock.open("wb")
        with suppress(OSError):  # if the file system has no locks, the nodes report it
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finding = rights_finding(self._path)
        return fine(f"{self.parent} is writable, and {finding.text}") if finding.state == "fine" else finding

    @property
    def _folder(self) -> DoctorFolder:
        assert self._path is not None
        return DoctorFolder(self._path)

    @property
    def _logs(self) -> Path:
        return self._folder.path / "logs"

    # --- the jobs ---

    def _start_jobs(self) -> None:
        """Start two jobs, each on another node, as workers are; only one if the site gives no second."""
        # The job makes the folder for temporary files on each of its nodes: setup lines run only on the first.
        site = self.site.model_copy(update={"scratch_folder": None, "exclusive": False})
        if not self._try("job starts", lambda: self._started(site)):
            raise Stopped("its job did not start")
        nodes = [str(self.site.sbatch.get("exclude", "")), *(job.nodes for job in queue([self._name], site.cluster))]
        if any(nodes):
            exclude = ",".join(name for name in nodes if name)
            site = site.model_copy(update={"sbatch": self.site.sbatch | {"exclude": exclude}})
        try:
            would_start(site, self._need, ["true"])
            second = self._started(site)
        except (SiteError, SlurmError) as error:
            second = failure(str(error), "")
        if second.state == "fine":
            self._add("second job starts", second)
        else:
            not_started = self._ids[1:]
            del self._ids[1:]
            with suppress(SlurmError):  # then it is cancelled at the end
                cancel(not_started, site.cluster)
            text = f"no job gets another one, nothing between nodes can be checked: {second.text}"
            self._add("two nodes", unknown(text))
        question = Checks(
            ranks=len(self._ids), gpus=min(1, self.site.gpus_per_node), interface=self.site.network_interface,
            scratch=self.site.scratch_folder, environment=environment(),
        )  # fmt: skip
        self._folder.write("question", question)

    @property
    def _need(self) -> Need:
        memory_gb = self.site.memory_gb
        return Need(
            log_folder=self._logs,
            job_name=self._name,
            cpus=1,
            memory_gb=None if memory_gb is None else min(MEMORY_GB, memory_gb),
            gpus=min(1, self.site.gpus_per_node),
            walltime_min=min(WALLTIME_MIN, self.site.walltime_min),
            signal_before_s=SIGNAL_BEFORE_S,
        )

    def _started(self, site: Site) -> Finding:
        """Submit the job of the next rank, which waits for the question, and wait until it starts."""
        code = Path(next(iter(hpc.__path__))).parent
        arguments = [str(self._folder.path), str(len(self._ids)), f"{self.limit_s + PEER_LIMIT_S:g}"]
        command = ["env", f"PYTHONPATH={code}", sys.executable, "-P", "-u", "-m", "hpc.doctor.job", *arguments]
        job = submit(site, self._need, command)
        self._ids.append(job)
        state = JobState("PENDING", "None")

        def is_decided() -> bool:
            nonlocal state
            state = jobs([job], site.cluster)[job]
            return state.state not in WAITS or state.waits_for_good

        what = f"job {job} to start (--limit-s)"
        try:
            wait_for(is_decided, what, self.limit_s, poll_s=LOOK_EVERY_S, poll_to_s=LATER_EVERY_S)
        except WaitedTooLong:
            text = f"it did not start in {self.limit_s:g} s: {state.explanation} ({state.reason})"
            return failure(text, "wait for room in the cluster and try again, or give it longer: --limit-s")
        if state.waits_for_good:
            return failure(f"it will not start: {state.explanation} ({state.reason})", EDIT)
        return fine(f"job {job}")

    def _check_nodes(self) -> None:
        try:
            rights = self._finding_of("rights", ANSWER_LIMIT_S, "the nodes' answers")
        except ClusterError as error:
            advice = (
                f"if there is no log: do the nodes see {self.parent}? Set shared_folder in the site, or give --folder; "
                "otherwise the log says what fails: see setup and container in the site"
            )
            self._add("folder shared", failure(str(error), advice))
            raise Stopped("the nodes do not answer") from error
        self._add("folder shared", fine(f"{self.parent} is seen by the nodes, both ways"))
        self._add("rights on the nodes", rights)
        make_names(self._folder, range(len(self._ids)))
        for check, (title, limit_s) in NODE_CHECKS.items():
            try:
                finding = self._finding_of(check, limit_s, title)
            except ClusterError as error:
                self._add(title, failure(str(error), "its log says why; the text above is its end"))
                raise Stopped("the job did not resume") from error
            self._add(title, finding)
            if check == "names":
                write_verdict(self.parent, finding)
            if finding.state == "missing":
                say(f"    the ends of the job's logs{self._log_end()}")

    def _finding_of(self, check: str, limit_s: float, what: str) -> Finding:
        """Wait for the findings of all nodes in a check, merged.

        Raises:
            ClusterError: a job has ended before, or the limit has passed; with the ends of the logs.
        """
        ranks = range(len(self._ids))

        looked_s = time.monotonic()

        def found() -> Finding | None:
            nonlocal looked_s
            finding = self._folder.read_findings(check, ranks)
            if finding is not None or time.monotonic() - looked_s <= LOOK_EVERY_S:
                return finding
            ended = [state for state in jobs(self._ids, self.site.cluster).values() if state.ended]
            looked_s = time.monotonic()
            finding = self._folder.read_findings(check, ranks)  # may be written just before the job's end
            if ended and finding is None:
                text = f"{ended[0].state}: {ended[0].explanation}"
                raise ClusterError(f"job {' or '.join(self._ids)} ended ({text}){self._log_end()}")
            return finding

        try:
            return wait_for(found, what, limit_s)
        except WaitedTooLong as error:
            raise ClusterError(f"no answer in {limit_s:g} s{self._log_end()}") from error

    def _log_end(self) -> str:
        """Return the last lines of what the jobs printed, for the end of a message."""
        shown_lines = []
        for path in sorted(path for job in self._ids for path in self._logs.glob(f"{job}_*")):
            text = path.read_text(encoding="utf-8", errors="replace")
            lines = [line for line in lines_of(text) if line[:1].strip()]  # frames of stacks are indented
            shown_lines += [f"\n      {path.name} | {line[:LOG_COLUMNS]}" for line in lines[-LOG_LINES:]]
        return f":{''.join(shown_lines)}" if shown_lines else f"; it wrote no log into {self._logs}"

    # --- what SLURM does to jobs ---

    def _signal(self) -> Finding:
        self._finding_of("listens", ANSWER_LIMIT_S, "the end of the checks on the nodes")
        signal_steps(self._ids, "USR2", self.site.cluster)
        finding = self._finding_of("signal", SIGNAL_LIMIT_S, "the signal")
        how = "sent by scancel as SLURM does before a walltime, without waiting for one"
        return finding if finding.state == "missing" else fine(f"USR2 reaches the processes ({how})")

    def _requeue(self) -> Finding:
        job = self._ids[0]
        requeue(job, self.site.cluster)

        def is_queued_again() -> bool:  # it may start again between two polls, and then reports that
            state = jobs([job], self.site.cluster)[job].state
            is_there = self._folder.read("restarted", Record) is not None
            return is_there or state in ("PENDING", "REQUEUED", "REQUEUE_HOLD")

        wait_for(
            is_queued_again, "the job to be queued again", REQUEUE_LIMIT_S, poll_s=LOOK_EVERY_S, error=ClusterError
        )
        return fine("the job was queued again")

    def _clear(self) -> Finding:
        """Have jobs end by themselves, so that they clear their files on the nodes; cancel those that do not."""
        cluster = self.site.cluster
        ids = list(dict.fromkeys([*self._ids, *(job.id for job in queue([self._name], cluster))]))  # if sbatch hung

        def are_over(ids: list[str]) -> bool:
            return all(state.is_over for state in jobs(ids, cluster).values())

        running = [job for job, state in jobs(ids, cluster).items() if state.state == "RUNNING"]
        if running:
            with suppress(SlurmError, WaitedTooLong):  # then they are cancelled; SLURM kills them soon after
                signal_steps(running, "TERM", cluster)
                wait_for(lambda: are_over(running), "a clean end", CLEAN_END_LIMIT_S)
        cancel(ids, cluster)
        what = f"job {', '.join(ids)} to end; type: {shlex.join(call_of(cluster, 'scancel', *ids))}"
        wait_for(lambda: are_over(ids), what, END_LIMIT_S, error=ClusterError)
        if self._lock is not None:
            self._lock.close()
        shutil.rmtree(self._folder.path)
        return fine("no job, no folder")
