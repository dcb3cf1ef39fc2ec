"""One process that plays many: tasks that take turns, a clock of their own, and processes that can be killed.

Each task is a thread, but only one of them runs at a time: it gives up its turn where it sleeps, waits or changes a
file. Who is next, and how late, is drawn from a seed; so the same seed gives the same history.
"""

import faulthandler
import math
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from types import SimpleNamespace
from typing import Any

FIRST_PID = 2**23  # no real process has this id
STAYS = 0.7  # how probable it is that a task goes on where it could give up its turn
SHORTEST_S = 1e-6  # of a sleep: a rest that rounding loses would be slept for ever
MOST_TURNS = 60_000  # of one day; an undisturbed one takes about 500
REAL_LIMIT_S = 600.0  # of one day, which takes about 0.5


class Dead(BaseException):
    """The process of this task was killed: nothing that it does from now on reaches a file."""


class Stuck(Exception):  # noqa: N818  # an event
    """No task will ever run again, or they run without an end."""


@dataclass(eq=False)
class Process:
    """Tasks that are killed together."""

    name: str
    pid: int
    dead: bool = False
    tasks: list["Task"] = field(default_factory=list)  # the first one is its main thread
    goes_on_s: float = 0.0  # it is stopped until then
    locks: set[int] = field(default_factory=set)  # open files that the kernel closes with it
    environment: dict[str, str] = field(default_factory=dict)  # on SLURM

    @property
    def is_over(self) -> bool:
        """Whether it was killed, or its main thread has ended, with which all others end."""
        return self.dead or (bool(self.tasks) and self.tasks[0].done)


@dataclass(eq=False)
class Task:
    """A thread that runs when it has its turn."""

    name: str
    process: Process
    wake_s: float = 0.0
    until: Callable[[], bool] | None = None  # it may run sooner, once this holds
    done: bool = False
    pending: list[Callable[[], object]] = field(default_factory=list)  # signals: handled when it has its next turn
    turn: threading.Lock = field(default_factory=threading.Lock)

    def earliest_s(self) -> float:
        """When it may run, as far as it is known now."""
        if self.process.is_over:
            return 0.0
        holds = self.until is not None and self.until()
        return max(0.0 if holds else self.wake_s, self.process.goes_on_s)


class World:
    """The tasks, their processes and their clock."""

    def __init__(self, seed: str) -> None:
        self.chance = Random(f"turns {seed}")
        self.numbers = Random(f"numbers {seed}")  # what os.urandom gives
        self.now_s = 1000.0
        self.wall_offset_s = 1_767_225_600.0  # 2026; a jump of the clock changes it
        self.history: list[str] = []
        self.processes: list[Process] = []
        self._tasks: list[Task] = []
        self._by_thread: dict[int, Task] = {}
        self._outside = threading.Lock()
        self._outside.acquire()
        self._turns = 0
        self.stuck: str | None = None
        self.errors: list[str] = []  # of tasks

    @property
    def current(self) -> Task | None:
        """The task that runs; None for a thread that is not ours."""
        return self._by_thread.get(threading.get_ident())

    def tell(self, text: str) -> None:
        """Add a line to the history."""
        task = self.current
        self.history.append(f"{self.now_s - 1000.0:9.3f} {task.name if task else '-'}: {text}")

    def process(self, name: str) -> Process:
        """A new process, without tasks."""
        self.processes.append(Process(name, FIRST_PID + len(self.processes)))
        return self.processes[-1]

    def task(self, process: Process, name: str, act: Callable[[], object]) -> Task:
        """A new task; it has its first turn later."""
        task = Task(name, process, wake_s=self.now_s)
        task.turn.acquire()
        process.tasks.append(task)
        self._tasks.append(task)

        def run() -> None:
            task.turn.acquire()
            self._by_thread[threading.get_ident()] = task
            try:
                if not process.is_over:
                    act()
            except Dead:
                pass
            except BaseException as error:  # noqa: BLE001  # the fault of the simulator: it fails the day
                self.errors.append(f"{task.name}: {error!r}")
            finally:
                self._by_thread.pop(threading.get_ident(), None)
                task.done = True
                self._tasks.remove(task)
                self._give_turn()

        _Thread(target=run, daemon=True).start()
        return task

    def run(self) -> None:
        """Let the tasks run until none is left; called from outside of them.

        Raises:
            Stuck: they wait for each other, or do not end, or one waits for something that is not simulated.
        """
        if self._tasks:
            self._give_turn()
            if not self._outside.acquire(timeout=REAL_LIMIT_S):
                faulthandler.dump_traceback(sys.__stderr__)
                raise Stuck(f"a task keeps its turn for {REAL_LIMIT_S:g} real seconds: see its thread above")
        if self.stuck:
            raise Stuck(self.stuck)

    def sleep(self, seconds: float, until: Callable[[], bool] | None = None) -> None:
        """Give up the turn for a time, or until something holds."""
        task = self.current
        assert task is not None
        self.check_alive()
        task.wake_s, task.until = self.now_s + max(SHORTEST_S, seconds), until
        self._switch(task)

    def step(self) -> None:
        """Take a moment, and perhaps give up the turn."""
        task = self.current
        assert task is not None
        self.check_alive()
        self.now_s += self.chance.random() * 0.004
        if self.chance.random() > STAYS:
            task.wake_s, task.until = self.now_s, None
            self._switch(task)

    def later(self, seconds: float, act: Callable[[], object]) -> None:
        """Let something happen after a time, as the kernel does it: no kill prevents it."""

        def wait() -> None:
            self.sleep(seconds)
            act()

        self.task(self.process("kernel"), "kernel", wait)

    def kill_all(self) -> None:
        """Kill all processes but those of the user and the kernel."""
        for process in self.processes:
            if process.name not in ("user", "kernel"):
                self.kill(process)

    def stop(self, process: Process, seconds: float) -> None:
        """Let nothing of a process run for a time."""
        process.goes_on_s = self.now_s + seconds
        self.tell(f"{process.name} stops for {seconds:.0f} s")

    def kill(self, process: Process) -> None:
        """Kill a process: its tasks end when they have their next turn, and change nothing until then."""
        if not process.dead:
            process.dead = True
            self.tell(f"{process.name} is killed")

    def check_alive(self) -> None:
        """Raise Dead in a task whose process was killed or has ended."""
        task = self.current
        if task is not None and task.process.is_over:
            raise Dead

    def _switch(self, task: Task) -> None:
        following = self._next()
        if following is not task:
            self._hand_over(following)
            task.turn.acquire()
        task.until = None
        self.check_alive()
        while task.pending:
            task.pending.pop(0)()

    def _give_turn(self) -> None:
        self._hand_over(self._next() if self._tasks else None)

    def _hand_over(self, following: Task | None) -> None:
        (self._outside if following is None else following.turn).release()

    def _next(self) -> Task:
        self._turns += 1
        if self._turns > MOST_TURNS and self.stuck is None:
            self._end("the day does not end")
        earliest_s = [task.earliest_s() for task in self._tasks]
        first_s = min(earliest_s)
        if math.isinf(first_s):
            self._end(f"{', '.join(task.name for task in self._tasks)} wait for ever")
            return self._tasks[0]
        self.now_s = max(self.now_s, first_s)
        ready = [task for task, s in zip(self._tasks, earliest_s, strict=True) if s <= self.now_s]
        return ready[0] if len(ready) == 1 else self.chance.choice(ready)

    def _end(self, why: str) -> None:
        self.stuck = why
        for process in self.processes:
            process.dead = True


_Thread = threading.Thread  # before the simulation replaces the name


class SimulatedThread:
    """The part of threading.Thread that the product uses, as a task of the process that makes it."""

    world: World

    def __init__(self, target: Callable[..., object], args: tuple[Any, ...] = (), name: str = "", **_: object) -> None:
        self._act, self._name = (lambda: target(*args)), name or getattr(target, "__name__", "thread")
        self._task: Task | None = None

    def start(self) -> None:
        """As a thread's."""
        creator = self.world.current
        assert creator is not None
        self._task = self.world.task(creator.process, f"{creator.process.name} {self._name}", self._act)

    def join(self, timeout: float | None = None) -> None:
        """As a thread's."""
        task = self._task
        assert task is not None
        if not task.done:
            self.world.sleep(math.inf if timeout is None else timeout, lambda: task.done)

    def is_alive(self) -> bool:
        """As a thread's."""
        return self._task is not None and not self._task.done


class SimulatedEvent:
    """The part of threading.Event that the product uses."""

    world: World

    def __init__(self) -> None:
        self._is_set = False

    def set(self) -> None:
        """As an event's."""
        self._is_set = True

    def is_set(self) -> bool:
        """As an event's."""
        return self._is_set

    def wait(self, timeout: float | None = None) -> bool:
        """As an event's."""
        if not self._is_set:
            self.world.sleep(math.inf if timeout is None else timeout, self.is_set)
        return self._is_set


class SimulatedLock:
    """The part of threading.Lock that the product uses; with a real one, who waits would keep its holder's turn."""

    world: World

    def __init__(self) -> None:
        self._is_held = False

    def __enter__(self) -> None:
        while self._is_held:
            self.world.sleep(math.inf, lambda: not self._is_held)
        self._is_held = True

    def __exit__(self, *_: object) -> None:
        self._is_held = False


def threading_in(world: World) -> SimpleNamespace:
    """The module `threading` as the product's modules see it."""
    of_world: Mapping[str, Any] = {"world": world}
    return SimpleNamespace(
        Thread=type("Thread", (SimulatedThread,), dict(of_world)),
        Event=type("Event", (SimulatedEvent,), dict(of_world)),
        Lock=type("Lock", (SimulatedLock,), dict(of_world)), Timer=threading.Timer,
        main_thread=threading.main_thread, current_thread=threading.current_thread,
    )  # fmt: skip


@contextmanager
def replaced(changes: list[tuple[Any, str, Any]]) -> Iterator[None]:
    """Set attributes of objects and modules, and set them back."""
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in changes]
    try:
        for owner, name, value in changes:
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in reversed(before):
            setattr(owner, name, value)
