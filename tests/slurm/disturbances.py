"""What can happen to a sweep on SLURM, done to it on the test bed; each returns what it hit, or None if nothing."""

import os
import random
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hpc.slurm.jobs import QueuedJob, requeue, signal_steps
from results.store.reader import load
from sweeps.run.run_folder import RunFolder
from sweeps.slurm.cluster_run import ClusterRun
from tests.slurm.testbed import Testbed


@dataclass(frozen=True)
class Disturber:
    """Knows one run and the test bed it runs on; touches nothing that is not the run's."""

    testbed: Testbed
    run: RunFolder
    chance: random.Random

    def worker_cancelled(self) -> str | None:
        """The job of a worker is cancelled: SIGTERM to all of its processes."""
        if (job := self._running("worker")) is None:
            return None
        ClusterRun(self.run).cancel([job.id])
        return f"job {job.id} on {job.nodes}"

    def worker_killed(self) -> str | None:
        """The process of a worker's job is killed."""
        return self._kill("hpc.cluster.worker")

    def driver_killed(self) -> str | None:
        """The driver is killed."""
        return self._kill("sweeps.operations.controller")

    def head_killed(self) -> str | None:
        """The process that holds head and driver is killed."""
        return self._kill("hpc.cluster.head")

    def controller_requeued(self) -> str | None:
        """An administrator queues the controller again."""
        if (job := self._running("controller")) is None:
            return None
        requeue(job.id, None)
        return f"job {job.id} on {job.nodes}"

    def stopped(self) -> str | None:
        """The user asks it to stop."""
        if (job := self._running("controller")) is None:
            return None
        ClusterRun(self.run).stop_file.touch()
        return f"job {job.id} on {job.nodes}"

    def controller_warned(self) -> str | None:
        """The controller gets the signal that SLURM sends before the end of its walltime."""
        if (job := self._running("controller")) is None:
            return None
        signal_steps([job.id], "USR2", None)
        return f"job {job.id} on {job.nodes}"

    def worker_node_killed(self) -> str | None:
        """The power of a worker's node is cut."""
        return self._node(self.testbed.kill_node, "worker")

    def controller_node_killed(self) -> str | None:
        """The power of the controller's node is cut."""
        return self._node(self.testbed.kill_node, "controller")

    def worker_node_cut(self) -> str | None:
        """The cable of a worker's node is pulled, where the controller does not run."""
        return self._node(self.testbed.cut, "worker", but=self._controllers_node())

    def worker_node_slow(self) -> str | None:
        """Each frame to and from a worker's node is late, where the controller does not run."""
        return self._cable("delay 0.3")

    def worker_node_held(self) -> str | None:
        """No frame to or from a worker's node arrives until the cable is mended; then all do."""
        return self._cable("hold")

    def connections_broken(self) -> str | None:
        """Each TCP connection of a worker's node is reset at both ends."""
        return self._cable("break")

    def worker_node_drained(self) -> str | None:
        """An administrator empties a worker's node, where the controller does not run; nothing starts there then."""
        return self._node(self._empty, "worker", but=self._controllers_node())

    def worker_preempted(self) -> str | None:
        """A job of a higher partition takes a worker's node, where the controller does not run, for ten seconds."""
        job = self._running("worker", but=self._controllers_node())
        # Before it has joined it does not hear the warning; without a trial it has gone before its draining is seen.
        if job is None or job.id not in self._joined() or job.nodes not in self._at_work():
            return None
        self.testbed.need(job.nodes, seconds=10)
        return f"job {job.id} on {job.nodes}"

    def _cable(self, command: str) -> str | None:
        return self._node(lambda node: self.testbed.tell_cable(node, command), "worker", but=self._controllers_node())

    def _joined(self) -> set[str]:
        with load(self.run.path) as tables:
            return {row["job"] for row in tables.rows("SELECT job FROM events WHERE kind = 'worker_joined'")}

    def _at_work(self) -> set[str]:
        """The nodes on which trials run."""
        with load(self.run.path) as tables:
            rows = tables.rows("SELECT nodes FROM attempts WHERE status = 'running' AND nodes IS NOT NULL")
        return {node for row in rows for node in row["nodes"]}

    def _controllers_node(self) -> str:
        controller = self._running("controller")
        return controller.nodes if controller else ""

    def _empty(self, node: str) -> None:
        self.testbed.drain(node)
        cluster = ClusterRun(self.run)
        cluster.cancel([job.id for job in cluster.jobs() if job.nodes == node])

    def _running(self, kind: str, but: str = "") -> QueuedJob | None:
        jobs = [
            job
            for job in ClusterRun(self.run).jobs()
            if f"-{kind}" in job.name and job.state.state == "RUNNING" and job.nodes != but
        ]
        return self.chance.choice(jobs) if jobs else None

    def _kill(self, module: str) -> str | None:
        """Kills a process of the run that Python was started for with `-m module`; None if there is none."""
        mine = self.run.path.resolve()
        found = [
            number
            for number, arguments, _ in processes()
            if module_run_by(arguments) == module and any(Path(word).is_relative_to(mine) for word in arguments)
        ]
        if not found:
            return None
        number = self.chance.choice(found)
        try:
            os.kill(number, signal.SIGKILL)
        except ProcessLookupError:  # it ended meanwhile
            return None
        return f"process {number}"

    def _node(self, act: Callable[[str], None], kind: str, but: str = "") -> str | None:
        if (job := self._running(kind, but)) is None:
            return None
        act(job.nodes)
        return job.nodes


def module_run_by(arguments: list[str]) -> str | None:
    """The module that a process was started for by `python ... -m module ...`; None for any other program.

    A shell or srun that carries the same words as its arguments runs something else, wherever the words stand.
    """
    if not arguments or not Path(arguments[0]).name.startswith("python") or "-m" not in arguments[:-1]:
        return None
    return arguments[arguments.index("-m") + 1]


def processes() -> Iterator[tuple[int, list[str], bytes]]:
    """Id, arguments and environment of every process on this machine."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command, environment = ((process / name).read_bytes() for name in ("cmdline", "environ"))
        except OSError:  # it ended meanwhile
            continue
        yield int(process.name), command.decode(errors="replace").rstrip("\0").split("\0"), environment


def left_behind(folder: Path) -> list[str]:
    """Command lines of processes that have the folder in their words or their environment, this one aside."""
    return [
        command
        for number, arguments, environment in processes()
        if (str(folder) in (command := " ".join(arguments)) or str(folder).encode() in environment)
        and number != os.getpid()
    ]


def folders_of_nodes() -> list[Path]:
    """Temporary folders of Ray whose owner ran on a node of the test bed: not in the process namespace of this one."""
    found, here = [], str(Path("/proc/self/ns/pid").readlink())
    for owner in Path("/tmp").glob("transtailor-ray-*/owner"):
        try:
            host, _, namespace = owner.read_text().partition("\n")[0].split()
        except (OSError, ValueError):  # it is being removed, or made
            continue
        if host.startswith("node") and namespace != here:
            found.append(owner.parent)
    return found
