"""A searcher that Ray Tune ships, as a sampler: it keeps its own state, so its proposals cannot be made again."""

import contextlib
from collections.abc import Sequence
from typing import Any

from sweeps.errors import SpecError
from sweeps.search.records import SettingResult
from sweeps.search.samplers import Drawn
from sweeps.search.space import SearchCandidate, Space
from sweeps.search.study import VARIANT, name_of
from sweeps.spec.search_settings import TUNE, SearchSettings
from tailor.core.seeds import stream

SEEDS = ("seed", "random_state", "random_state_seed")  # what searchers call it; some have none
SCORE = "score"


class TuneSearcher:
    """One for a launch. It gets the results of earlier launches, where it can; some searchers cannot."""

    def __init__(self, space: Space, settings: SearchSettings) -> None:
        """Make the searcher that the settings name.

        Raises:
            SpecError: its library is not installed, or it does not work on whole numbers and choices.
        """
        from ray import tune
        from ray.tune.search import create_searcher

        name = settings.sampler.removeprefix(TUNE)
        seed = stream(settings.seed, "tune") % 2**32
        seeds = {argument: seed for argument in SEEDS}
        domains = {VARIANT: tune.choice(range(len(space.dimensions)))}
        for variant, axes in enumerate(space.dimensions):
            for axis in axes:
                count = len(axis.values)
                domain = tune.randint(0, count) if axis.is_ordered else tune.choice(range(count))
                domains[name_of(space, variant, axis)] = domain
        try:
            self._searcher = create_searcher(name, metric=SCORE, mode="max", **seeds)
            is_set = self._searcher.set_search_properties(SCORE, "max", domains)
        except (ImportError, AssertionError, ValueError, TypeError) as error:
            raise SpecError(f"sampler {settings.sampler!r} cannot be used here: {error}") from error
        if not is_set:
            raise SpecError(f"sampler {settings.sampler!r} does not take a space; choose sampler = 'tpe'")
        self._space = space
        self._suggested: dict[int, str] = {}  # number of a proposal -> key of the setting that was suggested
        self._known: set[int] = set()  # numbers whose results it has

    def propose(self, number: int, batch: int, results: Sequence[SettingResult]) -> Drawn:  # noqa: ARG002  # as `Sampling`
        """Return the setting of proposal `number`; `results` are those of all earlier proposals, by their numbers."""
        for earlier_number, result in enumerate(results):
            if earlier_number not in self._known and not result.is_pending:
                self._tell(earlier_number, result)
        config = self._searcher.suggest(str(number))
        if not isinstance(config, dict):
            raise SpecError("the searcher suggests nothing more; choose fewer trials")
        candidate = self._candidate(config)
        self._suggested[number] = candidate.key
        return Drawn(candidate=candidate, seed=None, read=None)

    def _tell(self, number: int, result: SettingResult) -> None:
        """Give the searcher the result of a proposal; also of one that it did not suggest, where it can take that."""
        self._known.add(number)
        is_own = self._suggested.get(number) == result.candidate.key
        if number in self._suggested:
            scored = {SCORE: result.score} if is_own and result.score is not None else None
            self._searcher.on_trial_complete(str(number), result=scored, error=scored is None)
        if not is_own and result.score is not None:
            with contextlib.suppress(NotImplementedError):
                self._searcher.add_evaluated_point(self._config(result.candidate), result.score)

    def _candidate(self, config: dict[str, Any]) -> SearchCandidate:
        variant = int(config[VARIANT])
        axes = self._space.dimensions[variant]
        values = {axis.key: axis.values[int(config[name_of(self._space, variant, axis)])] for axis in axes}
        return SearchCandidate(variant=variant, values=values)

    def _config(self, candidate: SearchCandidate) -> dict[str, Any]:
        """Return a setting as the searcher has it: the indices of its values, and 0 for the axes of other variants."""
        config = {VARIANT: candidate.variant}
        for variant, axes in enumerate(self._space.dimensions):
            for axis in axes:
                config[name_of(self._space, variant, axis)] = 0
        for axis in self._space.dimensions[candidate.variant]:
            index = axis.values.index(candidate.values[axis.key])
            config[name_of(self._space, candidate.variant, axis)] = index
        return config
