"""The looks of one run: decided ones in the table `looks`, and the trials that the next one needs."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from results.arms.looks import RecordedLook, look_row, recorded_looks
from results.store.reader import Run, load
from sweeps.planning.plan import Plan, PlannedTrial, make_plan
from sweeps.run.run_folder import RunFolder
from sweeps.run.trial_producer import ScoreKey, TrialProducer
from sweeps.settle.decisions import decide, open_comparisons
from sweeps.settle.family import needed_trials, planned_comparisons
from sweeps.settle.look_scores import read_look_scores
from sweeps.settle.outcome import outcome_lines
from sweeps.spec.expand import expand
from sweeps.spec.settle_settings import SEED
from sweeps.spec.spec import Spec


class RunSettle(TrialProducer):
    """The looks of a run, and the decision about the next seeds; what they read is fixed before the first one."""

    table = "looks"
    decided_by = ("settle", "trial", "axes", "variants", "exclude", "tied_to_seed")
    decisions: list[RecordedLook]

    def __init__(self, spec: Spec, run: RunFolder) -> None:
        """Read the looks of the run, if it has some; raises SpecError if the spec cannot be settled, too."""
        assert spec.settle is not None
        self.settings = self._settle = spec.settle
        super().__init__(spec, run)
        self._whole = whole_plan(spec)
        self._comparisons = planned_comparisons(self._whole, spec.settle, spec.where)
        self.plan = self._plan_so_far()

    def _plan_so_far(self) -> Plan:
        """Return the trials of the looks so far, and of the next one if a comparison is open."""
        # Ids of the trials that run by these decisions
        looks_at = self._settle.looks
        ids = needed_trials(self._comparisons, range(looks_at[0]))
        for number in range(1, next_look(self.decisions) + 1):
            before = [look for look in self.decisions if look.look < number]
            if number == len(looks_at) or _ended(before):
                break
            seeds = range(looks_at[number - 1], looks_at[number])
            ids |= needed_trials(open_comparisons(self._comparisons, before), seeds)
        trials = tuple(trial for trial in self._whole.trials if trial.trial_id in ids)
        return replace(self._whole, trials=trials)

    def read(self, tables: Run) -> list[RecordedLook]:
        """Return the looks in a run's table."""
        return recorded_looks(tables)

    def row_of(self, decision: RecordedLook) -> dict[str, Any]:
        """Return the row of a look."""
        return look_row(decision)

    def has_next(self, tables: Run | None = None) -> bool:  # noqa: ARG002
        """Whether there is one more look to come."""
        if next_look(self.decisions) == len(self._settle.looks):
            return False
        return bool(open_comparisons(self._comparisons, self.decisions)) and not _ended(self.decisions)

    def decides(self, live: Collection[str]) -> bool:
        """Whether the next look can be made: no trial is live."""
        return not live and self.has_next()

    def decide(self, _scores: Mapping[ScoreKey, float], _live: Collection[str]) -> tuple[PlannedTrial, ...]:
        """Look at what is open, by the scores on the test split, and return the trials of the next look."""
        number = next_look(self.decisions)
        with load(self.run.path) as tables:
            scores = read_look_scores(tables)
        is_last = number == len(self._settle.looks) - 1
        ended = f"all {self._settle.most_seeds} seeds have run" if is_last else self.why_over()
        self.decisions += decide(self._comparisons, self._settle, number, self.decisions, scores, ended)
        before = {trial.trial_id for trial in self.plan.trials}
        self.plan = self._plan_so_far()
        return tuple(trial for trial in self.plan.trials if trial.trial_id not in before)

    def outcome_lines(self, tables: Run) -> Iterable[str]:
        """Say what is settled and what is open: lines for a person."""
        return outcome_lines(recorded_looks(tables))


def whole_plan(spec: Spec) -> Plan:
    """Return the plan of all trials that the spec can lead to: those of all seeds up to the last look."""
    assert spec.settle is not None
    seeds = range(spec.settle.most_seeds)  # no list: one look may be too many for the memory
    with_seeds = spec.model_copy(update={"axes": {**spec.axes, SEED: seeds}})
    return make_plan(spec, lambda: expand(with_seeds))


def next_look(looks: Sequence[RecordedLook]) -> int:
    """Return the number of the look that is decided next."""
    return looks[-1].look + 1 if looks else 0


def _ended(looks: Iterable[RecordedLook]) -> bool:
    return any(look.ended for look in looks)
