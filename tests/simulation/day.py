"""A day of a sweep: launched, disturbed, launched again until it is finished, and judged; all of it from one seed."""

import contextlib
import hashlib
import io
import os
import shutil
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import Any

from tests.faults.invariants import (
    Files,
    Rows,
    Violation,
    broken_of_trials,
    compared,
    damaged_stages,
    temporaries,
)
from tests.simulation import trials
from tests.simulation.disk import Disk
from tests.simulation.disturbances import Disturbance
from tests.simulation.kinds import Kind
from tests.simulation.launches import Launched
from tests.simulation.machines import Machines, Promised, stage_of
from tests.simulation.searched import broken_of_search, lacks_scores
from tests.simulation.slurm.surroundings import SlurmDay
from tests.simulation.strikes import Strike
from tests.simulation.surroundings import surroundings
from tests.simulation.watched_rows import WatchedRows
from tests.simulation.world import Dead, Process, Stuck, Task, World
from transtailor.__main__ import main

PLACES = (Path("/dev/shm"), Path("/tmp"))  # a file system in memory, where there is one
STOP_LIMIT_S = 60.0
NO_MORE_S = 10.0  # after a stop: from then on no stage is begun
LAUNCH_LIMIT_S = 6 * 3600.0  # simulated; an undisturbed one takes a minute
SLURM_LIMIT_S = 3600.0  # of one on SLURM, whose queue stands still for a quarter of that at most
MAY_END_WITH = {0, 1, 2, 130}


@dataclass(frozen=True)
class Day:
    """How a day went.

    Attributes:
        broken: promises that it broke, in words; empty if it broke none.
        history: what happened, in short.
        digest: of the whole history.
        struck: how many of the disturbances happened.
        moments: event and place of each change of a file.
    """

    broken: tuple[str, ...]
    history: tuple[str, ...]
    digest: str
    struck: int
    moments: tuple[tuple[str, str], ...]


def folder() -> Path:
    """Where days are simulated."""
    return next(place for place in PLACES if place.is_dir())


def machine_of(task: Task) -> str:
    """On which machine a task runs: launches share one, but for one that takes over; who judges the day sees all."""
    name = task.process.name.split()[0]
    if name.startswith("launch"):
        return "login"
    return name if name.startswith(("slot", "job", "second", "stop")) else ""


class Simulation:
    """One day; `run` may be called once."""

    def __init__(
        self, seed: str, disturbances: Sequence[Disturbance], root: Path, undisturbed: Path | None,
        seeds: int = trials.SEEDS, kind: Kind = "grid",
    ) -> None:  # fmt: skip
        self.world, self.kind = World(seed), kind
        self.root, self._undisturbed = root, undisturbed
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(parents=True)
        self.slurm = SlurmDay(self) if "slurm" in kind else None
        self.disk = Disk(root, self.world)
        self.disk.before, self.disk.after = self._before, self._after
        self._todo = list(disturbances)
        self._chance = Random(f"day {seed}")
        self.comes_and_goes = self._chance.random() < 0.6
        if self.comes_and_goes or self.slurm is not None:
            self.disk.machine = machine_of
        self.launches: dict[Process, Launched] = {}
        self._counts: dict[tuple[str, str], int] = {}
        self._changes = 0
        self.moments: list[tuple[str, str]] = []
        self.broken: list[str] = []
        self.promised = Promised()
        self.rows = WatchedRows(self.run_folder)
        self._computing: dict[str, Process] = {}
        self.struck = 0
        self.seeds, self.code = seeds, b"1"
        self.is_disturbed = False  # so much that files may be left behind
        self._killed_all = False
        self._lost_power: Random | None = None
        self._short: list[str] = []
        self.said = io.StringIO()

    @property
    def sweep(self) -> str:
        """What is run: days of one sweep have equal results."""
        return f"{self.kind.removeprefix('slurm ').replace('slurm', 'grid')} {self.seeds}"

    @property
    def searches(self) -> bool:
        """Whether the sweep is a search."""
        return "search" in self.kind

    @property
    def shares(self) -> bool:
        """Whether trials share stages."""
        return self.kind != "private"

    @property
    def run_folder(self) -> Path:
        return self.root / "runs" / trials.NAME

    @property
    def cache(self) -> Path:
        return self.root / "shared" / "cache"  # both are made by the first launch

    def run(self) -> Day:
        """Simulate it."""
        with surroundings(self):
            if self.slurm is not None:
                self.slurm.slurm.play()
            self.world.task(self.world.process("user"), "user", self._use)
            try:
                self.world.run()
            except Stuck as stuck:
                self.broken.append(f"7: {stuck}")
        self.broken += [*self.promised.broken, *self.rows.broken, *(f"0: {error}" for error in self.world.errors)]
        text = "\n".join(self.world.history)
        return Day(
            tuple(dict.fromkeys(self.broken)), tuple(self._short), hashlib.sha256(text.encode()).hexdigest(),
            self.struck, tuple(self.moments),
        )  # fmt: skip

    # The user, who launches until the sweep is finished.

    def _use(self) -> None:
        try:
            launches = len(self._todo) + 2
            for number in range(launches):
                if number == launches - 1:  # what has not struck by now will not
                    self._todo.clear()
                launched = self._launch(number)
                if self._todo and self._todo[0].how in ("extend", "code") and launched.code == 0:
                    self._strike(self._todo.pop(0))  # after the sweep has finished, too
                elif launched.code == 0 and launched.seeds == self.seeds:
                    break
                self.world.sleep(self._chance.choice((0.0, 1.0, 30.0)))
            if launched.code != 0 or launched.seeds != self.seeds:
                self._todo.clear()
                self._launch(number + 1)
            self._settle()
            self._judge()
        except Dead:
            raise
        except BaseException:  # noqa: BLE001  # a fault of the simulator or of a reader: told with the seed
            self.broken.append(f"0: {traceback.format_exc()}")
        finally:
            if self.slurm is not None:
                self.slurm.end()

    def _launch(self, number: int) -> Launched:
        world = self.world
        launched = Launched(world.process(f"launch{number}"), self.promised, self.seeds)
        self.launches[launched.process] = launched
        self._counts, self._changes = {}, 0
        self._killed_all, self._lost_power = False, None
        is_calm = not self._todo
        if is_calm:
            self._settle()
        began_s = world.now_s
        self._tell(f"{launched.process.name} begins")
        launched.main = task = world.task(
            launched.process, launched.process.name, partial(self.launch_command, launched)
        )
        limit_s = SLURM_LIMIT_S if self.slurm else LAUNCH_LIMIT_S
        world.sleep(limit_s, lambda: task.done)
        if not task.done:
            self.broken.append(f"7: {launched.process.name} did not end in {limit_s:g} s")
            self.kill(launched)
        elif launched.process.dead:
            launched.code = -9
        if self._killed_all:
            self._wait_for_the_end_of_all()
        if self._lost_power is not None:
            self._tell("the power comes back")
            self.disk.lose_power(self._lost_power)
            self.rows.read_again()
            self.promised.goals = self.rows.goals()
        self._after_launch(launched, began_s, is_calm)
        return launched

    def launch_command(self, launched: Launched) -> None:
        words = ["day.toml", "--runs", str(self.root / "runs"), "--cache", str(self.cache)]
        words += ["--site", str(self.slurm.site)] if self.slurm else []
        words += [] if self.shares else ["--no-sharing"]
        try:
            launched.code = main(["run", *words, "--extend", "--update-code"])
        except SystemExit as end:
            launched.code = int(end.code or 0) if not isinstance(end.code, str) else 1
        except KeyboardInterrupt:
            launched.code = 130
        except Exception:  # noqa: BLE001  # a traceback, for the user
            self.broken.append(f"6: a traceback: {traceback.format_exc()[-1500:]}")
            launched.code = 1

    def _after_launch(self, launched: Launched, began_s: float, is_calm: bool) -> None:
        world, name = self.world, launched.process.name
        self._tell(f"{name} ended with {launched.code}, {world.now_s - began_s:.1f} s after its begin")
        for handle in launched.process.locks:
            with contextlib.suppress(OSError):
                os.close(handle)
        if launched.code not in MAY_END_WITH | {-9}:
            self.broken.append(f"6: {name} ended with {launched.code}")
        waited_s = 0.0 if launched.stopped_s is None else world.now_s - launched.stopped_s
        if waited_s > STOP_LIMIT_S and launched.code != -9 and not launched.is_replaced:
            self.broken.append(f"7: a stop was noticed after {waited_s:.1f} s")
        if launched.code != -9:
            left = [one.name for machine in launched.machines for one in machine.alive if one not in launched.cut_off]
            self.broken += [f"4: process left: {one}" for one in left]
        self._check_promised()
        if self.run_folder.exists():
            self.broken += self._told(self._broken_rows(ended=False))
        if is_calm and launched.code != 0:
            self.broken.append(f"1: an undisturbed launch ended with {launched.code}: {self.said.getvalue()[-600:]}")

    def _settle(self) -> None:
        """End the disturbances, and wait for the launches and jobs that run."""
        self.disk.fails_with, self.disk.is_full = None, False
        if self.slurm is not None:
            self.broken += self.slurm.settle()
        for task in [one.main for one in self.launches.values() if one.main is not None]:
            self.world.sleep(LAUNCH_LIMIT_S, lambda task=task: task.done)  # type: ignore[misc]

    def _wait_for_the_end_of_all(self) -> None:
        me = self.world.current
        others = [task for one in self.world.processes for task in one.tasks if task is not me]
        for task in others:
            if task.process.dead:
                self.world.sleep(1e9, lambda task=task: task.done)  # type: ignore[misc]

    @property
    def launched(self) -> Launched:
        """The launch whose process the current task is."""
        return self.launches[self.process]

    def of_slot(self) -> Machines:
        machine = self.machine_of(self.process)
        assert machine is not None
        return machine

    def machine_of(self, process: Process) -> Machines | None:
        for launched in self.launches.values():
            for machine in launched.machines:
                if machine.slot_of(process) is not None:
                    return machine
        return None

    def _strike(self, what: Disturbance) -> None:
        self.struck += 1
        self._tell(f"strikes: {what}")
        Strike(self, Random(what.seed), self.process).strike(what)

    def end_all(self, lost_power: Random | None) -> None:
        """Kill all processes at this moment; with a chance, the power is lost."""
        self.is_disturbed = self._killed_all = True
        self._lost_power, self.disk.fails_with = lost_power, None
        self.world.kill_all()
        if self.slurm is not None:
            self.slurm.lose_power()

    def kill(self, launched: Launched) -> None:
        """Kill the launcher alone; what it has started follows."""
        self.is_disturbed = True
        self.world.kill(launched.process)
        launched.code = -9
        for machine in launched.machines:
            machine.end_orphans()

    @property
    def process(self) -> Process:
        """That of the task that runs."""
        task = self.world.current
        assert task is not None
        return task.process

    def compute(self, stage: Any, pause: Callable[[], bool]) -> None:
        """A stage is computed: time passes, with signs of life."""
        world, key = self.world, stage.key()
        task = world.current
        assert task is not None
        machine = self.of_slot()
        rank = machine.rank_of(task.process)
        assert rank is not None and rank.task is not None
        name = stage_of(rank.task, key)
        with self.disk.seeing_all():
            self._judge_begin(name, key, machine, task.process)
        self._computing[name] = task.process
        world.tell(f"computes {stage.kind} {key[:8]}")
        if rank.hangs:
            rank.hangs = False
            world.sleep(1e9)
        left_s, rank.takes_s = rank.takes_s + world.chance.random() * 4.0, 0.0
        while left_s > 0.0 and not pause():
            world.sleep(min(left_s, 5.0))
            rank.beats += 1
            left_s -= 5.0
        del self._computing[name]

    def _judge_begin(self, name: str, key: str, machine: Machines, process: Process) -> None:
        """May a process begin to compute a stage?"""
        if name in self.promised.stages and self.stage_file(name).exists():
            self.broken.append(f"1: stage {key[:8]} is computed again")
        other = self._computing.get(name)
        if other is not None and not other.dead and self.machine_of(other) is machine:
            slot = machine.slot_of(other)
            if slot is not None and not slot.failed:
                self.broken.append(f"1: stage {key[:8]} is computed by two trials at once")
        stopped_s = self._stopped_s(machine, process)
        if stopped_s is not None and self.world.now_s - stopped_s > NO_MORE_S:
            self.broken.append(f"7: stage {key[:8]} is begun {self.world.now_s - stopped_s:.0f} s after a stop")

    def _stopped_s(self, machine: Machines, process: Process) -> float | None:
        """When a slot's launch was told to stop; None: it was not, or the slot is out of its reach."""
        if machine.is_replaced:
            return None
        if self.slurm is None:
            return next(one.stopped_s for one in self.launches.values() if machine in one.machines)
        slot = machine.slot_of(process)
        return self.slurm.stopped_s if slot is not None and self.slurm.hears(slot) else None

    # What happens.

    def _before(self, event: str, place: str, path: str) -> None:
        """Before a change: may this process make it? Then perhaps a disturbance strikes."""
        self._check_place(event, path)
        self.moments.append((event, place))
        self._changes += 1
        self._counts[event, place] = self._counts.get((event, place), 0) + 1
        if not self._todo:
            return
        first = self._todo[0]
        nth = self._changes if not first.event else self._counts.get((first.event, first.place), 0)
        if (not first.event or (event, place) == (first.event, first.place)) and nth > first.nth:
            self._todo.pop(0)
            self._counts, self._changes = {}, 0
            self._strike(first)

    def running(self, process: Process) -> Launched | None:
        """The launch to which a process belongs, if that runs."""
        for launched in self.launches.values():
            if process is launched.process or any(machine.slot_of(process) for machine in launched.machines):
                return None if launched.process.dead else launched
        return self.slurm.driver if self.slurm else None

    def _check_place(self, event: str, path: str) -> None:
        """Only a driver writes rows, and no file comes to be below tables/ but whole, by being renamed."""
        if "/tables/" in path and event in ("open", "write", "link"):
            self.broken.append(f"1: {event} of {self.disk.place(path)}, where files are whole")
        is_of_rows = path.startswith((f"{self.run_folder}/tables", f"{self.run_folder}/.writing"))
        if is_of_rows and self.machine_of(self.process) is not None:
            self.broken.append(f"1: {event} of {self.disk.place(path)} by a rank")

    def _after(self, event: str, path: str) -> None:
        """After a change: a file of a table may have been replaced."""
        if event == "replace" and Path(path).parent.parent == self.run_folder / "tables":
            self.rows.replaced(Path(path), self.process)
            self.promised.goals = self.rows.goals()

    def stage_file(self, name: str) -> Path:
        """The file of a stage that was promised."""
        trial_id, _, key = name.rpartition("/")
        cache = self.run_folder / "trials" / trial_id / "private_cache" if trial_id else self.cache
        return cache / key[:2] / f"{key}.stage"

    def _check_promised(self) -> None:
        for name in sorted(self.promised.stages):
            if name.partition("/")[0] not in self.promised.goals and not self.stage_file(name).exists():
                self.broken.append(f"1: stage {name} was reported as finished, and is lost")

    def _broken_rows(self, *, ended: bool) -> list[Violation]:
        files = Files(self.run_folder)
        broken = broken_of_trials(Rows(files), self.cache if self.shares else None, ended=ended)
        known = tuple(f"stage {key[:12]}" for key in self.promised.damaged)
        damaged = [what for what in damaged_stages(self.cache) if not what.startswith(known)]
        return [*(Violation(1, what) for what in (*files.wrong, *damaged)), *broken]

    def _judge(self) -> None:
        """At the end of the day."""
        self._check_promised()
        rows = Rows(Files(self.run_folder))
        found = self._broken_rows(ended=True)
        self.broken += [f"1: {what}" for what in self.disk.overwritten]
        self.broken += [f"4: left over after an error: {place}" for place in self.disk.left_half_made]
        if not self.is_disturbed:
            self.broken += [f"4: left over: {path.relative_to(self.root)}" for path in temporaries(self.root)]
        if self.searches:
            found += [Violation(1, what) for what in broken_of_search(self.run_folder, rows)]
        if self._undisturbed is not None and not lacks_scores(rows):
            found += compared(rows, _rows_of(self._undisturbed / self.sweep / "runs" / trials.NAME))
        self.broken += self._told(found)

    @staticmethod
    def _told(found: Sequence[Violation]) -> list[str]:
        return [f"{one.promise}: {one.what}" for one in sorted(found)]

    def _tell(self, text: str) -> None:
        self.world.tell(text)
        self._short.append(self.world.history[-1])


@cache
def _rows_of(run: Path) -> Rows:
    return Rows(Files(run))
