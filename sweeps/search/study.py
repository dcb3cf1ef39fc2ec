"""Optuna's study of a search: the results that a sampler reads, as Optuna has them."""

import math
from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property
from heapq import nlargest
from itertools import islice
from typing import TYPE_CHECKING, Any

from sweeps.errors import SpecError
from sweeps.search.records import Told
from sweeps.search.space import Dimension, SearchCandidate, Space
from sweeps.spec.search_settings import SearchSettings
from transtailor.shell import pip

if TYPE_CHECKING:
    import optuna

VARIANT = "variant"
MOST_READ, BEST_READ = 150, 25  # results that a proposal of `tpe` reads in a long search


def read_by(settings: SearchSettings, told: Sequence[Told]) -> list[int]:
    """Return the places of the results that a proposal reads, ascending: all; of more than 150, `tpe` reads 150.

    These are the best 25, of equal ones the earlier, which is how many Optuna takes as good at most; and the newest of
    the others, to which it gives more weight than to older ones. So what a proposal takes does not grow.
    """
    if not settings.reads_scores:
        return []
    if settings.sampler != "tpe" or len(told) <= MOST_READ:
        return [*range(len(told))]
    scores = [-math.inf if one.score is None else one.score for one in told]
    least = nlargest(BEST_READ, scores)[-1]
    good = [place for place, score in enumerate(scores) if score >= least > -math.inf]
    chosen = {*sorted(good, key=lambda place: -scores[place])[:BEST_READ]}
    newest = (place for place in reversed(range(len(told))) if place not in chosen)
    return sorted([*chosen, *islice(newest, MOST_READ - len(chosen))])


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
        self._space, self._settings = space, settings
        self._names = [{axis.key: name_of(space, n, axis) for axis in axes} for n, axes in enumerate(space.dimensions)]
        self._study: Any = None
        self._known: dict[int, Told] = {}  # by its place among the results
        self._numbers: dict[int, int] = {}  # place -> number in the study
        self._read_before: list[Told] = []
        self._shown: list[optuna.trial.FrozenTrial] = []  # what `tpe` reads for this proposal
        self._generations: dict[int, list[int]] = defaultdict(list)  # numbers in the study
        self.batch = 0  # of this proposal, a generation of `nsga2`
        self.places: list[int] = []  # of the results that this proposal reads
        self.common_axes: dict[str, Any] = {}  # of all settings that were read
        self.parents: list[list[optuna.trial.FrozenTrial]] = [[]]  # of `nsga2`, by generation

    def read(self, told: Sequence[Told], batch: int) -> None:
        """Bring the study up to date for a proposal; it is made again if an earlier result is another one now."""
        from optuna.trial import TrialState

        self.batch = batch
        both, places = self._settings.sampler == "nsga2", read_by(self._settings, told)
        read = [told[place] for place in places]
        begun = len(self._read_before)
        is_same = self._read_before == read[:begun] and self.places == places[:begun]  # within a batch
        changed = places[begun:] if is_same else places
        if self._study is None or not self._grows(told, changed):
            directions = ["maximize", "minimize"] if both else ["maximize"]
            self._storage = self._storage_of()
            self._study = self._optuna.create_study(directions=directions, storage=self._storage)
            self._study_id = self._storage.get_study_id_from_name(self._study.study_name)
            self._known, self._numbers, self.parents = {}, {}, [[]]
            self._generations.clear()
            changed = places
        for place in changed:
            one = told[place]
            if place not in self._known:
                self._numbers[place] = self._storage.create_new_trial(self._study_id, self._frozen(one, both=both))
                self._generations[one.batch].append(self._numbers[place])
            elif one != self._known[place]:
                state = TrialState.PRUNED if one.score is None else TrialState.COMPLETE
                self._study.tell(self._numbers[place], _values(one, both=both), state)
                del self.parents[one.batch + 1 :]
            self._known[place] = one
        self._read_before, self.places = read, places
        self._shown = [] if both else [self._storage.get_trial(self._numbers[place]) for place in places]
        if changed:
            self.common_axes = self._common_axes({one.candidate.variant for one in read if _has_ended(one, both=both)})

    def ask(self, sampler: Any) -> SearchCandidate:
        """Return the setting that a sampler chooses by the results that were read last."""
        self._study.sampler = sampler
        trial = self._study.ask()
        variant = trial.suggest_categorical(VARIANT, range(len(self._space.dimensions)))
        values = {}
        for axis in self._space.dimensions[variant]:
            name = self._names[variant][axis.key]
            of = self._axes[variant][name]
            is_int = isinstance(of, self._optuna.distributions.IntDistribution)
            place = trial.suggest_int(name, of.low, of.high) if is_int else trial.suggest_categorical(name, of.choices)
            values[axis.key] = axis.values[place]
        fail = self._optuna.trial.TrialState.FAIL
        self._study.tell(trial, state=fail)  # no sampler reads these; its result comes later
        return SearchCandidate(variant=variant, values=values)

    def members(self, generation: int) -> "list[optuna.trial.FrozenTrial]":
        """Return the results of a batch that have a score."""
        members = map(self._storage.get_trial, self._generations[generation])
        return [trial for trial in members if trial.state == self._optuna.trial.TrialState.COMPLETE]

    @cached_property
    def _axes(self) -> list[dict[str, Any]]:
        """What Optuna chooses from in each variant, by the names of its parameters."""
        from optuna.distributions import CategoricalDistribution

        variants = CategoricalDistribution(range(len(self._space.dimensions)))
        return [
            {VARIANT: variants} | {self._names[number][axis.key]: _distribution(axis) for axis in axes}
            for number, axes in enumerate(self._space.dimensions)
        ]

    def _grows(self, told: Sequence[Told], changed: Sequence[int]) -> bool:
        """Whether these results continue those that are known; Optuna reads results in the order of its study."""
        last = next(reversed(self._known), -1)
        first = next((place for place in changed if place not in self._known), len(told))
        follow = (_follows(self._known[place], told[place]) for place in changed if place in self._known)
        return len(told) > last and first > last and all(follow)

    def _common_axes(self, variants: set[int]) -> dict[str, Any]:
        """What Optuna chooses from in all of these variants, for samplers that read only such axes together."""
        names = set.intersection(*(set(self._axes[variant]) for variant in variants)) if variants else set()
        found = {name: self._axes[min(variants)][name] for name in sorted(names)}
        return {name: of for name, of in found.items() if not of.single()}

    def _frozen(self, told: Told, *, both: bool) -> "optuna.trial.FrozenTrial":
        """A result as Optuna stores it; a setting without a score is worse than all others."""
        from optuna.trial import TrialState, create_trial

        variant = told.candidate.variant
        params = {VARIANT: variant}
        for axis in self._space.dimensions[variant]:
            params[self._names[variant][axis.key]] = axis.values.index(told.candidate.values[axis.key])
        state = TrialState.PRUNED if told.score is None else TrialState.COMPLETE
        state = TrialState.RUNNING if told.is_pending else state
        values, distributions = _values(told, both=both), self._axes[variant]
        return create_trial(state=state, values=values, params=params, distributions=distributions)

    def _storage_of(self) -> Any:
        """An empty storage; what samplers see of it is what this proposal reads."""
        from optuna.storages import InMemoryStorage

        study = self

        class Shown(InMemoryStorage):
            def get_all_trials(self, study_id: int, deepcopy: bool = True, states: Any = None) -> list[Any]:  # noqa: ARG002, FBT001, FBT002  # Optuna's interface
                return [trial for trial in study._shown if states is None or trial.state in states]

        return Shown()


def _has_ended(told: Told, *, both: bool) -> bool:
    """Whether a sampler looks at the axes of a result; `nsga2` at those with a score only."""
    return not told.is_pending and (told.score is not None or not both)


def _follows(known: Told, told: Told) -> bool:
    """Whether a result is the one that is known, or that of a pending setting."""
    return (
        known is told
        or known == told
        or (known.is_pending and (known.candidate, known.batch) == (told.candidate, told.batch))
    )


def _values(told: Told, *, both: bool) -> list[float] | None:
    if told.score is None:
        return None
    return [told.score, told.cost or 0.0] if both else [told.score]


def name_of(space: Space, variant: int, axis: Dimension) -> str:
    """An axis of all variants is one parameter; an axis of one variant belongs to that variant alone."""
    is_common = all(axis in axes for axes in space.dimensions)
    return axis.key if is_common else f"{variant}:{axis.key}"


def _distribution(axis: Dimension) -> Any:
    """The places of an axis' values as Optuna has them; of ordered ones, neighbours are alike."""
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
