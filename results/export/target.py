"""What the tools have in common: each receives the present run and adds what is missing in the tool."""

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Protocol

from results.errors import ResultsError
from results.export.series import Trial, Value, trials_of, values_of
from results.store.reader import Run
from results.store.views import literal
from transtailor.shell import pip


class Target(Protocol):
    """The export of one run to one tool; `unit` says what `update` counts."""

    unit: str

    def update(self, run: Run) -> int:
        """Add what is missing; return how many units that were."""


class ByTrial:
    """A tool that is updated trial by trial, for each trial that may have something new."""

    unit = "values"

    def __init__(self, add: Callable[[Trial, list[Value]], int]) -> None:
        """Take the function that adds a trial's missing values to the tool and returns their number."""
        self._add = add
        self._exported: dict[str, tuple[str | None, int, int]] = {}  # trial -> its state in the last update

    def update(self, run: Run) -> int:
        """Add the new values of each trial; skip trials that have not changed."""
        added = 0
        open_trials = [trial for trial in trials_of(run) if not self._is_done(trial)]
        ids = ", ".join(literal(trial.trial_id) for trial in open_trials)
        # Else each batch of trials would read all files again.
        run.hold("stages", "epochs", "measured_points", where=f"trial_id IN ({ids or 'NULL'})")
        for trial, values in values_of(run, open_trials):
            state = (trial.status, trial.attempts, len(values))
            if (values or trial.status) and self._exported.get(trial.trial_id) != state:
                added += self._add(trial, values)
                self._exported[trial.trial_id] = state
        return added

    def _is_done(self, trial: Trial) -> bool:
        """Whether its final state was exported, so that its values need not be read again."""
        exported = self._exported.get(trial.trial_id, ())
        return trial.status is not None and exported[:2] == (trial.status, trial.attempts)


def library(module: str, extra: str) -> ModuleType:
    """Import an optional library. Raises ResultsError: it is not installed; the text says what to type."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ResultsError(
            f"exporting to {extra} needs {module.partition('.')[0]} ({error}); type:"
            f" {pip('install', f'transtailor-sweeps[{extra}]')}"
        ) from error
