"""The next setting of a search, a pure function of the proposal's number and of the scores that it reads.

Optuna's samplers choose; each proposal has a sampler of its own, seeded by the search's seed and the proposal's number,
so that it can be made again from the rows that it names.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sweeps.search.records import SettingResult
from sweeps.search.space import SearchCandidate, Space
from sweeps.search.study import SearchStudy
from sweeps.spec.search_settings import SearchSettings
from tailor.common.seeds import stream


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A setting that a sampler proposes."""

    candidate: SearchCandidate
    seed: int | None  # of the sampler that was made for it; None: it has none
    read: tuple[int, ...]  # indices of the results that it read


def sampler_seed(settings: SearchSettings, number: int) -> int:
    """Return the seed of the sampler of proposal `number`, 32 bits."""
    return stream(settings.seed, "proposal", number) % 2**32


class Sampling:
    """The samplers of one search.

    What is proposed does not depend on what was proposed by this object before.
    """

    def __init__(self, space: Space, settings: SearchSettings) -> None:
        """Read nothing yet."""
        self._space = space
        self._settings = settings

    def propose(self, number: int, batch: int, results: Sequence[SettingResult]) -> Drawn:
        """Return the setting of proposal `number`; it may have been tried before.

        Args:
            number: of the proposal, from 0.
            batch: number of its batch, from 0; a generation of `nsga2`.
            results: of all proposals before; `tpe` keeps away from pending ones.

        Raises:
            SpecError: Optuna is not installed; the text says what to type.
        """
        if self._settings.sampler == "grid":
            return Drawn(candidate=self._space.at(number), seed=None, read=())
        self._study.read(results, batch)
        seed = sampler_seed(self._settings, number)
        candidate = self._study.ask(self._sampler(seed))
        return Drawn(candidate=candidate, seed=seed, read=tuple(self._study.indices))

    @cached_property
    def _study(self) -> SearchStudy:
        return SearchStudy(self._space, self._settings)

    def _sampler(self, seed: int) -> Any:
        import optuna

        if self._settings.sampler == "random":
            return optuna.samplers.RandomSampler(seed=seed)
        tpe_class, nsga2_class = self._classes
        if self._settings.sampler == "tpe":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                return tpe_class(seed=seed, constant_liar=True)
        return nsga2_class(seed=seed, population_size=max(2, self._settings.batch))

    @cached_property
    def _classes(self) -> tuple[Any, Any]:
        """Optuna's TPE and NSGA-II; what they look for in all results of a study, ours knows already."""
        import optuna

        our_study = self._study

        class Tpe(optuna.samplers.TPESampler):
            def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, Any]:  # noqa: ARG002  # Optuna's interface
                return our_study.common_axes

        class Generations(optuna.samplers.NSGAIISampler):
            """A batch is a generation: Optuna keeps the number of a generation in a trial of its own."""

            def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, Any]:  # noqa: ARG002
                return our_study.common_axes

            def get_trial_generation(self, study: Any, trial: Any) -> int:  # noqa: ARG002
                return our_study.batch

            def get_parent_population(self, study: Any, generation: int) -> list[Any]:
                while len(our_study.parents) <= generation:  # in order, since Optuna would recurse over all before
                    parents = self.select_parent(study, len(our_study.parents))
                    our_study.parents.append(sorted(parents, key=lambda trial: trial.number))
                return our_study.parents[generation]

            def get_population(self, study: Any, generation: int) -> list[Any]:  # noqa: ARG002
                return our_study.members(generation)

        return Tpe, Generations
