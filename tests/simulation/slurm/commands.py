"""SLURM's commands as processes: what stands for `subprocess` where the product calls them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.simulation.slurm.scheduler import BatchJob, Slurm
from tests.simulation.world import FIRST_PID

TAKES_S = 0.3  # at most
BUSY = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n"
REFUSES = "{name}: error: Batch job submission failed: Job violates accounting/QOS policy\n"
UNKNOWN = "{name}: error: Invalid job id specified\n"


class Commands:
    """SLURM as its commands show it.

    Attributes:
        fault: what is wrong with calls of now: "hang", "late" (it hangs, but has an effect), "busy", "refuse",
            "nonsense"; None: nothing.
    """

    def __init__(self, slurm: Slurm) -> None:
        self.slurm = slurm
        self.fault: str | None = None

    def modules(self, killpg: Callable[[int, int], None]) -> tuple[SimpleNamespace, Callable[[int, int], None]]:
        """What stands for the module `subprocess`, and for `os.killpg`."""

        def kill(number: int, signal: int) -> None:
            if number < FIRST_PID:  # none of ours
                killpg(number, signal)

        calls = SimpleNamespace(
            Popen=lambda words, **_: _Command(self, words), DEVNULL=subprocess.DEVNULL, PIPE=subprocess.PIPE,
            TimeoutExpired=subprocess.TimeoutExpired,
        )  # fmt: skip
        return calls, kill

    def answer(self, words: Sequence[str]) -> tuple[int, str, str]:
        """The exit code, output and errors of a command."""
        name, *rest = words
        jobs = {job.id: job for job in self.slurm.jobs}
        match name:
            case "sbatch":
                return 0, f"{self.slurm.submit(Path(rest[-1])).id}\n", ""
            case "squeue":
                line = next(word for word in rest if word.startswith("--format=")).removeprefix("--format=")
                listed = self.slurm.jobs if "--states=all" in rest else self.slurm.live
                names = next((word for word in rest if word.startswith("--name=")), None)
                if names is not None:
                    listed = [job for job in listed if job.name in names.removeprefix("--name=").split(",")]
                return 0, "".join(f"{self._line(job, line)}\n" for job in listed), ""
            case "scancel":
                for job_id in rest:
                    if not jobs[job_id].is_over:
                        self.slurm.cancel(jobs[job_id])
                return 0, "", ""
            case "scontrol" if rest[0] == "requeue":
                job = jobs[rest[1]]
                if job.is_over:
                    return 1, "", UNKNOWN.format(name=name)
                self.slurm.requeue(job)
                return 0, "", ""
        raise AssertionError(f"nobody plays {words}")

    def _line(self, job: BatchJob, line: str) -> str:
        run, world = job.now, self.slurm.world
        ends = "N/A"
        if run is not None:
            ends = datetime.fromtimestamp(run.ends_s + world.wall_offset_s).isoformat(timespec="seconds")  # noqa: DTZ006  # as SLURM
        said = {
            "%i": job.id, "%F": job.id, "%T": job.state, "%e": ends, "%j": job.name, "%o": str(job.file),
            "%N": "" if run is None else run.host.name, "%r": "None" if run else "Priority",
        }  # fmt: skip
        return "|".join(said[word] for word in line.split("|"))


class _Command:
    """A call of a command: the part of `subprocess.Popen` that the product uses."""

    def __init__(self, commands: Commands, words: Sequence[str]) -> None:
        self._commands, self._words = commands, words
        self.pid, self.returncode = FIRST_PID, 0
        self._is_killed = False

    def communicate(self, timeout: float) -> tuple[bytes, bytes]:
        """As a process's; raises subprocess.TimeoutExpired."""
        commands, name = self._commands, self._words[0]
        world = commands.slurm.world
        if self._is_killed:
            self.returncode = -9
            return b"", b""
        fault = commands.fault
        if fault in ("hang", "late"):
            if fault == "late":
                commands.answer(self._words)
            world.tell(f"{name} hangs")
            self._is_killed = True
            world.sleep(timeout)
            raise subprocess.TimeoutExpired(list(self._words), timeout)
        world.sleep(world.chance.random() * TAKES_S)
        out: str
        errors: str
        if fault == "busy":
            self.returncode, out, errors = 1, "", BUSY
        elif fault == "refuse" and name == "sbatch":
            self.returncode, out, errors = 1, "", REFUSES.format(name=name)
        else:
            self.returncode, out, errors = commands.answer(self._words)
        return ("nonsense: " + out if fault == "nonsense" else out).encode(), errors.encode()


def any_fault(chance: Any) -> str:
    """One of the faults."""
    return str(chance.choice(("hang", "late", "busy", "refuse", "nonsense")))
