"""Days of a simulated sweep keep the promises; a seed replays exactly; what fails is made smaller."""

import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests.simulation.day import folder
from tests.simulation.disturbances import Disturbance
from tests.simulation.planted import PLANTED
from tests.simulation.planted_fault import Planted
from tests.simulation.seeds import Days, told

FAILED = [json.loads(line) for line in (Path(__file__).parent / "failed.jsonl").read_text().splitlines()]
SEEDS, AT_ONCE = 300, 25
LOSES_ALL = 2  # a seed with which a loss of power leaves only what was synced


@pytest.fixture(scope="module")
def days() -> Iterator[Days]:
    """A place in memory; the undisturbed days are simulated once."""
    with TemporaryDirectory(dir=folder()) as place:
        yield Days.below(Path(place))


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, SEEDS, AT_ONCE))
def test_a_day_keeps_the_promises(days: Days, first: int) -> None:
    for seed in range(first, first + AT_ONCE):
        day = days.day(seed)
        assert not day.broken, told(seed, days.disturbances(seed), day)


@pytest.mark.parametrize("failed", FAILED, ids=lambda failed: failed["what"])
def test_what_failed_once_is_kept_now(days: Days, failed: dict[str, Any]) -> None:
    disturbances = [Disturbance(**one) for one in failed["disturbances"]]
    day = days.day(failed["seed"], disturbances, failed["kind"])  # a seed may have had another kind of day then
    assert not day.broken, told(failed["seed"], disturbances, day)


@pytest.mark.parametrize("failed", [one for one in FAILED if "fault" in one], ids=lambda failed: failed["what"])
def test_it_fails_again_with_its_fault(days: Days, failed: dict[str, Any]) -> None:
    (fault,) = (fault for fault in PLANTED if fault.what == failed["fault"])
    with fault.planted():
        assert days.day(failed["seed"], [Disturbance(**one) for one in failed["disturbances"]], failed["kind"]).broken


def test_a_seed_replays_exactly(days: Days) -> None:
    seed = next(seed for seed in range(100) if len(days.disturbances(seed)) > 3)
    first, again, other = days.day(seed), days.day(seed), days.day(seed + 1)
    assert (first.digest, first.moments) == (again.digest, again.moments)
    assert first.digest != other.digest
    assert first.struck


def test_what_fails_is_made_smaller(days: Days) -> None:
    late = Disturbance("late", "", "", 3, 1)
    power = Disturbance("power", "replace", "runs/day/tables/trials/*-*.parquet", 1, LOSES_ALL)
    (fault,) = (fault for fault in PLANTED if fault.what == "a new cache's name is not synced")
    with fault.planted():
        assert days.smaller(0, [late, power, late]) == (power,)
        assert "is lost" in days.day(0, [power]).broken[0]
    assert not days.day(0, [power]).broken


@pytest.mark.parametrize("fault", PLANTED, ids=lambda fault: fault.what)
def test_a_planted_fault_fits_the_source(fault: Planted) -> None:
    with fault.planted():
        pass
