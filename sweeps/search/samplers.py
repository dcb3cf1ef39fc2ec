"""The next setting of a search, a pure function of the proposal's number and of the scores that it reads.

Optuna's samplers choose; each proposal has a study and a sampler of its own, seeded by the search's seed and the
proposal's number, so that it can be made again from the rows that it names.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import nlargest

from sweeps.errors import SpecError
from sweeps.search.records import SettingResult
from sweeps.search.space import Dimension, SearchCandidate, Space
from sweeps.spec.search_settings import SearchSettings
from tailor.common.seeds import stream
from transtailor.shell import pip

VARIANT = "variant"
MOST_READ = 150  # results that a proposal of `tpe` reads in a long search
BEST_READ = 25  # of these


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A setting that a sampler proposes."""

    candidate: SearchCandidate
    seed: int | None  # of the sampler that was made for it; None: it has none
    read: tuple[int, ...]  # indices of the results that it read


def sampler_seed(settings: SearchSettings, number: int) -> int:
    """Return the seed of the sampler of proposal `number`, 32 bits."""
    return stream(settings.seed, "proposal", number) % 2**32


def propose(space: Space, settings: SearchSettings, number: int, results: Sequence[SettingResult]) -> Drawn:
    """Return the setting of proposal `number`; it may have been tried before.

    Args:
        space: what it is chosen from.
        settings: of the search.
        number: of the proposal, from 0.
        results: of all proposals before; `tpe` keeps away from pending ones.

    Raises:
        SpecError: Optuna is not installed; the text says what to type.
    """
    if settings.sampler == "grid":
        return Drawn(candidate=space.at(number), seed=None, read=())
    try:
        import optuna
        from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
        from optuna.trial import TrialState, create_trial
    except ImportError as error:
        install = pip("install", "transtailor-sweeps[search]")
        raise SpecError(f"sampler needs Optuna, which is not installed; type: {install}") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # else each study prints a line
    seed = sampler_seed(settings, number)
    sampler: optuna.samplers.BaseSampler = optuna.samplers.RandomSampler(seed=seed)
    if settings.sampler == "tpe":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    read = read_by(settings, results)
    for index in read:
        # A result as a trial of Optuna's; a setting without a score is worse than all others
        result = results[index]
        variant = result.candidate.variant
        params = {VARIANT: variant}
        distributions: dict[str, BaseDistribution] = {VARIANT: CategoricalDistribution(range(len(space.dimensions)))}
        for axis in space.dimensions[variant]:
            name = _name_of(space, variant, axis)
            params[name] = axis.values.index(result.candidate.values[axis.key])
            # Optuna chooses from the indices of an axis' values; of ordered ones, neighbours are alike
            last = len(axis.values) - 1
            distributions[name] = (
                IntDistribution(0, last) if axis.is_ordered else CategoricalDistribution(range(last + 1))
            )
        state = TrialState.COMPLETE
        if result.score is None:
            state = TrialState.RUNNING if result.is_pending else TrialState.PRUNED
        study.add_trial(create_trial(state=state, value=result.score, params=params, distributions=distributions))
    trial = study.ask()
    variant = trial.suggest_categorical(VARIANT, range(len(space.dimensions)))
    values = {}
    for axis in space.dimensions[variant]:
        name, count = _name_of(space, variant, axis), len(axis.values)
        index = (
            trial.suggest_int(name, 0, count - 1) if axis.is_ordered else trial.suggest_categorical(name, range(count))
        )
        values[axis.key] = axis.values[index]
    return Drawn(candidate=SearchCandidate(variant=variant, values=values), seed=seed, read=tuple(read))


def read_by(settings: SearchSettings, results: Sequence[SettingResult]) -> list[int]:
    """Return the indices of the results that a proposal reads, ascending: all; of more than 150, `tpe` reads 150.

    These are the best 25, of equal ones the earlier, which is how many Optuna takes as good at most; and the newest of
    the others, to which it gives more weight than to older ones. So what a proposal takes does not grow.
    """
    if not settings.reads_scores:
        return []
    indices = range(len(results))
    if len(results) <= MOST_READ:
        return list(indices)
    scores = [-math.inf if result.score is None else result.score for result in results]
    least_good = nlargest(BEST_READ, scores)[-1]
    good = [index for index, score in enumerate(scores) if score >= least_good > -math.inf]
    best = set(sorted(good, key=lambda index: -scores[index])[:BEST_READ])
    others = [index for index in indices if index not in best]
    newest = others[-(MOST_READ - len(best)) :]
    return sorted([*best, *newest])


def _name_of(space: Space, variant: int, axis: Dimension) -> str:
    """Return the name of a parameter; an axis of all variants is one parameter, others are one for each variant."""
    is_common = all(axis in axes for axes in space.dimensions)
    return axis.key if is_common else f"{variant}:{axis.key}"
