"""SLURM's own commands: submitting, watching, ending and requeueing jobs."""

import re
import shlex
import tempfile
import time
import uuid
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from hpc.errors import SlurmError
from hpc.sites.site import Need, Site
from hpc.slurm.calls import PATIENCE, CommandAnswer, Patience, ask, call_of, run, short_answer
from hpc.slurm.script import script
from hpc.slurm_grammar import job_state
from transtailor.documents import read_toml
from transtailor.files import write_file
from transtailor.lines import last_line

JOB_ID = re.compile(r"[0-9]+(_[0-9]+)?")
ENDED = frozenset(
    ["BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "REVOKED"]
    + ["TIMEOUT"]
)
WAITS = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD")  # its command has not begun; CONFIGURING: a node boots


@cache
def explanations() -> dict[str, Any]:
    """What SLURM's reasons and refusals mean: the file `explanations.toml`."""
    return read_toml(Path(__file__).with_name("explanations.toml"))


@dataclass(frozen=True)
class Job:
    """A submitted job: its number, and the ids for `jobs` and `cancel` (for an array those of its elements)."""

    number: int
    ids: tuple[str, ...]


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
    def explanation(self) -> str:
        """An explanation of the reason, or the reason itself if it is unknown."""
        words = explanations()["states"].get(self.state) or explanations()["reasons"].get(self._code, self.reason)
        return str(words)

    @property
    def waits_for_good(self) -> bool:
        """Whether it cannot start without a change of the job."""
        return self.state == "PENDING" and self._code in explanations()["for_good"]

    @property
    def _code(self) -> str:
        """SLURM's code of the reason, without additions of some versions, such as names of nodes."""
        words = self.reason.replace("_", " ").strip("()")
        return words if words in explanations()["reasons"] else re.split(r",| \(", words)[0]


def submit(site: Site, need: Need, command: Sequence[str], patience: Patience = PATIENCE) -> Job:
    """Write `script(...)` into the log folder, submit exactly this file, and return the job.

    An sbatch without a readable answer may have submitted the job: before the next try the queue is searched for a job
    of this file, so that no job is submitted twice.

    Raises:
        SiteError: the site cannot give what is needed.
        SlurmError: sbatch refused (the text says what to do), or did not answer in any of `patience.tries`.
    """
    text = script(site, need, command)
    need.log_folder.mkdir(parents=True, exist_ok=True)
    path = need.log_folder / f"submission-{uuid.uuid4().hex}.sh"
    write_file(path, text, mode=0o600)
    for attempt in range(patience.tries):
        time.sleep(patience.pause_s if attempt else 0.0)
        answer = run(call_of(site.cluster, "sbatch", "--parsable", str(path)), patience.timeout_s)
        printed = re.fullmatch(r"(\d+)(?:;(\S+))?", last_line(answer.out)) if answer.returncode == 0 else None
        number = int(printed[1]) if printed else None
        if number is None and answer.is_from_command and (answer.passes or answer.returncode == 0):
            number = _number_of(path, need.job_name, site.cluster, patience)
        if printed and printed[2] not in (None, site.cluster):
            raise SlurmError(_cancel_elsewhere(printed[1], printed[2], site.cluster, patience))
        if number is not None:
            elements = [] if need.array_size is None else range(need.array_size)
            return Job(number, tuple(f"{number}_{index}" for index in elements) or (str(number),))
        if not answer.passes:
            raise SlurmError(f"sbatch did not submit {path}: {_refusal(answer)}")
    raise SlurmError(
        f"sbatch did not submit {path} in {patience.tries} tries of {patience.timeout_s:g} s, last: "
        f"{short_answer(answer)}. Is SLURM up? Type: {shlex.join(call_of(site.cluster, 'scontrol', 'ping'))}"
    )


def _cancel_elsewhere(number: str, cluster: str, expected: str | None, patience: Patience) -> str:
    """Cancel a job that was submitted to another cluster than the site's, which no other call would find."""
    try:
        cancel([number], cluster, patience)
        done = "it was cancelled there"
    except SlurmError as error:
        done = f"it could not be cancelled ({error}); type: {shlex.join(call_of(cluster, 'scancel', number))}"
    where = "the site names none" if expected is None else f"the site's is {expected!r}"
    return (
        f"sbatch submitted job {number} to the cluster {cluster!r}, and {where}: {done}. "
        f'Write cluster = "{cluster}" in the site, or see which wrapper or plugin of sbatch chose it'
    )


def would_start(site: Site, need: Need, command: Sequence[str], patience: Patience = PATIENCE) -> str:
    """sbatch's estimate when and where such a job would start; submits no job, and leaves no file.

    Raises:
        SiteError: the site cannot give what is needed.
        SlurmError: sbatch would refuse it (the text says what to do), or did not answer.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".sh", encoding="utf-8") as file:
        file.write(script(site, need, command))
        file.flush()
        answer = run(call_of(site.cluster, "sbatch", "--test-only", file.name), patience.timeout_s)
    if answer.returncode != 0:
        raise SlurmError(_refusal(answer))
    return last_line(answer.error).removeprefix("sbatch: ")


def signal_steps(ids: Iterable[str], name: str, cluster: str | None) -> None:
    """Send a signal to the processes of running jobs, as SLURM does before a walltime ends; raises SlurmError."""
    if asked := _check_ids(ids):
        ask(call_of(cluster, "scancel", f"--signal={name}", *asked), None, PATIENCE)


def jobs(ids: Iterable[str], cluster: str | None, patience: Patience = PATIENCE) -> dict[str, JobState]:
    """The states of jobs, by id: one call of squeue for all, and one of sacct for all that squeue does not know.

    Jobs that neither knows (also without accounting) are looked up with scontrol, and otherwise UNKNOWN.

    Args:
        ids: of jobs of one cluster.
        cluster: the site's; None: the one of this machine.
        patience: with each call.

    Raises:
        SlurmError: squeue, or scontrol where it was needed, gave no readable answer in any of `patience.tries`.
    """
    asked = _check_ids(ids)
    if not asked:
        return {}
    listed = "--jobs=" + ",".join(asked)
    call = call_of(cluster, "squeue", "--all", "--array", "--noheader", "--states=all", "--format=%i|%T|%r", listed)
    states = {key: JobState(*rest) for key, *rest in ask(call, r"(\d\S*)\|([A-Z_]+)\|(.*)", patience)}
    if missing := [job for job in asked if job not in states]:
        states |= _states_in_accounting(missing, cluster, patience)
    for job in asked:
        if job not in states:
            states[job] = _show_job(job, cluster, patience)
    return {job: states[job] for job in asked}


def cancel(ids: Iterable[str], cluster: str | None, patience: Patience = PATIENCE) -> None:
    """End exactly these jobs, which may have ended already; raises SlurmError if scancel fails."""
    if asked := _check_ids(ids):
        ask(call_of(cluster, "scancel", *asked), None, patience)


def requeue(job: str, cluster: str | None) -> None:
    """Have SLURM end a job and start it again later, with the same id; raises SlurmError if scontrol fails."""
    ask(call_of(cluster, "scontrol", "requeue", *_check_ids([job])), None, PATIENCE)


@dataclass(frozen=True, kw_only=True)
class QueuedJob:
    """A job that SLURM has not ended, as one line of the queue."""

    id: str
    name: str
    state: JobState
    ends_at: datetime | None  # when its walltime ends, in the controller's local time; None while it waits
    nodes: str  # in SLURM's syntax; empty while it waits


def queue(names: Collection[str], cluster: str | None, patience: Patience = PATIENCE) -> list[QueuedJob]:
    """The jobs of this user with one of these names that have not ended, in one call of squeue.

    squeue looks for the names, so that it prints nothing that the name of another job could forge.

    Raises:
        SlurmError: squeue failed, or a line with one of the names cannot be read.
    """
    asked = "--name=" + ",".join(names)
    call = call_of(cluster, "squeue", "--all", "--me", "--noheader", "--format=%i|%T|%e|%N|%r|%j", asked)
    rows = ask(call, r"(\d\S*)\|([A-Z_]+)\|([^|]*)\|([^|]*)\|(.*)\|([^|]*)", patience, needed=names)
    return [
        QueuedJob(id=job, name=name, state=JobState(state, reason), ends_at=_moment(end), nodes=nodes)
        for job, state, end, nodes, reason, name in rows
        if state not in ENDED
    ]


def _moment(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:  # "N/A", "Unknown", "NONE": the end is not known
        return None


def _check_ids(ids: Iterable[str]) -> list[str]:
    """The ids, each once; raises ValueError if one of them is not the id of a job."""
    asked = list(dict.fromkeys(ids))
    if wrong := [job for job in asked if not JOB_ID.fullmatch(job)]:
        raise ValueError(f"{wrong[0]!r} is not the id of a job, such as 123 or 123_4")
    return asked


def _number_of(path: Path, job_name: str, cluster: str | None, patience: Patience) -> int | None:
    """The number of the job whose script is `path`, None if SLURM has none; raises SlurmError if that is unknown."""
    call = call_of(
        cluster, "squeue", "--all", "--me", "--noheader", "--states=all", "--format=%F|%o", f"--name={job_name}"
    )
    try:
        rows = ask(call, r"(\d+)\|(.*)", patience, needed=[path.name])
    except SlurmError as error:
        raise SlurmError(f"whether {path} was submitted is unknown, check it before you try again: {error}") from error
    return min((int(number) for number, script_file in rows if path.name in script_file), default=None)


def _states_in_accounting(ids: Sequence[str], cluster: str | None, patience: Patience) -> dict[str, JobState]:
    """The states of jobs in the accounting; empty if there is none."""
    call = call_of(cluster, "sacct", "--noheader", "--parsable2", "--allocations", "--format=JobID,State,ExitCode")
    try:
        rows = ask([*call, "--jobs=" + ",".join(ids)], r"([^|]+)\|([^|]+)\|([^|]*)", patience)
    except SlurmError:  # usually there is none; then scontrol is asked
        return {}
    return {job: JobState(job_state(state), f"exit code {code}") for job, state, code in rows if job in ids}


def _show_job(job: str, cluster: str | None, patience: Patience) -> JobState:
    """The state of one job that the controller still knows."""
    # The first of such words: before them are SLURM's own and the job's name, after them what people wrote.
    row = r"JobId=.*?\sJobState=(\S+) Reason=(\S+).*"
    rows = ask(call_of(cluster, "scontrol", "--oneliner", "show", "job", job), row, patience)
    return JobState(*rows[0]) if rows else JobState("UNKNOWN", "Vanished")


def _refusal(answer: CommandAnswer) -> str:
    advice = [text for words, text in explanations()["refusals"].items() if words.lower() in answer.error.lower()]
    return "; ".join([short_answer(answer), *advice])
