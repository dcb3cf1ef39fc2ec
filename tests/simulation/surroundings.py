"""What is replaced around the product while a day is simulated: the clock, chance, the disk, threads, Tune.

Nothing of the product itself is replaced but what only tells where it runs (its sources, the machine's facts), and what
computes the stages.
"""

from __future__ import annotations

import logging
import os
import secrets
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

import results.report
from results.store import points, reader, writer
from sweeps.driver import commits, committing, driver, events, local_pool, signals, tune_site
from sweeps.operations import launch
from sweeps.planning.plan import Plan
from sweeps.run import relaunch
from sweeps.run.run_folder import RunFolder
from sweeps.search.run_search import RunSearch
from sweeps.worker import trial, tune_slot
from tailor.execution import runner
from tests.simulation import trials
from tests.simulation.launches import SLOTS
from tests.simulation.machines import ranks_on
from tests.simulation.warm_tables import KnownParquet, WarmTables
from tests.simulation.world import World, replaced, threading_in
from transtailor import files
from transtailor.sources import code_digest

if TYPE_CHECKING:
    from tests.simulation.day import Simulation

FULL_ROWS = 6  # of a file of a growing table, so that days have full ones
MOST_ROWS = 20  # made before they are written, so that a commit writes several times
ROOMS = ("transtailor", "hpc", "tailor", "sweeps", "results")


@contextmanager
def surroundings(day: Simulation) -> Iterator[None]:
    """Replace all of it while the block runs."""
    world, threads = day.world, threading_in(day.world)
    changes: list[tuple[Any, str, Any]] = [
        *day.disk.changes(), *_clock(world), (os, "getpid", _pid(world)),
        (os, "urandom", world.numbers.randbytes),
        (secrets, "token_hex", lambda n=16: world.numbers.randbytes(n).hex()),
        (uuid, "uuid4", lambda: uuid.UUID(int=world.numbers.getrandbits(128), version=4)),
        (points, "write_points", _no_points), (writer, "FULL_ROWS", FULL_ROWS),
        (commits, "MOST_ROWS", MOST_ROWS),
        *((module, "threading", threads) for module in (commits, committing, events, signals, writer)),
        (sys, "argv", ["launch.py"]),
        (launch, "_read_plan", _planned(day)),
        (relaunch, "sources", lambda: {Path("sweeps", "code.py"): day.code}),
        (relaunch, "provenance", _provenance),
        (reader, "_connect", WarmTables), (pq, "ParquetFile", KnownParquet),
        (results.report, "write_report", lambda path: Path(path, "report.html")),
        (runner, "compute", trials.computing(day.compute)), (runner, "apply", trials.apply),
        (runner, "_warm_up", lambda *_: None),
        (driver, "StopSignals", _stop_signals(day)), (driver, "most_at_once", lambda _: SLOTS),
        (local_pool, "local_pool", lambda *_: day.launched.open_machines(world, day.comes_and_goes)),
        (tune_site, "tune", _tune(day)), (tune_site, "kill_process", lambda trial: day.of_slot().kill_process(trial)),
        (trial, "logging", _Logs(world)), (trial, "threading", SimpleNamespace(Timer=_no_timer)),
        (tune_slot, "RayRanks", ranks_on(day.of_slot)), (tune_slot, "GroupNodes", _group_nodes(day)),
        (files, "_synced", _OfProcess(world)), (sys, "stdout", day.said), (sys, "stderr", day.said),
        *(day.slurm.changes() if day.slurm else ()),
    ]  # fmt: skip
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with replaced(changes):
            yield
    finally:
        logging.disable(level)


def _planned(day: Simulation) -> Callable[[launch.LaunchOptions], tuple[Plan, RunSearch | None]]:
    """As `launch._read_plan`, of a spec that is read and planned once."""

    def planned(options: launch.LaunchOptions) -> tuple[Plan, RunSearch | None]:
        if day.searches:
            spec = trials.search()
            search = RunSearch(spec, RunFolder(options.runs / spec.name), extend=options.extend)
            return search.plan, search
        return trials.plan(day.seeds, shares=day.shares), None

    return planned


def _provenance(files: dict[Path, bytes]) -> dict[str, Any]:
    return {
        "at": "2026-01-01T00:00:00+00:00", "command": "launch.py", "argv": ["launch.py"], "folder": "/",
        "host": "host", "packages": {}, "code_digest": code_digest(files),
    }  # fmt: skip


def _tune(day: Simulation) -> SimpleNamespace:
    """The part of the module `ray.tune` that a backend uses."""

    def run(*words: Any, **options: Any) -> None:
        day.launched.machine.tune_run(*words, **options)

    def nothing(*_: object, **__: object) -> None:
        pass

    return SimpleNamespace(run=run, PlacementGroupFactory=nothing, CheckpointConfig=nothing)


def _no_points(run: reader.Run, **_how: bool) -> Path:
    """Stands for the writer of the table of points, which nothing of a sweep reads."""
    return run.path


def _stop_signals(day: Simulation) -> type[signals.StopSignals]:
    """The product's, which tells the day when it listens: signals reach only a real main thread."""

    class Known(signals.StopSignals):
        def __enter__(self) -> signals.StopSignals:
            day.launched.stop = self
            return super().__enter__()

        def __exit__(self, *words: Any) -> None:
            day.launched.stop = None
            super().__exit__(*words)

    return Known


def _group_nodes(day: Simulation) -> type:
    class GroupNodes:
        def __init__(self) -> None:
            self._node = day.of_slot().slot_of(day.process).node  # type: ignore[union-attr]

        def check(self) -> bool:
            return self._node.drains

    return GroupNodes


def _clock(world: World) -> list[tuple[Any, str, Any]]:
    """The clock of the simulation, for its tasks; other threads keep theirs."""
    real = {name: getattr(time, name) for name in ("monotonic", "perf_counter", "time", "sleep")}

    def now(name: str, offset_s: Callable[[], float]) -> Callable[[], float]:
        return lambda: real[name]() if world.current is None else world.now_s + offset_s()

    class _Kind(type):
        def __instancecheck__(cls, value: object) -> bool:
            return isinstance(value, datetime)

    class Moment(datetime, metaclass=_Kind):
        """A `datetime` whose `now` is simulated."""

        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            return datetime.fromtimestamp(world.now_s + world.wall_offset_s, tz)

    return [
        (time, "monotonic", now("monotonic", lambda: 0.0)),
        (time, "perf_counter", now("perf_counter", lambda: 0.0)),
        (time, "time", now("time", lambda: world.wall_offset_s)),
        (time, "sleep", lambda s: real["sleep"](s) if world.current is None else world.sleep(s)),
        *((module, "datetime", Moment) for module in _with_datetime(len(sys.modules))),
    ]


@lru_cache
def _with_datetime(_modules: int) -> tuple[ModuleType, ...]:
    """The modules of the product that use `datetime`; looked for again when more modules are there."""
    ours = [module for name, module in sys.modules.items() if name.partition(".")[0] in ROOMS]
    return tuple(module for module in ours if getattr(module, "datetime", None) is datetime)


class _OfProcess:
    """A set of each process of its own, as a module's variable is."""

    def __init__(self, world: World) -> None:
        self._world, self._sets = world, dict[int, set[Path]]()

    def _own(self) -> set[Path]:
        return self._sets.setdefault(0 if self._world.current is None else self._world.current.process.pid, set())

    def __contains__(self, path: Path) -> bool:
        return path in self._own()

    def add(self, path: Path) -> None:
        """As a set's."""
        self._own().add(path)


class _Logs:
    """The loggers of each process of its own; those of the real one would write into the logs of all ranks."""

    INFO = logging.INFO

    def __init__(self, world: World) -> None:
        self._world, self._managers = world, dict[int, logging.Manager]()

    def getLogger(self, name: str) -> logging.Logger:  # noqa: N802
        """As of the module `logging`."""
        process = self._world.current.process  # type: ignore[union-attr]
        manager = self._managers.setdefault(process.pid, logging.Manager(logging.RootLogger(logging.WARNING)))
        return manager.getLogger(name)


def _no_timer(*_: object) -> SimpleNamespace:
    """Stands for the timer that syncs a log, of which nothing is promised after a loss of power."""
    return SimpleNamespace(start=lambda: None)


def _pid(world: World) -> Callable[[], int]:
    real = os.getpid
    return lambda: real() if world.current is None else world.current.process.pid
