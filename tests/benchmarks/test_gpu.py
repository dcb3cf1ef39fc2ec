"""`make bench-gpu`: without a GPU it says so and measures nothing; with one, or for a look, it runs each script."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.packed_trials import Round, rows_of
from tests.benchmarks.looks import rows_in
from tests.product import ROOT


def test_packed_rounds_are_set_against_one_after_the_other_and_other_results_are_told() -> None:
    same, other = [[(0.5, 1.0, 10)], [(0.6, 0.9, 10)]], [[(0.5, 1.0, 10)], [(0.6, 0.9000001, 10)]]
    rounds = {
        1: [Round(wall_s=10.0, used_gb=1.0, found=same), Round(wall_s=14.0, used_gb=1.5, found=same)],
        2: [Round(wall_s=6.0, used_gb=3.0, found=same), Round(wall_s=6.0, used_gb=2.0, found=other)],
    }
    alone, packed = rows_of(rounds, "cuda")
    assert (alone["trials"], alone["trials_per_hour"], alone["times_one_after_the_other"]) == (2, 600.0, 1.0)
    assert (packed["trials_per_hour"], packed["times_one_after_the_other"], packed["used_gb"]) == (1200.0, 2.0, 3.0)
    assert (alone["equal_results"], packed["equal_results"]) == ("yes", "no")


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


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
@pytest.mark.parametrize(("target", "said"), [("bench-gpu", "no GPU: torch "), ("check-gpu", ": no GPU")])
def test_without_a_gpu_make_says_so_and_ends_with_0(target: str, said: str) -> None:
    words = ["make", "--silent", target, "BIN=/nowhere", f"PYTHON={sys.executable}"]
    set_outside = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    environment = {name: value for name, value in os.environ.items() if name not in set_outside}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert said in done.stdout


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_quick_look_on_a_cpu_writes_three_tables(tmp_path: Path) -> None:
    for script in ("gpu_step", "packed_trials", "pruned_speed"):
        main = importlib.import_module(f"benchmarks.{script}").main
        assert main(["--device", "cpu", "--quick", "--out", str(tmp_path / script)]) == 0
    (step,) = rows_in(tmp_path, "gpu_step")
    assert (step["network"], step["device"], step["ours_peak_mib"], step["verdict"]) == ("digits_vgg", "cpu", "", "")
    for name in ("ratio", "loader_images_per_s", "input_share_of_step", "first_step_compiled_s", "first_step_eager_s"):
        assert float(step[name]) > 0.0
    packed = rows_in(tmp_path, "packed_trials")
    assert [(row["at_once"], row["trials"], row["equal_results"]) for row in packed] == [
        ("1", "4", "yes"),
        ("2", "4", "yes"),
    ]
    assert all(float(row["trials_per_hour"]) > 0.0 and row["used_gb"] == "" for row in packed)
    assert all("no GPU" in (tmp_path / f"{name}.md").read_text() for name in ("gpu_step", "packed_trials"))
