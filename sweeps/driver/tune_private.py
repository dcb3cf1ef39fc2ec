"""The private names of Ray Tune that `sweeps` uses; no other file may use one.

While `tune.run` runs, Tune keeps about 25 kB of each trial that has ended (the trial, and the last reply of its
process), and has no public way to release them.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.tune.experiment import Trial

from transtailor.private_names import PrivateNames

_FOREVER_S = "1000000"
_SETTINGS = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # files that are never read, for a third of the time of a short trial
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # it would wait for the running stages to end
    "TUNE_GLOBAL_CHECKPOINT_S": _FOREVER_S,
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": _FOREVER_S,
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S_AUTOSCALER": _FOREVER_S,
}
_SETS_OF_TRIALS = ("_live_trials", "_stopped_trials", "_failed_trials", "_trials_to_cache")  # of Tune's controller
_CONTROLLER = "ray.tune.execution.tune_controller.TuneController"
_USES = {f"{_CONTROLLER}.__init__({attribute})": "a trial that has ended is released" for attribute in _SETS_OF_TRIALS}
_USES[f"{_CONTROLLER}.get_trials"] = "a trial that has ended is released"
_USES[f"{_CONTROLLER}.stop_trial"] = "a trial whose process does not start is given up"
TUNE = PrivateNames(library="ray[tune]", tried="2.60.0", names=_USES)


def give_up(tune_controller: Any, trial: Trial) -> None:
    """End a trial, whatever its process does; for the searcher it has completed, without a result."""
    tune_controller.stop_trial(trial)


def kill_process(trial: Trial) -> None:
    """Kill a trial's process, also one that is stopped; Tune hears of its death."""
    process = trial.temporary_state.ray_actor
    if process is not None:
        ray.kill(process)


def release(tune_controller: Any, trial: Trial) -> None:
    """Remove a trial from Tune's memory that has ended, and whose end Tune has reported."""
    for attribute in _SETS_OF_TRIALS:
        getattr(tune_controller, attribute).discard(trial)
    trials = tune_controller.get_trials()
    if len(trials) > 1 and trial in trials:  # without any trial, Tune would read a file at the end
        trials.remove(trial)


@contextmanager
def tune_settings(slots: int) -> Iterator[None]:
    """Set Tune's environment and the level of its log while it runs."""
    # By default, Ray 2.60 keeps one trial pending for a custom searcher: a second slot would never start.
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
