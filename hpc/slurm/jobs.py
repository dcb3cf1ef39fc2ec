"""SLURM's own commands: submitting, watching, ending and requeueing jobs."""

import os
import re
import shlex
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from hpc.errors import SlurmError
from hpc.sites.site import Need, Site
from hpc.slurm.script import script
from transtailor.documents import read_toml
from transtailor.files import write_file
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
        answer = _call(["sbatch", "--parsable", str(path)], patience.timeout_s)
        printed = re.fullmatch(r"(\d+)(;\S+)?", answer.out.strip().split("\n")[-1]) if answer.returncode == 0 else None
        number = int(printed[1]) if printed else None
        if number is None and answer.is_from_command and (answer.passes or answer.returncode == 0):
            number = _number_of(path, patience)
        if number is not None:
            elements = [] if need.array_size is None else range(need.array_size)
            return Job(number, tuple(f"{number}_{index}" for index in elements) or (str(number),))
        if not answer.passes:
            raise SlurmError(f"sbatch did not submit {path}: {_refusal(answer)}")
    raise SlurmError(
        f"sbatch did not submit {path} in {patience.tries} tries of {patience.timeout_s:g} s, last: "
        f"{_short_answer(answer)}. Is SLURM up? Type: scontrol ping"
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
        answer = _call(["sbatch", "--test-only", file.name], patience.timeout_s)
    if answer.returncode != 0:
        raise SlurmError(_refusal(answer))
    return answer.error.strip().split("\n")[-1].removeprefix("sbatch: ")


def signal_steps(ids: Iterable[str], name: str) -> None:
    """Send a signal to the processes of running jobs, as SLURM does before a walltime ends; raises SlurmError."""
    if asked := _check_ids(ids):
        ask(["scancel", f"--signal={name}", *asked], None, PATIENCE)


def jobs(ids: Iterable[str], patience: Patience = PATIENCE) -> dict[str, JobState]:
    """The states of jobs, by id: one call of squeue for all, and one of sacct for all that squeue does not know.

    Jobs that neither knows (also without accounting) are looked up with scontrol, and otherwise UNKNOWN.

    Raises:
        SlurmError: squeue, or scontrol where it was needed, gave no readable answer in any of `patience.tries`.
    """
    asked = _check_ids(ids)
    if not asked:
        return {}
    listed = "--jobs=" + ",".join(asked)
    words = ["squeue", "--all", "--array", "--noheader", "--states=all", "--format=%i|%T|%r", listed]
    states = {key: JobState(*rest) for key, *rest in ask(words, r"(\d+\S*)\|([A-Z_]+)\|(.*)", patience)}
    if missing := [job for job in asked if job not in states]:
        states |= _states_in_accounting(missing, patience)
    for job in asked:
        if job not in states:
            states[job] = _show_job(job, patience)
    return {job: states[job] for job in asked}


def cancel(ids: Iterable[str], patience: Patience = PATIENCE) -> None:
    """End exactly these jobs, which may have ended already; raises SlurmError if scancel fails."""
    if asked := _check_ids(ids):
        ask(["scancel", *asked], None, patience)


def requeue(job: str) -> None:
    """Have SLURM end a job and start it again later, with the same id; raises SlurmError if scontrol fails."""
    ask(["scontrol", "requeue", *_check_ids([job])], None, PATIENCE)


@dataclass(frozen=True, kw_only=True)
class QueuedJob:
    """A job that SLURM has not ended, as one line of the queue."""

    id: str
    name: str
    state: JobState
    ends_at: datetime | None  # when its walltime ends, in the controller's local time; None while it waits
    nodes: str  # in SLURM's syntax; empty while it waits


def queue(patience: Patience = PATIENCE) -> list[QueuedJob]:
    """All jobs of this user that have not ended, in one call of squeue; raises SlurmError if it fails."""
    words = ["squeue", "--all", "--me", "--noheader", "--format=%i|%T|%e|%N|%j|%r"]
    rows = ask(words, r"(\d+\S*)\|([A-Z_]+)\|([^|]*)\|([^|]*)\|(.*)\|([^|]*)", patience)
    return [
        QueuedJob(id=job, name=name, state=JobState(state, reason), ends_at=_moment(end), nodes=nodes)
        for job, state, end, nodes, name, reason in rows
        if state not in ENDED
    ]


def _moment(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:  # "N/A", "Unknown", "NONE": the end is not known
        return None


def ask(words: Sequence[str], line: str | None, patience: Patience) -> list[tuple[str, ...]]:
    """Call a command that may be repeated, and return the groups of `line` in each line of its output.

    Without `line` the output is ignored. An unknown job is no error: it is in no line.

    Raises:
        SlurmError: the command is absent, refused, or gave no readable answer in any of `patience.tries`.
    """
    for attempt in range(patience.tries):
        time.sleep(patience.pause_s if attempt else 0.0)
        answer = _call(words, patience.timeout_s)
        if answer.passes:
            continue
        if answer.returncode != 0 and not _knows_not(answer):
            raise SlurmError(f"{words[0]} failed: {_short_answer(answer)}. It was called as: {shlex.join(words)}")
        lines = [text.rstrip() for text in answer.out.splitlines() if text.strip()] if line is not None else []
        read = [re.fullmatch(line or "", text) for text in lines]
        if all(read):
            return [match.groups() for match in read if match]
    raise SlurmError(
        f"{words[0]} gave no readable answer in {patience.tries} tries of {patience.timeout_s:g} s, last: "
        f"{_short_answer(answer)}. It was called as: {shlex.join(words)}. Is SLURM up? Type: scontrol ping"
    )


def _call(words: Sequence[str], timeout_s: float) -> _Answer:
    """Run one command of SLURM to its end, or kill it (and its children) after `timeout_s`.

    Variables such as SBATCH_PARTITION or SQUEUE_FORMAT would change its meaning, and a job that submits another one
    would pass its own variables on: the command receives none of them, nor this machine's TMPDIR.

    Raises:
        SlurmError: there is no such command here.
    """
    ours = re.compile(r"(SBATCH|SRUN|SQUEUE|SACCT|SINFO|SCANCEL|SCONTROL|SLURMD?|SUBMITIT)_(?!CONF$)")
    environment = {name: value for name, value in os.environ.items() if not ours.match(name) and name != "TMPDIR"}
    try:
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            errors="replace", env=environment, start_new_session=True,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise SlurmError(f"there is no {words[0]} on PATH: is this a login node of a SLURM cluster?") from error
    except OSError as error:  # such as a node that is at its limit of processes, memory or files at the moment
        return _Answer(None, "", str(error), is_from_command=False)
    try:
        out, errors = process.communicate(timeout=timeout_s)
        return _Answer(process.returncode, out, errors)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        try:
            out, errors = process.communicate(timeout=KILL_LIMIT_S)
        except subprocess.TimeoutExpired:  # another process holds the pipes, or a disk does not answer
            return _Answer(None, "", "")
        # It may have ended in time while this process was stopped: then its answer counts.
        return _Answer(None if process.returncode == -signal.SIGKILL else process.returncode, out, errors)


def _check_ids(ids: Iterable[str]) -> list[str]:
    """The ids, each once; raises ValueError if one of them is not the id of a job."""
    asked = list(dict.fromkeys(ids))
    if wrong := [job for job in asked if not JOB_ID.fullmatch(job)]:
        raise ValueError(f"{wrong[0]!r} is not the id of a job, such as 123 or 123_4")
    return asked


def _number_of(path: Path, patience: Patience) -> int | None:
    """The number of the job whose script is `path`, None if SLURM has none; raises SlurmError if that is unknown."""
    words = ["squeue", "--all", "--me", "--noheader", "--states=all", "--format=%F|%o"]
    try:
        rows = ask(words, r"(\d+)\|(.*)", patience)
    except SlurmError as error:
        raise SlurmError(f"whether {path} was submitted is unknown, check it before you try again: {error}") from error
    return min((int(number) for number, script_file in rows if path.name in script_file), default=None)


def _states_in_accounting(ids: Sequence[str], patience: Patience) -> dict[str, JobState]:
    """The states of jobs in the accounting; empty if there is none."""
    words = ["sacct", "--noheader", "--parsable2", "--allocations", "--format=JobID,State,ExitCode"]
    try:
        rows = ask([*words, "--jobs=" + ",".join(ids)], r"([^|]+)\|([^|]+)\|([^|]*)", patience)
    except SlurmError:  # usually there is none; then scontrol is asked
        return {}
    # "CANCELLED by 0" is CANCELLED.
    return {job: JobState(state.split()[0], f"exit code {code}") for job, state, code in rows if job in ids}


def _show_job(job: str, patience: Patience) -> JobState:
    """The state of one job that the controller still knows."""
    rows = ask(["scontrol", "--oneliner", "show", "job", job], r".*\bJobState=(\S+) Reason=(\S+).*", patience)
    return JobState(*rows[0]) if rows else JobState("UNKNOWN", "Vanished")


def _knows_not(answer: _Answer) -> bool:
    return all(
        UNKNOWN_JOB in text or "already completing or completed" in text for text in answer.error.splitlines() or [""]
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
