"""What the tools have in common: each is given a run as it is now, and adds what it has not got yet."""

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Protocol

from results.errors import ResultsError
from results.export.series import Trial, Value, trials_of, values_of
from results.store.reader import Run
from transtailor.shell import pip


class Target(Protocol):
    """One tool's place for one run; `unit` says what it counts."""

    unit: str

    def update(self, run: Run) -> int:
        """Adds what is not there yet; returns how many that were."""


class ByTrial:
    """A tool to which one trial after the other is given, when something of it may be new."""

    unit = "values"

    def __init__(self, add: Callable[[Trial, list[Value]], int]) -> None:
        """Takes the function that adds to a trial what of these values is not there yet, and says how many."""
        self._add = add
        self._given: dict[str, tuple[str | None, int, int]] = {}  # trial -> as it was when it was given last

    def update(self, run: Run) -> int:
        """Adds what is new of each trial; one that is as it was is left alone."""
        added = 0
        open_trials = [trial for trial in trials_of(run) if not self._is_done(trial)]
        for trial, values in values_of(run, open_trials):
            state = (trial.status, trial.attempts, len(values))
            if (values or trial.status) and self._given.get(trial.trial_id) != state:
                added += self._add(trial, values)
                self._given[trial.trial_id] = state
        return added

    def _is_done(self, trial: Trial) -> bool:
        """Whether it was given as it ended, so that its values need not be read again."""
        return trial.status is not None and self._given.get(trial.trial_id, ())[:2] == (trial.status, trial.attempts)


def library(module: str, extra: str) -> ModuleType:
    """An optional library.

    Raises:
        ResultsError: it is not installed; the text says what to type.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ResultsError(
            f"exporting to {extra} needs {module.partition('.')[0]} ({error}); type:"
            f" {pip('install', f'transtailor-sweeps[{extra}]')}"
        ) from error
