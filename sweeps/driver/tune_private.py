"""What `sweeps` uses of Ray Tune that is no part of its public interface; no other file may use such a name.

Tune keeps some 25 kB of each trial that has ended (the trial, and the last reply of its process) as long as `tune.run`
runs, and has no public way to let go of it.
"""

from typing import Any

from ray.tune.experiment import Trial

from transtailor.private_names import PrivateNames

_KEPT = ("_live_trials", "_stopped_trials", "_failed_trials", "_trials_to_cache")
_CONTROLLER = "ray.tune.execution.tune_controller.TuneController"
TUNE = PrivateNames(
    library="ray[tune]",
    tried="2.60.0",
    names={f"{_CONTROLLER}.__init__({kept})": "a trial that has ended is let go" for kept in _KEPT}
    | {f"{_CONTROLLER}.get_trials": "a trial that has ended is let go"},
)


def let_go(tune_controller: Any, trial: Trial) -> None:
    """Takes a trial that has ended, and whose end was told, out of Tune's memory: Tune works on it no more."""
    for kept in _KEPT:
        getattr(tune_controller, kept).discard(trial)
    trials = tune_controller.get_trials()
    if len(trials) > 1 and trial in trials:  # of none at all Tune would read a file back at the end
        trials.remove(trial)
