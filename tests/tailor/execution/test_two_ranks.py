"""1 rank == 2 ranks: real DistributedDataParallel over gloo, for trials with every kind of stage."""

import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tailor.config.parsing import parse_trial
from tailor.execution.cache import Cache
from tailor.execution.runner import StageEvent
from tailor.facts.networks import NETWORKS
from tests.tailor.forking import ENVIRONMENT
from tests.tailor.two_ranks import assert_same, copy_stage, on_one_and_two_ranks

pytestmark = pytest.mark.usefixtures("other_constants")

# 33 images in batches of 8: the last batch has one image, so one of two ranks gets an empty share of it.
BASE: dict[str, Any] = {
    "network": "digits_resnet",
    "source": {"epochs": 3},
    "data": {"train_images": 33, "augmentation": "shift"},
}
TRAINING: dict[str, Any] = {"epochs": 2, "head_epochs": 2, "batch_size": 8}
ALL_SETTINGS: dict[str, Any] = {
    "warm_up_epochs": 1,
    "schedule": "cosine",
    "label_smoothing": 0.1,
    "clip_gradient_norm": 1.0,
    "ema_decay": 0.9,
    "distillation_weight": 0.5,
    "memory_format": "channels_last",
}
ROWS: dict[str, Any] = {
    "network": "friedman_mlp",
    "data": {"name": "friedman1", "train_images": 33},
    "pruning": {"linear": True},
}
TRANSTAILOR, PRUNE = {"name": "transtailor", "steps": 2, "alpha_epochs": 2}, {"name": "prune"}
TUNE_FIRST = PRUNE | {"order": "tune_first"}
PAC_NET = {"name": "pac_net", "allocate_epochs": 2, "penalty_strength": 3.0}
LEGR = {"name": "tuned_legr", "population": 4, "generations": 8}


def tuned_first(regulariser: str, **settings: float) -> dict[str, Any]:
    """A trial that tunes with a penalty; at a smaller rate, so that rounding stays small."""
    penalty = {"name": regulariser} | settings
    return {"method": TUNE_FIRST, "optimisation": {"learning_rate": 0.002, "regulariser": penalty}}


TRIALS: dict[str, dict[str, Any]] = {
    "all settings": {"method": TRANSTAILOR | {"steps": 1}, "optimisation": ALL_SETTINGS},
    # Parts of a batch where no norm is: with one, the parts themselves differ.
    "batches in parts": {
        "network": "digits_vgg",
        "method": PRUNE,
        "optimisation": ALL_SETTINGS | {"accumulation_steps": 2},
    },
    "pac_net": {"method": PAC_NET},
    "transtailor": {"method": TRANSTAILOR},
    "factors by noise": {"method": TRANSTAILOR, "pruning": {"scores_from": "noise"}},
    "frozen norms": {"method": PRUNE, "optimisation": {"norm": "frozen"}},
    "measured norms and kept momentum": {
        "method": PRUNE | {"steps": 2},
        "pruning": {"measure_norms": True, "optimiser_state": "kept"},
    },
    "pac_net of real values": ROWS | {"method": PAC_NET},
    "target_aware_adaptation": {
        "method": {"name": "target_aware_adaptation", "iterations": 2, "kept_cumulative_fraction": 0.9}
    },
    "legr": {"method": PRUNE | {"criterion": "taylor", "asked_removed_macs_fraction": 0.3, "allocation": LEGR}},
    "sfp": {"network": "digits_vgg", "method": {"name": "sfp"}},
    "gbn": {"method": {"name": "gbn_of_two_ticks", "steps": 1}},
    "l2_sp": tuned_first("l2_sp", strength=1.0) | {"network": "digits_vgg"},
    "delta": tuned_first("delta", strength=0.1),
    "bss": tuned_first("bss_of_three", strength=0.5) | {"network": "digits_vgg"},
    "slimming": tuned_first("slimming", strength=0.05),
}


@pytest.mark.check
def test_two_ranks_equal_one(tmp_path: Path) -> None:
    trials = []
    for name in TRIALS:
        optimisation = TRAINING | TRIALS[name].get("optimisation", {})
        trials.append(parse_trial(BASE | TRIALS[name] | {"optimisation": optimisation}, name))
    pairs = on_one_and_two_ranks(trials, tmp_path)
    for name, (alone, together) in zip(TRIALS, pairs, strict=True):
        assert_same(alone, together, name)
        if name.startswith("pac_net"):
            assert_only_redundant_weights_moved(together)


def assert_only_redundant_weights_moved(events: list[StageEvent]) -> None:
    """What PAC-Net must not move stays bit for bit."""
    states = {event.result.stage.kind: event.result.model_state() for event in events}
    allocated, calibrated = states["allocate"], states["calibrate"]
    head = {f"{NETWORKS[allocated.network].head}.{part}" for part in ("weight", "bias")}
    for name, is_essential in allocated.essential.items():
        assert not allocated.tensors[name][~is_essential].any()
        if name not in head:
            assert torch.equal(calibrated.tensors[name][is_essential], allocated.tensors[name][is_essential])
    for name in set(allocated.tensors) - set(allocated.essential) - head:
        assert torch.equal(calibrated.tensors[name], allocated.tensors[name])


TOML = """
network = "digits_resnet"
source = { epochs = 3 }
data = { train_images = 33, augmentation = "shift" }
optimisation = { epochs = 2, head_epochs = 2, batch_size = 8 }
method = { name = "transtailor", steps = 1, alpha_epochs = 1 }
"""


@pytest.mark.check
def test_two_ranks_that_torchrun_starts_equal_one(run: Callable[..., list[StageEvent]], tmp_path: Path) -> None:
    config = parse_trial(tomllib.loads(TOML), "test")
    one, two = Cache(tmp_path / "one"), Cache(tmp_path / "two")
    alone = run(config, one)
    copy_stage(alone[0].result.key, one, two)
    (tmp_path / "trial.toml").write_text(TOML)
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    typed = ["transtailor", "trial", "run", "trial.toml", "--cache", str(tmp_path / "two"), "--device", "cpu"]
    environment = os.environ | ENVIRONMENT
    done = subprocess.run([*start, *typed], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("point 1: ") == 1  # rank 0 alone prints
    together = run(config, two)
    assert all(event.result.cached for event in together)
    assert_same(alone, together)
