"""What `--plan` says of a search, on small ones that are worked out by hand."""

from collections.abc import Callable

import pytest

from sweeps.search.costs import bounds_of, grid_trials, plan_lines, settings_bounds
from sweeps.search.simulated import simulate_search
from sweeps.spec.search_settings import SearchSettings
from sweeps.spec.spec import Spec, load_spec
from tailor.execution.dry_run import PlannedStage
from tailor.facts.networks import NETWORKS
from tests.sweeps.search.test_halving import WriteSpec

# The source takes 10 and an epoch of fine-tuning 1, so the grid of four settings takes 10 + 4 + 6 + 8 + 10 = 38.
SPEC = """
name = "s"
[trial]
network = "digits_vgg"
method.name = "fine_tune"
[axes]
optimisation.epochs = [4, 6, 8, 10]
[search]
sampler = "random"
trials = 3
halving = { eta = 3, epochs = [2] }
"""
ASYNCHRONOUS = """
name = "s"
[trial]
method.name = "fine_tune"
[axes]
optimisation.momentum = { from = 0.1, to = 0.8, step = 0.1 }
[search]
sampler = "random"
trials = 8
batch = 4
halving = { eta = 8, epochs = [1], asynchronous = true }
"""


def by_hand(spec: Spec) -> Callable[[PlannedStage, str], float]:
    epoch = next(stage for stage in grid_trials(spec)[0].stages if stage.kind == "fine_tune").work / 4

    def work_of(stage: PlannedStage, _network: str) -> float:
        tuned = stage.work / epoch if stage.kind.startswith("fine_tune") else 0.0
        return 10.0 if stage.kind == "train_source" else tuned

    return work_of


def test_least_and_most_work_and_the_states_of_a_small_search(write_spec: WriteSpec) -> None:
    """Three settings train two epochs after the common source; one of them continues to its end: 4 epochs, or 10."""
    spec = load_spec(write_spec(SPEC))
    assert spec.search is not None
    found = bounds_of(spec.search, grid_trials(spec), 1, by_hand(spec))
    assert found.settings == ((3, 3), (1, 1))
    assert (found.grid_work, found.work) == (pytest.approx(38), pytest.approx((10 + 3 * 2 + 2, 10 + 3 * 2 + 8)))
    weights_bytes = 4 * NETWORKS["digits_vgg"].params_count
    assert found.state_bytes == 3 * (2 * weights_bytes + 2_000), "weights and momentum of three that rest"
    works = {round(simulate_search(spec, by_hand(spec), slots=1, seed=seed).work, 6) for seed in range(9)}
    assert len(works) == 3 and works < {18.0, 20.0, 22.0, 24.0}, "which of the three continues depends on the seed"


def test_the_lines_say_least_and_most_what_is_simulated_and_why_not(write_spec: WriteSpec) -> None:
    def lines(text: str, time_text: bool = False) -> list[str]:
        spec = load_spec(write_spec(text))
        of = by_hand(spec) if text == SPEC else lambda *_: 1.0
        return [line.strip() for line in plan_lines(spec, of, 2, "{:.0f} s".format if time_text else None)]

    assert lines(SPEC)[:4] == [
        "search    random: at most 3 of 4 settings, 3 at a time",
        "of the settings run 3 until 2 epochs, 1 until the end",
        "3 trials if none fails, 4 in the grid; above is what runs first",
        "the search alone takes 0.47 to 0.63 of the grid's work, before confirmation",
    ]
    assert lines(SPEC)[4].startswith("simulated 3 times: 3 trials, 0.") and lines(SPEC)[5].startswith("states at rungs")
    timed = lines(SPEC, time_text=True)
    assert (
        timed[3] == "the search alone takes 0.47 to 0.63 of the grid's work, 18 s to 24 s of 38 s, before confirmation"
    )
    assert timed[4].endswith(" s with 2 at a time")
    confirmed = lines(
        SPEC.replace("trials = 3", "trials = 4\nbatch = 1\nhours = 1") + "[confirm]\ntop = 2\nseeds = 5\n"
    )
    assert confirmed[2].startswith("14 trials if none fails"), "random settings are all proposed at once"
    limited = lines(SPEC.replace("random", "tpe").replace("trials = 3", "trials = 4\nbatch = 1\nhours = 1"))
    assert limited[1:3] == [
        "of the settings run 1 to 4 until 2 epochs, 1 to 2 until the end",
        "1 to 4 trials if none fails, 4 in the grid; above is what runs first",
    ]
    wide = SPEC.replace("[search]", "optimisation.learning_rate = { from = 0.001, to = 0.6, step = 0.001 }\n[search]")
    assert "a grid of more than 2,000 trials is not planned: its work and states are not known" in lines(wide)
    assert [line for line in lines(wide) if line.startswith("simulated 3 times: 3 trials, 2 at a time")]
    long = lines(wide.replace("trials = 3", "trials = 301"))
    assert "not simulated: it may have more than 300 trials, which would take too long" in long


def test_asynchronously_more_may_continue() -> None:
    """Of nine settings the first two wait; each of the others is promoted if it is better than all before it."""
    search = SearchSettings(trials=9, halving={"epochs": (2, 6), "asynchronous": True})  # type: ignore[arg-type]
    assert settings_bounds(search, 63) == ((9, 9), (3, 7), (1, 5))
    assert settings_bounds(search, 5) == ((5, 5), (2, 3), (1, 1))


@pytest.mark.parametrize(("slots", "takes"), [(1, 9), (2, 5), (4, 3)])
def test_asynchronous_trials_run_on_all_slots(slots: int, takes: float, write_spec: WriteSpec) -> None:
    """Eight settings train one epoch each, four of them at a time; when all have, the best trains another."""
    spec = load_spec(write_spec(ASYNCHRONOUS))
    works = {"fine_tune_part": 1.0, "fine_tune": 2.0}
    made = simulate_search(spec, lambda stage, _: works.get(stage.kind, 0.0), slots=slots, seed=0)
    assert (made.trials, made.work, made.makespan) == (8, 9, takes)
