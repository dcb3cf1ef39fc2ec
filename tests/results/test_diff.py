"""What is different between two runs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from results.arms.looks import Comparison, RecordedLook, look_row
from results.arms.problem import Problem
from results.diff import run_lines
from results.errors import ResultsError
from results.store.reader import load
from results.store.writer import Writer
from tests.changed_rows import change_rows
from tests.commands import Said


def squeezed(lines: Any) -> list[str]:
    """Lines with one space for many."""
    return [" ".join(line.split()) for line in lines]


def ids(folder: Path) -> dict[tuple[str, int], str]:
    """(label, seed) -> trial id."""
    with load(folder) as run:
        return {(row["label"], row["seed"]): row["trial_id"] for row in run.rows("FROM planned")}


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
    change_rows(a, "operating_points", [row | {"validation_score": 0.125}])
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


def test_looks_of_two_numbers_of_training_images_are_not_crossed(tmp_path: Path, synthetic: Any) -> None:
    paths = [synthetic(seeds=(0,)).write(tmp_path / name) for name in ("a", "b")]
    for path in paths:
        Writer(path / "tables").write("looks", [
            look_row(RecordedLook(
                comparison=Comparison(problem=Problem("vgg11", "digits", images), arm="transtailor", asked=0.2,
                                      against="fine_tune", against_asked=0.0),
                look=0, number=number, metric="accuracy", seeds=10, mean=images / 1000, verdict="open", family=2,
                alpha=0.05, matters=0.01, seeds_at_most=20,
            )) | {"code_digest": "c"}
            for number, images in enumerate((50, 200))
        ])  # fmt: skip
    assert list(run_lines(*paths))[-1] == "looks: of 2 decisions in both, 0 differ"


def test_the_command_tells_trials_from_runs(tmp_path: Path, synthetic: Any, command: Callable[..., Said]) -> None:
    folder = synthetic(seeds=(0,)).write(tmp_path / "a")
    done = command("diff", "3f2a", folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{folder} is the folder of a run, 3f2a is none: expected two runs or two trials" in done.stderr
    done = command("diff", folder, folder)
    assert done.returncode == 2
    assert "is listed twice" in done.stderr
