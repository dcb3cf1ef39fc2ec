"""The samplers: a proposal depends on its number and on what was told before, and on nothing else."""

import math
import random

import pytest
from optuna.trial import TrialState

from sweeps.errors import SpecError
from sweeps.search.samplers import Sampling, Told
from sweeps.search.space import SearchCandidate, Space, space_of
from sweeps.search.tune_searcher import TuneSearcher
from sweeps.spec.search_settings import SearchSettings
from sweeps.spec.spec import Spec, Variant

SPACE = space_of(
    Spec(
        name="s",
        axes={"seed": [4, 5], "rate": [0.001 * 2**power for power in range(10)], "kind": ["p", "q", "r"]},
        variants=[Variant(), Variant(axes={"steps": [1, 2, 3]})],
    )
)
BEST = 0.032


def score(candidate: SearchCandidate) -> float | None:
    """Best at rate 0.032, kind q, 3 steps; settings far from there fail."""
    value = -abs(math.log(candidate.values["rate"] / BEST)) + (candidate.values["kind"] == "q")
    return value + 0.2 * candidate.values.get("steps", 0) if value > -2 else None


def told_of(settings: list[SearchCandidate], batch: int) -> list[Told]:
    return [
        Told(candidate=one, batch=batch, score=score(one), macs=float(one.values.get("steps", 4))) for one in settings
    ]


def searched(sampler: str, batches: int, seed: int = 0) -> list[Told]:
    settings = SearchSettings(sampler=sampler, trials=100, seed=seed)
    sampling = Sampling(SPACE, settings)
    told: list[Told] = []
    for batch in range(batches):
        new: list[SearchCandidate] = []
        for _ in range(4):
            new.append(sampling.propose(len(told) + len(new), batch, [*told, *pending(new, batch)]))
        told += told_of(new, batch)
    return told


def pending(settings: list[SearchCandidate], batch: int) -> list[Told]:
    return [Told(candidate=one, batch=batch, score=None, macs=None, is_pending=True) for one in settings]


def test_the_grid_has_each_setting_once_in_the_order_of_a_sweep() -> None:
    settings = [SPACE.at(number) for number in range(sum(SPACE.sizes))]
    assert len({one.key for one in settings}) == 30 + 90 and SPACE.seeds == (4, 5)
    assert [one.variant for one in settings] == [0] * 30 + [1] * 90
    assert [one.values["kind"] for one in settings[:4]] == ["p", "q", "r", "p"]


@pytest.mark.parametrize("sampler", ["random", "tpe", "nsga2"])
def test_a_proposal_is_made_again_from_what_it_read(sampler: str) -> None:
    settings = SearchSettings(sampler=sampler, trials=100)
    told = searched(sampler, 4)
    assert [one.candidate.key for one in searched(sampler, 4)] == [one.candidate.key for one in told]
    random.seed(99)  # no global generator enters
    read = [*told[:12], *pending([one.candidate for one in told[12:14]], 3)]
    assert Sampling(SPACE, settings).propose(14, 3, read) == told[14].candidate
    used = Sampling(SPACE, settings)
    used.propose(8, 2, [*told[4:8], *told[:4]])  # of another search
    used.propose(12, 3, [*told[:4], *pending([one.candidate for one in told[4:12]], 2)])
    assert used.propose(14, 3, read) == told[14].candidate
    assert all(one.candidate.values["rate"] in SPACE.dimensions[0][0].values for one in told)


@pytest.mark.parametrize("sampler", ["random", "tpe", "nsga2"])
def test_another_seed_proposes_other_settings(sampler: str) -> None:
    one, other = ([told.candidate.key for told in searched(sampler, 2, seed)] for seed in (0, 1))
    assert one != other


def test_tpe_finds_better_settings_than_chance() -> None:
    """Over ten seeds, the mean of the last eight scores; failed settings count as the worst."""
    means = {}
    for sampler in ("random", "tpe"):
        last = [told.score for seed in range(10) for told in searched(sampler, 10, seed)[-8:]]
        means[sampler] = sum(-3.0 if value is None else value for value in last) / len(last)
    assert means["tpe"] > means["random"] + 0.5


def test_nsga2_reads_the_costs_too() -> None:
    """Of settings that are equally good it keeps the cheap ones: there, one with fewer steps."""
    space = space_of(Spec(name="s", axes={"steps": [1, 2, 3, 4, 5, 6, 7, 8]}))
    settings = SearchSettings(sampler="nsga2", trials=100, batch=6)
    told: list[Told] = []
    for batch in range(8):
        new = [Sampling(space, settings).propose(len(told) + place, batch, told) for place in range(6)]
        told += [Told(candidate=one, batch=batch, score=0.5, macs=one.values["steps"]) for one in new]
    assert sum(one.candidate.values["steps"] for one in told[-6:]) < sum(
        one.candidate.values["steps"] for one in told[:6]
    )


def test_ascending_numbers_are_ordered_and_names_are_not() -> None:
    rates, kinds = SPACE.dimensions[0]
    assert rates.is_ordered and not kinds.is_ordered
    space: Space = space_of(Spec(name="s", axes={"a": [3, 1, 2], "b": [True, False]}))
    assert not any(axis.is_ordered for axis in space.dimensions[0])


def test_a_searcher_of_tune_proposes_settings_and_is_told_what_others_tried() -> None:
    settings = SearchSettings(sampler="tune:optuna", trials=100)
    first = TuneSearcher(SPACE, settings)
    told: list[Told] = []
    for batch in range(3):
        new = [first.propose(len(told) + place, batch, told) for place in range(4)]
        told += told_of(new, batch)
    values = SPACE.dimensions[0][0].values
    assert all(one.candidate.values["rate"] in values for one in told)
    again = TuneSearcher(SPACE, settings)  # of another launch
    assert again.propose(len(told), 3, told).key
    (study,) = (again._searcher._ot_study,)
    assert len(study.get_trials(states=[TrialState.COMPLETE])) == sum(one.score is not None for one in told)


def test_a_searcher_whose_library_is_missing_is_refused_with_what_to_type() -> None:
    with pytest.raises(SpecError, match="sampler 'tune:zoopt' cannot be used here: .*pip install"):
        TuneSearcher(SPACE, SearchSettings(sampler="tune:zoopt", trials=3))
