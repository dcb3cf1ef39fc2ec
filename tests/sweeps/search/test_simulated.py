"""A search with made-up scores takes what its plan says: where no score matters, exactly."""

import pytest

from sweeps.planning.cost import cost_of, planned_work
from sweeps.planning.plan import make_plan
from sweeps.search.simulated import simulate_search
from sweeps.spec.spec import load_spec
from tests.sweeps.search.test_halving import SPEC, WriteSpec

WITHOUT = SPEC.partition("[search]")[0]


@pytest.mark.parametrize("slots", [1, 2])
def test_without_stops_and_confirmation_it_is_the_grid(slots: int, write_spec: WriteSpec) -> None:
    grid = make_plan(load_spec(write_spec(WITHOUT)))
    work = cost_of(grid.trials, lambda _: False).work_shared
    spec = load_spec(write_spec(WITHOUT + '[search]\nsampler = "grid"'))
    made = simulate_search(spec, planned_work, slots=slots, seed=0)
    assert (made.trials, made.work) == (len(grid.trials), pytest.approx(work))
    assert made.makespan == pytest.approx(work) if slots == 1 else work / 2 <= made.makespan < work


def test_halving_takes_less_and_the_same_seed_takes_the_same(write_spec: WriteSpec) -> None:
    whole = load_spec(write_spec(SPEC % "tpe"))
    assert whole.search is not None
    searches = {
        stops: whole.model_copy(update={"search": whole.search.model_copy(update={"halving": stops})})
        for stops in (None, whole.search.halving)
    }
    took = [simulate_search(spec, planned_work, slots=1, seed=seed) for spec in searches.values() for seed in (0, 0)]
    assert took[0] == took[1] and took[2] == took[3]
    assert [one.trials for one in took] == [9 * 2 + 2 * 3] * 4
    assert took[2].work < took[0].work and all(one.makespan == pytest.approx(one.work) for one in took)
