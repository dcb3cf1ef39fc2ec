"""Trials on a Ray, of this machine or of a cluster: Ray Tune runs them, the board decides which one comes next.

What Tune keeps about trials is never read: the tables and the cache say what is finished.
"""

import json
import math
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.progress_reporter import TrialProgressCallback
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from hpc.ranks.ranks import START_LIMIT_S, RankDied
from hpc.ranks.ray_ranks import GroupNodes, RayRanks
from sweeps.driver.board import SweepState
from sweeps.driver.signals import StopSignals
from sweeps.driver.slot import TELL_EVERY_S, Report, Slot
from sweeps.driver.tune_private import TUNE, give_up, let_go, tune_settings
from sweeps.scheduling.order import Blocked
from sweeps.spec.resources import Resources
from tailor.execution.cache import Cache
from transtailor.waiting import WaitedTooLong, wait_for

POLL_S, POLL_TO_S = 0.05, 2.0  # looks of a held slot at the shared folder: rarer the longer it is held
CHECK_EVERY_S = 1.0  # whether the place is there still
MOST_TOLD_PER_S = 20.0  # reports on the way of stages: each costs Tune some milliseconds
FIRST_HOLD_S = 0.5
LONGEST_HOLD_S = 10.0
GIVES_UP = ("died", "suspended", "moved")  # where nodes come and go: the process then, with its place
ROUND_TRIALS = 5_000  # Tune's memory, and its state on disk, grow with the trials of one run


class Place(Protocol):
    """The Ray that trials run on."""

    storage: Path
    """A folder for Tune's own files, seen by all nodes; removed with the place."""
    most_slots: int
    """Trials at once, when all nodes are there."""
    comes_and_goes: bool
    """Whether nodes do: then a trial whose node is lost or left gives up its process, and starts on another one."""

    def slots(self, could_run: int) -> int:
        """Trials that can run at once now, where so many could be used; asked several times a second."""

    def check(self) -> None:
        """Raises what has ended the place, if something has: Tune would wait for it; asked once a second."""

    def lost(self, nodes: tuple[str, ...]) -> bool:
        """Whether one of these nodes (Ray's ids) has died or is being left; of none, whether any has, lately."""

    def waits_for(self) -> str | None:
        """What has to come before a trial can run, in words; None: nothing, as far as is known."""

    def last_words(self) -> str:
        """What Ray's servers said last, or where that is, for whoever asks why a process did not start."""


class TuneSite:
    """Several slots, each with ranks that stay warm from trial to trial."""

    def __init__(
        self, target: str, resources: Resources, cache: Path, place: Callable[[], AbstractContextManager[Place]]
    ) -> None:
        """Takes what lives in each rank, what a trial runs on, the cache, and what opens the Ray to run on."""
        self._resources, self._place = resources, place
        self._order = {
            "target": target,
            "ranks": resources.ranks,
            "threads_per_rank": resources.threads_per_rank,
            "gpus_per_rank": resources.gpus_per_rank,
            "hang_limit_s": resources.hang_limit_s,
            "cache": str(cache),
        }

    def run(self, board: SweepState, stop: StopSignals) -> None:
        """Runs all trials.

        Raises:
            Interrupted: `stop` was asked for.
            LibraryError: the installed Ray Tune lacks what is used of it.
        """
        TUNE.check()
        with self._place() as place:
            stop.rearm()
            with tune_settings(place.most_slots):
                while board.waiting:  # a round ends early for trials that were lost while the last ones ran
                    stop.check()
                    self._round(board, stop, place)

    def _round(self, board: SweepState, stop: StopSignals, place: Place) -> None:
        head: dict[str, float] = {}
        rank = {"CPU": float(self._resources.threads_per_rank), "GPU": self._resources.gpus_per_rank}
        searcher = _BoardSearcher(board, self._order, place, stop)
        bundles = [head] + [{name: count for name, count in rank.items() if count}] * self._resources.ranks
        tune.run(
            _TuneTrial,
            # The trainable itself only waits for its ranks. Tune drops the empty bundle, so rank i is in bundle i.
            resources_per_trial=tune.PlacementGroupFactory(bundles, strategy=self._resources.placement.upper()),
            search_alg=searcher,
            scheduler=_LiveFIFO(searcher),
            num_samples=-1,
            reuse_actors=True,
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            storage_path=str(place.storage),
            trial_dirname_creator=_directory_name,
            callbacks=[_SaysNothing()],
            verbose=0,
            raise_on_failed_trial=False,
        )


class _TuneTrial(tune.Trainable):
    """A slot in a process of its own; one step runs one stage, or a few seconds of it.

    Ranks start in the first step: a trainable that is long in setting up is killed by Tune for short trials.
    """

    def setup(self, config: dict[str, Any]) -> None:
        """Called once per process."""
        self._slot: Slot | None = None
        self._ranks: RayRanks | None = None
        self._nodes = GroupNodes()
        self._asked_to_pause = False
        self._gives_up = ""  # why, once the nodes of this process are lost or to be left
        self._take(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """The next trial comes to the same process and finds the same ranks."""
        self._take(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Runs a stage, or holds the slot."""
        if "keys" in self._order:
            found = wait_for_any(Cache(Path(self._order["cache"])), self._order["keys"], self._order["limit_s"])
            return {"found": json.dumps(found), "done": True}
        if self._gives_up:  # an error, so that Tune gives up this process and its nodes
            raise _GivenUpError(self._gives_up)
        assert self._slot is not None
        report = self._slot.step() if self._has_begun else self._begin(self._slot)
        if self._order["comes_and_goes"] and report.kind in GIVES_UP:
            self._gives_up = report.cause or report.kind
        return {"report": report.to_json(), "done": report.over and not self._gives_up}

    def _begin(self, slot: Slot) -> Report:
        """Says that this process is there; where nodes come and go, starts the ranks and says where they are."""
        self._has_begun = True
        if not self._order["comes_and_goes"]:
            return Report(kind="begun", hosts=(socket.gethostname(),), over=False)
        try:
            ranks = slot.start()
        except RankDied as death:
            return Report(kind="died", cause=str(death), log_tail=death.log_tail, over=True)
        assert isinstance(ranks, RayRanks)
        nodes, hosts = zip(*[(place.node, place.host) for place in ranks.places], strict=True)
        return Report(kind="placed", nodes=nodes, hosts=hosts, over=False)

    def _watch(self) -> None:
        """While the ranks work: lets them pause once a node of theirs is to be left.

        Raises:
            RankDied: a node of theirs has died.
        """
        if self._nodes.check() and not self._asked_to_pause:
            self._asked_to_pause = True
            if self._ranks is not None:
                self._ranks.interrupt("pause")

    def cleanup(self) -> None:
        """Ends the ranks."""
        if self._slot is not None:
            self._slot.close()

    def _take(self, config: Mapping[str, Any]) -> None:
        self._order = order = json.loads(config["order"])
        if "keys" in order:
            return
        self._gives_up = ""
        self._has_begun = False
        if self._slot is None:
            self._slot = Slot(self._make_ranks)
        attempts = 1 if order["comes_and_goes"] else order["attempts"]
        self._slot.take(order["task"], attempts, order["tell_every_s"])

    def _make_ranks(self) -> RayRanks:
        order = self._order
        self._ranks = None
        self._ranks = RayRanks(
            order["target"],
            order["ranks"],
            threads_per_rank=order["threads_per_rank"],
            gpus_per_rank=order["gpus_per_rank"],
            hang_limit_s=order["hang_limit_s"],
            watch=self._watch if order["comes_and_goes"] else None,
        )
        return self._ranks


class _GivenUpError(Exception):
    """What a trial's process ends with whose nodes are lost or to be left."""


def wait_for_any(cache: Cache, keys: list[str], limit_s: float) -> list[str]:
    """The stages among `keys` that are in the cache, as soon as there are any; empty after `limit_s` seconds."""

    def found() -> list[str] | None:
        return [key for key in keys if cache.has(key)] or None

    try:
        return wait_for(found, "a stage that others compute", limit_s, poll_s=POLL_S, poll_to_s=POLL_TO_S)
    except WaitedTooLong:
        return []


class _BoardSearcher(Searcher):
    """Gives Tune one trial of the board for each free slot.

    Where no trial may start yet it gives one that holds the slot until a stage is there that others wait for: Tune
    would give the slot away for good otherwise, and its warm ranks with it.
    """

    def __init__(self, board: SweepState, order: Mapping[str, Any], place: Place, stop: StopSignals) -> None:
        super().__init__()
        self._board, self._place, self._stop = board, place, stop
        self._order = {**order, "comes_and_goes": place.comes_and_goes}
        self._checked_s = 0.0
        self._given_s: dict[str, float] = {}  # trials without a sign of their process: since when they have had a slot
        self._nodes: dict[str, tuple[str, ...]] = {}  # of running trials that said where they are
        self._gave_up: dict[str, Report] = {}  # last words of trials that give up their process
        self._running: dict[str, str | None] = {}  # Tune's id -> ours; None holds a slot
        self._given = 0
        self._hold_s = FIRST_HOLD_S

    def suggest(self, trial_id: str) -> Any:
        """The configuration of a trial for Tune; None: not now; Searcher.FINISHED: no more in this round."""
        self.check()
        could_run = self._board.could_run
        if len(self._running) >= self._place.slots(could_run):
            return None  # the choice falls when a slot is free: then more is known
        if self._given >= ROUND_TRIALS:
            return Searcher.FINISHED
        if self._board.waiting and self._board.is_paused:
            return None
        choice = self._board.next(self._order["ranks"])
        if choice is None:
            return Searcher.FINISHED
        if isinstance(choice, Blocked) and self._place.comes_and_goes and len(self._running) >= could_run:
            return None  # the slot's node may be given back
        self._given += 1
        self._given_s[trial_id] = time.monotonic()
        if isinstance(choice, Blocked):
            order = {**self._order, "keys": sorted(choice.keys), "limit_s": self._hold_s}
            self._running[trial_id] = None
            self._hold_s = min(2 * self._hold_s, LONGEST_HOLD_S)
        else:
            tell_every_s = max(TELL_EVERY_S, len(self._running) / MOST_TOLD_PER_S)
            order = {**self._order, "task": choice.task, "attempts": choice.attempts, "tell_every_s": tell_every_s}
            self._running[trial_id] = choice.trial_id
            self._hold_s = FIRST_HOLD_S
        return {"order": json.dumps(order)}  # as text: Tune flattens and copies nested configurations

    def check(self) -> None:
        """Raises Interrupted when a stop was asked for, and what has ended the place.

        Called at each turn of Tune's loop, from both of its sides: with live trials it asks the scheduler some ten
        times a second, without any the searcher alone, once a second for up to ten minutes.
        """
        self._stop.check()
        now_s = time.monotonic()
        if now_s - self._checked_s > CHECK_EVERY_S:
            self._checked_s = now_s
            self._place.check()
            if len(self._running) > self._place.slots(self._board.could_run):  # one of them has lost its slot
                self._given_s = dict.fromkeys(self._given_s, now_s)
            self._board.waits_for(None if self._running else self._place.waits_for())

    def not_started(self) -> list[str]:
        """Tune's ids of trials that have had a slot for too long without a sign of their process."""
        first_s = time.monotonic() - START_LIMIT_S
        return [trial_id for trial_id, given_s in self._given_s.items() if given_s < first_s]

    def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """A step that is not the last one."""
        self._given_s.pop(trial_id, None)
        ours = self._running[trial_id]
        if ours is None:
            return
        report = Report.from_json(result["report"])
        if report.kind == "placed":
            self._nodes[trial_id] = report.nodes
        if self._order["comes_and_goes"] and report.kind in GIVES_UP:
            self._gave_up[trial_id] = report
        else:
            self._board.report(ours, report)

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        """The last step, or the end of the slot's process."""
        ours = self._running.pop(trial_id)
        is_late = self._given_s.pop(trial_id, math.inf) < time.monotonic() - START_LIMIT_S
        nodes, last = self._nodes.pop(trial_id, ()), self._gave_up.pop(trial_id, None)
        if ours is None:
            self._board.stages_there(json.loads(result["found"]) if result and not error else [])
        elif last is not None:
            is_fault = last.kind == "died" and not self._place.lost(nodes)
            self._board.lost(ours, last.cause or last.kind, last.log_tail, counts=is_fault)
        elif is_late and not error and not result:
            cause = f"no process of the trial started within {START_LIMIT_S:g} s of a free slot"
            self._board.lost(ours, cause, self._place.last_words(), counts=True)
        elif error or not result:
            cause = "the process that held the trial's ranks ended"
            self._board.lost(ours, cause, counts=not self._place.lost(nodes))
        else:
            self._board.report(ours, Report.from_json(result["report"]))

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Tune's state is not kept."""

    def save(self, checkpoint_path: str) -> None:
        """Tune's state is not kept."""

    def restore(self, checkpoint_path: str) -> None:
        """Tune's state is not kept."""


class _LiveFIFO(FIFOScheduler):
    """First in, first out over the live trials alone: Tune's own walks over all that ever were, at each step.

    It is asked at each turn of Tune's loop, some ten times a second, as long as there are live trials: see
    `_BoardSearcher.check`.
    """

    def __init__(self, searcher: _BoardSearcher) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._searcher = searcher
        self._live: dict[str, Trial] = {}
        self._ended: list[Trial] = []  # since the last turn

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:  # noqa: ARG002  # Tune's interface
        """A trial came in."""
        self._live[trial.trial_id] = trial

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:  # noqa: ARG002
        """A trial ended."""
        self._end(trial)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:  # noqa: ARG002
        """A trial's process ended."""
        self._end(trial)

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:  # noqa: ARG002
        """A trial was taken back."""
        self._end(trial)

    def _end(self, trial: Trial) -> None:
        self._live.pop(trial.trial_id, None)
        self._ended.append(trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """The first that waits for its process; raises Interrupted when a stop was asked for, and see `Place.check`."""
        self._searcher.check()
        for trial_id in self._searcher.not_started():
            if (trial := self._live[trial_id]).status == Trial.PENDING:  # else its ranks have a limit of their own
                give_up(tune_controller, trial)
        while self._ended:
            let_go(tune_controller, self._ended.pop())
        return next((trial for trial in self._live.values() if trial.status in (Trial.PENDING, Trial.PAUSED)), None)


class _SaysNothing(TrialProgressCallback):
    """In the place of Tune's own, which says nothing either (`verbose=0`) and remembers every trial."""

    def on_trial_result(self, *_: Any, **__: Any) -> None:
        """A step."""

    def on_trial_error(self, *_: Any, **__: Any) -> None:
        """A trial's process ended."""

    def on_trial_complete(self, *_: Any, **__: Any) -> None:
        """A trial ended."""


def _directory_name(trial: Trial) -> str:
    return str(trial.trial_id)
