"""The looks of one run: decided ones in the table `looks`, and the trials that the next one needs.

A decision is durable before the trials of the next look are planned, and these are before one of them starts: a launch
that is killed in between is completed by the next one.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from results.arms.looks import RecordedLook, look_row, recorded_looks
from results.store.reader import Run, finished_trial_ids, load
from results.store.writer import Writer
from sweeps.errors import SpecError
from sweeps.planning.plan import Plan, PlannedTrial, make_plan
from sweeps.run.run_folder import RunFolder, add_decisions
from sweeps.run.spent import time_limit_reached
from sweeps.search.records import Score, ScoreKey
from sweeps.settle.decisions import decide, open_comparisons
from sweeps.settle.family import PlannedComparison, needed_trials, planned_comparisons
from sweeps.settle.look_scores import read_look_scores
from sweeps.settle.outcome import outcome_lines
from sweeps.spec.expand import expand
from sweeps.spec.settle_settings import SEED
from sweeps.spec.spec import Spec, load_spec
from transtailor.files import is_there

DECIDES = ("settle", "trial", "axes", "variants", "exclude", "tied_to_seed")  # keys of a spec


class RunSettle:
    """The looks of a run, and the decision about the next seeds."""

    def __init__(self, spec: Spec, run: RunFolder) -> None:
        """Read the looks of the run, if it exists; nothing is written.

        Raises:
            SpecError: the spec cannot be settled, or the run was begun with another one.
        """
        assert spec.settle is not None
        self.spec = spec
        self._run = run
        self._settle = spec.settle
        self.looks: list[RecordedLook] = []
        self._writer: Writer | None = None  # once it may write
        if is_there(run.plan):
            _refuse_changed(spec, run)
            with load(run.path) as tables:
                self.looks = recorded_looks(tables)
        self._saved = len(self.looks)  # how many of them are in the run's table
        self._whole = whole_plan(spec)
        self._comparisons = planned_comparisons(self._whole, spec.settle, spec.where)
        self.plan = self._plan_so_far()

    def _plan_so_far(self) -> Plan:
        """Return the trials of the looks so far, and of the next one if a comparison is open."""
        ids = released_trials(self._comparisons, self._settle.looks, self.looks)
        trials = tuple(trial for trial in self._whole.trials if trial.trial_id in ids)
        return replace(self._whole, trials=trials)

    def save(self, writer: Writer) -> None:
        """Write the looks and planned trials that the run lacks, and from now on those of `more`."""
        self._writer = writer
        new_rows = [look_row(look) for look in self.looks[self._saved :]]
        add_decisions(self._run, self.plan, "looks", new_rows, writer)
        self._saved = len(self.looks)

    def has_ended(self) -> bool:
        """Whether all trials are finished and no more seeds are added."""
        if not is_there(self._run.plan):
            return False
        planned = {trial.trial_id for trial in self.plan.trials}
        return not self._has_next() and planned <= finished_trial_ids(self._run.path)

    def stopped_trials(self) -> set[str]:
        """Return the trials that are not continued: none, since each trial runs to its end."""
        return set()

    def decides(self, live: Collection[str]) -> bool:
        """Whether the next look can be made: no trial is live."""
        return not live and self._has_next()

    def more(self, _scores: Mapping[ScoreKey, Score], live: Collection[str]) -> tuple[PlannedTrial, ...]:
        """Look at what is open, and return the trials of the next look; none at the end, or while a trial is live.

        Args:
            _scores: validation scores, which looks do not read.
            live: trials that wait or run.

        Writes:
            the looks and their planned trials.
        """
        while self.decides(live):
            assert self._writer is not None
            number = next_look(self.looks)
            with load(self._run.path) as tables:
                scores = read_look_scores(tables)
            ended = self._why_over(number)
            self.looks += decide(self._comparisons, self._settle, number, self.looks, scores, ended)
            before = {trial.trial_id for trial in self.plan.trials}
            self.plan = self._plan_so_far()
            self.save(self._writer)
            new_trials = tuple(trial for trial in self.plan.trials if trial.trial_id not in before)
            if new_trials:
                return new_trials
        return ()

    def outcome_lines(self, tables: Run) -> Iterable[str]:
        """Say what is settled and what is open: lines for a person."""
        return outcome_lines(recorded_looks(tables))

    def _has_next(self) -> bool:
        """Whether there is one more look to come."""
        if next_look(self.looks) == len(self._settle.looks):
            return False
        return bool(open_comparisons(self._comparisons, self.looks)) and not _ended(self.looks)

    def _why_over(self, number: int) -> str | None:
        """Say why no more seeds are added after a look, though a comparison is open; None: they are."""
        if number == len(self._settle.looks) - 1:
            return f"all {self._settle.most_seeds} seeds have run"
        return time_limit_reached(
            self._run, self.spec.resources, hours=self._settle.hours, gpu_hours=self._settle.gpu_hours
        )


def whole_plan(spec: Spec) -> Plan:
    """Return the plan of all trials that the spec can lead to: those of all seeds up to the last look."""
    assert spec.settle is not None
    seeds = list(range(spec.settle.most_seeds))
    with_seeds = spec.model_copy(update={"axes": {**spec.axes, SEED: seeds}})
    return make_plan(spec, lambda: expand(with_seeds))


def next_look(looks: Sequence[RecordedLook]) -> int:
    """Return the number of the look that is decided next."""
    return looks[-1].look + 1 if looks else 0


def released_trials(
    comparisons: Sequence[PlannedComparison], looks_at: Sequence[int], looks: Sequence[RecordedLook]
) -> set[str]:
    """Return the ids of the trials that run by these decisions.

    Args:
        looks_at: numbers of seeds.
        looks: those that are decided; none: the first one needs its trials.
    """
    released = needed_trials(comparisons, range(looks_at[0]))
    for number in range(1, next_look(looks) + 1):
        before = [look for look in looks if look.look < number]
        if number == len(looks_at) or _ended(before):
            break
        seeds = range(looks_at[number - 1], looks_at[number])
        released |= needed_trials(open_comparisons(comparisons, before), seeds)
    return released


def _ended(looks: Iterable[RecordedLook]) -> bool:
    return any(look.ended for look in looks)


def _refuse_changed(spec: Spec, run: RunFolder) -> None:
    """Raise SpecError if what decides in the spec is not what the run's looks were decided by."""
    spec_of_run = load_spec(run.spec)
    changed = [f"[{name}]" for name in DECIDES if getattr(spec_of_run, name) != getattr(spec, name)]
    if changed:
        raise SpecError(
            f"{spec.where}: {changed[0]} is not that of {run.spec}, by which this run adds seeds: comparisons and "
            "looks are fixed before the first one, or verdicts would err more often than alpha. Undo the change, or "
            "type --name NAME for a new run (the cache has its stages that are the same)"
        )
