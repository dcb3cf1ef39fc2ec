"""Lives of a small sweep on a Ray of its own, whose processes are killed, ended and stopped while it runs.

A fault strikes when so many stages are finished: the same moment on a fast machine and on a busy one. Several
strike in one launch, as long as it lives; then the sweep is launched again until it ends, and judged.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from tests.faults.invariants import Violation, count_stages, differences, processes_of, violations

ROOT = Path(__file__).resolve().parents[2]
NAME = "small"
SPEC = """
name = "small"
[trial]
network = "friedman_mlp"
pruning.linear = true
data = {{ name = "friedman1", train_images = 20 }}
source.epochs = 1
optimisation = {{ epochs = 2, head_epochs = 1 }}
[axes]
seed = {seeds}
[[variants]]
method.name = "fine_tune"
[[variants]]
method = {{ name = "transtailor", steps = 2, alpha_epochs = 1 }}
[resources]
ranks = {ranks}
hang_limit_s = {hang_limit_s}
"""
HANG_LIMIT_S = 20.0
STOPPED_S = 30.0  # longer than that
FAULTS = (2, 5)  # of one life, at least and at most
LAUNCH_LIMIT_S = 1500.0  # on a busy machine
END_LIMIT_S = 300.0  # after a launcher's end, until its Ray is gone
POLL_S = 0.05


TARGETS: Mapping[str, Callable[[psutil.Process], bool]] = {
    "launcher": lambda process: "launch.py" in " ".join(process.cmdline()),
    "head (GCS)": lambda process: process.name() == "gcs_server",
    "raylet": lambda process: process.name() == "raylet",
    "slot": lambda process: "TuneSlot" in process.name() or "TuneSlot" in " ".join(process.cmdline()),
    "rank": lambda process: "_Rank" in process.name() or "_Rank" in " ".join(process.cmdline()),
}
"""Which process is struck; the driver lives in the launcher's."""
HOWS = ("SIGKILL", "SIGTERM", "SIGSTOP")
"""SIGSTOP is taken back after a time that is longer than the limit after which ranks are taken to hang."""
MAY_END_WITH = {0, 1, 2, 130, -signal.SIGKILL, -signal.SIGTERM}


@dataclass(frozen=True, kw_only=True)
class StruckRay:
    """One fault, and what came of the life that it was part of."""

    seed: int
    life: int
    launch: int
    how: str
    target: str
    stages: int  # that were finished
    ranks: int  # of each trial
    code: int  # that the launch ended with
    broken: tuple[str, ...] = ()  # promises that the life broke, in words

    def __str__(self) -> str:
        where = f"life {self.life} of seed {self.seed}, launch {self.launch}"
        return f"{where}: {self.how} of {self.target} after {self.stages} stages, ended with {self.code}"


@dataclass(frozen=True)
class SmallSweep:
    """A folder for one sweep."""

    folder: Path
    ranks: int
    seeds: int = 3  # of which each makes two trials

    @property
    def run(self) -> Path:
        """The run's folder."""
        return self.folder / "runs" / NAME

    @property
    def stages(self) -> int:
        """How many stages are finished."""
        return count_stages(self.folder / "cache")

    def output(self, number: int) -> Path:
        """What a launch printed."""
        return self.folder / f"output{number}"

    def start(self, number: int, site: str) -> subprocess.Popen[bytes]:
        """Starts the real command, in a group of its own."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "spec.toml").write_text(
            SPEC.format(ranks=self.ranks, seeds=list(range(self.seeds)), hang_limit_s=HANG_LIMIT_S)
        )
        command = [sys.executable, str(ROOT / "sweeps" / "launch.py"), "spec.toml", "--site", site]
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        with self.output(number).open("wb") as output:
            return subprocess.Popen(
                command, cwd=self.folder, env=os.environ | {"PYTHONPATH": path},
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip


def leave_alone(place: Path, ranks: int) -> SmallSweep:
    """Runs it without faults and without Ray: the obvious reference.

    Raises:
        AssertionError: already that breaks a promise.
    """
    sweep = SmallSweep(place, ranks)
    code = sweep.start(0, "serial").wait()
    assert code == 0, sweep.output(0).read_text()
    assert violations(sweep.run, place / "cache", ended=True) == []
    return sweep


def live(seed: int, number: int, undisturbed: SmallSweep, place: Path) -> list[StruckRay]:
    """One life in a new folder, which is gone afterwards if nothing was broken; the faults that struck.

    Raises:
        RuntimeError: Ray did not start although nothing struck: the machine is too busy to tell anything.
    """
    chance = random.Random(f"ray/{seed}/{number}")
    sweep = SmallSweep(place, undisturbed.ranks)
    struck: list[StruckRay] = []
    broken: list[str] = []
    todo = drawn(chance)
    for launch_number in range(len(todo) + 2):
        process = sweep.start(launch_number, "local")
        here: list[StruckRay] = []
        while todo and process.poll() is None:
            target, how, fraction = todo[0]
            there = sweep.stages
            after = there + int(fraction * max(0, undisturbed.stages - there))
            if not _strike(process, sweep, after, target, how, chance):
                break
            todo.pop(0)
            here.append(
                StruckRay(
                    seed=seed,
                    life=number,
                    launch=launch_number,
                    how=how,
                    target=target,
                    stages=after,
                    ranks=sweep.ranks,
                    code=0,
                )  # fmt: skip
            )
        code, wrong = _end_of(process, sweep, launch_number)
        said = sweep.output(launch_number).read_text(errors="replace")
        if not here and "Ray did not start" in said:
            raise RuntimeError(f"nothing struck and {said}")
        struck += [replace(one, code=code) for one in here]
        broken += [f"launch {launch_number}: {what}" for what in wrong]
        if sweep.run.exists():
            found = violations(sweep.run, sweep.folder / "cache", ended=False)
            broken += [f"launch {launch_number}: {what}" for what in _told(found)]
        if code == 0 or not (todo or here):
            break
    broken += _judged_at_the_end(sweep, code, undisturbed)
    if not broken:
        shutil.rmtree(place)
    return [replace(one, broken=tuple(broken)) for one in struck]


def drawn(chance: random.Random) -> list[tuple[str, str, float]]:
    """The faults of a life: which process, how, and after which fraction of the stages that are still to come."""
    count = chance.randint(*FAULTS)
    return [(chance.choice(list(TARGETS)), chance.choice(HOWS), chance.random()) for _ in range(count)]


def _strike(
    process: subprocess.Popen[bytes], sweep: SmallSweep, after: int, target: str, how: str, chance: random.Random
) -> bool:
    """Waits for so many stages and the process, and strikes; False if the launch ended before."""
    victims: list[psutil.Process] = []
    while sweep.stages < after or not victims:
        if process.poll() is not None:
            return False
        victims = list(_victims(process.pid, target))
        time.sleep(POLL_S)
    victim = chance.choice(victims)
    try:
        victim.send_signal(signal.Signals[how])
        if how == "SIGSTOP":
            until_s = time.monotonic() + STOPPED_S  # the fault itself: so long nothing moves, or until it is killed
            while time.monotonic() < until_s and victim.status() != psutil.STATUS_ZOMBIE:
                time.sleep(POLL_S)
            victim.send_signal(signal.SIGCONT)
    except psutil.NoSuchProcess:  # it ended meanwhile: a rank that is taken to hang is killed
        return how == "SIGSTOP"
    return True


def family(launcher: int) -> list[psutil.Process]:
    """A launcher and all processes below it; empty once it has ended."""
    try:
        return [psutil.Process(launcher), *psutil.Process(launcher).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _victims(launcher: int, target: str) -> Iterator[psutil.Process]:
    """The processes of one kind below a launcher, and itself."""
    for process in family(launcher):
        try:
            if TARGETS[target](process):
                yield process
        except psutil.NoSuchProcess:
            continue


def _end_of(process: subprocess.Popen[bytes], sweep: SmallSweep, number: int) -> tuple[int, list[str]]:
    """How a launch ended, and which promises that broke already."""
    broken = []
    try:
        code = process.wait(LAUNCH_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        code = process.wait()
        broken.append(f"3: the launch did not end within {LAUNCH_LIMIT_S:g} s")
    if code not in MAY_END_WITH:
        broken.append(f"6: it ended with {code}")
    if "Traceback" in sweep.output(number).read_text(errors="replace"):
        broken.append("6: it ended with a traceback")
    until_s = time.monotonic() + END_LIMIT_S
    while (left := processes_of(sweep.folder)) and time.monotonic() < until_s:
        time.sleep(POLL_S)
    return code, broken + [f"4: process left: {what}" for what in left]


def _judged_at_the_end(sweep: SmallSweep, code: int, undisturbed: SmallSweep) -> list[str]:
    if code != 0:
        return [f"1: the launch after the faults ended with {code}"]
    broken = violations(sweep.run, sweep.folder / "cache", ended=True)
    return _told([*broken, *differences(sweep.run, undisturbed.run)])


def _told(found: list[Violation]) -> list[str]:
    return [f"{one.promise}: {one.what}" for one in found]
