"""Ranks as Ray actors in the current placement group: rank i in bundle i."""

import contextlib
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util import get_current_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from hpc.ranks import (
    CLOSE_LIMIT_S,
    DEATH_GRACE_S,
    START_LIMIT_S,
    RankDied,
    RankFailed,
    RankHost,
    Reply,
    meeting_environment,
    rank_environment,
)

LOOPBACK = "127.0.0.1"
LOG_TAIL_CHARACTERS = 2_000


class _RankActor:
    """A rank's process under Ray."""

    def __init__(self) -> None:
        self._host = RankHost()

    def place(self) -> tuple[str, str]:
        """Node id and IP address of the node that this rank runs on."""
        address = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
        return ray.get_runtime_context().get_node_id(), address

    def answer(self, command: str, args: tuple[Any, ...]) -> Reply:
        """See RankHost.answer: what the target raises comes back as text."""
        return self._host.answer(command, args)


class RayRanks:
    """One warm set of rank actors; see `hpc.ranks.Ranks` for what the methods promise.

    The actors end with the process that made them. With one rank there is nobody to meet: MASTER_ADDR and
    MASTER_PORT are set for two ranks and more.
    """

    def __init__(self, target: str, ranks: int, *, threads_per_rank: int = 1) -> None:
        """Starts the actors and makes one `target` object ("module:Class") in each.

        Raises:
            RankFailed, RankDied: the target could not be made, or the group has no room for the actors in time.
        """
        group = get_current_placement_group()
        actor_class = ray.remote(max_restarts=0)(_RankActor)
        self._actors: list[Any] = []
        try:
            for rank in range(ranks):
                options: dict[str, Any] = {"num_cpus": threads_per_rank}
                if group is not None:
                    options["scheduling_strategy"] = PlacementGroupSchedulingStrategy(group, rank)
                self._actors.append(actor_class.options(**options).remote())
            deadline = time.monotonic() + START_LIMIT_S
            places = self._gather([actor.place.remote() for actor in self._actors], "place", deadline)
            environments = _environments([node for node, _ in places], threads_per_rank)
            self._ask("enter", [(environment,) for environment in environments], deadline)
            self._ask("load", [(target,)] * ranks, deadline)
            meeting: dict[str, str] = {}
            if ranks > 1:
                address = LOOPBACK if len({node for node, _ in places}) == 1 else places[0][1]
                reply = self._gather([self._actors[0].answer.remote("host_store", (address,))], "host_store", deadline)
                meeting = meeting_environment(address, _value(reply[0]))
            self._ask("make", [(meeting,)] * ranks, deadline)
        except BaseException:
            self.kill()
            raise

    def call(self, method: str, *args: Any, timeout_s: float | None = None) -> list[Any]:
        """Calls `method` on all ranks; returns their answers, ordered by rank."""
        if not self._actors:
            raise RankDied(f"{method} was called on ranks that have ended")
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        try:
            return self._ask("call", [(method, args)] * len(self._actors), deadline)
        except BaseException:
            self.kill()
            raise

    def close(self) -> None:
        """Calls the targets' `close`, bounded in time, then ends the actors."""
        try:
            if self._actors:
                self._ask("close", [()] * len(self._actors), time.monotonic() + CLOSE_LIMIT_S)
        finally:
            self.kill()

    def kill(self) -> None:
        """Ends the actors at once."""
        for actor in self._actors:
            with contextlib.suppress(RayError):  # an actor that has died already, or a node that has
                ray.kill(actor)
        self._actors = []

    def _ask(self, command: str, args_by_rank: Sequence[tuple[Any, ...]], deadline: float | None) -> list[Any]:
        answers = [actor.answer.remote(command, args) for actor, args in zip(self._actors, args_by_rank, strict=True)]
        return [_value(reply) for reply in self._gather(answers, command, deadline)]

    def _gather(self, answers: list[Any], command: str, deadline: float | None) -> list[Any]:
        """The values of `answers` once all are there; the first failure raises at once."""
        values: dict[Any, Any] = {}
        left = answers
        while left:
            limit_s = None if deadline is None else max(0.0, deadline - time.monotonic())
            ready, left = ray.wait(left, num_returns=1, timeout=limit_s)
            if not ready:
                late = ", ".join(str(answers.index(answer)) for answer in left)
                raise RankDied(f"rank {late} of {len(self._actors)}: no answer to {command} in time")
            values[ready[0]] = self._get(ready[0], answers)
            if isinstance(values[ready[0]], Reply) and values[ready[0]].error is not None:
                self._raise_death(left, answers)
                _value(values[ready[0]])
        return [values[answer] for answer in answers]

    def _get(self, answer: Any, answers: list[Any]) -> Any:
        try:
            return ray.get(answer)
        except RayError as error:
            text = f"rank {answers.index(answer)} of {len(self._actors)}: {type(error).__name__}"
            raise RankDied(text, str(error)[-LOG_TAIL_CHARACTERS:]) from error

    def _raise_death(self, left: list[Any], answers: list[Any]) -> None:
        """Raises RankDied if another rank has died, the cause of its neighbours' errors; waits for it a moment."""
        if left:
            for answer in ray.wait(left, num_returns=len(left), timeout=DEATH_GRACE_S)[0]:
                self._get(answer, answers)


def _value(reply: Reply) -> Any:
    if reply.error is not None:
        raise RankFailed(reply.error, reply.traceback)
    return reply.value


def _environments(nodes: Sequence[str], threads: int) -> list[dict[str, str]]:
    """torch's variables per rank, from the node that each rank runs on."""
    ranks_on = Counter(nodes)
    seen: Counter[str] = Counter()
    environments = []
    for rank, node in enumerate(nodes):
        environments.append(
            rank_environment(
                rank=rank, ranks=len(nodes), local_rank=seen[node], local_ranks=ranks_on[node], threads=threads
            )
        )
        seen[node] += 1
    return environments
