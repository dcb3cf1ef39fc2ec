"""`make bench-gpu`: without a GPU it says so; with one, or for a look, it runs each script on its device."""

import argparse
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import SCRIPTS, commands, main
from tests.product import ROOT


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
@pytest.mark.parametrize("target", ["bench-gpu", "check-gpu"])
def test_without_a_gpu_make_says_so_and_ends_with_0(target: str) -> None:
    words = ["make", "--silent", target, "BIN=/nowhere", f"PYTHON={sys.executable}"]
    set_outside = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    environment = {name: value for name, value in os.environ.items() if name not in set_outside}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("no GPU: torch ")


def test_each_script_is_given_what_it_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On a CPU and without --quick, two of three refuse before they measure, by the words that they are given."""
    options = argparse.Namespace(device="cpu", quick=False, out=tmp_path)
    for script, (_, path, *words) in zip(SCRIPTS, commands(options), strict=True):
        assert Path(path) == ROOT / "benchmarks" / f"{script}.py"
        if script != "pruned_speed":
            assert importlib.import_module(f"benchmarks.{script}").main(words) == 2
    assert capsys.readouterr().err.count("--quick") == 2
    on_gpu = commands(argparse.Namespace(device="cuda", quick=True, out=tmp_path))
    assert [words[-1] for words in on_gpu] == [
        str(tmp_path / name) for name in ("gpu_step", "packed_trials", "pruned_speed_on_a_gpu")
    ]


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_quick_look_on_a_cpu_writes_three_tables(tmp_path: Path) -> None:
    assert main(["--device", "cpu", "--quick", "--out", str(tmp_path)]) == 0
    assert {path.stem for path in tmp_path.glob("*.md")} == set(SCRIPTS)
