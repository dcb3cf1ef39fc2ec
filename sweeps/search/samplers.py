"""The next setting of a search, a pure function of the proposal's number and of the scores that it reads.

Optuna's samplers choose; each proposal has a sampler of its own, seeded by the search's seed and the proposal's number,
so that it can be made again from the rows that it names.
"""

import math
import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from heapq import nlargest
from itertools import islice
from typing import TYPE_CHECKING, Any

from sweeps.errors import SpecError
from sweeps.search.space import Dimension, SearchCandidate, Space
from sweeps.spec.search_settings import SearchSettings
from tailor.core.seeds import stream
from transtailor.shell import pip

if TYPE_CHECKING:
    import optuna

VARIANT = "variant"
MOST_READ, BEST_READ = 150, 25  # results that a proposal of `tpe` reads in a long search


@dataclass(frozen=True, kw_only=True)
class Told:
    """A setting with its result, as a sampler reads it."""

    candidate: SearchCandidate
    batch: int
    score: float | None  # mean validation score over the seeds; None: it was refused, or a trial failed
    cost: float | None  # what `nsga2` wants to be low: the mean of the MACs or of the latencies
    is_pending: bool = False  # it has no result yet, but may get one


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A setting that a sampler proposes."""

    candidate: SearchCandidate
    seed: int | None  # of the sampler that was made for it; None: it has none
    read: tuple[int, ...] | None  # places of the results that it read; None: all


def sampler_seed(settings: SearchSettings, number: int) -> int:
    """Return the seed of the sampler of proposal `number`, 32 bits."""
    return stream(settings.seed, "proposal", number) % 2**32


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


class Sampling:
    """The samplers of one search. Its study grows with the results, so that a proposal does not read all of them again.

    What is proposed does not depend on what was proposed by this object before.
    """

    def __init__(self, space: Space, settings: SearchSettings) -> None:
        """Read nothing yet."""
        self._space, self._settings = space, settings
        self._names = [{axis.key: name_of(space, n, axis) for axis in axes} for n, axes in enumerate(space.dimensions)]
        self._study: Any = None
        self._known: dict[int, Told] = {}  # by its place among the results
        self._numbers: dict[int, int] = {}  # place -> number in the study
        self._read_before: list[Told] = []
        self._places_before: list[int] = []
        self._shown: list[optuna.trial.FrozenTrial] = []  # what `tpe` reads for this proposal
        self._common: dict[str, Any] = {}  # axes of all settings that were read
        self._batch = 0  # of this proposal, a generation of `nsga2`
        self._generations: dict[int, list[int]] = defaultdict(list)  # numbers in the study
        self._parents: list[list[optuna.trial.FrozenTrial]] = [[]]  # by generation

    def propose(self, number: int, batch: int, told: Sequence[Told]) -> Drawn:
        """Return the setting of proposal `number`; it may have been tried before.

        Args:
            number: of the proposal, from 0.
            batch: number of its batch, from 0; a generation of `nsga2`.
            told: the results of all proposals before; `tpe` keeps away from pending ones.

        Raises:
            SpecError: Optuna is not installed; the text says what to type.
        """
        if self._settings.sampler == "grid":
            return Drawn(candidate=self._space.at(number), seed=None, read=())
        optuna = _optuna()
        self._batch = batch
        self._read(optuna, told)
        seed = sampler_seed(self._settings, number)
        self._study.sampler = self._sampler(seed)
        trial = self._study.ask()
        variant = trial.suggest_categorical(VARIANT, range(len(self._space.dimensions)))
        values = {}
        for axis in self._space.dimensions[variant]:
            name = self._names[variant][axis.key]
            of = self._axes[variant][name]
            is_int = isinstance(of, optuna.distributions.IntDistribution)
            place = trial.suggest_int(name, of.low, of.high) if is_int else trial.suggest_categorical(name, of.choices)
            values[axis.key] = axis.values[place]
        self._study.tell(trial, state=optuna.trial.TrialState.FAIL)  # no sampler reads these; its result comes later
        is_all = self._settings.reads_scores and len(self._places_before) == len(told)
        read = None if is_all else tuple(self._places_before)
        return Drawn(candidate=SearchCandidate(variant=variant, values=values), seed=seed, read=read)

    @cached_property
    def _axes(self) -> list[dict[str, Any]]:
        """What Optuna chooses from in each variant, by the names of its parameters."""
        from optuna.distributions import CategoricalDistribution

        variants = CategoricalDistribution(range(len(self._space.dimensions)))
        return [
            {VARIANT: variants} | {self._names[number][axis.key]: _distribution(axis) for axis in axes}
            for number, axes in enumerate(self._space.dimensions)
        ]

    def _read(self, optuna: Any, told: Sequence[Told]) -> None:
        """Bring the study up to date; it is made again if an earlier result is another one now."""
        from optuna.trial import TrialState

        both, places = self._settings.sampler == "nsga2", read_by(self._settings, told)
        read = [told[place] for place in places]
        begun = len(self._read_before)
        is_same = self._read_before == read[:begun] and self._places_before == places[:begun]  # within a batch
        changed = places[begun:] if is_same else places
        if self._study is None or not self._grows(told, changed):
            directions = ["maximize", "minimize"] if both else ["maximize"]
            self._storage = self._storage_of(optuna)
            self._study = optuna.create_study(directions=directions, storage=self._storage)
            self._study_id = self._storage.get_study_id_from_name(self._study.study_name)
            self._known, self._numbers, self._parents = {}, {}, [[]]
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
                del self._parents[one.batch + 1 :]
            self._known[place] = one
        self._read_before, self._places_before = read, places
        self._shown = [] if both else [self._storage.get_trial(self._numbers[place]) for place in places]
        if changed:
            self._common = self._common_axes({one.candidate.variant for one in read if _has_ended(one, both=both)})

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

    def _storage_of(self, optuna: Any) -> Any:
        """An empty storage; what samplers see of it is what this proposal reads."""
        sampling = self

        class Shown(optuna.storages.InMemoryStorage):  # type: ignore[misc]  # its type is not known before the import
            def get_all_trials(self, study_id: int, deepcopy: bool = True, states: Any = None) -> list[Any]:  # noqa: ARG002, FBT001, FBT002  # Optuna's interface
                return [trial for trial in sampling._shown if states is None or trial.state in states]

        return Shown()

    def _sampler(self, seed: int) -> Any:
        import optuna

        if self._settings.sampler == "random":
            return optuna.samplers.RandomSampler(seed=seed)
        tpe, nsga2 = self._kinds
        if self._settings.sampler == "tpe":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                return tpe(seed=seed, constant_liar=True)
        return nsga2(seed=seed, population_size=max(2, self._settings.batch))

    @cached_property
    def _kinds(self) -> tuple[Any, Any]:
        """Optuna's TPE and NSGA-II; what they look for in all results of a study is known here already."""
        import optuna
        from optuna.trial import TrialState

        sampling = self

        class Tpe(optuna.samplers.TPESampler):
            def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, Any]:  # noqa: ARG002  # Optuna's interface
                return sampling._common

        class Generations(optuna.samplers.NSGAIISampler):
            """A batch is a generation: Optuna keeps the number of a generation in a trial of its own."""

            def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, Any]:  # noqa: ARG002
                return sampling._common

            def get_trial_generation(self, study: Any, trial: Any) -> int:  # noqa: ARG002
                return sampling._batch

            def get_parent_population(self, study: Any, generation: int) -> list[Any]:
                while len(sampling._parents) <= generation:  # in order, since Optuna would recurse over all before
                    chosen = self.select_parent(study, len(sampling._parents))
                    sampling._parents.append(sorted(chosen, key=lambda trial: trial.number))
                return sampling._parents[generation]

            def get_population(self, study: Any, generation: int) -> list[Any]:  # noqa: ARG002
                members = map(sampling._storage.get_trial, sampling._generations[generation])
                return [trial for trial in members if trial.state == TrialState.COMPLETE]

        return Tpe, Generations


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
