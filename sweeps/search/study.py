"""Optuna's study of a search: the results that a sampler reads, as Optuna has them."""

import math
from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property
from heapq import nlargest
from typing import TYPE_CHECKING, Any

from sweeps.errors import SpecError
from sweeps.search.records import SettingResult
from sweeps.search.space import Dimension, SearchCandidate, Space
from sweeps.spec.search_settings import SearchSettings
from transtailor.shell import pip

if TYPE_CHECKING:
    import optuna

VARIANT = "variant"
MOST_READ = 150  # results that a proposal of `tpe` reads in a long search
BEST_READ = 25  # of these


def read_by(settings: SearchSettings, results: Sequence[SettingResult]) -> list[int]:
    """Return the indices of the results that a proposal reads, ascending: all; of more than 150, `tpe` reads 150.

    These are the best 25, of equal ones the earlier, which is how many Optuna takes as good at most; and the newest of
    the others, to which it gives more weight than to older ones. So what a proposal takes does not grow.
    """
    if not settings.reads_scores:
        return []
    indices = range(len(results))
    if settings.sampler != "tpe" or len(results) <= MOST_READ:
        return list(indices)
    scores = [-math.inf if result.score is None else result.score for result in results]
    least_good = nlargest(BEST_READ, scores)[-1]
    good = [index for index, score in enumerate(scores) if score >= least_good > -math.inf]
    best = set(sorted(good, key=lambda index: -scores[index])[:BEST_READ])
    others = [index for index in indices if index not in best]
    newest = others[-(MOST_READ - len(best)) :]
    return sorted([*best, *newest])


class SearchStudy:
    """Optuna's study. It grows with the results, so that a proposal does not read all of them again.

    What it shows depends on the results alone, not on those that it had before.
    """

    def __init__(self, space: Space, settings: SearchSettings) -> None:
        """Read nothing yet.

        Raises:
            SpecError: Optuna is not installed; the text says what to type.
        """
        self._optuna = _optuna()
        self._space = space
        self._reads_costs = settings.sampler == "nsga2"
        self._settings = settings
        self._names: list[dict[str, str]] = []  # of each variant: key of an axis -> name of Optuna's parameter
        for variant, axes in enumerate(space.dimensions):
            self._names.append({axis.key: name_of(space, variant, axis) for axis in axes})
        self._study: Any = None
        self._known: dict[int, SettingResult] = {}  # by its index among the results
        self._numbers: dict[int, int] = {}  # index -> number in the study
        self._read_before: list[SettingResult] = []
        self._shown: list[optuna.trial.FrozenTrial] = []  # what `tpe` reads for this proposal
        self._generations: dict[int, list[int]] = defaultdict(list)  # numbers in the study
        self.batch = 0  # of this proposal, a generation of `nsga2`
        self.indices: list[int] = []  # of the results that this proposal reads
        self.common_axes: dict[str, Any] = {}  # of all settings that were read
        self.parents: list[list[optuna.trial.FrozenTrial]] = [[]]  # of `nsga2`, by generation

    def read(self, results: Sequence[SettingResult], batch: int) -> None:
        """Bring the study up to date for a proposal; it is made again if an earlier result is another one now."""
        self.batch = batch
        indices = read_by(self._settings, results)
        results_read = [results[index] for index in indices]
        begun = len(self._read_before)
        # Within a batch, each proposal reads what the one before it has read, and more.
        is_continued = self._read_before == results_read[:begun] and self.indices == indices[:begun]
        changed = indices[begun:] if is_continued else indices
        if self._study is None or not self._grows(results, changed):
            self._begin_study()
            changed = indices
        for index in changed:
            self._take(index, results[index])
        self._read_before = results_read
        self.indices = indices
        self._shown = []
        if not self._reads_costs:
            self._shown = [self._storage.get_trial(self._numbers[index]) for index in indices]
        if changed:
            variants = {result.candidate.variant for result in results_read if self._counts_axes_of(result)}
            self.common_axes = self._common_axes(variants)

    def _begin_study(self) -> None:
        """Begin a study without results."""
        directions = ["maximize", "minimize"] if self._reads_costs else ["maximize"]
        self._storage = self._empty_storage()
        self._study = self._optuna.create_study(directions=directions, storage=self._storage)
        self._study_id = self._storage.get_study_id_from_name(self._study.study_name)
        self._known = {}
        self._numbers = {}
        self.parents = [[]]
        self._generations.clear()

    def _take(self, index: int, result: SettingResult) -> None:
        """Add a result to the study, or give a pending setting its result."""
        from optuna.trial import TrialState

        if index not in self._known:
            number = self._storage.create_new_trial(self._study_id, self._frozen(result))
            self._numbers[index] = number
            self._generations[result.batch].append(number)
        elif result != self._known[index]:
            state = TrialState.PRUNED if result.score is None else TrialState.COMPLETE
            self._study.tell(self._numbers[index], self._values(result), state)
            del self.parents[result.batch + 1 :]
        self._known[index] = result

    def ask(self, sampler: Any) -> SearchCandidate:
        """Return the setting that a sampler chooses by the results that were read last."""
        self._study.sampler = sampler
        trial = self._study.ask()
        variant = trial.suggest_categorical(VARIANT, range(len(self._space.dimensions)))
        values = {}
        for axis in self._space.dimensions[variant]:
            name = self._names[variant][axis.key]
            distribution = self._distributions[variant][name]
            if isinstance(distribution, self._optuna.distributions.IntDistribution):
                index = trial.suggest_int(name, distribution.low, distribution.high)
            else:
                index = trial.suggest_categorical(name, distribution.choices)
            values[axis.key] = axis.values[index]
        failed = self._optuna.trial.TrialState.FAIL
        self._study.tell(trial, state=failed)  # no sampler reads these; its result comes later
        return SearchCandidate(variant=variant, values=values)

    def members(self, generation: int) -> "list[optuna.trial.FrozenTrial]":
        """Return the results of a batch that have a score."""
        trials = [self._storage.get_trial(number) for number in self._generations[generation]]
        return [trial for trial in trials if trial.state == self._optuna.trial.TrialState.COMPLETE]

    @cached_property
    def _distributions(self) -> list[dict[str, Any]]:
        """What Optuna chooses from in each variant, by the names of its parameters."""
        from optuna.distributions import CategoricalDistribution

        variants = CategoricalDistribution(range(len(self._space.dimensions)))
        distributions = []
        for names, axes in zip(self._names, self._space.dimensions, strict=True):
            of_axes = {names[axis.key]: _distribution(axis) for axis in axes}
            distributions.append({VARIANT: variants} | of_axes)
        return distributions

    def _grows(self, results: Sequence[SettingResult], changed: Sequence[int]) -> bool:
        """Whether these results continue those that are known; Optuna reads results in the order of its study."""
        last_known = next(reversed(self._known), -1)
        first_new = next((index for index in changed if index not in self._known), len(results))
        if len(results) <= last_known or first_new <= last_known:
            return False
        return all(_follows(self._known[index], results[index]) for index in changed if index in self._known)

    def _common_axes(self, variants: set[int]) -> dict[str, Any]:
        """Return what Optuna chooses from in all of these variants, for samplers that read only such axes together."""
        if not variants:
            return {}
        names = set.intersection(*(set(self._distributions[variant]) for variant in variants))
        of_one_variant = self._distributions[min(variants)]
        return {name: of_one_variant[name] for name in sorted(names) if not of_one_variant[name].single()}

    def _frozen(self, result: SettingResult) -> "optuna.trial.FrozenTrial":
        """Return a result as Optuna stores it; a setting without a score is worse than all others."""
        from optuna.trial import TrialState, create_trial

        variant = result.candidate.variant
        params = {VARIANT: variant}
        for axis in self._space.dimensions[variant]:
            params[self._names[variant][axis.key]] = axis.values.index(result.candidate.values[axis.key])
        if result.is_pending:
            state = TrialState.RUNNING
        elif result.score is None:
            state = TrialState.PRUNED
        else:
            state = TrialState.COMPLETE
        return create_trial(
            state=state, values=self._values(result), params=params, distributions=self._distributions[variant]
        )

    def _values(self, result: SettingResult) -> list[float] | None:
        """Return what Optuna is told of a result: its score, and of `nsga2` its cost; None without a score."""
        if result.score is None:
            return None
        return [result.score, result.cost or 0.0] if self._reads_costs else [result.score]

    def _counts_axes_of(self, result: SettingResult) -> bool:
        """Whether a sampler looks at the axes of a result; `nsga2` at those with a score only."""
        return not result.is_pending and (result.score is not None or not self._reads_costs)

    def _empty_storage(self) -> Any:
        """Return an empty storage; what samplers see of it is what this proposal reads."""
        from optuna.storages import InMemoryStorage

        study = self

        class Shown(InMemoryStorage):
            def get_all_trials(self, study_id: int, deepcopy: bool = True, states: Any = None) -> list[Any]:  # noqa: ARG002, FBT001, FBT002  # Optuna's interface
                return [trial for trial in study._shown if states is None or trial.state in states]

        return Shown()


def _follows(known: SettingResult, result: SettingResult) -> bool:
    """Whether a result is the one that is known, or that of a pending setting."""
    if known is result or known == result:
        return True
    return known.is_pending and known.candidate == result.candidate and known.batch == result.batch


def name_of(space: Space, variant: int, axis: Dimension) -> str:
    """Return the name of a parameter; an axis of all variants is one parameter, others are one for each variant."""
    is_common = all(axis in axes for axes in space.dimensions)
    return axis.key if is_common else f"{variant}:{axis.key}"


def _distribution(axis: Dimension) -> Any:
    """Return what Optuna chooses from: the indices of an axis' values; of ordered ones, neighbours are alike."""
    from optuna.distributions import CategoricalDistribution, IntDistribution

    last = len(axis.values) - 1
    return IntDistribution(0, last) if axis.is_ordered else CategoricalDistribution(range(last + 1))


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        install = pip("install", "transtailor-sweeps[search]")
        raise SpecError(f"sampler needs Optuna, which is not installed; type: {install}") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # else each study prints a line
    return optuna
