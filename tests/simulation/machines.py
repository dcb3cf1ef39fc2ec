"""Ray Tune, its slots, nodes and ranks, played by tasks of one process; what runs in them is the product's."""

import math
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.search import Searcher

from hpc.ranks.ranks import WATCH_S, Calling, Heartbeat, RankDied, RankFailed, RankGroup, RankHost, Watchdog
from hpc.ray.node import NODE_DEATH_S
from sweeps.worker.messages import SlotOrder, TrialReport, TrialTask
from sweeps.worker.tune_slot import TuneSlot, from_tune
from tests.simulation.world import Process, World

TURN_S = 0.5  # of Tune's loop
START_S = 3.0  # of a process, at most
GUARD_S = 8.0  # until what a killed process has started is ended, too
JOIN_S = 60.0  # until a new node takes the place of a lost one


@dataclass(eq=False)
class Node:
    """A machine of some slots."""

    name: str
    is_lost: bool = False
    lost_s: float = 0.0
    drains: bool = False


@dataclass(eq=False)
class Rank:
    """A rank's process and what it was asked."""

    process: Process
    host: RankHost = field(default_factory=RankHost)
    task: TrialTask | None = None
    asked: tuple[str, tuple[Any, ...]] | None = None
    reply: Any = None
    beats: int = 0
    hangs: bool = False  # at its next computation
    takes_s: float = 0.0  # its next computation, in addition


@dataclass(eq=False)
class SlotProcess:
    """A process of Tune that holds a slot."""

    process: Process
    node: Node
    trial: "TuneTrial | None" = None
    order: dict[str, Any] | None = None  # to take before the next step
    may_step: bool = False
    said: dict[str, Any] | None = None
    said_s: float = 0.0  # when this arrives
    failed: bool = False
    ranks: list[Rank] = field(default_factory=list)

    @property
    def all(self) -> list[Process]:
        """Its process and those of its ranks."""
        return [self.process, *(rank.process for rank in self.ranks)]


@dataclass(eq=False)
class TuneTrial:
    """What Tune calls a trial."""

    trial_id: str
    config: dict[str, Any]
    status: str = Trial.PENDING
    given_up: bool = False
    never_starts: bool = False

    @property
    def goal(self) -> str:
        """See `goal_of`; empty if the slot waits for a stage."""
        work = from_tune(SlotOrder, self.config).work
        return goal_of(work) if isinstance(work, TrialTask) else ""


def goal_of(task: TrialTask) -> str:
    """What a task asks for: a trial, or a trial up to a rung."""
    return task.trial_id if task.rung is None else rung_of(task.trial_id, task.rung.number)


def rung_of(trial_id: str, number: int) -> str:
    """A trial up to a rung."""
    return f"{trial_id} to {number}"


def stage_of(task: TrialTask, key: str) -> str:
    """A stage of a task; equal for all trials that share it."""
    return f"{task.trial_id}/{key}" if task.private_cache else key


@dataclass(eq=False)
class Promised:
    """What may not be done again on a day.

    Attributes:
        stages: that were reported as finished.
        goals: trials, and trials up to a rung, of which a row says that they are over.
        damaged: keys of stages that were then damaged on the disk.
        broken: what was done again.
    """

    stages: set[str] = field(default_factory=set)
    goals: set[str] = field(default_factory=set)
    damaged: set[str] = field(default_factory=set)
    broken: list[str] = field(default_factory=list)

    def damage(self, stage: str) -> None:
        """Take a promise back."""
        self.stages.discard(stage)
        self.damaged.add(stage.rpartition("/")[2])


class Machines:
    """The nodes on which one launch runs its trials."""

    def __init__(self, world: World, slots: int, *, comes_and_goes: bool, promised: Promised) -> None:
        self.world, self.most_slots, self.comes_and_goes = world, slots, comes_and_goes
        self.nodes = [Node(f"node{number}") for number in range(slots)]
        self.processes: list[SlotProcess] = []
        self.promised = promised
        self._over = set(promised.goals)  # goals that were reached before, or are reported
        self.is_replaced = False  # its driver: what it runs now is in vain
        self.storage = Path("tune")
        self.never_starts = 0  # processes of Tune to come
        self.late_s = 0.0  # of the next message
        self._lost_s = -math.inf
        self.node_death_s = 2 * NODE_DEATH_S if comes_and_goes else 0.0
        self._launcher = world.current.process if world.current else world.process("none")

    # What RayPool promises.

    @property
    def slots(self) -> int:
        return sum(not node.is_lost and not node.drains for node in self.nodes)

    def want(self, slots: int) -> None:
        pass

    def check(self) -> None:
        pass

    def has_lost(self, nodes: tuple[str, ...]) -> bool | None:
        named_s = self.world.now_s - NODE_DEATH_S  # Ray names a dead node so much later
        gone = {node.name for node in self.nodes if node.drains or (node.is_lost and node.lost_s <= named_s)}
        if nodes:
            return bool(gone & set(nodes))
        return True if self.world.now_s - self._lost_s < 60.0 else None

    def waits_for(self) -> str | None:
        return None if self.slots else "a node"

    def last_errors(self) -> str:
        return "none"

    @contextmanager
    def opened(self, *_: object) -> Iterator["Machines"]:
        """As `sweeps.driver.local_pool.local_pool`; ends what is left."""
        self._launcher = self.world.current.process  # type: ignore[union-attr]
        self.world.sleep(self.world.chance.random() * 5.0)
        try:
            yield self
        finally:
            self.end()

    def end(self) -> None:
        """Kill all processes of slots and ranks."""
        for slot in self.processes:
            for process in slot.all:
                self.world.kill(process)

    @property
    def alive(self) -> list[Process]:
        """Slots and ranks that run."""
        every = [one for slot in self.processes for one in slot.all]
        return [process for process in every if not process.dead and any(not task.done for task in process.tasks)]

    def rank_of(self, process: Process) -> Rank | None:
        """The rank that a process is."""
        return next((rank for slot in self.processes for rank in slot.ranks if rank.process is process), None)

    def slot_of(self, process: Process | None) -> SlotProcess | None:
        """The slot whose process, or the process of whose ranks this is."""
        for slot in self.processes:
            if process in slot.all:
                return slot
        return None

    # What strikes them.

    def lose(self, slot: SlotProcess, lingers_s: float) -> None:
        """The process of a slot is gone for the driver; it and its ranks may live on for a time."""
        slot.failed = True
        self.world.later(lingers_s, lambda: [self.world.kill(process) for process in slot.all])

    def lose_node(self, node: Node, lingers_s: float) -> None:
        """A node is cut off, with all of its slots."""
        node.is_lost = True
        node.lost_s = self._lost_s = self.world.now_s
        for slot in self.processes:
            if slot.node is node:
                self.lose(slot, lingers_s)

    def drain(self, node: Node) -> None:
        """A node is to be left."""
        node.drains, self._lost_s = True, self.world.now_s

    def join_later(self) -> None:
        """A new node takes the place of a lost one."""
        self.world.later(self.world.chance.random() * JOIN_S, self._join)

    def _join(self) -> None:
        if self.slots < self.most_slots:
            self.nodes.append(Node(f"node{len(self.nodes)}"))

    def end_orphans(self) -> None:
        """After a launcher was killed: end its slots, each a moment later."""
        for slot in self.processes:
            self.lose(slot, self.world.chance.random() * GUARD_S)

    # What Tune does.

    def tune_run(self, _trainable: type, *, search_alg: Any, scheduler: Any, **_: object) -> None:
        """As `ray.tune.run`."""
        live: dict[str, TuneTrial] = {}
        controller = SimpleNamespace(
            stop_trial=lambda trial: setattr(trial, "given_up", True), get_trials=list, _live_trials=set(),
            _stopped_trials=set(), _failed_trials=set(), _trials_to_cache=set(),
        )  # fmt: skip
        number, over = 0, False
        while not (over and not live):
            if live:
                scheduler.choose_trial_to_run(controller)
            while not over and len(live) < max(1, self.slots):
                number += 1
                config = search_alg.suggest(f"t{number}")
                over = config is Searcher.FINISHED
                if not isinstance(config, dict):
                    break
                live[f"t{number}"] = TuneTrial(f"t{number}", config)
                scheduler.on_trial_add(controller, live[f"t{number}"])
            for trial in list(live.values()):
                self._place(trial)
                ended, said = self._heard(trial, search_alg)
                if ended:
                    del live[trial.trial_id]
                    scheduler.on_trial_complete(controller, trial)
                    self._complete(trial, said, search_alg)
            self.world.sleep(TURN_S)
        self.end()

    def _complete(self, trial: TuneTrial, said: dict[str, Any] | None, search_alg: Any) -> None:
        search_alg.on_trial_complete(trial.trial_id, said, error=said is None and not trial.given_up)
        if said is not None and trial.goal and from_tune(TrialReport, said).kind == "finished":
            self._over.add(trial.goal)

    def _place(self, trial: TuneTrial) -> None:
        """Give a waiting trial a process, a warm one if there is one."""
        if trial.status != Trial.PENDING or trial.given_up:
            return
        usable = [slot for slot in self.processes if not slot.failed and not slot.process.dead]
        for slot in usable:
            if slot.trial is None and not (slot.node.drains or slot.node.is_lost):
                slot.trial, slot.order, slot.may_step = trial, trial.config, True
                trial.status = Trial.RUNNING
                return
        taken = {slot.node for slot in usable}
        free = [node for node in self.nodes if node not in taken and not node.is_lost and not node.drains]
        if not free:
            return
        if self.never_starts and not trial.never_starts:
            self.never_starts -= 1
            trial.never_starts = True
        if trial.never_starts:
            return
        trial.status = Trial.RUNNING
        slot = SlotProcess(
            self.world.process(f"slot{len(self.processes)}"), free[0], trial, trial.config, may_step=True
        )
        self.processes.append(slot)
        self.world.task(slot.process, slot.process.name, lambda: self._serve_slot(slot))

    def _heard(self, trial: TuneTrial, search_alg: Any) -> tuple[bool, dict[str, Any] | None]:
        """Whether a trial has ended, and with which last message."""
        slot = next((slot for slot in self.processes if slot.trial is trial), None)
        if trial.given_up:
            return True, None
        if slot is None:
            return False, None
        if slot.said is not None and self.world.now_s >= slot.said_s:
            said, slot.said = slot.said, None
            if said.get("done"):
                slot.trial = None
                return True, said
            search_alg.on_trial_result(trial.trial_id, said)
            slot.may_step = True
        elif slot.failed or slot.process.dead:
            slot.trial, slot.failed = None, True
            return True, None
        return False, None

    def _serve_slot(self, slot: SlotProcess) -> None:
        """What a process of Tune does."""
        self.world.sleep(self.world.chance.random() * START_S)
        trainable = TuneSlot.__new__(TuneSlot)
        is_first = True
        while True:
            while not slot.may_step:
                self.world.sleep(math.inf, lambda: slot.may_step)
            slot.may_step = False
            if (order := slot.order) is not None:
                slot.order = None
                trainable.setup(order) if is_first else trainable.reset_config(order)
                is_first = False
            try:
                said = trainable.step()
            except Exception:  # noqa: BLE001  # as Tune, which reports no more than that
                slot.failed = True
                return
            slot.said_s = self.world.now_s + self.late_s + self.world.chance.random() * 0.05
            self.late_s, slot.said = 0.0, said

    def kill_process(self, trial: TuneTrial) -> None:
        """As `sweeps.driver.tune_private.kill_process`."""
        for slot in self.processes:
            if slot.trial is trial:
                for process in slot.all:
                    self.world.kill(process)

    def start_rank(self, slot: SlotProcess) -> Rank:
        """A rank of a slot."""
        rank = Rank(self.world.process(f"{slot.process.name} rank{len(slot.ranks)}"))
        slot.ranks.append(rank)
        self.world.task(rank.process, rank.process.name, lambda: self._serve_rank(rank))
        return rank

    def _serve_rank(self, rank: Rank) -> None:
        """What the process of a rank does."""
        self.world.sleep(self.world.chance.random() * START_S)
        host = rank.host
        while True:
            while rank.asked is None:
                self.world.sleep(math.inf, lambda: rank.asked is not None)
            (command, args), rank.asked = rank.asked, None
            if command == "call" and args[0] == "begin":
                rank.task = TrialTask.from_json(args[1][0])
                is_over = goal_of(rank.task) in self._over
                if is_over and not self.promised.damaged and not self.is_replaced:
                    self.promised.broken.append(f"1: trial {goal_of(rank.task)} runs again although it has finished")
            rank.beats += 1
            rank.reply = reply = host.answer(command, args)
            if command == "call" and args[0] == "advance" and reply.error is None:
                assert rank.task is not None
                done = TrialReport.from_json(reply.value).stages
                self.promised.stages |= {stage_of(rank.task, stage.stage_key) for stage in done}


class SimulatedRanks(RankGroup):
    """What stands for `RayRanks`: a group of one rank on the machines of the launch that runs."""

    machines: Callable[[], Machines]

    def __init__(
        self, target: str, ranks: int, *, threads_per_rank: int = 1, gpus_per_rank: float = 0.0,
        hang_limit_s: float | None = None, watch: Callable[[], None] | None = None,
    ) -> None:  # fmt: skip
        assert (ranks, threads_per_rank, gpus_per_rank) == (1, 1, 0.0)
        self._machines = type(self).machines()
        self._world = self._machines.world
        slot = self._machines.slot_of(self._world.current.process)  # type: ignore[union-attr]
        assert slot is not None
        self._slot, self._hang_limit_s, self._watch = slot, hang_limit_s, watch
        self.places = [SimpleNamespace(node=slot.node.name, host=socket.gethostname())]
        self._rank: Rank | None = self._machines.start_rank(slot)
        for command, args in (("load", (target,)), ("make", ({},))):
            for _ in self._ask_all(command, args, self._world.now_s + 300.0):
                pass

    def interrupt(self, method: str) -> None:
        if self._rank is not None:
            self._rank.host.answer("call", (method, ()))

    def kill(self) -> None:
        if self._rank is not None:
            self._world.kill(self._rank.process)
        self._rank = None

    def _count(self) -> int:
        return int(self._rank is not None)

    def _ask_all(self, command: str, args: tuple[Any, ...], deadline: float | None) -> Calling:
        rank, world = self._rank, self._world
        assert rank is not None
        rank.reply, rank.asked = None, (command, args)
        watchdog = Watchdog(self._hang_limit_s if command == "call" else None)
        while rank.reply is None:
            if rank.process.dead:
                raise RankDied("rank 0 of 1: its process was killed", "")
            if deadline is not None and world.now_s > deadline:
                raise RankDied(f"rank 0 of 1: no answer to {command} in time")
            world.sleep(WATCH_S, lambda: rank.reply is not None or rank.process.dead)
            if rank.reply is None and not rank.process.dead:
                if self._watch is not None:
                    self._watch()
                heartbeat = Heartbeat(number=rank.beats)
                if watchdog.is_hung([heartbeat]):
                    raise watchdog.hang_error(["none"], [])
                yield heartbeat
        if rank.reply.error is not None:
            raise RankFailed(rank.reply.error, rank.reply.traceback)
        return [rank.reply.value]


def ranks_on(machines: Callable[[], Machines]) -> type[SimulatedRanks]:
    """`SimulatedRanks` on certain machines."""
    return type("RayRanks", (SimulatedRanks,), {"machines": staticmethod(machines)})
