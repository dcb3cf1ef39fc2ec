"""What each kind of disturbance does to a simulated day."""

from __future__ import annotations

import errno
import fcntl
import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from tests.faults.invariants import POINT
from tests.simulation import trials
from tests.simulation.launches import Launched
from tests.simulation.machines import SlotProcess
from tests.simulation.slurm import strikes as slurm_strikes

if TYPE_CHECKING:
    from tests.simulation.day import Simulation
    from tests.simulation.disturbances import Disturbance
    from tests.simulation.world import Process

JUMP_S = 7200.0  # of a machine's clock
SLOW_S = 900.0  # of a stage, with signs of life
FAILS_S = (0.0, 20.0, 600.0)  # how long a disk refuses
FULL_S = (10.0, 200.0)  # how long it has no room
FROZEN_S = (30.0, 600.0)  # how long a launcher's machine stands still, of which the lock is taken away
NOTICED_S = 20.0  # until somebody launches the sweep elsewhere, at most
LATE_S = (1.0, 30.0, 400.0)  # a message
STALLS = 0.7  # how probable it is that what is cut off in the middle of a change waits before it
STALLS_S = (15.0, 60.0)  # at most
VALUES_BYTES = 16  # at a stage's end: all that is no header
LINGERS_S = 60.0  # a slot that the driver takes for dead, at most


def is_point(stage: Path) -> bool:
    """Whether a stage is there and an operating point."""
    return stage.exists() and json.loads(stage.read_bytes().partition(b"\n")[0])["description"]["kind"] == POINT


@dataclass
class Strike:
    """One disturbance of a day while it happens."""

    day: Simulation
    chance: Random
    process: Process  # that is about to change a file

    def strike(self, what: Disturbance) -> None:
        """Let it happen, if it can."""
        launched = self.day.running(self.process)
        match what.how:
            case "extend":
                self.day.seeds = trials.EXTENDED
            case "code":
                self.day.code += b"1"
            case "clock back" | "clock ahead":
                self.day.world.wall_offset_s += JUMP_S * (1 if what.how == "clock ahead" else -1)
            case "damage":
                self._damage()
            case "full":
                self._for_a_while(self.chance.uniform(*FULL_S), "is_full", True)
            case "ENOSPC" | "EROFS" | "ESTALE" | "EIO":
                self.day.is_disturbed |= what.how != "ENOSPC"  # a full disk lets files be removed
                self._for_a_while(self.chance.choice(FAILS_S), "fails_with", getattr(errno, what.how))
            case _ if self.day.slurm is not None and slurm_strikes.strike(self.day.slurm, what.how, self.chance):
                pass
            case _ if launched is not None:
                self._launcher(what.how, launched)

    def _launcher(self, how: str, launched: Launched) -> None:
        match how:
            case "kill" | "power":
                self.day.end_all(self.chance if how == "power" else None)
            case "kill launcher":
                self.day.kill(launched)
            case "stop" | "stop twice":
                for _ in range(2 if how == "stop twice" else 1):
                    self._terminate(launched)
            case "second launch":
                self._launch_again()
            case "frozen":
                self._freeze(launched)
            case "no start":
                self._start_none(launched)
            case _:
                slots = [slot for slot in launched.slots if self._may_strike(how, slot)]
                slot = next((one for one in slots if self.process in one.all), None)
                if slot or slots:
                    self._slot(how, launched, slot or self.chance.choice(slots))

    def _damage(self) -> None:
        """A byte of a finished operating point changes; one whose rows are not written yet, if there is one."""
        day = self.day
        written = {row["stage_key"] for row in day.rows.rows_of("stages")}
        finished = [name for name in sorted(day.promised.stages) if is_point(day.stage_file(name))]
        chosen = [name for name in finished if name.rpartition("/")[2] not in written] or finished
        if chosen:
            day.is_disturbed = True  # it is moved away when it is seen
            name = self.chance.choice(chosen)
            content = bytearray(day.stage_file(name).read_bytes())
            content[-self.chance.randint(1, VALUES_BYTES)] ^= 1 << self.chance.randrange(8)
            day.disk.rot(day.stage_file(name), bytes(content))
            day.promised.damage(name)

    def _start_none(self, launched: Launched) -> None:
        for machine in launched.machines:
            machine.never_starts += 1
            if machine.processes and self.chance.random() < 0.7:  # its place is taken by the one to come
                self._slot("kill slot", launched, self.chance.choice(machine.processes))

    def _launch_again(self) -> None:
        second = Launched(self.day.world.process("second launch"), self.day.promised, self.day.seeds)
        self.day.launches[second.process] = second
        act = partial(self.day.launch_command, second)
        second.main = self.day.world.task(second.process, second.process.name, act)

    def _freeze(self, launched: Launched) -> None:
        """A launcher's machine stands still and loses the lock; another launch takes over, and then it goes on."""
        if not (launched.process.locks and self.day.run_folder.exists()):
            return
        self.day.is_disturbed = True
        launched.is_replaced = True
        for machine in launched.machines:
            machine.is_replaced = True
        for handle in launched.process.locks:
            fcntl.flock(handle, fcntl.LOCK_UN)
        self.day.world.stop(launched.process, self.chance.uniform(*FROZEN_S))
        self.day.world.later(self.chance.uniform(0.0, NOTICED_S), self._launch_again)
        if self.process is launched.process:
            self.day.world.sleep(0.0)

    def _may_strike(self, how: str, slot: SlotProcess) -> bool:
        """What is lost already may still die in the middle of a change."""
        return not slot.process.dead and (not slot.failed or (how == "kill rank" and self.process in slot.all))

    def _slot(self, how: str, launched: Launched, slot: SlotProcess) -> None:
        machine, day = launched.machine, self.day
        day.is_disturbed |= how in ("kill rank", "kill slot", "cut off", "node")
        match how:
            case "late":
                machine.late_s = self.chance.choice(LATE_S)
            case "hang" | "slow" if slot.ranks:
                slot.ranks[-1].hangs = how == "hang"
                slot.ranks[-1].takes_s = SLOW_S if how == "slow" else 0.0
            case "kill rank" if slot.ranks:
                day.world.kill(slot.ranks[-1].process)
            case "kill slot":
                launched.cut_off |= set(slot.all)
                day.world.kill(slot.process)
                machine.lose(slot, self.chance.uniform(0.0, 5.0))
            case "cut off":
                launched.cut_off |= set(slot.all)
                machine.lose(slot, self.chance.uniform(0.0, LINGERS_S))
                self._stall(slot)
            case "node" if day.comes_and_goes:
                launched.cut_off |= set(slot.all)
                machine.lose_node(slot.node, self.chance.uniform(0.0, LINGERS_S))
                machine.join_later()
                self._stall(slot)
            case "drain" if day.comes_and_goes:
                machine.drain(slot.node)
                machine.join_later()

    def _stall(self, slot: SlotProcess) -> None:
        """What is cut off often waits for the shared file system, and goes on when it is too late."""
        if self.process in slot.all and self.chance.random() < STALLS:
            self.day.world.sleep(self.chance.random() * self.chance.choice(STALLS_S))

    def _terminate(self, launched: Launched) -> None:
        """SIGTERM: handled by the main task at its next turn; if nothing listens, it ends the process."""
        if not launched.terminate():
            self.day.kill(launched)
            return
        self.day.is_disturbed = True  # ranks are killed at the end, perhaps in the middle of a write
        launched.stopped_s = self.day.world.now_s if launched.stopped_s is None else launched.stopped_s

    def _for_a_while(self, seconds: float, name: str, value: object) -> None:
        world, disk = self.day.world, self.day.disk
        setattr(disk, name, value)

        def end() -> None:
            world.sleep(seconds)
            setattr(disk, name, False if value is True else None)

        world.task(world.process("kernel"), "kernel", end)
