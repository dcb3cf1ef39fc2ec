"""The next setting of a search, a pure function of the proposal's number and of the scores that it reads.

Optuna's samplers choose; each proposal has a sampler of its own, seeded by the search's seed and the proposal's number,
so that it can be made again from the rows that it names.
"""

import warnings
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

VARIANT, GENERATION = "variant", "generation"


@dataclass(frozen=True, kw_only=True)
class Told:
    """A setting with its result, as a sampler reads it."""

    candidate: SearchCandidate
    batch: int
    score: float | None  # mean validation score over the seeds; None: it was refused, or a trial failed
    macs: float | None


def sampler_seed(settings: SearchSettings, number: int) -> int:
    """Return the seed of the sampler of proposal `number`, 32 bits."""
    return stream(settings.seed, "proposal", number) % 2**32


def propose(
    space: Space,
    settings: SearchSettings,
    number: int,
    batch: int,
    told: Sequence[Told],
    pending: Sequence[SearchCandidate],
) -> SearchCandidate:
    """Return the setting of proposal `number`; it may have been tried before.

    Args:
        space: what can be chosen.
        settings: of the search.
        number: of the proposal, from 0.
        batch: number of its batch, from 0; a generation of `nsga2`.
        told: the results of all batches before.
        pending: settings of this batch, which have no results yet; `tpe` keeps away from them.

    Raises:
        SpecError: Optuna is not installed; the text says what to type.
    """
    if settings.sampler == "grid":
        return space.at(number)
    optuna = _optuna()
    sampler = _sampler(settings, sampler_seed(settings, number), batch)
    both = settings.sampler == "nsga2"
    study = optuna.create_study(sampler=sampler, directions=["maximize", "minimize"] if both else ["maximize"])
    if settings.reads_scores:
        study.add_trials([_frozen(space, one, both=both) for one in told])
        study.add_trials([_running(space, candidate) for candidate in pending])
    trial = study.ask()
    variant = trial.suggest_categorical(VARIANT, range(len(space.dimensions)))
    values = {}
    for axis in space.dimensions[variant]:
        name, of = name_of(space, variant, axis), _distribution(axis)
        is_int = isinstance(of, optuna.distributions.IntDistribution)
        place = trial.suggest_int(name, of.low, of.high) if is_int else trial.suggest_categorical(name, of.choices)
        values[axis.key] = axis.values[place]
    return SearchCandidate(variant=variant, values=values)


def name_of(space: Space, variant: int, axis: Dimension) -> str:
    """An axis of all variants is one parameter; an axis of one variant belongs to that variant alone."""
    is_common = all(axis in axes for axes in space.dimensions)
    return axis.key if is_common else f"{variant}:{axis.key}"


def _frozen(space: Space, told: Told, *, both: bool) -> "optuna.trial.FrozenTrial":
    """A result as Optuna stores it; a setting without a score is worse than all others."""
    from optuna.trial import TrialState, create_trial

    kept = _parameters(space, told.candidate) | {"user_attrs": {GENERATION: told.batch}}
    if told.score is None:
        return create_trial(state=TrialState.PRUNED, **kept)
    return create_trial(values=[told.score, told.macs or 0.0] if both else [told.score], **kept)


def _running(space: Space, candidate: SearchCandidate) -> "optuna.trial.FrozenTrial":
    from optuna.trial import TrialState, create_trial

    return create_trial(state=TrialState.RUNNING, **_parameters(space, candidate))


def _parameters(space: Space, candidate: SearchCandidate) -> dict[str, Any]:
    from optuna.distributions import CategoricalDistribution

    distributions: dict[str, Any] = {VARIANT: CategoricalDistribution(range(len(space.dimensions)))}
    params = {VARIANT: candidate.variant}
    for axis in space.dimensions[candidate.variant]:
        name = name_of(space, candidate.variant, axis)
        distributions[name] = _distribution(axis)
        params[name] = axis.values.index(candidate.values[axis.key])
    return {"params": params, "distributions": distributions}


def _distribution(axis: Dimension) -> Any:
    """The places of an axis' values as Optuna has them; of ordered ones, neighbours are alike."""
    from optuna.distributions import CategoricalDistribution, IntDistribution

    last = len(axis.values) - 1
    return IntDistribution(0, last) if axis.is_ordered else CategoricalDistribution(range(last + 1))


def _sampler(settings: SearchSettings, seed: int, batch: int) -> "optuna.samplers.BaseSampler":
    import optuna
    from optuna.trial import TrialState

    if settings.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    if settings.sampler == "tpe":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return optuna.samplers.TPESampler(seed=seed, constant_liar=True)

    class Generations(optuna.samplers.NSGAIISampler):
        """A batch is a generation: Optuna keeps the number of a generation in a study, and here every study is new."""

        _filled = -1  # the last generation whose parents the study has

        def get_trial_generation(self, study: Any, trial: Any) -> int:  # noqa: ARG002  # Optuna's interface
            return batch

        def get_parent_population(self, study: Any, generation: int) -> list[Any]:
            while self._filled < generation:  # in order, since Optuna would recurse over all generations before
                self._filled += 1
                super().get_parent_population(study, self._filled)
            return super().get_parent_population(study, generation)

        def get_population(self, study: Any, generation: int) -> list[Any]:
            trials = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
            return [trial for trial in trials if trial.user_attrs[GENERATION] == generation]

    return Generations(seed=seed, population_size=max(2, settings.batch))


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        install = pip("install", "transtailor-sweeps[search]")
        raise SpecError(f"sampler needs Optuna, which is not installed; type: {install}") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # else each study prints a line
    return optuna
