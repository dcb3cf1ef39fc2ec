"""The benchmark of a step on a GPU: without one it says so; its quick look runs on a CPU."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu_step.py"


def run(tmp_path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), "--out", str(tmp_path / "table"), *options]
    return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=580, check=False)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_quick_look_on_a_cpu_writes_a_table(tmp_path: Path) -> None:
    done = run(tmp_path, "--device", "cpu", "--quick")
    assert done.returncode == 0, done.stderr
    with (tmp_path / "table.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["network"], row["device"], row["ours_peak_mib"], row["verdict"]) == ("digits_vgg", "cpu", "", "")
    for name in ("ratio", "loader_images_per_s", "input_share_of_step", "first_step_compiled_s", "first_step_eager_s"):
        assert float(row[name]) > 0.0
    assert "no GPU" in (tmp_path / "table.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "named"),
    [
        pytest.param((), "no GPU", marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")),
        (("--device", "cpu"), "--quick"),
    ],
)
def test_without_a_gpu_nothing_is_measured(options: tuple[str, ...], named: str, tmp_path: Path) -> None:
    done = run(tmp_path, *options)
    assert (done.returncode, list(tmp_path.iterdir())) == (2, [])
    assert named in done.stderr
