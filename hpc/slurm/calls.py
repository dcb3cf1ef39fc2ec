"""Call SLURM's commands: for one cluster, with a time limit, again where that may help; read the answer by lines."""

import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Collection, Sequence
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
CLUSTER_HEADING = re.compile(r"CLUSTER: \S+")  # of squeue -M and sinfo -M; older versions print it despite --noheader


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long one call of a SLURM command may take, how often it is tried, and the pause in between."""

    timeout_s: float = 60.0
    tries: int = 3
    pause_s: float = 5.0


PATIENCE = Patience()
ONCE = Patience(timeout_s=20.0, tries=1)  # for code that repeats its call soon anyway


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
    call: Sequence[str], row: str | None, patience: Patience, needed: Collection[str] = ()
) -> list[tuple[str, ...]]:
    """Return the rows of `ask_all`, without the other lines."""
    rows, _unread = ask_all(call, row, patience, needed)
    return rows


def ask_all(
    call: Sequence[str], row: str | None, patience: Patience, needed: Collection[str] = ()
) -> tuple[list[tuple[str, ...]], list[str]]:
    """Call a command, which must be harmless to repeat, and read its output line by line.

    A wrapper of the command may print lines of its own, and names that other people chose may have a line break: so
    lines that cannot be read are returned too. An unknown job is no error: it is in no line.

    Args:
        call: its words.
        row: a regular expression for a whole line; None if the output is to be ignored.
        patience: with each call.
        needed: texts. If a line with one of them cannot be read, the whole answer counts as unreadable.

    Returns:
        For each line that `row` matches its groups; and all other lines, without blank lines and headings.

    Raises:
        SlurmError: the command is absent, refused, or gave no readable answer in any of `patience.tries`.
    """
    for attempt in range(patience.tries):
        time.sleep(patience.pause_s if attempt else 0.0)
        answer = run(call, patience.timeout_s)
        if answer.passes:
            continue
        if answer.returncode != 0 and not _says_only_unknown_job(answer):
            raise SlurmError(f"{call[0]} failed: {short_answer(answer)}. It was called as: {shlex.join(call)}")
        if row is None:
            return [], []
        rows, unread = _read_rows(answer.out, row)
        lacks_needed = any(_has_one_of(needed, line) for line in unread)
        if not lacks_needed and (rows or not unread):
            return rows, unread
    cluster = call[2] if call[1:2] == ["-M"] else None
    ping = call_of(cluster, "scontrol", "ping")
    raise SlurmError(
        f"{call[0]} gave no readable answer in {counted(patience.tries, 'call')} of at most {patience.timeout_s:g} s, "
        f"last: {short_answer(answer)}. It was called as: {shlex.join(call)}. Is SLURM up? Type: {shlex.join(ping)}"
    )


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


def run(call: Sequence[str], timeout_s: float) -> CommandAnswer:
    """Run one command of SLURM to its end, or kill it (and its children) after `timeout_s`.

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
        out, errors = process.communicate(timeout=timeout_s)
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
