"""The comparisons in docs/results/evidence are those of the committed points."""

from pathlib import Path

import pandas
import pytest

from tests.results.conftest import Synthetic
from tools import compared_pages, keep_run


@pytest.mark.parametrize("page", compared_pages.PAGES, ids=lambda page: page.path)
def test_the_tables_are_those_of_the_points(page: compared_pages.Compared) -> None:
    assert page.text() == (compared_pages.EVIDENCE / page.path).with_suffix(".md").read_text()


def test_an_arm_without_points_at_a_seed_counts_as_failed() -> None:
    with compared_pages.kept_run("transtailor_ablation/measured_points") as run:
        (row,) = run.rows("SELECT count(*) AS failed, any_value(trial_id) AS one FROM trials WHERE status = 'failed'")
    assert row["failed"] == 5 and "beta sqrt" in row["one"]


def test_runs_are_kept_and_added(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, seeds in (("one", (0, 1)), ("two", (1, 2))):
        Synthetic(seeds=seeds).write(tmp_path / name)
    to = tmp_path / "kept" / "points.parquet"
    assert keep_run.main([str(tmp_path / "one"), "--to", str(to)]) == 0
    first = pandas.read_parquet(to)
    assert keep_run.main([str(tmp_path / "two"), "--to", str(to), "--add"]) == 0
    both = pandas.read_parquet(to)
    assert set(both["seed"]) == {0, 1, 2} and len(both) > len(first)
    assert not both.duplicated(["trial_id", "point"]).any()
    assert keep_run.main([str(tmp_path / "three"), "--to", str(to)]) == 2
    assert "three" in capsys.readouterr().err
