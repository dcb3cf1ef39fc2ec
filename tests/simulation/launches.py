"""A launch of the simulated sweep, and what it has started."""

import signal
from contextlib import AbstractContextManager
from typing import Any

from sweeps.driver.signals import StopSignals
from tests.simulation.machines import Machines, Promised, SlotProcess
from tests.simulation.world import Process, Task, World

SLOTS = 2


class Launched:
    """A launch and what it has started."""

    def __init__(self, process: Process, promised: Promised, seeds: int) -> None:
        self.process, self._promised, self.seeds = process, promised, seeds
        self.main: Task | None = None
        self.code: int | None = None
        self.machines: list[Machines] = []
        self.stop: StopSignals | None = None  # while it listens
        self.stopped_s: float | None = None
        self.cut_off: set[Process] = set()  # that the driver takes for dead
        self.cluster: Any = None  # the Ray of a driver on SLURM
        self.is_replaced = False  # another one has taken the run over

    def terminate(self) -> bool:
        """Send SIGTERM, handled at the main task's next turn; False: nothing listens, so it ends the process."""
        stop = self.stop
        if stop is None or self.main is None:
            return False
        self.main.pending.append(lambda: stop._receive(signal.SIGTERM, None))
        return True

    @property
    def machine(self) -> Machines:
        """Those of its sweep."""
        return self.machines[-1]

    @property
    def slots(self) -> list[SlotProcess]:
        """All that it has started."""
        return [slot for machine in self.machines for slot in machine.processes]

    def open_machines(self, world: World, comes_and_goes: bool) -> AbstractContextManager[Machines]:
        """A pool of slots for it."""
        self.machines.append(Machines(world, SLOTS, comes_and_goes=comes_and_goes, promised=self._promised))
        self.machine.is_replaced = self.is_replaced
        return self.machine.opened()
