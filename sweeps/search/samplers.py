"""The next setting of a search, a pure function of the proposal's number and of the scores that it reads.

Optuna's samplers choose; each proposal has a sampler of its own, seeded by the search's seed and the proposal's number,
so that it can be made again from the rows that it names.
"""

import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sweeps.errors import SpecError
from sweeps.search.space import Dimension, SearchCandidate, Space
from sweeps.spec.search_settings import SearchSettings
from tailor.core.seeds import stream
from transtailor.shell import pip

if TYPE_CHECKING:
    import optuna

VARIANT = "variant"


@dataclass(frozen=True, kw_only=True)
class Told:
    """A setting with its result, as a sampler reads it."""

    candidate: SearchCandidate
    batch: int
    score: float | None  # mean validation score over the seeds; None: it was refused, or a trial failed
    macs: float | None
    is_pending: bool = False  # it has no result yet, but may get one


def sampler_seed(settings: SearchSettings, number: int) -> int:
    """Return the seed of the sampler of proposal `number`, 32 bits."""
    return stream(settings.seed, "proposal", number) % 2**32


class Sampling:
    """The samplers of one search. Its study grows with the results, so that a proposal does not read all of them again.

    What is proposed does not depend on what was proposed by this object before.
    """

    def __init__(self, space: Space, settings: SearchSettings) -> None:
        """Read nothing yet."""
        self._space, self._settings = space, settings
        self._distributions = [{axis.key: _distribution(axis) for axis in axes} for axes in space.dimensions]
        self._names = [{axis.key: name_of(space, n, axis) for axis in axes} for n, axes in enumerate(space.dimensions)]
        self._study: Any = None
        self._known: list[Told] = []
        self._numbers: list[int] = []  # in the study, of what is known
        self._generations: dict[int, list[int]] = defaultdict(list)  # the same by generation
        self._filled = -1  # the last generation whose parents the study has

    def propose(self, number: int, batch: int, told: Sequence[Told]) -> SearchCandidate:
        """Return the setting of proposal `number`; it may have been tried before.

        Args:
            number: of the proposal, from 0.
            batch: number of its batch, from 0; a generation of `nsga2`.
            told: the results of all proposals before; `tpe` keeps away from pending ones.

        Raises:
            SpecError: Optuna is not installed; the text says what to type.
        """
        if self._settings.sampler == "grid":
            return self._space.at(number)
        optuna = _optuna()
        self._read(optuna, told if self._settings.reads_scores else ())
        self._study.sampler = self._sampler(sampler_seed(self._settings, number), batch)
        trial = self._study.ask()
        variant = trial.suggest_categorical(VARIANT, range(len(self._space.dimensions)))
        values = {}
        for axis in self._space.dimensions[variant]:
            name, of = self._names[variant][axis.key], self._distributions[variant][axis.key]
            is_int = isinstance(of, optuna.distributions.IntDistribution)
            place = trial.suggest_int(name, of.low, of.high) if is_int else trial.suggest_categorical(name, of.choices)
            values[axis.key] = axis.values[place]
        self._study.tell(trial, state=optuna.trial.TrialState.FAIL)  # no sampler reads these; its result comes later
        return SearchCandidate(variant=variant, values=values)

    def _read(self, optuna: Any, told: Sequence[Told]) -> None:
        """Bring the study up to date; it is made again if an earlier result is another one now."""
        both = self._settings.sampler == "nsga2"
        grows = len(told) >= len(self._known) and all(map(_follows, self._known, told))
        if self._study is None or not grows:
            directions = ["maximize", "minimize"] if both else ["maximize"]
            self._study, self._known, self._numbers = optuna.create_study(directions=directions), [], []
            self._generations.clear()
            self._filled = -1
        for place, one in enumerate(told):
            if place == len(self._known):
                self._known.append(one)
                self._numbers.append(len(self._study.get_trials(deepcopy=False)))
                self._generations[one.batch].append(self._numbers[-1])
                self._study.add_trial(self._frozen(one, both=both))
            elif one != self._known[place]:
                state = optuna.trial.TrialState.PRUNED if one.score is None else optuna.trial.TrialState.COMPLETE
                self._study.tell(self._numbers[place], _values(one, both=both), state)
                self._known[place] = one

    def _frozen(self, told: Told, *, both: bool) -> "optuna.trial.FrozenTrial":
        """A result as Optuna stores it; a setting without a score is worse than all others."""
        from optuna.distributions import CategoricalDistribution
        from optuna.trial import TrialState, create_trial

        variant = told.candidate.variant
        distributions: dict[str, Any] = {VARIANT: CategoricalDistribution(range(len(self._space.dimensions)))}
        params = {VARIANT: variant}
        for axis in self._space.dimensions[variant]:
            name = self._names[variant][axis.key]
            distributions[name] = self._distributions[variant][axis.key]
            params[name] = axis.values.index(told.candidate.values[axis.key])
        state = TrialState.PRUNED if told.score is None else TrialState.COMPLETE
        state = TrialState.RUNNING if told.is_pending else state
        return create_trial(state=state, values=_values(told, both=both), params=params, distributions=distributions)

    def _sampler(self, seed: int, batch: int) -> "optuna.samplers.BaseSampler":
        import optuna
        from optuna.trial import TrialState

        if self._settings.sampler == "random":
            return optuna.samplers.RandomSampler(seed=seed)
        if self._settings.sampler == "tpe":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                return optuna.samplers.TPESampler(seed=seed, constant_liar=True)
        sampling = self

        class Generations(optuna.samplers.NSGAIISampler):
            """A batch is a generation: Optuna keeps the number of a generation in a trial of its own."""

            def get_trial_generation(self, study: Any, trial: Any) -> int:  # noqa: ARG002  # Optuna's interface
                return batch

            def get_parent_population(self, study: Any, generation: int) -> list[Any]:
                while sampling._filled < generation:  # in order, since Optuna would recurse over all generations before
                    sampling._filled += 1
                    super().get_parent_population(study, sampling._filled)
                return super().get_parent_population(study, generation)

            def get_population(self, study: Any, generation: int) -> list[Any]:
                trials = study.get_trials(deepcopy=False)
                members = (trials[number] for number in sampling._generations[generation])
                return [trial for trial in members if trial.state == TrialState.COMPLETE]

        return Generations(seed=seed, population_size=max(2, self._settings.batch))


def _follows(known: Told, told: Told) -> bool:
    """Whether a result is the one that is known, or that of a pending setting."""
    return known == told or (known.is_pending and (known.candidate, known.batch) == (told.candidate, told.batch))


def _values(told: Told, *, both: bool) -> list[float] | None:
    if told.score is None:
        return None
    return [told.score, told.macs or 0.0] if both else [told.score]


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
