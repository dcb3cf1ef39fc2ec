"""What is replaced on a day on SLURM, in addition: its commands, Ray's nodes, the jobs' processes and their signals."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, MutableMapping
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from hpc.cluster import cluster, head, nodes, worker
from hpc.slurm import calls as called
from sweeps.driver import slurm_pool
from sweeps.operations import controller
from sweeps.run.run_folder import RunFolder
from sweeps.slurm.cluster_run import ClusterRun
from tests.simulation import trials
from tests.simulation.launches import SLOTS, Launched
from tests.simulation.machines import Machines, SlotProcess
from tests.simulation.slurm.commands import Commands
from tests.simulation.slurm.ray_nodes import Clusters, PlayedNode, RayCluster
from tests.simulation.slurm.scheduler import BatchJob, JobRun, Slurm
from tests.simulation.slurm.strikes import end_all
from tests.simulation.world import Dead, Task, World, threading_in
from transtailor.errors import FAILED

if TYPE_CHECKING:
    from tests.simulation.day import Simulation

SITE = """
cpus_per_node = 1
walltime_min = 5
drain_before_s = 60
idle_s = 10.0
limits.max_jobs = 3
controller.walltime_min = 240
"""
END_LIMIT_S = 3600.0  # simulated; of all jobs, once nothing disturbs them


class SlurmDay:
    """SLURM and Ray of one day."""

    def __init__(self, day: Simulation) -> None:
        self.day, self.world = day, day.world
        self.site = day.root / "site.toml"
        self.site.write_text(SITE)
        self.slurm = Slurm(day.world, self._program)
        self.slurm.on_end = self._tell_driver
        self.commands, self.clusters = Commands(self.slurm), Clusters(self.slurm)
        self.drivers: list[Driver] = []
        self.stops: list[Task] = []
        self.asked: dict[str, float] = {}  # jobs of controllers that were told to stop, and when
        self._folders = 0
        shutil.rmtree(day.root.with_name("nodes"), ignore_errors=True)

    def end(self) -> None:
        """The day is over: so are all jobs."""
        self.slurm.is_over = True
        self.world.kill_all()

    def settle(self) -> list[str]:
        """Let SLURM work again, and wait until no job is left; what is broken if that never happens."""
        self.commands.fault, self.slurm.stands_still_until_s = None, 0.0
        self.world.sleep(END_LIMIT_S, lambda: all(stop.done for stop in self.stops) and not self.slurm.live)
        return [f"4: job {job.id} ({job.words[0]}) is {job.state} and does not end" for job in self.slurm.live]

    def lose_power(self) -> None:
        """All machines lose it at once."""
        end_all(self, self.world.chance)

    @property
    def driver(self) -> Launched | None:
        """The driver that runs, the newest one if there are several."""
        alive = (one.launched for one in reversed(self.drivers) if one.poll() is None)
        return next(alive, None)

    @property
    def stopped_s(self) -> float | None:
        """When the present controller was told to stop; None: it was not, or that was lost with the power."""
        newest = next((job.id for job in reversed(self.slurm.jobs) if job.is_controller), "")
        return self.asked.get(newest) if ClusterRun(RunFolder(self.day.run_folder)).stop_file.exists() else None

    def hears(self, slot: SlotProcess) -> bool:
        """Whether the controller reaches a slot: one that is cut off is not told."""
        cluster = next(one for one in self.clusters.all if slot.node in one.nodes)
        runs = (cluster.head.run, slot.node.run)
        return not slot.failed and not cluster.head.has_ended and all(run.host.answers for run in runs)

    def changes(self) -> list[tuple[Any, str, Any]]:
        """What to replace where."""
        world = self.world
        calls, killpg = self.commands.modules(os.killpg)
        ray = SimpleNamespace(nodes=lambda: self.clusters.nodes(self._cluster), shutdown=lambda: None)
        with_cluster: Callable[[Callable[..., Any]], Callable[..., Any]] = lambda act: (  # noqa: E731
            lambda *words: act(self._cluster, *words)
        )
        return [
            (os, "environ", _Environment(world, os.environ)), (os, "killpg", killpg), (called, "subprocess", calls),
            *((module, "check_code", lambda: None) for module in (head, worker, controller)),
            *((module, "own_address", self._own_address) for module in (head, worker)),
            *((module, "RayNode", partial(PlayedNode, self.clusters)) for module in (head, worker)),
            *((module, "Warnings", self._run) for module in (head, worker)),
            *((module, "guarded_folder", self._guarded_folder) for module in (head, worker)),
            (head, "subprocess", SimpleNamespace(Popen=self._driver, DEVNULL=subprocess.DEVNULL)),
            (controller, "make_plan", lambda _: trials.plan(self.day.seeds)),
            (controller, "write_report", lambda path: Path(path, "report.html")),
            (slurm_pool, "connect", self._connect),
            *((module, "ray", ray) for module in (slurm_pool, cluster, nodes)),
            (nodes, "free_resources", with_cluster(self.clusters.free)),
            (cluster, "draining_nodes", with_cluster(self.clusters.draining)),
            (cluster, "drain_node", lambda node, _, within_s: self.clusters.drain(self._cluster, node, within_s)),
            (cluster, "release_node", with_cluster(self.clusters.release)),
            (cluster, "threading", threading_in(world)), (cluster, "start_in_thread", self._in_thread),
            (cluster, "wait", self._wait),
        ]  # fmt: skip

    # The programs of the jobs.

    def _program(self, job: BatchJob) -> int:
        """What a job's processes do."""
        main = head.main if job.is_controller else worker.main
        sys.argv = job.words
        try:
            return main()
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else FAILED
        except Exception as error:  # noqa: BLE001  # a traceback in the job's log
            self.day.broken.append(f"6: job {job.id}: {error!r}")
            return FAILED

    def _tell_driver(self, run: JobRun) -> None:
        """SLURM's SIGTERM reaches all processes of a job."""
        for driver in self.drivers:
            if driver.process in run.children:
                driver.terminate()

    def _run(self) -> JobRun:
        """The signals of the job whose process runs."""
        run = self.slurm.run_of(self.day.process)
        assert run is not None
        return run

    def _own_address(self, _: object = None) -> str:
        return self._run().host.address

    @contextmanager
    def _guarded_folder(self, *_: object) -> Iterator[Path]:
        """A folder of the node, outside of the shared disk."""
        self._folders += 1
        folder = self.day.root.with_name("nodes") / str(self._folders)
        folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder)

    def _driver(self, words: list[str], *, env: Mapping[str, str], **_: object) -> Driver:
        self.drivers.append(Driver(self, self._run(), words, env))
        return self.drivers[-1]

    # What a driver calls.

    @property
    def _cluster(self) -> RayCluster:
        """The Ray of the process that runs."""
        return self.day.launched.cluster  # type: ignore[no-any-return]

    def _connect(self, address: str) -> None:
        launched = self.day.launched
        found = self.clusters.at(address)
        machine = Machines(self.world, SLOTS, comes_and_goes=True, promised=self.day.promised)
        machine.nodes = found.nodes
        launched.cluster = found
        launched.machines.append(machine)
        found.machines.append(machine)

    def _in_thread(self, call: Callable[[], Any]) -> Future[Any]:
        """As `transtailor.waiting.start_in_thread`."""
        future: Future[Any] = Future()

        def run() -> None:
            try:
                future.set_result(call())
            except Dead:
                raise
            except BaseException as error:  # noqa: BLE001  # raised again by `result`
                future.set_exception(error)

        self.world.task(self.day.process, f"{self.day.process.name} call", run)
        return future

    def _wait(self, futures: Collection[Future[Any]], timeout: float) -> None:
        self.world.sleep(timeout, lambda: all(future.done() for future in futures))


class Driver:
    """The command that a head runs: the part of `subprocess.Popen` that is used."""

    def __init__(self, own: SlurmDay, run: JobRun, words: list[str], env: Mapping[str, str]) -> None:
        day, world = own.day, own.world
        self._own, self.process = own, world.process(f"{run.process.name} driver")
        self.pid, self.process.environment = self.process.pid, dict(env)
        run.children.append(self.process)
        self.launched = Launched(self.process, day.promised, day.seeds)
        day.launches[self.process] = self.launched

        def act() -> None:
            sys.argv = words[words.index("-m") + 1 :]
            self.launched.code = controller.main()

        self.launched.main = self.task = world.task(self.process, self.process.name, act)

    def poll(self) -> int | None:
        """As a process's."""
        if not (self.task.done or self.process.dead):
            return None
        return -9 if self.launched.code is None else self.launched.code

    def wait(self, timeout: float | None = None) -> int | None:
        """As a process's; raises subprocess.TimeoutExpired."""
        self._own.world.sleep(timeout or 0.0, lambda: self.poll() is not None)
        if self.poll() is None:
            raise subprocess.TimeoutExpired("driver", timeout or 0.0)
        return self.poll()

    def terminate(self) -> None:
        """As a process's."""
        if self.poll() is None and not self.launched.terminate():
            self._own.day.kill(self.launched)

    def kill(self) -> None:
        """As a process's."""
        self._own.day.kill(self.launched)


class _Environment(MutableMapping[str, str]):
    """The variables of the process that runs."""

    def __init__(self, world: World, real: MutableMapping[str, str]) -> None:
        self._world, self._real = world, real

    @property
    def _own(self) -> MutableMapping[str, str]:
        task = self._world.current
        return self._real if task is None else task.process.environment

    def __getitem__(self, name: str) -> str:
        return self._own[name]

    def __setitem__(self, name: str, value: str) -> None:
        self._own[name] = value

    def __delitem__(self, name: str) -> None:
        del self._own[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._own)

    def __len__(self) -> int:
        return len(self._own)

    def __or__(self, more: Mapping[str, str]) -> dict[str, str]:
        return {**self._own, **more}
