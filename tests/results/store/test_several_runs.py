"""Several runs as one: every row says its run, and what is compared has each trial once."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import results
from results.arms.comparison import points_of
from results.arms.findings import findings_of
from results.errors import ResultsError
from results.store.schema import TABLES
from results.store.writer import Writer
from tests.commands import Said
from tests.results.exact_run import Trial, write_run, write_search

Runs = Callable[..., tuple[Path, Path]]


@pytest.fixture
def runs(tmp_path: Path, synthetic: Any) -> tuple[Path, Path]:
    """Run a with seeds 0 and 1, run b with seeds 1 and 2 of the same trials: seed 1 stands in both."""
    a = synthetic(seeds=(0, 1)).write(tmp_path / "a")
    b = synthetic(seeds=(1, 2)).write(tmp_path / "b")
    return a, b


def test_tables_have_the_rows_of_every_run_under_its_name(runs: tuple[Path, Path]) -> None:
    with results.load(list(runs)) as both, results.load(runs[0]) as a, results.load(runs[1]) as b:
        for name, table in TABLES.items():
            expected = [{"run": run, **row} for run, one in (("a", a), ("b", b)) for row in one.rows(f"FROM {name}")]
            found = both.rows(f"FROM {name}")
            assert sorted(map(str, found)) == sorted(map(str, expected))
            columns = both.arrow(f"FROM {name}").column_names
            assert columns == ["run", *(column.name for column in table.columns)]
        assert both.rows("SELECT count(*) AS n FROM operating_points") == [{"n": 20}]


def test_a_trial_of_both_runs_is_compared_once_as_it_was_written_last(runs: tuple[Path, Path]) -> None:
    with results.load(runs[0]) as a:
        of_seed_1 = "FROM trials JOIN planned USING (trial_id) WHERE seed = 1"
        newest, _ = a.rows(f"SELECT trials.* EXCLUDE (written_at) {of_seed_1}")
    Writer(runs[0] / "tables").write("trials", [newest])
    with results.load([runs[1], runs[0]]) as both:
        points = both.rows("SELECT run, trial_id, point, seed, test_images FROM measured_points")
        compared = points_of(both)
    assert len(points) == len({(point["trial_id"], point["point"]) for point in points}) == 15
    assert len(compared) == 15
    assert {point["test_images"] for point in points} == {200}
    of_seed_1 = [point for point in points if point["seed"] == 1]
    assert {(point["run"], point["trial_id"] == newest["trial_id"]) for point in of_seed_1} == {
        ("a", True),
        ("b", False),
    }


def test_other_images_under_one_name_are_refused(tmp_path: Path) -> None:
    """A data set that was prepared again is another one: each seed would be averaged over both."""
    folders = []
    for name, sha256 in (("a", "1" * 64), ("b", "2" * 64), ("c", "1" * 64)):
        folder = write_run(tmp_path / name, [Trial(label="l1", seed=seed, right=(70,)) for seed in range(2)])
        history = [{"data": {f"/any/{name}/birds": sha256}}]
        (folder / "provenance.json").write_text(json.dumps({"code_digest": "3" * 64, "history": history}))
        folders.append(folder)
    with results.load([folders[0], folders[2]]) as equal:
        assert findings_of(equal).arms
    for read in (findings_of, lambda run: run.front(), lambda run: run.table()):
        with results.load(folders) as mixed, pytest.raises(ResultsError, match="data set birds of a .* and that of b"):
            read(mixed)


def test_answers_say_how_runs_were_taken_together(runs: tuple[Path, Path], tmp_path: Path) -> None:
    with results.load(list(runs)) as both:
        said = "Trials in several runs: 2; each counts once, from the run that wrote it last."
        assert said in both.front().notes and said in both.table(at=0.1).notes
        assert repr(both).startswith("a, b: trials: 6 finished; ")
    for name, rate in (("c", 0.01), ("d", 0.1)):
        config = {"optimisation": {"learning_rate": rate}}
        arms = {"l1": config, "l2": {}}
        write_run(tmp_path / name, [
            Trial(label=arm, seed=seed, right=(50,), config=of) for arm, of in arms.items() for seed in (0, 1)
        ])  # fmt: skip
    with results.load([tmp_path / "c", tmp_path / "d"]) as both:
        differ = "Arms of one name with other settings in another run: l1 (optimisation.learning_rate: 0.01 in c, 0.1"
        assert any(note.startswith(differ) for note in both.front().notes)
        with pytest.warns(UserWarning, match="l1 .optimisation.learning_rate: 0.01 in c, 0.1 in d"):
            both.compare("l2")


def test_the_best_of_several_runs_names_its_run(runs: tuple[Path, Path]) -> None:
    with results.load(list(runs)) as both:
        (best,) = both.best().to_dict("records")
        written = both.rows("SELECT run FROM trials WHERE trial_id = ?", [best["trial_id"]])
        assert {"run": best["run"]} in written
    with results.load(runs[0]) as one:
        assert "run" not in one.best()


def test_a_run_that_finished_a_trial_counts_before_one_that_failed_it_later(tmp_path: Path) -> None:
    trial = Trial(label="arm", seed=0, right=(90, 80), asked=(0.2, 0.4))
    write_run(tmp_path / "finished", [trial])
    write_run(tmp_path / "failed", [replace(trial, ended="failed", right=(0,))])
    with results.load([tmp_path / "finished", tmp_path / "failed"]) as both:
        found = both.rows("SELECT run, point, test_score FROM compared_points ORDER BY point")
    assert found == [
        {"run": "finished", "point": 0, "test_score": 0.9},
        {"run": "finished", "point": 1, "test_score": 0.8},
    ]


def test_arms_of_several_runs_are_compared_with_each_trial_once(tmp_path: Path) -> None:
    """Two trials failed in one run, and finished in the other one."""
    base = [Trial(label="fine_tune", method="fine_tune", seed=seed, right=(79 + seed % 2,)) for seed in range(6)]
    ours = [Trial(label="arm", seed=seed, right=(85 + seed % 2,)) for seed in range(6)]
    write_run(tmp_path / "failed", [*base, *(replace(one, ended="failed") for one in ours[:2]), *ours[2:]])
    write_run(tmp_path / "finished", [*base, *ours])
    with results.load([tmp_path / "failed", tmp_path / "finished"]) as both:
        found = [both.compare("fine_tune") for _ in range(2)][1]
        assert both.rows("SELECT count(*) AS n FROM trials") == [{"n": 24}]
    assert found[["label", "pairs", "p_holm", "verdict"]].to_numpy().tolist() == [["arm", 6, 2 / 2**6, "better"]]


@pytest.mark.parametrize("order", [("search", "grid"), ("grid", "search")], ids=" last: ".join)
def test_a_search_takes_no_points_from_a_grid_with_the_same_trials(tmp_path: Path, order: tuple[str, str]) -> None:
    """The three trials of the grid are those that the search proposed; it confirmed one setting with six seeds."""
    trials = [Trial(label="arm", seed=0, right=(99,), config={"x": n}) for n in range(3)]
    write = {"grid": lambda folder: write_run(folder, trials), "search": lambda folder: write_search(folder, 1)}
    runs = [write[name](tmp_path / name) for name in order]
    counts = "SELECT run, count(*) AS points FROM compared_points GROUP BY ALL ORDER BY ALL"
    with results.load(runs) as both:
        assert both.rows(counts) == [{"run": "grid", "points": 3}, {"run": "search", "points": 6}]
        both.count_once()
        assert both.rows(counts) == [{"run": "grid", "points": 3}, {"run": "search", "points": 6}]
    with results.load(tmp_path / "search") as alone:
        assert len(alone.rows("FROM compared_points")) == 6


def test_a_table_that_one_run_lacks_has_the_other_ones_rows(tmp_path: Path, runs: tuple[Path, Path]) -> None:
    (tmp_path / "c" / "tables").mkdir(parents=True)
    with results.load([tmp_path / "c", runs[0]]) as both:
        assert both.rows("SELECT DISTINCT run FROM trials") == [{"run": "a"}]
        assert both.rows("FROM events") == []
        with pytest.raises(ResultsError, match="expected one run, given c, a"):
            _ = both.path


def test_runs_of_one_name_are_told_apart_by_their_paths(tmp_path: Path, synthetic: Any) -> None:
    paths = [synthetic(seeds=(0,)).write(tmp_path / folder / "it's") for folder in ("x", "y")]
    with results.load(paths) as both:
        names = {row["run"] for row in both.rows("SELECT run FROM trials")}
    assert names == {str(path) for path in paths}


def test_a_run_twice_or_none_is_refused(runs: tuple[Path, Path]) -> None:
    with pytest.raises(ResultsError, match="is listed twice"):
        results.load([runs[0], runs[0] / ".." / "a"])
    with pytest.raises(ResultsError, match="at least one run"):
        results.load([])


def test_query_takes_several_runs(runs: tuple[Path, Path], command: Callable[..., Said]) -> None:
    done = command("query", *runs, "SELECT run, count(*) AS n FROM trials GROUP BY ALL ORDER BY ALL")
    assert (done.stdout, done.stderr) == ("| run | n |\n| --- | ---: |\n| a | 4 |\n| b | 4 |\n", "")
