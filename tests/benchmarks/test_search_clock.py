"""The search on the real clock: stock Tune chooses from the space that ours has."""

import optuna
from optuna.distributions import CategoricalDistribution, IntDistribution
from optuna.trial import FixedTrial

from benchmarks.search_clock import Suggest, candidate_of, search_spec
from sweeps.search.space import SearchCandidate, Space, space_of

SPACE = space_of(search_spec(1, 0))


def places(space: Space, setting: SearchCandidate) -> dict[str, int]:
    axes = space.dimensions[setting.variant]
    return {"variant": setting.variant} | {axis.key: axis.values.index(setting.values[axis.key]) for axis in axes}


def test_optuna_search_can_choose_each_candidate_of_the_grid() -> None:
    for setting in map(SPACE.at, range(sum(SPACE.sizes))):
        trial = FixedTrial(places(SPACE, setting))
        assert Suggest(SPACE, {"cache": "there"})(trial) == {"cache": "there"}
        assert candidate_of(SPACE, trial.params) == setting


def test_optuna_search_gets_ranges_where_ours_has_them_and_one_parameter_for_an_axis() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    found = [study.ask() for _ in range(40)]
    for trial in found:
        Suggest(SPACE, {})(trial)
    assert {trial.params["variant"] for trial in found} == {0, 1, 2}
    assert {name: of for trial in found for name, of in trial.distributions.items()} == {
        "variant": CategoricalDistribution((0, 1, 2)),
        "optimisation.learning_rate": IntDistribution(0, 3),
        "optimisation.epochs": IntDistribution(0, 1),
        "method.alpha_epochs": IntDistribution(0, 1),
        "method.beta": CategoricalDistribution((0, 1, 2)),
        "method.criterion": CategoricalDistribution((0, 1, 2, 3, 4)),
        "method.order": CategoricalDistribution((0, 1)),
        "method.removed_macs_fraction": IntDistribution(0, 1),
    }
