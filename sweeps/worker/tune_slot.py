"""A slot in a process of Ray Tune: runs the trials that the driver gives it, or waits for a stage of another trial."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from ray import tune

from hpc.ranks.ranks import RankDied, RankFailed, RankGroup
from hpc.ranks.ray_ranks import GroupNodes, RayRanks
from sweeps.worker.messages import SlotOrder, StagesSeen, StageWait, TrialReport
from sweeps.worker.slot import Slot, failed_report
from tailor.execution.cache import Cache
from transtailor.documents import Record
from transtailor.waiting import WaitedTooLong, wait_for

POLL_S = 0.05  # between two looks into the shared cache: longer the longer the slot waits, up to
POLL_TO_S = 2.0
GIVES_UP = ("failed", "died", "suspended", "moved")  # reports after which the process, which is a rank, has to end

R = TypeVar("R", bound=Record)


class TuneSlot(tune.Trainable):
    """A slot in its own process, which is rank 0; one step runs one stage, or a few seconds of it.

    Ranks start in the first step: Tune kills a trainable whose setup takes long.
    """

    def setup(self, config: dict[str, Any]) -> None:
        """Take the first order; called once per process."""
        self._slot: Slot | None = None
        self._ranks: RayRanks | None = None
        self._nodes = GroupNodes()
        self._asked_to_pause = False
        self._gives_up = ""  # why, once a rank has failed, or is lost or has to leave
        self._take(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next order: the same process and ranks run the next trial."""
        self._take(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Run a stage, or wait for one."""
        work = self._order.work
        if isinstance(work, StageWait):
            finished_keys = wait_for_any(Cache(work.cache), work.keys, work.limit_s)
            return to_tune(StagesSeen(keys=finished_keys), done=True)
        if self._gives_up:  # an error, so that Tune gives up this process
            raise _GivenUpError(self._gives_up)
        assert self._slot is not None
        report = self._slot.step() if self._has_begun else self._begin(self._slot)
        if report.kind in GIVES_UP:
            self._gives_up = report.cause or report.kind
        return to_tune(report, done=report.ends_attempt and not self._gives_up)

    def _begin(self, slot: Slot) -> TrialReport:
        """Start the ranks, unless they are warm, and report their nodes."""
        self._has_begun = True
        try:
            ranks = slot.start()
        except RankDied as death:
            return TrialReport(kind="died", cause=str(death), log_tail=death.log_tail)
        except RankFailed as failure:
            return failed_report(failure)
        assert isinstance(ranks, RayRanks)
        nodes = tuple(of_rank.node for of_rank in ranks.places)
        hosts = tuple(of_rank.host for of_rank in ranks.places)
        return TrialReport(kind="placed", nodes=nodes, hosts=hosts)

    def _watch(self) -> None:
        """Pause the ranks once one of their nodes is being drained; called while they work.

        Raises:
            RankDied: one of their nodes has died.
        """
        if self._nodes.check() and not self._asked_to_pause:
            self._asked_to_pause = True
            if self._ranks is not None:
                self._ranks.interrupt("pause")

    def cleanup(self) -> None:
        """End the ranks."""
        if self._gives_up:
            os._exit(1)  # at once: the thread of rank 0 may hang
        if self._slot is not None:
            self._slot.close()

    def _take(self, config: Mapping[str, Any]) -> None:
        """Take an order."""
        order = from_tune(SlotOrder, config)
        self._order = order
        if isinstance(order.work, StageWait):
            return
        self._has_begun = False
        if self._slot is None:
            self._slot = Slot(self._make_ranks)
        self._slot.take(order.work, order.report_every_s)

    def _make_ranks(self) -> RankGroup:
        start = self._order.start
        self._ranks = RayRanks(
            start.target,
            start.ranks,
            threads_per_rank=start.threads_per_rank,
            gpus_per_rank=start.gpus_per_rank,
            hang_limit_s=start.hang_limit_s,
            watch=self._watch,
        )
        return self._ranks


class _GivenUpError(Exception):
    """Ends the process of a trial: a rank has failed, or is lost or has to leave."""


def to_tune(message: Record, **more: bool) -> dict[str, Any]:
    """Return a message as a configuration or a result of Tune, which flattens and copies nested values."""
    return {"message": message.to_json(), **more}


def from_tune(kind: type[R], values: Mapping[str, Any]) -> R:
    """Return the message that `to_tune` wrote."""
    return kind.from_json(values["message"])


def wait_for_any(cache: Cache, keys: Sequence[str], limit_s: float) -> tuple[str, ...]:
    """Return the stages among `keys` that are in the cache, as soon as there are any; none after `limit_s` seconds."""

    def finished_keys() -> tuple[str, ...] | None:
        return tuple(key for key in keys if cache.has(key)) or None

    try:
        return wait_for(finished_keys, "a stage that others compute", limit_s, poll_s=POLL_S, poll_to_s=POLL_TO_S)
    except WaitedTooLong:
        return ()
