"""Days of a simulated sweep keep the promises; a seed replays exactly; what fails is made smaller."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests.simulation.day import folder
from tests.simulation.disturbances import Disturbance
from tests.simulation.kinds import KINDS, kind_of
from tests.simulation.planted import PLANTED
from tests.simulation.planted_fault import Planted
from tests.simulation.seeds import Days, told

FAILED = [json.loads(line) for line in (Path(__file__).parent / "failed.jsonl").read_text().splitlines()]
SEEDS, AT_ONCE = 300, 25
OF_CHECK = 75  # seeds; all others take part in `make test-long` alone
CHECK = pytest.mark.check
ROOT = Path(__file__).parents[2]
REPLAYED = (0, 2, 3, 5, 15)  # one of each kind, the last one with a stop
REPLAY = """
import sys
from pathlib import Path
from tests.simulation.seeds import Days
days = Days.below(Path(sys.argv[1]))
print(*(days.day(int(seed)).digest for seed in sys.argv[2:]))
"""
SEEN = {
    "a file is not synced": 55,
    "rows are written in the opposite order": 27,
    "folders of earlier processes stay": 10,
    "a launch does not read which rows are there": 3,
    "an attempt's end is not written": 0,
    "a trial's own cache goes before its row is durable": 245,
    "two processes have one number": 10,
    "a file of a table is changed in place": 0,
    "a temporary file stands beside those of a table": 0,
    "the rows of a stage come into a table one by one": 0,
    "a search decides before the rows are written": 114,
    "a finished stage wakes no trial": 0,
    "two trials may compute one stage": 0,
    "a search decides while a trial runs": 10,
    "a trial that is not continued has no row": 2,
    "a driver on SLURM does not look for a stop": 295,
    "a stage is read without asking the file system": 0,
    "who looks for a file believes what its machine knows": 3,
    "all attempts of a trial append to one log": 194,
}  # planted faults, and a seed whose day they break
SEEN_IF_STRUCK = {
    "a commit that the disk refused loses its rows": ("ENOSPC", "write", "runs/day/.writing/*/*-*.parquet", 3, 1),
    "rows are made of a damaged stage": ("damage", "link", "shared/cache/*/*.stage", 5, 0),
    "a trial of which a stage was damaged does not run again": ("damage", "link", "shared/cache/*/*.stage", 5, 0),
}  # and what alone has to happen on a day of a grid
BELIEVING = (
    "a stage is read without asking the file system",
    "a stage that is not seen is given up after 30 s",
)
BELIEVING_SEED = 2
LOSE_OR_DOUBLE_ROWS = list(SEEN)[:4]
LOSES_ALL = 2  # a seed with which a loss of power leaves only what was synced


@pytest.fixture(scope="module")
def days() -> Iterator[Days]:
    """A place in memory; the undisturbed days are simulated once."""
    with TemporaryDirectory(dir=folder()) as place:
        yield Days.below(Path(place))


@pytest.mark.parametrize(
    "first",
    [pytest.param(first, marks=CHECK if first < OF_CHECK else pytest.mark.long) for first in range(0, SEEDS, AT_ONCE)],
)
def test_a_day_keeps_the_promises(days: Days, first: int) -> None:
    for seed in range(first, first + AT_ONCE):
        day = days.day(seed)
        assert not day.broken, told(seed, days.disturbances(seed), day)


@pytest.mark.check
@pytest.mark.parametrize("failed", FAILED, ids=lambda failed: failed["what"])
def test_what_failed_once_is_kept_now(days: Days, failed: dict[str, Any]) -> None:
    disturbances = [Disturbance(**one) for one in failed["disturbances"]]
    day = days.day(failed["seed"], disturbances, failed["kind"])  # a seed may have had another kind of day then
    assert not day.broken, told(failed["seed"], disturbances, day)


@pytest.mark.long
@pytest.mark.parametrize("failed", [one for one in FAILED if "fault" in one], ids=lambda failed: failed["what"])
def test_it_fails_again_with_its_fault(days: Days, failed: dict[str, Any]) -> None:
    (fault,) = (fault for fault in PLANTED if fault.what == failed["fault"])
    with fault.planted():
        assert days.day(failed["seed"], [Disturbance(**one) for one in failed["disturbances"]], failed["kind"]).broken


@pytest.mark.long
def test_a_seed_replays_exactly_in_another_process(days: Days) -> None:
    assert {kind_of(seed) for seed in REPLAYED} == {*KINDS}
    here = [days.day(seed) for seed in REPLAYED]
    hashes = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"  # the order of sets is another one there
    words = [sys.executable, "-c", REPLAY, str(days.place / "in_another_process"), *map(str, REPLAYED)]
    there = subprocess.run(
        words, cwd=ROOT, env=os.environ | {"PYTHONHASHSEED": hashes}, capture_output=True, text=True, check=False
    )
    assert there.stdout.split() == [day.digest for day in here], there.stderr
    assert len({day.digest for day in here}) == len(REPLAYED)
    assert all(day.struck for day in here)


@pytest.mark.check
def test_what_fails_is_made_smaller(days: Days) -> None:
    late = Disturbance("late", "", "", 3, 1)
    power = Disturbance("power", "replace", "runs/day/tables/trials/trials.parquet", 1, LOSES_ALL)
    (fault,) = (fault for fault in PLANTED if fault.what == "a new cache's name is not synced")
    with fault.planted():
        assert days.smaller(0, [late, power, late]) == (power,)
        assert "is lost" in days.day(0, [power]).broken[0]
    assert not days.day(0, [power]).broken


@pytest.mark.parametrize(
    "what", [pytest.param(what, marks=() if what in LOSE_OR_DOUBLE_ROWS else CHECK) for what in SEEN]
)
def test_a_planted_fault_breaks_a_day(days: Days, what: str) -> None:
    (fault,) = (fault for fault in PLANTED if fault.what == what)
    with fault.planted():
        assert days.day(SEEN[what]).broken


@pytest.mark.check
@pytest.mark.parametrize("what", SEEN_IF_STRUCK)
def test_a_planted_fault_breaks_a_day_with_this_disturbance(days: Days, what: str) -> None:
    (fault,) = (fault for fault in PLANTED if fault.what == what)
    disturbances = [Disturbance(*SEEN_IF_STRUCK[what])]
    with fault.planted():
        assert days.day(0, disturbances).broken
    assert not days.day(0, disturbances).broken


@pytest.mark.check
def test_a_limit_below_what_machines_believe_runs_trials_again_if_stages_are_looked_for_without_asking(
    days: Days,
) -> None:
    bare, short = (fault for fault in PLANTED if fault.what in BELIEVING)

    def runs_again() -> bool:
        return any("runs again" in what for what in days.day(BELIEVING_SEED).broken)

    with bare.planted():
        assert not runs_again()  # the limit is long enough
        with short.planted():
            assert runs_again()


@pytest.mark.parametrize("fault", PLANTED, ids=lambda fault: fault.what)
def test_a_planted_fault_fits_the_source(fault: Planted) -> None:
    with fault.planted():
        pass
