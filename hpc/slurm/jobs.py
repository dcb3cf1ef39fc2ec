"""SLURM's own commands: submitting, watching, ending and requeueing jobs."""

import os
import re
import shlex
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from hpc.environment import for_slurm
from hpc.errors import SlurmError
from hpc.sites.site import Need, Site
from hpc.slurm.script import script
from hpc.slurm_grammar import job_state
from transtailor.documents import read_toml
from transtailor.files import write_file
from transtailor.lines import last_line, lines_of
from transtailor.waiting import KILL_LIMIT_S

JOB_ID = re.compile(r"[0-9]+(_[0-9]+)?")
ENDED = frozenset(
    ["BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "REVOKED"]
    + ["TIMEOUT"]
)
# Errors of SLURM's commands while the controller is busy or restarts: the same call may succeed a little later.
PASSING = (
    "Socket timed out", "Unable to contact slurm controller", "Connection refused", "Connection timed out",
    "Zero Bytes were transmitted", "temporarily unable to accept job", "Resource temporarily unavailable",
)  # fmt: skip
UNKNOWN_JOB = "Invalid job id specified"
CLUSTER_HEADING = re.compile(r"CLUSTER: \S+")  # of squeue -M and sinfo -M; older versions print it despite --noheader
WAITS = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD")  # its command has not begun; CONFIGURING: a node boots


@cache
def explanations() -> dict[str, Any]:
    """What SLURM's reasons and refusals mean: the file `explanations.toml`."""
    return read_toml(Path(__file__).with_name("explanations.toml"))


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long one call of a SLURM command may take, how often it is tried, and the pause in between."""

    timeout_s: float = 60.0
    tries: int = 3
    pause_s: float = 5.0


PATIENCE = Patience()
ONCE = Patience(timeout_s=20.0, tries=1)  # for code that repeats its call soon anyway


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


@dataclass(frozen=True)
class _Answer:
    returncode: int | None  # None: no answer in time
    out: str
    error: str
    is_from_command: bool = True  # else it could not be started, and has done nothing

    @property
    def passes(self) -> bool:
        """Whether the same call may succeed a little later."""
        return self.returncode is None or (self.returncode != 0 and any(text in self.error for text in PASSING))


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
        answer = _call(call_of(site.cluster, "sbatch", "--parsable", str(path)), patience.timeout_s)
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
        f"{_short_answer(answer)}. Is SLURM up? Type: {shlex.join(call_of(site.cluster, 'scontrol', 'ping'))}"
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
        answer = _call(call_of(site.cluster, "sbatch", "--test-only", file.name), patience.timeout_s)
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


def call_of(cluster: str | None, command: str, *arguments: str) -> list[str]:
    """The words of a call of one of SLURM's commands for a cluster; None: the one of this machine.

    >>> call_of("wice", "scancel", "7")
    ['scancel', '-M', 'wice', '7']
    """
    return [command, *([] if cluster is None else ["-M", cluster]), *arguments]


def ask(
    call: Sequence[str], row: str | None, patience: Patience, needed: Collection[str] = ()
) -> list[tuple[str, ...]]:
    """Return the rows of `ask_all`."""
    return ask_all(call, row, patience, needed)[0]


def ask_all(
    call: Sequence[str], row: str | None, patience: Patience, needed: Collection[str] = ()
) -> tuple[list[tuple[str, ...]], list[str]]:
    """Call a command that may be repeated; return the groups of `row` in each line that it fits, and the other lines.

    A wrapper may print other lines, and names that other people chose may have a line break. An unknown job is no
    error: it is in no line.

    Args:
        call: its words.
        row: a regular expression; None: the output is ignored.
        patience: with each call.
        needed: a line with one of these texts has to be a row.

    Raises:
        SlurmError: the command is absent, refused, or gave no readable answer in any of `patience.tries`.
    """
    for attempt in range(patience.tries):
        time.sleep(patience.pause_s if attempt else 0.0)
        answer = _call(call, patience.timeout_s)
        if answer.passes:
            continue
        if answer.returncode != 0 and not _knows_not(answer):
            raise SlurmError(f"{call[0]} failed: {_short_answer(answer)}. It was called as: {shlex.join(call)}")
        if row is None:
            return [], []
        rows, unread = _read(answer.out, row)
        is_lost = any(text in line for text in needed for line in unread)
        if not is_lost and (rows or not unread):
            return rows, unread
    ping = ["scontrol", *(call[1:3] if call[1:2] == ["-M"] else []), "ping"]
    raise SlurmError(
        f"{call[0]} gave no readable answer in {patience.tries} tries of {patience.timeout_s:g} s, last: "
        f"{_short_answer(answer)}. It was called as: {shlex.join(call)}. Is SLURM up? Type: {shlex.join(ping)}"
    )


def _read(out: str, row: str) -> tuple[list[tuple[str, ...]], list[str]]:
    """The groups of each line that a regular expression fits, and the other lines; headings and blank lines in none."""
    rows, unread = [], []
    for line in map(str.strip, lines_of(out)):
        if match := re.fullmatch(row, line):
            rows.append(match.groups())
        elif line and not CLUSTER_HEADING.fullmatch(line):
            unread.append(line)
    return rows, unread


def _call(call: Sequence[str], timeout_s: float) -> _Answer:
    """Run one command of SLURM to its end, or kill it (and its children) after `timeout_s`.

    It gets the variables of `for_slurm`.

    Raises:
        SlurmError: there is no such command here.
    """
    try:
        process = subprocess.Popen(
            call, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=for_slurm(os.environ), start_new_session=True,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise SlurmError(f"there is no {call[0]} on PATH: is this a login node of a SLURM cluster?") from error
    except OSError as error:  # such as a node that is at its limit of processes, memory or files at the moment
        return _Answer(None, "", str(error), is_from_command=False)
    try:
        out, errors = process.communicate(timeout=timeout_s)
        return _answer(process.returncode, out, errors)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        try:
            out, errors = process.communicate(timeout=KILL_LIMIT_S)
        except subprocess.TimeoutExpired:  # another process holds the pipes, or a disk does not answer
            return _Answer(None, "", "")
        # It may have ended in time while this process was stopped: then its answer counts.
        return _answer(None if process.returncode == -signal.SIGKILL else process.returncode, out, errors)


def _answer(returncode: int | None, out: bytes, errors: bytes) -> _Answer:
    # Popen's text mode would make a line end of each carriage return.
    return _Answer(returncode, out.decode(errors="replace"), errors.decode(errors="replace"))


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


def _knows_not(answer: _Answer) -> bool:
    return all(
        UNKNOWN_JOB in text or "already completing or completed" in text for text in lines_of(answer.error) or [""]
    )


def _short_answer(answer: _Answer) -> str:
    """A command's answer, in at most 300 characters."""
    if not answer.is_from_command:
        how = "it could not be started"
    else:
        how = "no answer in time" if answer.returncode is None else f"exit code {answer.returncode}"
    return f"{how}, {(answer.error.strip() or answer.out.strip() or 'no text')[:300]!r}"


def _refusal(answer: _Answer) -> str:
    advice = [text for words, text in explanations()["refusals"].items() if words.lower() in answer.error.lower()]
    return "; ".join([_short_answer(answer), *advice])
