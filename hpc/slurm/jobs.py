"""Submit, watch, end and requeue jobs with SLURM's own commands."""

import re
import shlex
import tempfile
import uuid
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from hpc.errors import SlurmError
from hpc.sites.site import Need, Site
from hpc.slurm import calls
from hpc.slurm.calls import TRIES, CommandAnswer, ask, call_of, paced, run, short_answer
from hpc.slurm.reasons import explain_reason, explain_refusal, explanations, never_ends
from hpc.slurm.script import script
from hpc.slurm_grammar import job_state
from transtailor.files import write_file
from transtailor.lines import last_line, lines_of
from transtailor.plural import counted

JOB_ID = re.compile(r"[0-9]+")
ENDED = frozenset(
    ["BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "REVOKED"]
    + ["TIMEOUT"]
)
BY_SLURM = ENDED - {"COMPLETED", "FAILED"}  # ends that are not the command's
WAITS = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD")  # its command has not begun; CONFIGURING: a node boots


@dataclass(frozen=True)
class JobState:
    """SLURM's state and reason of a job (reason: why it waits, or how it ended).

    >>> JobState("PENDING", "Priority").explanation
    'jobs with a higher priority are first'
    """

    state: str
    reason: str

    @property
    def ended(self) -> bool:
        """Whether it will not run again, unless it is requeued."""
        return self.state in ENDED

    @property
    def is_over(self) -> bool:
        """Whether it can no longer run: it has ended, or SLURM knows nothing of it."""
        return self.ended or self.state == "UNKNOWN"

    @property
    def explanation(self) -> str:
        """An explanation of the reason, or the reason itself if it is unknown."""
        of_state = explanations()["states"].get(self.state)
        return str(of_state or explain_reason(self.reason) or self.reason)

    @property
    def end(self) -> str:
        """How it ended; an exit code matters only where its command has ended by itself.

        >>> JobState("FAILED", "exit code 3:0").end, JobState("CANCELLED", "exit code 0:15").end
        ('FAILED, exit code 3:0', 'CANCELLED')
        """
        return self.state if self.state in BY_SLURM else f"{self.state}, {self.explanation}"

    @property
    def waits_for_good(self) -> bool:
        """Whether it waits for something that will not happen, so that it starts only if the job is changed."""
        return self.state == "PENDING" and never_ends(self.reason)


def submit(site: Site, need: Need, command: Sequence[str], tries: int = TRIES) -> str:
    """Write `script(...)` into the log folder, submit exactly this file, and return the job's id.

    If sbatch gives no readable answer, it may have submitted the job nevertheless. So before each further try the queue
    is searched for a job of this file, and no job is submitted twice.

    Raises:
        SiteError: the site cannot give what is needed.
        SlurmError: sbatch refused (the text says what to do), submitted to another cluster, or did not answer in any of
            `tries`.
    """
    text = script(site, need, command)
    need.log_folder.mkdir(parents=True, exist_ok=True)
    path = need.log_folder / f"submission-{uuid.uuid4().hex}.sh"
    write_file(path, text, mode=0o600)
    for _ in paced(tries):
        answer = run(call_of(site.cluster, "sbatch", "--parsable", str(path)))
        number, cluster = _printed_number(answer)
        if number is not None:
            if cluster not in (None, site.cluster):
                raise SlurmError(
                    f"sbatch submitted job {number} to the cluster {cluster!r}, not to the site's: end it with "
                    f'{shlex.join(call_of(cluster, "scancel", number))}, and write cluster = "{cluster}" in the site'
                )
            return number
        may_have_submitted = answer.is_from_command and (answer.passes or answer.returncode == 0)
        if may_have_submitted:
            number_in_queue = _number_of(path, need.job_name, site.cluster)
            if number_in_queue is not None:
                return number_in_queue
        if not answer.passes:
            raise SlurmError(f"sbatch did not submit {path}: {_refusal(answer)}")
    raise SlurmError(
        f"sbatch did not submit {path} in {counted(tries, 'call')} of at most {calls.LIMIT_S:g} s, last: "
        f"{short_answer(answer)}. Is SLURM up? Type: {shlex.join(call_of(site.cluster, 'scontrol', 'ping'))}"
    )


def _printed_number(answer: CommandAnswer) -> tuple[str | None, str | None]:
    """Return the job's number, and its cluster if sbatch names one; (None, None) unless exactly one line has them.

    A wrapper of sbatch may print lines of its own before and after.
    """
    if answer.returncode != 0:
        return None, None
    matches = [re.fullmatch(r"(\d+)(?:;(\S+))?", line.strip()) for line in lines_of(answer.out)]
    printed = {(match[1], match[2]) for match in matches if match is not None}
    return printed.pop() if len(printed) == 1 else (None, None)


def would_start(site: Site, need: Need, command: Sequence[str]) -> str:
    """Return sbatch's estimate when and where such a job would start. Submits no job, and leaves no file.

    Raises:
        SiteError: the site cannot give what is needed.
        SlurmError: sbatch would refuse it (the text says what to do), or did not answer.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".sh", encoding="utf-8") as file:
        file.write(script(site, need, command))
        file.flush()
        answer = run(call_of(site.cluster, "sbatch", "--test-only", file.name))
    if answer.returncode != 0:
        raise SlurmError(_refusal(answer))
    estimates = [line for line in lines_of(answer.error) if line.startswith("sbatch: Job ")]
    return last_line(estimates[-1] if estimates else answer.error).removeprefix("sbatch: ")


def signal_steps(ids: Iterable[str], name: str, cluster: str | None) -> None:
    """Send a signal to the processes of running jobs, as SLURM does before a walltime ends; raises SlurmError."""
    checked_ids = _check_ids(ids)
    if checked_ids:
        ask(call_of(cluster, "scancel", f"--signal={name}", *checked_ids), None)


def jobs(ids: Iterable[str], cluster: str | None, tries: int = TRIES) -> dict[str, JobState]:
    """Return the states of jobs, by id: one call of squeue for all, and one of sacct for all that squeue does not know.

    Jobs that neither of them knows (without accounting, sacct knows none) are looked up with scontrol, one by one. A
    job that scontrol does not know either has the state UNKNOWN.

    Args:
        ids: of jobs of one cluster.
        cluster: the site's; None is the cluster of this machine.
        tries: of each call.

    Raises:
        SlurmError: squeue, or scontrol where it was needed, gave no readable answer in any of `tries`.
    """
    checked_ids = _check_ids(ids)
    if not checked_ids:
        return {}
    selection = "--jobs=" + ",".join(checked_ids)
    call = call_of(cluster, "squeue", "--all", "--noheader", "--states=all", "--format=%i|%T|%r", selection)
    rows = ask(call, r"(\d\S*)\|([A-Z_]+)\|(.*)", tries)
    states = {job: JobState(state, reason) for job, state, reason in rows}
    missing = [job for job in checked_ids if job not in states]
    if missing:
        states |= dict(_states_in_accounting(missing, cluster, tries))
    for job in checked_ids:
        if job not in states:
            states[job] = _show_job(job, cluster, tries)
    return {job: states[job] for job in checked_ids}


def end_of(job: str, cluster: str | None) -> JobState:
    """Return the state of a job: once it has ended, with its exit code if there is accounting. Raises as `jobs`."""
    state = jobs([job], cluster, tries=1)[job]
    if not state.ended:
        return state
    in_accounting = dict(_states_in_accounting([job], cluster, 1)).get(job, state)
    return in_accounting if in_accounting.ended else state  # which may be late


def ends_before(job: str, cluster: str | None) -> list[JobState]:
    """Return how the earlier runs of a job ended that was queued again; none if there is no accounting."""
    runs = _states_in_accounting([job], cluster, 1, "--duplicates")
    return [state for _, state in runs if state.ended]


def cancel(ids: Iterable[str], cluster: str | None, tries: int = TRIES) -> None:
    """End exactly these jobs, which may have ended already; raises SlurmError if scancel fails."""
    checked_ids = _check_ids(ids)
    if checked_ids:
        ask(call_of(cluster, "scancel", *checked_ids), None, tries)


def requeue(job: str, cluster: str | None) -> None:
    """Have SLURM end a job and start it again later, with the same id; raises SlurmError if scontrol fails."""
    ask(call_of(cluster, "scontrol", "requeue", *_check_ids([job])), None)


@dataclass(frozen=True, kw_only=True)
class QueuedJob:
    """A job that SLURM has not ended, as one line of the queue."""

    id: str
    name: str
    state: JobState
    ends_at: datetime | None  # when its walltime ends, in the controller's local time; None while it waits
    nodes: str  # in SLURM's syntax; empty while it waits


def queue(names: Collection[str], cluster: str | None, tries: int = TRIES) -> list[QueuedJob]:
    """Return the jobs of this user with one of these names that have not ended, by one call of squeue.

    squeue looks for the names, so that it prints nothing that the name of another job could forge.

    Raises:
        SlurmError: squeue failed, or a line with one of the names cannot be read.
    """
    selection = "--name=" + ",".join(names)
    call = call_of(cluster, "squeue", "--all", "--me", "--noheader", "--format=%i|%T|%e|%N|%r|%j", selection)
    rows = ask(call, r"(\d\S*)\|([A-Z_]+)\|([^|]*)\|([^|]*)\|(.*)\|([^|]*)", tries, needed=names)
    queued_jobs = []
    for job, state, end, nodes, reason, name in rows:
        if state not in ENDED:
            queued_jobs.append(
                QueuedJob(id=job, name=name, state=JobState(state, reason), ends_at=_time_of(end), nodes=nodes)
            )
    return queued_jobs


def _time_of(text: str) -> datetime | None:
    """Return a time that squeue printed; None if it is not known ("N/A", "Unknown", "NONE")."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _check_ids(ids: Iterable[str]) -> list[str]:
    """Return the ids in their order, each once; raises ValueError if one of them is not the id of a job."""
    unique_ids = list(dict.fromkeys(ids))
    for job in unique_ids:
        if not JOB_ID.fullmatch(job):
            raise ValueError(f"{job!r} is not the id of a job, such as 123")
    return unique_ids


def _number_of(path: Path, job_name: str, cluster: str | None) -> str | None:
    """Return the number of the job whose script is `path`; None if SLURM has none. Raises SlurmError if unknown."""
    call = call_of(
        cluster, "squeue", "--all", "--me", "--noheader", "--states=all", "--format=%F|%o", f"--name={job_name}"
    )
    try:
        rows = ask(call, r"(\d+)\|(.*)", needed=[path.name])
    except SlurmError as error:
        raise SlurmError(f"whether {path} was submitted is unknown, check it before you try again: {error}") from error
    return next((number for number, script_file in rows if path.name in script_file), None)


def _states_in_accounting(
    ids: Sequence[str], cluster: str | None, tries: int, *options: str
) -> list[tuple[str, JobState]]:
    """Return jobs and their states in the accounting; empty if the cluster has no accounting."""
    call = call_of(cluster, "sacct", "--noheader", "--parsable2", "--allocations", "--format=JobID,State,ExitCode")
    try:
        rows = ask([*call, *options, "--jobs=" + ",".join(ids)], r"([^|]+)\|([^|]+)\|([^|]*)", tries)
    except SlurmError:  # usually because there is no accounting; then scontrol is asked
        return []
    return [(job, JobState(job_state(state), f"exit code {code}")) for job, state, code in rows if job in ids]


def _show_job(job: str, cluster: str | None, tries: int) -> JobState:
    """Return the state of one job that the controller still knows; UNKNOWN if it does not."""
    # The first match on the line: before it are SLURM's own words and the job's name, after it what people wrote.
    row = r"JobId=.*?\sJobState=(\S+) Reason=(\S+).*"
    rows = ask(call_of(cluster, "scontrol", "--oneliner", "show", "job", job), row, tries)
    if not rows:
        return JobState("UNKNOWN", "Vanished")
    state, reason = rows[0]
    return JobState(state, reason)


def _refusal(answer: CommandAnswer) -> str:
    """Return sbatch's answer, and after it what to do, if the answer is a known refusal."""
    advice = explain_refusal(answer.error)
    return short_answer(answer) if advice is None else f"{short_answer(answer)}; {advice}"
