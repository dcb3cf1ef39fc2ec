"""Fake SLURM commands on PATH, for what a real SLURM will not do at will."""

import os
import shlex
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from hpc.slurm import calls
from transtailor.waiting import WaitedTooLong, wait_for

RECORDED = ("SLURM", "SBATCH", "SQUEUE", "TMPDIR")  # beginnings of the variables that are kept of a call
# In sh alone, which starts in a tenth of Python's time. The first free number is that of the call.
COMMAND = """#!/bin/sh
number=1
set -C
while ! true >{call}.$number; do number=$((number + 1)); done 2>/dev/null
set +C
export -p >{call}.$number.environment
printf '%s\\0' "$0" "$@" >{call}.$number
[ $number -lt {last} ] || number={last}
case $number in
{answers}
esac
"""
# A process that starts another one, as the wrappers that some sites put around SLURM's commands; whoever calls it gives
# it a group of its own, which therefore has its number.
HANG = """: >{folder}/hangs-$$
{python} -SI -c 'import time; time.sleep(3600)' {folder}
"""


class FakeSlurm:
    """A folder of commands that is all of PATH: only what `says` was called for is there."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        (folder / "bin").mkdir()
        (folder / "calls").mkdir()
        monkeypatch.setenv("PATH", str(folder / "bin"))
        monkeypatch.setattr(calls, "LIMIT_S", 300.0)  # for what takes a fraction of a second
        monkeypatch.setattr(calls, "PAUSE_S", 0.0)

    def says(self, name: str, *answers: str | dict[str, Any]) -> None:
        """`name` prints these one call after the other; a dict may set out, error, returncode and hang.

        The last one is given from then on.
        """
        cases = [f"{number}) {self._case(answer)};;" for number, answer in enumerate(answers, start=1)]
        call = shlex.quote(str(self.folder / "calls" / name))
        command = self.folder / "bin" / name
        new = command.with_name(f".{name}.new")  # a call that runs keeps the command that it began with
        new.write_text(COMMAND.format(call=call, last=len(answers), answers="\n".join(cases)))
        new.chmod(0o755)
        new.replace(command)

    def _case(self, answer: str | dict[str, Any]) -> str:
        """What a call does, in sh."""
        entry = {"out": answer} if isinstance(answer, str) else answer
        if entry.get("hang"):
            return HANG.format(folder=shlex.quote(str(self.folder)), python=shlex.quote(sys.executable))
        out, error = (shlex.quote(entry.get(key, "")) for key in ("out", "error"))
        return f"printf %s {out}; printf %s {error} >&2; exit {entry.get('returncode', 0)}"

    def ends_waits_for_what_hangs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """From now on the limit of a call is over as soon as its command hangs; any other has all the time it needs."""
        folder = self.folder

        class Hastened(subprocess.Popen[str]):
            def communicate(self, input: str | None = None, timeout: float | None = None) -> tuple[str, str]:  # noqa: A002
                while timeout is not None and self.poll() is None:
                    if (folder / f"hangs-{self.pid}").exists():
                        raise subprocess.TimeoutExpired(self.args, timeout)
                    time.sleep(0.01)
                return super().communicate(input)

        monkeypatch.setattr(subprocess, "Popen", Hastened)

    def calls(self, name: str) -> list[list[str]]:
        """The arguments of each call of `name`."""
        texts = [path.read_bytes().decode() for path in self._records(name)]
        return [text.split("\0")[1:-1] for text in texts if text]  # an empty one is written just now

    def environment(self, name: str) -> dict[str, str]:
        """SLURM's variables in the last call of `name`."""
        record = self._records(name)[-1]
        words = shlex.split(record.with_name(f"{record.name}.environment").read_text())
        variables = dict(word.split("=", 1) for word in words if "=" in word)
        return {key: value for key, value in variables.items() if key.startswith(RECORDED)}

    def _records(self, name: str) -> list[Path]:
        paths = {int(path.suffix[1:]): path for path in (self.folder / "calls").glob(f"{name}.*[0-9]")}
        return [paths[number] for number in sorted(paths)]


def is_asking(cluster: Any) -> bool:
    """Whether a `Cluster` has not taken the answer of a SLURM command that it has called."""
    return any(call is not None for call in (cluster._poll, cluster._submission, cluster._cancellation))


def without_hanging_on(folder: Path) -> bool:
    """Whether all processes that were started from the fakes in `folder` end; one that was killed may take a moment."""
    with suppress(WaitedTooLong):
        return wait_for(lambda: not started_from(folder), f"the end of what {folder} started", 300.0)
    return False


def end_hanging_on(folder: Path) -> None:
    """Ends what was started from the fakes in `folder` and still runs."""
    for process_id in started_from(folder):
        with suppress(ProcessLookupError):  # it has ended meanwhile
            os.kill(process_id, signal.SIGKILL)


def started_from(folder: Path) -> list[int]:
    """The processes that were started from the fakes in `folder` and still run."""
    return [int(entry.name) for entry in Path("/proc").glob("[0-9]*") if str(folder) in _command(entry)]


def _command(process: Path) -> str:
    try:
        return (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:  # it ended meanwhile
        return ""
