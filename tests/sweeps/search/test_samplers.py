"""The samplers: a proposal depends on its number and on what was told before, and on nothing else."""

import math
import random
from dataclasses import replace

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from sweeps.search.records import SettingResult
from sweeps.search.samplers import BEST_READ, MOST_READ, propose, read_by, sampler_seed
from sweeps.search.space import SearchCandidate, Space, space_of
from sweeps.spec.search_settings import SearchSettings
from sweeps.spec.spec import Spec, Variant

SPACE = space_of(
    Spec(
        name="s",
        axes={"seed": [4, 5], "rate": [0.001 * 2**power for power in range(10)], "method.kind": ["p", "q", "r"]},
        variants=[Variant(), Variant(axes={"method.steps": [1, 2, 3]})],
    )
)
BEST = 0.032


def score(candidate: SearchCandidate) -> float | None:
    """Best at rate 0.032, kind q, 3 steps; settings far from there fail."""
    value = -abs(math.log(candidate.values["rate"] / BEST)) + (candidate.values["method.kind"] == "q")
    return value + 0.2 * candidate.values.get("method.steps", 0) if value > -2 else None


def told_of(settings: list[SearchCandidate]) -> list[SettingResult]:
    return [SettingResult(candidate=one, score=score(one)) for one in settings]


def searched(sampler: str, batches: int, seed: int = 0) -> list[SettingResult]:
    settings = SearchSettings(sampler=sampler, trials=100, seed=seed)
    told: list[SettingResult] = []
    for _batch in range(batches):
        new: list[SearchCandidate] = []
        for _ in range(4):
            new.append(propose(SPACE, settings, len(told) + len(new), [*told, *pending(new)]).candidate)
        told += told_of(new)
    return told


def pending(settings: list[SearchCandidate]) -> list[SettingResult]:
    return [SettingResult(candidate=one, score=None, is_pending=True) for one in settings]


def test_the_grid_has_each_setting_once_in_the_order_of_a_sweep() -> None:
    settings = [SPACE.at(number) for number in range(sum(SPACE.sizes))]
    assert len({one.key for one in settings}) == 30 + 90 and SPACE.seeds == (4, 5)
    assert [one.variant for one in settings] == [0] * 30 + [1] * 90
    assert [one.values["method.kind"] for one in settings[:4]] == ["p", "q", "r", "p"]


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_a_proposal_is_made_again_from_what_it_read(sampler: str) -> None:
    settings = SearchSettings(sampler=sampler, trials=100)
    told = searched(sampler, 4)
    assert [one.candidate.key for one in searched(sampler, 4)] == [one.candidate.key for one in told]
    random.seed(99)  # no global generator enters
    read = [*told[:12], *pending([one.candidate for one in told[12:14]])]
    assert propose(SPACE, settings, 14, read).candidate == told[14].candidate
    assert all(one.candidate.values["rate"] in SPACE.dimensions[0][0].values for one in told)


def test_of_a_long_search_tpe_reads_the_best_and_the_newest() -> None:
    settings = SearchSettings(sampler="tpe", trials=2000)
    told = [SettingResult(candidate=SPACE.at(n % 120), score=None if n % 5 == 0 else float(n % 7)) for n in range(1000)]
    read = read_by(settings, told)
    best = [n for n, one in enumerate(told) if one.score == 6.0][:BEST_READ]
    assert read == [*best, *range(1000 - MOST_READ + BEST_READ, 1000)]
    assert read_by(settings, told[:MOST_READ]) == [*range(MOST_READ)]
    assert read_by(settings, [replace(one, score=None) for one in told]) == [*range(1000 - MOST_READ, 1000)]


def test_long_searches_propose_as_optuna_does_with_what_they_read() -> None:
    """Optuna's own study with these results alone, and its own look at which axes they have in common."""
    told = told_of([SPACE.at(7 * n % 120) for n in range(400)])
    settings = SearchSettings(sampler="tpe", trials=2000)
    read = [told[place] for place in read_by(settings, told)]
    study = optuna.create_study(direction="maximize")
    of = [{"variant": CategoricalDistribution(range(2))} | {
        "rate": IntDistribution(0, 9), "method.kind": CategoricalDistribution(range(3))
    } for _ in range(2)]  # fmt: skip
    of[1]["1:method.steps"] = IntDistribution(0, 2)
    for one in read:
        values = one.candidate.values
        places = {"variant": one.candidate.variant, "rate": SPACE.dimensions[0][0].values.index(values["rate"])}
        places["method.kind"] = SPACE.dimensions[0][1].values.index(values["method.kind"])
        if one.candidate.variant:
            places["1:method.steps"] = values["method.steps"] - 1
        state = TrialState.PRUNED if one.score is None else TrialState.COMPLETE
        study.add_trial(
            create_trial(
                state=state,
                params=places,
                distributions=of[one.candidate.variant],
                values=None if one.score is None else [one.score],
            )
        )
    study.sampler = optuna.samplers.TPESampler(seed=sampler_seed(settings, 400), constant_liar=True)
    asked = study.ask()
    variant = asked.suggest_categorical("variant", range(2))
    values = {"rate": SPACE.dimensions[0][0].values[asked.suggest_int("rate", 0, 9)]}
    values["method.kind"] = "pqr"[asked.suggest_categorical("method.kind", range(3))]
    if variant:
        values["method.steps"] = 1 + asked.suggest_int("1:method.steps", 0, 2)
    drawn = propose(SPACE, settings, 400, told)
    proposed = drawn.candidate
    assert drawn.seed == sampler_seed(settings, 400) and drawn.read == (*read_by(settings, told),)
    assert (proposed.variant, dict(proposed.values)) == (variant, values)


@pytest.mark.parametrize("sampler", ["random", "tpe"])
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


def test_ascending_numbers_are_ordered_and_names_are_not() -> None:
    rates, kinds = SPACE.dimensions[0]
    assert rates.is_ordered and not kinds.is_ordered
    space: Space = space_of(Spec(name="s", axes={"data.a": [3, 1, 2], "data.b": [True, False]}))
    assert not any(axis.is_ordered for axis in space.dimensions[0])
