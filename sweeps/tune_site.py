"""Trials on a private Ray on this machine: Ray Tune runs them, the board decides which one comes next.

What Tune keeps about trials is never read: the tables and the cache say what is finished.
"""

import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from hpc.local_ray import local_ray
from hpc.ray_ranks import RayRanks
from sweeps.board import Board
from sweeps.order import Wait
from sweeps.slot import Report, Slot
from sweeps.spec import Resources
from sweeps.stop import StopSignals
from tailor.cache import Cache

POLL_S = 0.05
FIRST_HOLD_S = 0.5
LONGEST_HOLD_S = 10.0
ROUND_TRIALS = 5_000  # Tune's memory, and its state on disk, grow with the trials of one run
_FOREVER_S = "1000000"
_SETTINGS = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # files that nobody reads, for a third of the time of a short trial
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # it would wait for the running stages to end
    "TUNE_GLOBAL_CHECKPOINT_S": _FOREVER_S,
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": _FOREVER_S,
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S_AUTOSCALER": _FOREVER_S,
}


class TuneSite:
    """Several slots on this machine, each with ranks that stay warm from trial to trial."""

    def __init__(self, target: str, resources: Resources, slots: int, cache: Path) -> None:
        self._resources, self._slots = resources, slots
        self._place = {
            "target": target,
            "ranks": resources.ranks,
            "threads_per_rank": resources.threads_per_rank,
            "cache": str(cache),
        }

    def run(self, board: Board, stop: StopSignals) -> None:
        """Runs all trials; raises Interrupted when `stop` was asked for."""
        with local_ray(self._slots * self._resources.ranks * self._resources.threads_per_rank) as folder:
            stop.rearm()
            with _tune_settings(self._slots):
                while board.waiting:  # a round ends early for trials that were lost while the last ones ran
                    stop.check()
                    self._round(board, stop, folder / "tune")

    def _round(self, board: Board, stop: StopSignals, storage: Path) -> None:
        head: dict[str, float] = {}
        rank: dict[str, float] = {"CPU": self._resources.threads_per_rank}
        tune.run(
            _TuneTrial,
            # The trainable itself only waits for its ranks. Tune drops the empty bundle, so rank i is in bundle i.
            resources_per_trial=tune.PlacementGroupFactory([head] + [rank] * self._resources.ranks),
            search_alg=_BoardSearcher(board, self._place, self._slots),
            scheduler=_LiveFIFO(stop),
            num_samples=-1,
            reuse_actors=True,
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            storage_path=str(storage),
            trial_dirname_creator=_directory_name,
            verbose=0,
            raise_on_failed_trial=False,
        )


class _TuneTrial(tune.Trainable):
    """A slot in a process of its own; one step runs one stage.

    Ranks start in the first step: a trainable that is long in setting up is killed by Tune for short trials.
    """

    def setup(self, config: dict[str, Any]) -> None:
        """Called once per process."""
        self._slot: Slot | None = None
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
        assert self._slot is not None
        report = self._slot.step()
        return {"report": report.to_json(), "done": report.over}

    def cleanup(self) -> None:
        """Ends the ranks."""
        if self._slot is not None:
            self._slot.close()

    def _take(self, config: Mapping[str, Any]) -> None:
        self._order = order = json.loads(config["order"])
        if "keys" in order:
            return
        if self._slot is None:
            self._slot = Slot(
                lambda: RayRanks(order["target"], order["ranks"], threads_per_rank=order["threads_per_rank"])
            )
        self._slot.take(order["task"], order["attempts"])


def wait_for_any(cache: Cache, keys: list[str], limit_s: float) -> list[str]:
    """The stages among `keys` that are in the cache, as soon as there are any; empty after `limit_s` seconds."""
    deadline = time.monotonic() + limit_s
    while True:
        found = [key for key in keys if cache.has(key)]
        if found or time.monotonic() > deadline:
            return found
        time.sleep(POLL_S)


class _BoardSearcher(Searcher):
    """Gives Tune one trial of the board for each free slot.

    Where no trial may start yet it gives one that holds the slot until a stage is there that others wait for: Tune
    would give the slot away for good otherwise, and its warm ranks with it.
    """

    def __init__(self, board: Board, place: Mapping[str, Any], slots: int) -> None:
        super().__init__()
        self._board, self._place, self._slots = board, place, slots
        self._running: dict[str, str | None] = {}  # Tune's id -> ours; None holds a slot
        self._given = 0
        self._hold_s = FIRST_HOLD_S

    def suggest(self, trial_id: str) -> Any:
        """The configuration of a trial for Tune; None: not now; Searcher.FINISHED: no more in this round."""
        if len(self._running) >= self._slots:
            return None  # the choice falls when a slot is free: then more is known
        if self._given >= ROUND_TRIALS:
            return Searcher.FINISHED
        choice = self._board.next(self._place["ranks"])
        if choice is None:
            return Searcher.FINISHED
        self._given += 1
        if isinstance(choice, Wait):
            order = {**self._place, "keys": sorted(choice.keys), "limit_s": self._hold_s}
            self._running[trial_id] = None
            self._hold_s = min(2 * self._hold_s, LONGEST_HOLD_S)
        else:
            order = {**self._place, "task": choice.task, "attempts": choice.attempts}
            self._running[trial_id] = choice.trial_id
            self._hold_s = FIRST_HOLD_S
        return {"order": json.dumps(order)}  # as text: Tune flattens and copies nested configurations

    def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """A step that is not the last one."""
        ours = self._running[trial_id]
        if ours is not None:
            self._board.report(ours, Report.from_json(result["report"]))

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        """The last step, or the end of the slot's process."""
        ours = self._running.pop(trial_id)
        if ours is None:
            self._board.stages_there(json.loads(result["found"]) if result else [])
        elif error or result is None:
            self._board.lost(ours, "the process that held the trial's ranks ended")
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

    It is asked at each turn of Tune's loop, some ten times a second at least, so it is also where a stop takes effect.
    """

    def __init__(self, stop: StopSignals) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._stop = stop
        self._live: dict[str, Trial] = {}

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:  # noqa: ARG002  # Tune's interface
        """A trial came in."""
        self._live[trial.trial_id] = trial

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:  # noqa: ARG002
        """A trial ended."""
        self._live.pop(trial.trial_id, None)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:  # noqa: ARG002
        """A trial's process ended."""
        self._live.pop(trial.trial_id, None)

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:  # noqa: ARG002
        """A trial was taken back."""
        self._live.pop(trial.trial_id, None)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:  # noqa: ARG002
        """The first that waits for its process; raises Interrupted when a stop was asked for."""
        self._stop.check()
        return next((trial for trial in self._live.values() if trial.status in (Trial.PENDING, Trial.PAUSED)), None)


def _directory_name(trial: Trial) -> str:
    return str(trial.trial_id)


@contextmanager
def _tune_settings(slots: int) -> Iterator[None]:
    """Tune's settings in the environment and its log, while it runs."""
    # Ray 2.60 still keeps one trial pending for a searcher of one's own: a second slot would never come up.
    settings = _SETTINGS | {"TUNE_MAX_PENDING_TRIALS_PG": str(slots)}
    before = {name: os.environ.get(name) for name in settings}
    log = logging.getLogger("ray.tune")
    level = log.level
    os.environ.update(settings)
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
