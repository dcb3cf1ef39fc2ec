"""`points.parquet`: what its rows and columns are, and files of its name that are not ours."""

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from results.arms.comparison import points_of
from results.arms.findings import findings_of
from results.loaded_run import load
from results.store.points import points_file, renew_points, write_points
from results.store.points_view import column_names, settings_table
from results.store.reader import load as load_tables
from results.store.schema import TABLES
from results.store.writer import Writer
from sweeps.operations.launch import RECOMMENDED_QUERY
from tests.results.arms.test_tuning import tuned_run
from tests.results.exact_run import Trial, rows_of, write_run

TRIALS = [Trial(label="l1", seed=seed, right=(70 + seed, 60), asked=(0.2, 0.4)) for seed in range(4)]


def write_trials(writer: Writer, trials: list[Trial]) -> None:
    """Writes all rows of these trials in one commit."""
    for table, rows in rows_of(trials).items():
        writer.add(table, rows)
    writer.commit()


def settings(_label: str, seed: int) -> dict[str, Any]:
    """Of a trial, with values of each kind."""
    return {
        "network": "vgg11", "seed": seed, "method": {"name": "prune", "asked_removed_macs_fraction": 0.2},
        "data": {"name": "digits", "sizes": [8, 16]}, "epochs": "auto" if seed else 3,
        "weight_decay": 0 if seed else 0.1,
    }  # fmt: skip


def test_each_point_of_a_finished_trial_has_a_row_with_all_settings(tmp_path: Path, synthetic: Any) -> None:
    ends = {("transtailor", 1): "failed", ("transtailor", 2): "missing"}
    made = synthetic(end=lambda label, seed: ends.get((label, seed), "finished"), config=settings)
    run = load(made.write(tmp_path / "run"))
    points = pd.read_parquet(write_points(run))
    assert points.groupby("label").size().to_dict() == {"fine_tune": 3, "transtailor": 4}  # of 3 seeds, and of 1
    first = points.iloc[-1]
    assert first[["run", "label", "seed", "network", "data_sizes"]].tolist() == [
        "run", "transtailor", 0, "vgg11", "[8, 16]"
    ]  # fmt: skip
    shares = [name for name in points.columns if "removed_macs_fraction" in name]
    assert shares == ["asked_removed_macs_fraction", "removed_macs_fraction"]  # not a third one of the settings
    assert points["weight_decay"].dtype == "float64"
    assert set(points["epochs"]) == {"3", '"auto"'}  # texts and numbers: JSON
    scores = run.sql(
        "SELECT trial_id, point, test_score, compute_s FROM measured_points JOIN unshared_costs USING (stage_key)"
    )
    joined = points.merge(scores, on=["trial_id", "point"], suffixes=("", "_expected"))
    assert len(joined) == len(points)
    assert (joined.test_score == joined.test_score_expected).all() and (
        joined.compute_s == joined.compute_s_expected
    ).all()
    pd.testing.assert_frame_equal(run.points, points, check_dtype=False)


def test_a_renewed_file_is_the_written_one(tmp_path: Path) -> None:
    """To the byte, although it is made otherwise: of a run that has full files, and last ones with several trials."""
    write_run(tmp_path, TRIALS[:1])
    write_trials(Writer(tmp_path / "tables"), TRIALS[1:])
    notes: list[str] = []
    renew_points(tmp_path, notes.append)
    renewed = points_file(tmp_path).read_bytes()
    points_file(tmp_path).unlink()
    with load(tmp_path) as run:
        assert write_points(run).read_bytes() == renewed
    assert len(pd.read_parquet(points_file(tmp_path))) == 8 and not notes


def test_a_trial_that_ends_while_its_run_is_read_in_place_has_no_point_or_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rows come into files that were listed before, or into new ones."""
    writer = Writer(tmp_path / "tables")
    write_trials(writer, TRIALS[:2])
    with load_tables(tmp_path, in_place=True) as run:
        before = run.arrow("FROM points")
        monkeypatch.setattr("results.store.writer.FULL_ROWS", 1)
        write_trials(writer, TRIALS[2:3])  # into the last files, which are full now
        write_trials(writer, TRIALS[3:])  # into the next ones
        assert run.arrow("SELECT * FROM operating_points").num_rows == 6  # read where they are, not copied before
        assert run.arrow("FROM points").equals(before)
    with load_tables(tmp_path, in_place=True) as run:
        assert run.arrow("FROM points").num_rows == 8


def test_columns_have_units_and_meanings(tmp_path: Path, synthetic: Any) -> None:
    path = write_points(load(synthetic(config=settings).write(tmp_path / "run")))
    facts = {field.name: field.metadata for field in pq.read_schema(path)}
    assert all(facts[name] and facts[name][b"meaning"] for name in facts)
    assert facts["macs"][b"unit"] == b"MACs"
    assert facts["data_sizes"][b"meaning"] == b"the trial's setting data.sizes"


def test_the_compared_points_are_those_that_compare_takes(tmp_path: Path, synthetic: Any) -> None:
    """Of two settings of [tuning] the better one by validation, per arm, seed and budget; ties go to the first."""
    by_rule = [
        Trial(label="by rule", seed=0, right=(50, 50), asked=(None, None), validation=scores, ended=ended,
              config={"x": tried}, tuning_order=tried)
        for tried, (scores, ended) in enumerate(
            [((0.9, 0.5), "finished"), ((0.4, 0.6), "finished"), ((0.8, 0.8), "missing")]
        )
    ]  # fmt: skip
    with load(write_run(tmp_path / "by rule", by_rule)) as run:  # the ends of the paths are compared
        compared = run.rows("SELECT x, point FROM points WHERE is_compared")
        assert compared == [{"x": 1, "point": 1}] and [arm.points[0].point for arm in findings_of(run).arms] == [1]
    run = load(tuned_run(tmp_path, synthetic, lambda _label, seed: (0.7, 0.8, 0.9)[seed % 3], ("fine_tune", 5)))
    chosen = {(point.trial_id, point.point) for point in points_of(run)}
    rows = run.rows("SELECT trial_id, point, is_compared FROM points")
    assert {(row["trial_id"], row["point"]) for row in rows if row["is_compared"]} == chosen
    assert len(chosen) < len(rows)


def test_a_trial_counts_when_it_has_finished(tmp_path: Path) -> None:
    """Its points are no rows of points.parquet before, and of no arm."""
    ended = [Trial(label="arm", seed=seed, right=(50,)) for seed in range(2)]
    running = [Trial(label=label, seed=2, right=(60,), ended="missing") for label in ("arm", "other arm")]
    with load(write_run(tmp_path, [*ended, *running])) as run:
        assert {(arm.name, arm.test.n) for arm in findings_of(run).arms} == {("arm", 2)}
        assert set(run.points.seed) == {0, 1}


def test_the_query_that_a_run_recommends_has_the_means_of_compare(tmp_path: Path) -> None:
    """Of each data set, without failed trials and without the settings of [tuning] that were not chosen."""
    trials = [
        Trial(label="arm", seed=seed, dataset=dataset, right=(right + 5 * tried,), validation=(0.5 + tried / 10,),
              config={"x": tried}, tuning_order=tried, ended="failed" if seed == 2 else "finished")
        for dataset, right in (("birds", 50), ("dogs", 80)) for seed in range(3) for tried in (0, 1)
    ]  # fmt: skip
    with load_tables(write_run(tmp_path, trials)) as run:
        rows = {(row["dataset"], row["test"]) for row in run.rows(RECOMMENDED_QUERY)}
        assert rows == {(arm.problem.dataset, arm.test.mean) for arm in findings_of(run).arms}


def test_a_path_that_failed_has_a_whole_fit_of_its_head(tmp_path: Path) -> None:
    """The head's fit is of another arm, which would else lose the seeds at which the path fails later."""
    trials = [
        Trial(label="path", seed=seed, right=(50, 90), asked=(0.0, 0.2), ended=ended, head_arm="head_only")
        for seed, ended in enumerate(("finished", "failed", "finished"))
    ]
    with load_tables(write_run(tmp_path, trials)) as run:
        rows = run.rows("SELECT arm, count(*) AS n FROM points WHERE is_compared GROUP BY ALL ORDER BY ALL")
        assert rows == [{"arm": "head_only", "n": 3}, {"arm": "path", "n": 2}]
        arms = {arm.name: (len(arm.points), arm.failed.total()) for arm in findings_of(run).arms}
        assert arms == {"head_only": (3, 0), "path": (2, 1)}


def test_names_of_settings_cannot_collide() -> None:
    names = column_names(["seed", "model.a", "model_a", "test.score", "x.y.z", "x.y_z", "plain"])
    assert names == {
        "model.a": "model__a", "model_a": "model_a", "test.score": "test__score", "x.y.z": "x__y__z",
        "x.y_z": "x__y_z", "plain": "plain",
    }  # fmt: skip
    columns = {column.name for column in TABLES["operating_points"].columns} | {"test_score", "latency_ms", "arm"}
    assert len(set(names.values())) == len(names) and not columns & set(names.values())


def test_a_column_has_one_type() -> None:
    """Whole numbers, numbers, truth values, texts; all else is JSON."""
    values = [[1, None], [1, 0.5], [True, False], ["a", None], [True, 1], [[1], None], [2**70, 1], [None, None]]
    tables = [settings_table([{"x": value} for value in pair]) for pair in values]
    assert [str(table.schema.field("x").type) for table in tables] == [
        "int64", "double", "bool", "string", "string", "string", "double", "int64"
    ]  # fmt: skip
    assert tables[4]["x"].to_pylist() == ["true", "1"]


def test_a_file_that_is_not_ours_is_left(tmp_path: Path, synthetic: Any) -> None:
    run = synthetic().write(tmp_path / "run")
    pd.DataFrame({"mine": [1]}).to_parquet(points_file(run))
    content = points_file(run).read_bytes()
    notes: list[str] = []
    renew_points(run, notes.append)
    assert len(notes) == 1 and "rename it" in notes[0] and points_file(run).read_bytes() == content


def test_the_line_of_the_front_page_keeps_arms_that_were_asked_for_milliseconds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Their asked share of the MACs is null; and what was asked of them is a column."""
    write_run(
        tmp_path,
        [
            Trial(label="by MACs", seed=0, right=[90], asked=(0.2,)),
            Trial(label="by ms", seed=0, right=[80], asked=(None,), asked_latency_fraction=0.55),
        ],
    )
    points = pd.read_parquet(write_points(load(tmp_path))).set_index("arm")
    assert points.asked_latency_fraction["by ms"] == 0.55 and pd.isna(points.asked_latency_fraction["by MACs"])
    readme = (Path(__file__).parents[3] / "README.md").read_text()
    (line,) = re.findall(r'python -c "(import pandas as pd.*)"', readme)
    exec(line.replace("runs/tour", str(tmp_path)))  # noqa: S102  # as the page has it
    printed = capsys.readouterr().out
    assert "by MACs" in printed and "by ms" in printed
