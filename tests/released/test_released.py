"""What version 0.2 left on disk is read by this one, as docs/promises.md says; its runs are not launched again."""

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
from tailor.common.errors import ConfigError
from tests import commands
from tests.released.make import MODEL, NAME

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


def test_its_run_is_queried_compared_and_reported(left: Path) -> None:
    for words in (
        ("status", f"runs/{NAME}"),
        ("compare", f"runs/{NAME}", "--against", "fine_tune"),
        ("query", f"runs/{NAME}", "SELECT arm, test_score FROM measured_points"),
        ("report", f"runs/{NAME}"),
    ):
        said = commands.transtailor_command(*words, folder=left)
        assert said.returncode == 0, said.stderr
    assert (left / "runs" / NAME / "report.html").is_file()


def test_its_run_is_not_launched_again(left: Path) -> None:
    files = [path for path in (left / "runs").rglob("*") if path.is_file() and path.name != "launch.lock"]
    before = [path.read_bytes() for path in files]
    for words in (AGAIN, (*AGAIN, "--extend", "--set", "axes.seed=[0,1,2]")):
        said = commands.launch(*words, folder=left)
        assert said.returncode == 2 and "version 0.2" in said.stderr and "--name" in said.stderr
    assert [path.read_bytes() for path in files] == before


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
    said = commands.transtailor_command("trial", "run", "on_dots.toml", "--plan", folder=left)
    assert said.returncode == 0, said.stderr
    assert len(np.load(left / "datasets" / "dots" / "target.labels.npy")) == 12


@pytest.mark.parametrize("planted", ["a column", "the format of a file"])
def test_a_change_is_found(left: Path, planted: str) -> None:
    """The checks above fail where a version reads another column, or writes another format."""
    if planted == "a column":
        for path in (left / "runs" / NAME / "tables" / "planned").glob("*.parquet"):
            table = pq.read_table(path)
            pq.write_table(table.rename_columns(["arm_name" if c == "arm" else c for c in table.column_names]), path)
        check = test_its_rows_are_those_that_it_read_itself
    else:
        card = left / MODEL / "model.json"
        card.write_text(card.read_text().replace('"format": 1', '"format": 99'))
        check = test_its_model_gives_the_same_outputs_and_is_exported
    with pytest.raises((AssertionError, ResultsError, ConfigError)):
        check(left)
