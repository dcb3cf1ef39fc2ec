"""What a released version left on disk is read, resumed, extended and exported by this one; see docs/promises.md."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import tailor
from results.errors import ResultsError
from results.store.reader import load
from sweeps.planning.plan import make_plan
from sweeps.spec.spec import load_spec
from tailor.common.errors import ConfigError
from tailor.stages import FineTune
from tests import commands
from tests.released.make import MODEL, NAME, TRIALS

pytestmark = pytest.mark.check
ON_DOTS = """
network = "resnet18"
data = { name = "dots", root = "datasets", train_images = 6 }
method.name = "fine_tune"
"""
VERSIONS = sorted(path.name for path in Path(__file__).parent.glob("[0-9]*"))
AGAIN = ("spec.toml", "--site", "serial", "--update-code")


@pytest.fixture(params=VERSIONS)
def left(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of what a version left."""
    return Path(shutil.copytree(Path(__file__).parent / request.param, tmp_path / "left"))


def expected_in(left: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((left / "expected.json").read_text())
    return found


def test_there_is_a_version() -> None:
    assert VERSIONS


def test_its_rows_are_those_that_it_read_itself(left: Path) -> None:
    expected = expected_in(left)
    with load(left / "runs" / NAME) as run:
        for table, count in expected["rows"].items():
            assert run.rows(f"SELECT count(*) AS n FROM {table}") == [{"n": count}], table
        for name, table, order in (("points", "measured_points", "trial_id, point"), ("trials", "planned", "trial_id")):
            found = run.rows(f"SELECT {', '.join(expected[name][0])} FROM {table} ORDER BY {order}")
            assert found == [pytest.approx(row) for row in expected[name]]  # means, summed in any order


def test_its_trials_have_the_same_ids_and_their_stages_the_same_keys(left: Path) -> None:
    planned = make_plan(load_spec(left / "spec.toml")).trials
    with load(left / "runs" / NAME) as run:
        recorded = {row["trial_id"]: row["stage_keys"] for row in run.rows("SELECT trial_id, stage_keys FROM planned")}
    assert {trial.trial_id: [stage.key for stage in trial.stages] for trial in planned} == recorded


def test_its_run_is_queried_compared_reported_and_exported(left: Path) -> None:
    for words in (
        ("status", f"runs/{NAME}"),
        ("compare", f"runs/{NAME}", "--against", "fine_tune"),
        ("query", f"runs/{NAME}", "SELECT arm, test_score FROM measured_points"),
        ("report", f"runs/{NAME}"),
        ("export", f"runs/{NAME}", "--to", "csv", "--out", "csv"),
    ):
        said = commands.transtailor_command(*words, folder=left)
        assert said.returncode == 0, said.stderr
    assert (left / "runs" / NAME / "report.html").is_file()
    assert (left / "csv" / "points.csv").is_file()


def test_its_sweep_is_resumed_and_extended_and_nothing_is_computed_twice(left: Path) -> None:
    expected = expected_in(left)
    before = {name: (left / name).read_bytes() for name in expected["cached"]}
    for words, trials in ((AGAIN, TRIALS), ((*AGAIN, "--extend", "--set", "axes.seed=[0,1,2]"), TRIALS + 2)):
        said = commands.launch(*words, folder=left)
        assert said.returncode == 0, said.stdout + said.stderr
        with load(left / "runs" / NAME) as run:
            assert run.rows("SELECT count(*) AS n FROM trials WHERE status = 'finished'") == [{"n": trials}]
            ids = {row["trial_id"] for row in run.rows("SELECT trial_id FROM planned")}
            points = run.rows(f"SELECT {', '.join(expected['points'][0])} FROM measured_points")
            computed = run.rows("SELECT stage_key, count(*) AS n FROM stages WHERE NOT cached GROUP BY ALL")
        assert {trial["trial_id"] for trial in expected["trials"]} <= ids
        assert all(pytest.approx(point) in points for point in expected["points"])
        assert {row["n"] for row in computed} == {1}
    assert {name: (left / name).read_bytes() for name in before} == before


def test_its_model_gives_the_same_outputs_and_is_exported(left: Path) -> None:
    model = tailor.load_model(left / MODEL).eval()
    outputs = model(torch.linspace(0.0, 1.0, 30).reshape(3, 10))
    torch.testing.assert_close(outputs, torch.tensor(expected_in(left)["outputs"]))
    said = commands.transtailor_command("model", "export", MODEL, "--to", "torch-export", folder=left)
    assert said.returncode == 0, said.stderr
    exported = torch.export.load(left / MODEL / "model.pt2").module()
    torch.testing.assert_close(exported(torch.linspace(0.0, 1.0, 30).reshape(3, 10)), outputs)


def test_its_data_set_is_verified_and_trained_on(left: Path) -> None:
    said = commands.transtailor_command("data", "check", "datasets/dots", folder=left)
    assert said.returncode == 0, said.stdout + said.stderr
    (left / "on_dots.toml").write_text(ON_DOTS)
    said = commands.transtailor_command("trial", "plan", "on_dots.toml", folder=left)
    assert said.returncode == 0, said.stderr
    assert len(np.load(left / "datasets" / "dots" / "target.labels.npy")) == 12


def test_its_site_file_makes_a_job(left: Path) -> None:
    site = (left / "mysite.toml").read_text().replace('"/shared"', f'"{left}"')  # where the job's log will be
    (left / "mysite.toml").write_text(site)
    said = commands.transtailor_command("plan", "demo", "--site", "mysite.toml", "--script", folder=left)
    assert said.returncode == 0, said.stderr
    assert "--partition=gpu" in said.stdout and "module load cuda" in said.stdout


@pytest.mark.parametrize("planted", ["a column", "the text of a key", "the format of a file"])
def test_a_change_is_found(left: Path, planted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checks above fail where a version reads another column, computes other keys, or writes another format."""
    if planted == "a column":
        for path in (left / "runs" / NAME / "tables" / "planned").glob("*.parquet"):
            table = pq.read_table(path)
            pq.write_table(table.rename_columns(["arm_name" if c == "arm" else c for c in table.column_names]), path)
        check = test_its_rows_are_those_that_it_read_itself
    elif planted == "the text of a key":
        monkeypatch.setattr(FineTune, "version", 99)
        check = test_its_trials_have_the_same_ids_and_their_stages_the_same_keys
    else:
        card = left / MODEL / "model.json"
        card.write_text(card.read_text().replace('"format": 1', '"format": 99'))
        check = test_its_model_gives_the_same_outputs_and_is_exported
    with pytest.raises((AssertionError, ResultsError, ConfigError)):
        check(left)
