"""The samplers: a proposal depends on its number and on what was told before, and on nothing else."""

import math
import random
from dataclasses import replace

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from sweeps.search.records import SettingResult
from sweeps.search.samplers import Sampling, sampler_seed
from sweeps.search.space import SearchCandidate, Space, space_of
from sweeps.search.study import BEST_READ, MOST_READ, read_by
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


def told_of(settings: list[SearchCandidate], batch: int) -> list[SettingResult]:
    return [
        SettingResult(candidate=one, batch=batch, score=score(one), cost=float(one.values.get("steps", 4)))
        for one in settings
    ]


def searched(sampler: str, batches: int, seed: int = 0) -> list[SettingResult]:
    settings = SearchSettings(sampler=sampler, trials=100, seed=seed)
    sampling = Sampling(SPACE, settings)
    told: list[SettingResult] = []
    for batch in range(batches):
        new: list[SearchCandidate] = []
        for _ in range(4):
            new.append(sampling.propose(len(told) + len(new), batch, [*told, *pending(new, batch)]).candidate)
        told += told_of(new, batch)
    return told


def pending(settings: list[SearchCandidate], batch: int) -> list[SettingResult]:
    return [SettingResult(candidate=one, batch=batch, score=None, cost=None, is_pending=True) for one in settings]


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
    assert Sampling(SPACE, settings).propose(14, 3, read).candidate == told[14].candidate
    used = Sampling(SPACE, settings)
    used.propose(8, 2, [*told[4:8], *told[:4]])  # of another search
    used.propose(12, 3, [*told[:4], *pending([one.candidate for one in told[4:12]], 2)])
    assert used.propose(14, 3, read).candidate == told[14].candidate
    assert all(one.candidate.values["rate"] in SPACE.dimensions[0][0].values for one in told)


def test_of_a_long_search_tpe_reads_the_best_and_the_newest() -> None:
    settings = SearchSettings(sampler="tpe", trials=2000)
    told = [
        SettingResult(candidate=SPACE.at(n % 120), batch=n // 4, score=None if n % 5 == 0 else float(n % 7), cost=1.0)
        for n in range(1000)
    ]
    read = read_by(settings, told)
    best = [n for n, one in enumerate(told) if one.score == 6.0][:BEST_READ]
    assert read == [*best, *range(1000 - MOST_READ + BEST_READ, 1000)]
    assert read_by(settings, told[:MOST_READ]) == [*range(MOST_READ)]
    assert read_by(settings, [replace(one, score=None) for one in told]) == [*range(1000 - MOST_READ, 1000)]
    assert read_by(settings.model_copy(update={"sampler": "nsga2"}), told) == [*range(1000)]


@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_in_a_long_search_a_launch_and_the_next_one_propose_alike(sampler: str) -> None:
    """Scores arrive late, and one that has left what is read becomes the best."""
    settings = SearchSettings(sampler=sampler, trials=2000)
    told = told_of([SPACE.at(7 * n % 120) for n in range(300)], 0)
    told = [replace(one, batch=n // 4) for n, one in enumerate(told)]
    late = [
        replace(one, score=None, cost=None, is_pending=True) if n in (3, 280) else one for n, one in enumerate(told)
    ]
    told[3] = replace(told[3], score=9.0)
    used = Sampling(SPACE, settings)
    for read in (late[:260], late[:299], late, told, told[:299]):
        new = Sampling(SPACE, settings)
        for number in range(len(read), len(read) + 12):
            assert used.propose(number, len(read) // 4, read) == new.propose(number, len(read) // 4, read)


def test_long_searches_propose_as_optuna_does_with_what_they_read() -> None:
    """Optuna's own study with these results alone, and its own look at which axes they have in common."""
    told = told_of([SPACE.at(7 * n % 120) for n in range(400)], 0)
    settings = SearchSettings(sampler="tpe", trials=2000)
    read = [told[place] for place in read_by(settings, told)]
    study = optuna.create_study(direction="maximize")
    of = [{"variant": CategoricalDistribution(range(2))} | {
        "rate": IntDistribution(0, 9), "kind": CategoricalDistribution(range(3))
    } for _ in range(2)]  # fmt: skip
    of[1]["1:steps"] = IntDistribution(0, 2)
    for one in read:
        values = one.candidate.values
        places = {"variant": one.candidate.variant, "rate": SPACE.dimensions[0][0].values.index(values["rate"])}
        places["kind"] = SPACE.dimensions[0][1].values.index(values["kind"])
        if one.candidate.variant:
            places["1:steps"] = values["steps"] - 1
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
    values["kind"] = "pqr"[asked.suggest_categorical("kind", range(3))]
    if variant:
        values["steps"] = 1 + asked.suggest_int("1:steps", 0, 2)
    drawn = Sampling(SPACE, settings).propose(400, 100, told)
    proposed = drawn.candidate
    assert drawn.seed == sampler_seed(settings, 400) and drawn.read == (*read_by(settings, told),)
    assert (proposed.variant, dict(proposed.values)) == (variant, values)


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
    told: list[SettingResult] = []
    for batch in range(8):
        new = [Sampling(space, settings).propose(len(told) + place, batch, told).candidate for place in range(6)]
        told += [SettingResult(candidate=one, batch=batch, score=0.5, cost=one.values["steps"]) for one in new]
    assert sum(one.candidate.values["steps"] for one in told[-6:]) < sum(
        one.candidate.values["steps"] for one in told[:6]
    )


def test_ascending_numbers_are_ordered_and_names_are_not() -> None:
    rates, kinds = SPACE.dimensions[0]
    assert rates.is_ordered and not kinds.is_ordered
    space: Space = space_of(Spec(name="s", axes={"a": [3, 1, 2], "b": [True, False]}))
    assert not any(axis.is_ordered for axis in space.dimensions[0])
