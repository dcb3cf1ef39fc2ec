"""The benchmark of a step on a GPU: its quick look runs on a CPU; it and that of packed trials refuse to do without."""

import importlib
from pathlib import Path

import pytest
import torch

from tests.benchmarks.looks import rows_in, run


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_quick_look_on_a_cpu_writes_a_table(tmp_path: Path) -> None:
    done = run("gpu_step.py", tmp_path, "--device", "cpu", "--quick")
    assert done.returncode == 0, done.stderr
    (row,) = rows_in(tmp_path)
    assert (row["network"], row["device"], row["ours_peak_mib"], row["verdict"]) == ("digits_vgg", "cpu", "", "")
    for name in ("ratio", "loader_images_per_s", "input_share_of_step", "first_step_compiled_s", "first_step_eager_s"):
        assert float(row[name]) > 0.0
    assert "no GPU" in (tmp_path / "table.md").read_text()


@pytest.mark.parametrize("script", ["gpu_step", "packed_trials"])
@pytest.mark.parametrize(
    ("options", "named"),
    [
        pytest.param((), "no GPU", marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")),
        (("--device", "cpu"), "--quick"),
    ],
)
def test_without_a_gpu_nothing_is_measured(
    script: str, options: tuple[str, ...], named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main = importlib.import_module(f"benchmarks.{script}").main
    assert (main([*options, "--out", str(tmp_path / "table")]), list(tmp_path.iterdir())) == (2, [])
    assert named in capsys.readouterr().err
