"""The benchmark of pruned networks' speed prunes what it says and divides rightly. How fast they are is not tested."""

import importlib.util
import statistics
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks.pruned_speed import (
    OURS,
    QUICK_COMPARED,
    THEIRS,
    TOLERANCE,
    UNPRUNED,
    Contender,
    prune,
    prune_by_torch_pruning,
)
from benchmarks.pruned_speed import row as speed_row
from benchmarks.record import Row
from tailor.model.cost import original_shapes, removed_macs_fraction
from tailor.pruning.budget_solver import BUDGET_MARGIN
from tailor.stage_execution.preparing import initial_state
from tests.benchmarks.looks import rows_in, run

HAS_THEIRS = importlib.util.find_spec("torch_pruning") is not None


@pytest.mark.long
def test_a_quick_look_has_every_model_twice_and_its_ratios_are_those_of_its_columns(tmp_path: Path) -> None:
    done = run("pruned_speed.py", tmp_path, "--quick")
    assert done.returncode == 0, done.stderr
    assert ("Torch-Pruning is not installed" in done.stderr) == (not HAS_THEIRS)
    rows = rows_in(tmp_path)
    found = sorted((row["network"], row["what"], row["model"], row["asked_removed_macs_fraction"]) for row in rows)
    models = [(name, asked) for name in (*OURS, *([THEIRS] if HAS_THEIRS else [])) for asked in ("0.2", "0.5")]
    assert found == sorted(
        (network, what, *model)
        for network in QUICK_COMPARED
        for what in ("forward", "forward and backward")
        for model in [(UNPRUNED, "0.0"), *models]
    )
    for row in rows:
        asked, removed = float(row["asked_removed_macs_fraction"]), float(row["removed_macs_fraction"])
        assert -TOLERANCE <= removed - asked <= BUDGET_MARGIN, row
        assert float(row["macs_ratio"]) == pytest.approx(1.0 / (1.0 - removed))
        part = float(row["speed_up"]) / float(row["macs_ratio"])
        assert float(row["speed_up_per_macs_ratio"]) == pytest.approx(part)
        assert float(row["median_ms"]) > 0.0
        has_goal = row["model"] in OURS and row["what"] == "forward"
        assert (row["goal"], row["verdict"]) == (">= 0.75 on a GPU" if has_goal else "", "")


def test_rounded_widths_are_multiples_and_others_are_not() -> None:
    whole = initial_state("mobilenet_v2", 1000, (3, 64, 64), seed=0)
    shapes = original_shapes("mobilenet_v2", 1000)
    odd = {}
    for multiple in (1, 8):
        state = prune(whole, 0.5, multiple)
        assert 0.0 <= removed_macs_fraction(state) - 0.5 <= BUDGET_MARGIN
        widths = {name: len(tensor) for name, tensor in state.tensors.items() if len(shapes[name]) == 4}
        assert any(width < shapes[name][0] for name, width in widths.items())
        odd[multiple] = [name for name, width in widths.items() if width % 8]
    assert odd[8] == []
    assert len(odd[1]) > 10


@pytest.mark.skipif(not HAS_THEIRS, reason="Torch-Pruning is not installed")
def test_torch_pruning_removes_the_asked_share_of_the_macs() -> None:
    whole = initial_state("mobilenet_v2", 1000, (3, 64, 64), seed=0)
    state = prune_by_torch_pruning(whole, 0.5)
    assert removed_macs_fraction(state) == pytest.approx(0.5, abs=TOLERANCE)
    assert len(state.tensors["classifier.1.weight"]) == 1000  # the last layer's outputs are no filters


@pytest.mark.parametrize(("own_s", "reached"), [(0.5, "met"), (0.75, "missed")])
def test_a_verdict_is_of_the_forward_pass_of_ours_on_a_gpu_alone(own_s: float, reached: str) -> None:
    def row(name: str, what: str, device: str) -> Row:
        one = Contender(name=name, asked_removed_macs_fraction=0.5, removed_macs_fraction=0.5, model=nn.Identity())
        return speed_row(one, what, torch.device(device), [own_s, own_s, 9.0], [1.0, 1.0, 1.0])

    ours = next(iter(OURS))
    found = row(ours, "forward", "cuda")
    assert found["speed_up"] == statistics.median([1.0 / own_s, 1.0 / own_s, 1.0 / 9.0])
    assert found["speed_up_per_macs_ratio"] == 1.0 / own_s / 2.0
    assert found["verdict"] == reached
    for other in ((ours, "forward", "cpu"), (ours, "forward and backward", "cuda"), (THEIRS, "forward", "cuda")):
        assert row(*other)["verdict"] is None
