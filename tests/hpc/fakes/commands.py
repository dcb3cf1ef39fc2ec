"""Fake SLURM commands on PATH, for what a real SLURM will not do at will."""

import json
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

from transtailor.waiting import WaitedTooLong, wait_for

ANSWER = Path(__file__).with_name("answer.py")


class FakeSlurm:
    """A folder of commands that is all of PATH: only what `says` was called for is there."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        (folder / "bin").mkdir()
        monkeypatch.setenv("PATH", str(folder / "bin"))

    def says(self, name: str, *answers: str | dict[str, Any]) -> None:
        """`name` prints these one call after the other; a dict may set out, error, returncode and hang."""
        entries = [{"out": answer} if isinstance(answer, str) else answer for answer in answers]
        (self.folder / f"{name}.json").write_text(json.dumps(entries))
        command = self.folder / "bin" / name
        words = shlex.join([sys.executable, "-SI", str(ANSWER), name, str(self.folder)])
        # A process that starts another one, as the wrappers that some sites put around SLURM's commands.
        command.write_text(f'#!/bin/sh\n{words} "$@"\nexit $?\n')
        command.chmod(0o755)

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
        return [call["arguments"] for call in self._calls() if call["name"] == name]

    def environment(self, name: str) -> dict[str, str]:
        """SLURM's variables in the last call of `name`."""
        found: dict[str, str] = [call["environment"] for call in self._calls() if call["name"] == name][-1]
        return found

    def _calls(self) -> list[dict[str, Any]]:
        path = self.folder / "calls.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


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
