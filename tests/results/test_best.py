"""The best point by validation under a limit; the test split decides nothing unless somebody insists."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from results.best import Limit, best_page, best_points
from results.errors import ResultsError
from results.store.reader import Run, load
from results.store.writer import Writer
from results.text.formats import markdown_lines
from tailor.execution.cache import Cache
from tests.commands import Said
from tests.results.conftest import Synthetic
from tests.results.exact_run import Trial, write_run
from tests.results.questions.test_front import TIMING
from transtailor.shell import command as to_type

Command = Callable[..., Said]


def said_of(run: Run) -> str:
    """What is printed without a limit."""
    return "\n".join(markdown_lines(best_page(run, "validation_score", [])))


def slow_best(rows: list[dict[str, Any]], by: str, most_macs: float = math.inf) -> dict[str, Any]:
    """The same by a plain loop over the rows of one problem."""
    best: dict[str, Any] | None = None
    for row in sorted(rows, key=lambda row: (row["macs"], row["trial_id"], row["point"])):
        if row["macs"] > most_macs or not math.isfinite(row[by]):
            continue
        if best is None or row[by] > best[by]:
            best = row
    assert best is not None
    return best


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two networks, so that there are two problems whose scores do not compare."""
    folder = tmp_path_factory.mktemp("best") / "my run"
    return Synthetic(networks=("vgg11", "mlp"), seeds=(0, 1)).write(folder)


@pytest.mark.parametrize("limit", [None, "macs=0.85", "macs=850000", "macs=8.5e5"])
@pytest.mark.parametrize("by", ["validation_score", "test_score"])
def test_the_best_is_that_of_a_slow_loop(run_folder: Path, limit: str | None, by: str) -> None:
    with load(run_folder) as run:
        found = best_points(run, by, [] if limit is None else [Limit.parse(limit)])
        rows = run.rows("FROM measured_points")
    assert [row["network"] for row in found] == ["mlp", "vgg11"]
    for row in found:
        of_problem = [other for other in rows if other["network"] == row["network"]]
        most = math.inf if limit is None else 850_000
        expected = slow_best(of_problem, by, most)
        assert (row["trial_id"], row["point"]) == (expected["trial_id"], expected["point"])
        assert row["points"] == sum(other["macs"] <= most for other in of_problem)


def test_a_score_that_is_not_a_number_never_wins_and_equal_ones_go_by_macs(tmp_path: Path, synthetic: Any) -> None:
    scores = {0: 0.75, 1: math.nan, 2: 0.75, 3: 0.5}
    synthetic(
        seeds=(0,), labels=(("transtailor", "transtailor"),), validation=lambda _label, _seed, point: scores[point]
    ).write(tmp_path)
    with load(tmp_path) as run:
        (row,) = best_points(run)
        text = said_of(run)
    assert (row["point"], row["points"], row["scored_points"], row["tied_points"]) == (2, 4, 3, 2)
    assert "the largest of 3" in text
    assert "2 of them tie by validation accuracy: shown is the one with the fewest MACs" in text


def test_params_are_limited_by_number(run_folder: Path) -> None:
    with load(run_folder) as run:
        assert len(best_points(run, limits=[Limit.parse("params=1000")])) == 2
        with pytest.raises(ResultsError, match="no operating point with at most 999 parameters"):
            list(best_page(run, "validation_score", [Limit.parse("params=999")]))


def test_a_network_without_a_point_under_the_limit_is_named_and_the_smallest_can_be_typed(tmp_path: Path) -> None:
    """And a path whose head is that of another one is not called failed."""
    removed = {"small": 0.5, "large": 0.2}
    trials = [Trial(label="a", network=net, seed=0, right=[90], removed=[share]) for net, share in removed.items()]
    begun = [Trial(label=label, seed=0, right=[9], asked=[0.0], model="head", head_arm="head_only") for label in "bc"]
    write_run(tmp_path, [*trials, *begun])
    with load(tmp_path) as run:
        said = str(list(best_page(run, "validation_score", [Limit.parse("macs=0.75")])))
        assert "large on digits" in said and "the smallest macs is 0.8; raise the limit" in said
        assert "left out" not in said
        assert "large" in str(best_points(run, limits=[Limit.parse("macs=0.8")]))


@pytest.mark.parametrize(
    "text", ["macs", "macs=", "macs=x", "mac=1", "test_score=0.5", "macs=nan", "macs=-1", "macs=0", "params=0.5"]
)
def test_a_limit_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ResultsError, match="type one such as macs=0.8"):
        Limit.parse(text)
    with pytest.raises(ResultsError, match=r"did you mean 'params'\? expected one of macs"):
        Limit.parse("parameters=1e5")


def test_the_command_names_the_point_its_stage_and_how_to_save_it(run_folder: Path, command: Command) -> None:
    done = command("best", run_folder, "--under", "macs=0.85")
    assert (done.returncode, done.stderr) == (0, "")
    with load(run_folder) as run:
        (row, _) = best_points(run, limits=[Limit.parse("macs=0.85")])
    trial, point, key = row["trial_id"], row["point"], row["model_key"]
    assert f"trial {trial}, point {point}" in done.stdout
    assert f"in the cache: {Cache(Path('<cache>')).path(key)}\n" in done.stdout
    save = to_type("reproduce", run_folder, trial, "--point", point, "--save", f"models/{trial}_point_{point}")
    assert save in done.stdout


@pytest.mark.parametrize(
    ("speed", "text"),
    [(1.5, "1.50 times as fast as the whole network (2 ms;"), (0.996, "1.00 times as fast as the whole network ("),
     (0.5, "SLOWER")],
)  # fmt: skip
def test_it_says_how_fast_the_sub_model_is(tmp_path: Path, speed: float, text: str) -> None:
    """Measured or not; in the circumstance that was measured."""
    Synthetic(networks=("mlp",), seeds=(0,)).write(tmp_path)
    with load(tmp_path) as run:
        assert "\n  speed not measured; to measure it: " in said_of(run)
        (row,) = best_points(run)
    timing = TIMING | {"model_key": row["model_key"], "latency_ms": 2.0, "speed": speed}
    Writer(tmp_path / "tables").write("timings", [timing])
    with load(tmp_path) as run:
        said = said_of(run)
    assert text in said and f"in {TIMING['runtime']} on {TIMING['device_name']}" in said


def test_by_the_test_split_warns_and_nothing_near_it_is_taken(run_folder: Path, command: Command) -> None:
    done = command("best", run_folder, "--by", "test_score")
    assert done.returncode == 0
    assert done.stderr.startswith("warning: the test score of a point")
    for name in ("test", "test_images", "accuracy", ""):
        done = command("best", run_folder, "--by", name)
        assert (done.returncode, done.stdout) == (2, "")
        assert "expected one of validation_score, test_score" in done.stderr


def test_a_run_without_points_says_so(tmp_path: Path, trial_row: Any, command: Command) -> None:
    Writer(tmp_path / "tables").write("trials", [trial_row(status="failed", error="it diverged")])
    done = command("best", tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: no operating point in {tmp_path}: to see its trials, type: ")
    assert done.stderr.endswith(f"transtailor status {tmp_path}\n")
    done = command("compare", tmp_path, "--against", "fine_tune")
    assert (done.returncode, done.stdout) == (2, "")
    assert "no operating points yet" in done.stderr
    assert done.stderr.endswith(f"transtailor status {tmp_path}\n")
