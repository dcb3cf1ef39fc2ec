"""Calls of SLURM's commands: for one cluster, with a limit, repeated where that may help, read line by line."""

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
from transtailor.waiting import KILL_LIMIT_S

# Errors of SLURM's commands while the controller is busy or restarts: the same call may succeed a little later.
PASSING = (
    "Socket timed out", "Unable to contact slurm controller", "Connection refused", "Connection timed out",
    "Zero Bytes were transmitted", "temporarily unable to accept job", "Resource temporarily unavailable",
)  # fmt: skip
UNKNOWN_JOB = "Invalid job id specified"
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
    is_from_command: bool = True  # else it could not be started, and has done nothing

    @property
    def passes(self) -> bool:
        """Whether the same call may succeed a little later."""
        return self.returncode is None or (self.returncode != 0 and any(text in self.error for text in PASSING))


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
        answer = run(call, patience.timeout_s)
        if answer.passes:
            continue
        if answer.returncode != 0 and not _knows_not(answer):
            raise SlurmError(f"{call[0]} failed: {short_answer(answer)}. It was called as: {shlex.join(call)}")
        if row is None:
            return [], []
        rows, unread = _read(answer.out, row)
        is_lost = any(text in line for text in needed for line in unread)
        if not is_lost and (rows or not unread):
            return rows, unread
    ping = ["scontrol", *(call[1:3] if call[1:2] == ["-M"] else []), "ping"]
    raise SlurmError(
        f"{call[0]} gave no readable answer in {patience.tries} tries of {patience.timeout_s:g} s, last: "
        f"{short_answer(answer)}. It was called as: {shlex.join(call)}. Is SLURM up? Type: {shlex.join(ping)}"
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


def run(call: Sequence[str], timeout_s: float) -> CommandAnswer:
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
        # It may have ended in time while this process was stopped: then its answer counts.
        return _read_answer(None if process.returncode == -signal.SIGKILL else process.returncode, out, errors)


def _read_answer(returncode: int | None, out: bytes, errors: bytes) -> CommandAnswer:
    # Popen's text mode would make a line end of each carriage return.
    return CommandAnswer(returncode, out.decode(errors="replace"), errors.decode(errors="replace"))


def _knows_not(answer: CommandAnswer) -> bool:
    return all(
        UNKNOWN_JOB in text or "already completing or completed" in text for text in lines_of(answer.error) or [""]
    )


def short_answer(answer: CommandAnswer) -> str:
    """A command's answer, in at most 300 characters."""
    if not answer.is_from_command:
        how = "it could not be started"
    else:
        how = "no answer in time" if answer.returncode is None else f"exit code {answer.returncode}"
    return f"{how}, {(answer.error.strip() or answer.out.strip() or 'no text')[:300]!r}"
