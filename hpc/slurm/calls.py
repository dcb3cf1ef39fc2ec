"""Call SLURM's commands: for one cluster, with a time limit, again where that may help; read the answer by lines."""

import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from hpc.environment import for_slurm
from hpc.errors import SlurmError
from transtailor.lines import lines_of
from transtailor.plural import counted
from transtailor.waiting import KILL_LIMIT_S

# Errors of SLURM's commands while the controller is busy or restarts: the same call may succeed a little later.
PASSING = (
    "Socket timed out", "Unable to contact slurm controller", "Connection refused", "Connection timed out",
    "Zero Bytes were transmitted", "temporarily unable to accept job", "Resource temporarily unavailable",
)  # fmt: skip
NO_SUCH_JOB = ("Invalid job id specified", "already completing or completed")  # it may have ended meanwhile
LIMIT_S = 60.0  # of one call
TRIES = 3
PAUSE_S = 5.0  # between two tries
CLUSTER_HEADING = re.compile(r"CLUSTER: \S+")  # of squeue -M and sinfo -M; older versions print it despite --noheader


@dataclass(frozen=True)
class CommandAnswer:
    """What one call of a command printed, and its exit code."""

    returncode: int | None  # None: no answer in time
    out: str
    error: str
    is_from_command: bool = True  # False: it could not be started, and has done nothing

    @property
    def passes(self) -> bool:
        """Whether this is a passing failure: the same call may succeed a little later."""
        return self.returncode is None or (self.returncode != 0 and _has_one_of(PASSING, self.error))


def call_of(cluster: str | None, command: str, *arguments: str) -> list[str]:
    """Return the words that call one of SLURM's commands for a cluster; None is the cluster of this machine.

    >>> call_of("wice", "scancel", "7")
    ['scancel', '-M', 'wice', '7']
    """
    if cluster is None:
        return [command, *arguments]
    return [command, "-M", cluster, *arguments]


def ask(
    call: Sequence[str], row: str | None, tries: int = TRIES, needed: Collection[str] = ()
) -> list[tuple[str, ...]]:
    """Call a command, which must be harmless to repeat, and read its output line by line.

    A wrapper of the command may print lines of its own, and names that other people chose may have a line break: so
    lines that cannot be read are left out. An unknown job is no error: it is in no line.

    Args:
        call: its words.
        row: a regular expression for a whole line; None if the output is to be ignored.
        tries: how often it is called while SLURM does not answer.
        needed: texts. If a line with one of them cannot be read, the whole answer counts as unreadable.

    Returns:
        For each line that `row` matches its groups.

    Raises:
        SlurmError: the command is absent, refused, or gave no readable answer in any of `tries`.
    """
    for _ in paced(tries):
        answer = run(call)
        if answer.passes:
            continue
        if answer.returncode != 0 and not _says_only_unknown_job(answer):
            raise SlurmError(f"{call[0]} failed: {short_answer(answer)}. It was called as: {shlex.join(call)}")
        if row is None:
            return []
        rows, unread = _read_rows(answer.out, row)
        lacks_needed = any(_has_one_of(needed, line) for line in unread)
        if not lacks_needed and (rows or not unread):
            return rows
    cluster = call[2] if call[1:2] == ["-M"] else None
    ping = call_of(cluster, "scontrol", "ping")
    raise SlurmError(
        f"{call[0]} gave no readable answer in {counted(tries, 'call')} of at most {LIMIT_S:g} s, "
        f"last: {short_answer(answer)}. It was called as: {shlex.join(call)}. Is SLURM up? Type: {shlex.join(ping)}"
    )


def paced(tries: int) -> Iterator[int]:
    """Yield the numbers of so many tries, with a pause before each but the first."""
    for number in range(tries):
        if number:
            time.sleep(PAUSE_S)
        yield number


def _has_one_of(texts: Collection[str], line: str) -> bool:
    return any(text in line for text in texts)


def _read_rows(out: str, row: str) -> tuple[list[tuple[str, ...]], list[str]]:
    """Return the groups of each line that `row` matches, and all other lines, without blank lines and headings."""
    rows = []
    unread = []
    for line in lines_of(out):
        text = line.strip()
        match = re.fullmatch(row, text)
        if match is not None:
            rows.append(match.groups())
        elif text and not CLUSTER_HEADING.fullmatch(text):
            unread.append(text)
    return rows, unread


def run(call: Sequence[str]) -> CommandAnswer:
    """Run one command of SLURM to its end, or kill it (and its children) after `LIMIT_S`.

    Its environment has the variables of `for_slurm` only.

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
        return CommandAnswer(None, "", str(error), is_from_command=False)
    try:
        out, errors = process.communicate(timeout=LIMIT_S)
        return _read_answer(process.returncode, out, errors)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        try:
            out, errors = process.communicate(timeout=KILL_LIMIT_S)
        except subprocess.TimeoutExpired:  # another process holds the pipes, or a disk does not answer
            return CommandAnswer(None, "", "")
        was_killed = process.returncode == -signal.SIGKILL
        # It may have ended in time while this process was stopped: then its answer counts.
        return _read_answer(None if was_killed else process.returncode, out, errors)


def _read_answer(returncode: int | None, out: bytes, errors: bytes) -> CommandAnswer:
    # Popen's text mode would make a line end of each carriage return.
    return CommandAnswer(returncode, out.decode(errors="replace"), errors.decode(errors="replace"))


def _says_only_unknown_job(answer: CommandAnswer) -> bool:
    """Whether all errors that a command printed are that SLURM does not know a job (any more)."""
    lines = lines_of(answer.error)
    return bool(lines) and all(_has_one_of(NO_SUCH_JOB, line) for line in lines)


def short_answer(answer: CommandAnswer) -> str:
    """Return a command's answer for a message, with at most 300 characters of its text."""
    if not answer.is_from_command:
        how = "it could not be started"
    elif answer.returncode is None:
        how = "no answer in time"
    else:
        how = f"exit code {answer.returncode}"
    text = answer.error.strip() or answer.out.strip() or "no text"
    return f"{how}, {text[:300]!r}"
