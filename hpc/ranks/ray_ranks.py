"""Ranks under Ray: rank 0 is a thread of this process, rank i an actor in bundle i of its placement group."""

import contextlib
import faulthandler
import os
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future
from concurrent.futures import wait as wait_for_futures
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util import get_current_placement_group, placement_group_table
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from hpc.errors import ClusterError
from hpc.ranks.ranks import (
    DEATH_GRACE_S,
    STACKS_LIMIT_S,
    START_LIMIT_S,
    WATCH_S,
    Calling,
    Heartbeat,
    RankDied,
    RankFailed,
    RankGroup,
    RankHost,
    Reply,
    Watchdog,
    finish_call,
    is_suspended,
    meeting_environment,
    rank_environment,
)
from hpc.ray.limits import limits_hint
from hpc.ray.node import own_address
from hpc.ray.private import draining_nodes

LOOPBACK = "127.0.0.1"
# Ray's head answers these questions of each trial: whether its nodes are draining, and whether they have died. The
# second answer grows with the cluster, and usually the end of an actor shows the death sooner.
LOOK_EVERY_S = 5.0
COUNT_EVERY_S = 30.0
LOG_TAIL_CHARACTERS = 2_000


@dataclass(frozen=True, kw_only=True)
class RankPlace:
    """Where a rank runs."""

    node: str  # Ray's id
    host: str  # the machine's name
    address: str
    interface: str | None  # of that address; None if it was not found
    process_id: int


class _Rank:
    """A rank's process under Ray."""

    def __init__(self) -> None:
        self._host = RankHost()

    def place(self) -> RankPlace:
        """Return where this rank runs."""
        address = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
        node = ray.get_runtime_context().get_node_id()
        return RankPlace(
            node=node,
            host=socket.gethostname(),
            address=address,
            interface=interface_of(address),
            process_id=os.getpid(),
        )

    def answer(self, command: str, args: tuple[Any, ...]) -> Reply:
        """See `RankHost.answer`: an error of the target is returned as text."""
        return self._host.answer(command, args)

    def interrupt(self, method: str) -> None:
        """Call a method of the target in another thread, while another method runs."""
        self._host.call(method, ())

    def heartbeat(self) -> Heartbeat:
        """Return the target's newest heartbeat; called while the target works."""
        return self._host.heartbeat()

    def stacks(self) -> str:
        """Return the stacks of this process's threads."""
        with tempfile.TemporaryFile() as file:
            faulthandler.dump_traceback(file, all_threads=True)
            file.seek(0)
            return file.read().decode(errors="replace")


class _OwnThread:
    """A thread of this process that runs what rank 0 is asked, one call after the other."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[tuple[Callable[..., Any], tuple[Any, ...], Future[Any]]] = SimpleQueue()
        threading.Thread(target=self._run, daemon=True).start()

    def ask(self, call: Callable[..., Any], *args: Any) -> Future[Any]:
        """Have the thread call a function, next."""
        answer: Future[Any] = Future()
        self._calls.put((call, args, answer))
        return answer

    def _run(self) -> None:
        while True:
            call, args, answer = self._calls.get()
            try:
                answer.set_result(call(*args))
            except BaseException as error:  # noqa: BLE001  # raised again by `result`: else its asker would wait
                answer.set_exception(error)


class RayRanks(RankGroup):
    """A warm rank group: this process is rank 0, the others are Ray actors.

    Once it has been killed, this process has to end too: nothing else ends what its thread may still do. The actors end
    with this process. MASTER_ADDR and MASTER_PORT are set for two ranks and more.
    """

    def __init__(
        self,
        target: str,
        ranks: int,
        *,
        threads_per_rank: int = 1,
        gpus_per_rank: float = 0.0,
        hang_limit_s: float | None = None,
        watch: Callable[[], None] | None = None,
    ) -> None:
        """Start the actors, and make one `target` object in each rank.

        Args:
            threads_per_rank: CPUs of each; this process has its own already.
            gpus_per_rank: GPUs of each, also a part of one; Ray shows a rank only its own GPUs.
            hang_limit_s: the longest time of a call without a heartbeat of any rank; None is no limit.
            watch: called about once a second during a call; its exceptions end the ranks.

        Raises:
            RankFailed, RankDied: the target could not be made, or the group has no room for the actors in time.
        """
        group = get_current_placement_group()
        self._watch = watch
        self._hang_limit_s = hang_limit_s
        # `interrupt` runs in a separate thread; all other methods run in one thread, one after the other.
        groups: Any = {"concurrency_groups": {"interrupt": 1}}  # public, though missing in the stubs
        actor_class: Any = ray.remote(max_restarts=0, **groups)(_Rank)
        self._own, self._thread = _Rank(), _OwnThread()
        self._actors: list[Any] = []  # of ranks 1 and up
        self._has_ended = False
        try:
            for rank in range(1, ranks):
                options: dict[str, Any] = {"num_cpus": threads_per_rank, "num_gpus": gpus_per_rank}
                if group is not None:
                    options["scheduling_strategy"] = PlacementGroupSchedulingStrategy(group, rank)
                self._actors.append(actor_class.options(**options).remote())
            deadline = time.monotonic() + START_LIMIT_S
            others = [actor.place.remote().future() for actor in self._actors]
            places = [self._thread.ask(self._own.place), *others]
            self.places: list[RankPlace] = finish_call(self._gather(places, "place", deadline))
            environments = _environments(self.places, threads_per_rank)
            finish_call(self._ask("enter", [(environment,) for environment in environments], deadline))
            finish_call(self._ask_all("load", (target,), deadline))
            meeting: dict[str, str] = {}
            if ranks > 1:
                is_one_node = len({place.node for place in self.places}) == 1
                address = LOOPBACK if is_one_node else self.places[0].address
                port_reply = self._thread.ask(self._own.answer, "host_store", (address,))
                (reply,) = finish_call(self._gather([port_reply], "host_store", deadline))
                meeting = meeting_environment(address, _value(reply))
            finish_call(self._ask_all("make", (meeting,), deadline))
        except BaseException:
            self.kill()
            raise

    def interrupt(self, method: str) -> None:
        """Call a method of rank 0's target while another one runs."""
        self._own.interrupt(method)

    def kill(self) -> None:
        """End the actors at once."""
        self._has_ended = True
        for actor in self._actors:
            with contextlib.suppress(RayError):  # an actor that has died already, or a node that has
                ray.kill(actor)
        self._actors = []

    def _count(self) -> int:
        return 0 if self._has_ended else 1 + len(self._actors)

    def _ask_all(self, command: str, args: tuple[Any, ...], deadline: float | None) -> Calling:
        return self._ask(command, [args] * (1 + len(self._actors)), deadline)

    def _ask(self, command: str, args_by_rank: Sequence[tuple[Any, ...]], deadline: float | None) -> Calling:
        answers = [self._thread.ask(self._own.answer, command, args_by_rank[0])]
        for actor, args in zip(self._actors, args_by_rank[1:], strict=True):
            answers.append(actor.answer.remote(command, args).future())
        replies = yield from self._gather(answers, command, deadline)
        return [_value(reply) for reply in replies]

    def _gather(self, answers: list[Future[Any]], command: str, deadline: float | None) -> Calling:
        """Wait for all `answers`, by rank, and return their values; the first failure raises."""
        pending = set(answers)
        watchdog = Watchdog(self._hang_limit_s if command == "call" else None)
        of_others = _Heartbeats(self._actors)
        while pending:
            left_s = WATCH_S if deadline is None else max(0.0, deadline - time.monotonic())
            ready, pending = wait_for_futures(pending, min(WATCH_S, left_s), FIRST_COMPLETED)
            if not ready and left_s >= WATCH_S:
                if self._watch is not None:
                    self._watch()
                heartbeats = [self._own.heartbeat(), *of_others.newest()]
                if watchdog.is_hung(heartbeats):
                    raise watchdog.hang_error(self._stacks(), self._suspended_ranks())
                yield heartbeats[0]
                continue
            if not ready:
                late = ", ".join(str(rank) for rank, answer in enumerate(answers) if answer in pending)
                raise RankDied(f"rank {late} of {self._count()}: no answer to {command} in time")
            for answer in ready:
                value = self._get(answer, answers)
                if isinstance(value, Reply) and value.error is not None:
                    self._raise_death(pending, answers)
                    _value(value)  # raises its error
        return [answer.result() for answer in answers]

    def _get(self, answer: Future[Any], answers: list[Future[Any]]) -> Any:
        """Return the value of an answer that is ready; raise RankDied if its rank has died."""
        try:
            return answer.result()
        except RayError as error:
            text = f"rank {answers.index(answer)} of {self._count()}: {type(error).__name__}"
            raise RankDied(text + limits_hint(), str(error)[-LOG_TAIL_CHARACTERS:]) from error

    def _stacks(self) -> list[str]:
        """Return the stacks of all ranks, or a message for those that do not answer."""
        answers = [actor.stacks.options(concurrency_group="interrupt").remote() for actor in self._actors]
        if answers:
            ray.wait(answers, num_returns=len(answers), timeout=STACKS_LIMIT_S)
        others = [_value_now(answer, "does not answer: stopped, or not reachable") for answer in answers]
        return [self._own.stacks(), *others]

    def _suspended_ranks(self) -> list[int]:
        """Return the ranks on this machine that are stopped from outside; of other machines it is not known."""
        here = socket.gethostname()
        suspended = []
        for rank, place in enumerate(self.places):
            if place.host == here and is_suspended(place.process_id):
                suspended.append(rank)
        return suspended

    def _raise_death(self, pending: set[Future[Any]], answers: list[Future[Any]]) -> None:
        """Raise RankDied if another rank has died, or dies in a moment: its death causes its neighbours' errors."""
        ready, _ = wait_for_futures(pending, DEATH_GRACE_S)
        for answer in ready:
            self._get(answer, answers)


class _Heartbeats:
    """The last heartbeat of each rank; a rank is asked again once it has answered."""

    def __init__(self, actors: Sequence[Any]) -> None:
        self._actors = actors
        self._answers: list[Any] = [None] * len(actors)  # Ray's references; None before the first question
        self._newest = [Heartbeat()] * len(actors)

    def newest(self) -> list[Heartbeat]:
        """Take the new answers, ask again, and return the newest heartbeats; does not wait."""
        for rank, actor in enumerate(self._actors):
            if self._answers[rank] is not None:
                heartbeat = _value_now(self._answers[rank], None)
                if heartbeat is None:
                    continue
                self._newest[rank] = heartbeat
            self._answers[rank] = actor.heartbeat.options(concurrency_group="interrupt").remote()
        return list(self._newest)


def _value_now(answer: Any, otherwise: Any) -> Any:
    """Return the value of an actor's answer if it is ready, or else `otherwise`."""
    try:
        return ray.get(answer, timeout=0)
    except (GetTimeoutError, RayError):  # the call that a dead rank should answer reports its death
        return otherwise


def _value(reply: Reply) -> Any:
    """Return the value of a reply; raise RankFailed if it has an error."""
    if reply.error is not None:
        raise RankFailed(reply.error, reply.traceback)
    return reply.value


def _environments(places: Sequence[RankPlace], threads: int) -> list[dict[str, str]]:
    """Return torch's variables of each rank, which depend on the nodes of all ranks."""
    ranks_by_node = Counter(place.node for place in places)
    earlier_ranks_by_node: Counter[str] = Counter()
    environments = []
    for rank, place in enumerate(places):
        environment = rank_environment(
            rank=rank,
            ranks=len(places),
            local_rank=earlier_ranks_by_node[place.node],
            local_ranks=ranks_by_node[place.node],
            threads=threads,
        )
        has_several_nodes = len(ranks_by_node) > 1
        if has_several_nodes and place.interface is not None and "GLOO_SOCKET_IFNAME" not in os.environ:
            environment["GLOO_SOCKET_IFNAME"] = place.interface  # by default gloo takes that of the host's name
        environments.append(environment)
        earlier_ranks_by_node[place.node] += 1
    return environments


def interface_of(address: str) -> str | None:
    """Return the interface of this machine with that IPv4 address; None if there is none.

    >>> interface_of("127.0.0.1")
    'lo'
    """
    for _, name in socket.if_nameindex():
        with contextlib.suppress(ClusterError):
            if own_address(name) == address:
                return name
    return None


class GroupNodes:
    """The nodes of this process's placement group: whether one of them has died or is draining."""

    def __init__(self) -> None:
        self._ids: frozenset[str] = frozenset()
        self._looked_s = float("-inf")  # for draining nodes
        self._counted_s = float("-inf")  # the living nodes
        self._is_draining = False

    def ids(self) -> frozenset[str]:
        """Return Ray's ids of the nodes; empty while the group is being placed."""
        if self._ids:  # a placed group does not move
            return self._ids
        group = get_current_placement_group()
        if group is not None:
            node_by_bundle = placement_group_table(group).get("bundles_to_node_id", {})
            self._ids = frozenset(node for node in node_by_bundle.values() if node)
        return self._ids

    def check(self) -> bool:
        """Whether a node is draining; asks Ray at most every `LOOK_EVERY_S`. Raises RankDied if one has died."""
        now_s = time.monotonic()
        if now_s - self._looked_s < LOOK_EVERY_S:
            return self._is_draining
        self._looked_s = now_s
        ids = self.ids()
        self._is_draining = bool(ids & draining_nodes())
        if now_s - self._counted_s < COUNT_EVERY_S:
            return self._is_draining
        self._counted_s = now_s
        alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}  # type: ignore[no-untyped-call]
        dead = ids - alive
        if dead:
            raise RankDied(f"{len(dead)} of the {len(ids)} nodes of the trial died")
        return self._is_draining
