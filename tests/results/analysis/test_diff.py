"""What is different between two trials of a run, and between two runs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from results.analysis.diff import run_lines, trial_lines
from results.errors import ResultsError
from results.store.reader import load
from results.store.writer import Writer
from tests.commands import Said


def squeezed(lines: Any) -> list[str]:
    """Lines with one space for many."""
    return [" ".join(line.split()) for line in lines]


@pytest.fixture
def run_folder(tmp_path: Path, synthetic: Any) -> Path:
    """A run whose first two trials (transtailor and fine_tune, seed 0) have settings."""
    folder: Path = synthetic(seeds=(0, 1)).write(tmp_path / "a")
    configs = {
        "transtailor": {"seed": 0, "method": {"name": "transtailor", "steps": 3}, "weights": None},
        "fine_tune": {"seed": 0, "method": {"name": "fine_tune"}, "weights": None},
    }
    with load(folder) as run:
        rows = run.rows("SELECT * EXCLUDE (written_at) FROM planned WHERE seed = 0")
    Writer(folder / "tables").write("planned", [r | {"config_json": json.dumps(configs[r["label"]])} for r in rows])
    return folder


def ids(folder: Path) -> dict[tuple[str, int], str]:
    """(label, seed) -> trial id."""
    with load(folder) as run:
        return {(row["label"], row["seed"]): row["trial_id"] for row in run.rows("FROM planned")}


def test_two_trials_settings_stages_and_points(run_folder: Path) -> None:
    known = ids(run_folder)
    first, second = known["transtailor", 0], known["fine_tune", 0]
    with load(run_folder) as run:
        lines = squeezed(trial_lines(run, first[:9], second))
        points = {row["point"]: row for row in run.rows("FROM measured_points WHERE trial_id = ?", [first])}
    assert lines[:2] == [f"{first} transtailor, seed 0", f"{second} fine_tune, seed 0"]
    assert 'method.name "transtailor" | "fine_tune"' in lines
    assert "method.steps 3 | (does not have it)" in lines
    assert "all other settings (2) are the same" in lines
    assert "stages in common: 2 of 6 and 3: TrainSource, FitHead" in lines
    parting = next(line for line in lines if line.startswith("they differ from"))
    assert parting.startswith(f"they differ from: OperatingPoint {points[0]['stage_key'][:12]} | OperatingPoint ")
    row = points[3]
    shown = f"3 {row['removed_macs_fraction']:.4f} {row['validation_score']:.4f} {row['test_score']:.4f}"
    assert f"{shown} | (does not have it)" in lines


def test_one_and_the_same_and_unclear_trials(run_folder: Path) -> None:
    first = ids(run_folder)["transtailor", 0]
    with load(run_folder) as run:
        assert list(trial_lines(run, first, first[:8]))[-1] == "one and the same trial"
        with pytest.raises(ResultsError, match="no trial of .* 'zz'"):
            list(trial_lines(run, "zz", first))
        with pytest.raises(ResultsError, match="4 trials begin with ''; type more digits"):
            list(trial_lines(run, "", first))


def test_two_runs_of_the_same_things_have_no_difference(tmp_path: Path, synthetic: Any) -> None:
    provenance = {"code_digest": "1" * 64}
    paths = [synthetic(seeds=(0,), provenance=provenance).write(tmp_path / name) for name in ("a", "b")]
    for path in paths:
        (path / "spec.toml").write_text('name = "x"\n')
    assert list(run_lines(*paths)) == [
        "specs: the same",
        "code: the same, 111111111111",
        "computed on: the same, cpu, 1 ranks, torch 2.11.0",
        "trials: 2 in both, 0 only in a, 0 only in b",
        "results: of 5 operating points in both, 0 differ",
    ]


def test_two_runs_what_differs_is_named(tmp_path: Path, synthetic: Any) -> None:
    a = synthetic(seeds=(0, 1), provenance={"code_digest": "1" * 64}).write(tmp_path / "a")
    b = synthetic(
        seeds=(1, 2), provenance={"code_digest": "2" * 64}, device=lambda _label, _seed: "gpu",
        end=lambda label, _seed: "failed" if label == "fine_tune" else "finished",
    ).write(tmp_path / "b")  # fmt: skip
    (a / "spec.toml").write_text("[axes]\nseed = [0, 1]\n")
    (b / "spec.toml").write_text("[axes]\nseed = [1, 2]\n")
    with load(a) as run:
        row = run.rows("SELECT * EXCLUDE (written_at) FROM operating_points WHERE seed = 1 AND point = 2")[0]
    Writer(a / "tables").write("operating_points", [row | {"validation_score": 0.125}])
    lines = squeezed(run_lines(a, b))
    known = ids(a)
    assert lines[0] == "specs: different"
    assert "-seed = [0, 1]" in lines and "+seed = [1, 2]" in lines
    assert "code: 111111111111 | 222222222222" in lines
    assert f"to compare: diff -r {a}/code/{'1' * 12} {b}/code/{'2' * 12}" in lines
    assert "computed on: cpu, 1 ranks, torch 2.11.0 | gpu, 1 ranks, torch 2.11.0" in lines
    assert "trials: 2 in both, 2 only in a, 2 only in b" in lines
    assert "only in a: transtailor (1)" in lines
    assert f"{known['fine_tune', 1]}: finished | failed" in lines
    assert "results: of 4 operating points in both, 1 differ" in lines
    trial = known["transtailor", 1]
    assert any(line.startswith(f"{trial} point 2 (transtailor, seed 1): validation 0.125000 in a, ") for line in lines)


def test_runs_without_spec_and_provenance_are_still_compared(tmp_path: Path, synthetic: Any) -> None:
    paths = [synthetic(seeds=(0,)).write(tmp_path / name) for name in ("a", "b")]
    lines = list(run_lines(*paths))
    assert lines[0].startswith("specs: not compared")
    assert lines[1].startswith("code: not compared")
    (paths[0] / "provenance.json").write_text("{")
    (paths[1] / "provenance.json").write_text("{}")
    with pytest.raises(ResultsError, match="is damaged"):
        list(run_lines(*paths))


def test_the_command_tells_trials_from_runs(run_folder: Path, command: Callable[..., Said]) -> None:
    known = ids(run_folder)
    done = command("diff", known["transtailor", 0], known["transtailor", 1], "--run", run_folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert "operating points" in done.stdout
    done = command("diff", known["transtailor", 0], known["transtailor", 1])
    assert (done.returncode, done.stdout) == (2, "")
    assert "for two trials, type: " in done.stderr and "--run RUN" in done.stderr
    done = command("diff", run_folder, run_folder)
    assert done.returncode == 2
    assert "is listed twice" in done.stderr
