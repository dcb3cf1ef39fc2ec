"""Trials on a pretended GPU: nothing is forgotten on the CPU, and they say what trials on the CPU say, bit for bit."""

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch.utils import backend_registration

from tailor.config.parsing import parse_trial
from tailor.data.device_images import DeviceImages
from tailor.execution.cache import Cache
from tailor.execution.runner import run_trial
from tailor.model.state import weights
from tailor.networks import building
from tailor.parallel.process_group import join
from tailor.training.checkpoint import Checkpoint
from tailor.training.loop import train
from tests.tailor.other_constants import add_all
from tests.tailor.pretended_gpu import pretended_gpu, waits_within
from tests.tailor.training.test_train import InterruptedCheckpoint, all_of, no_checkpoint, samples, training
from tests.tailor.trials import assert_equal_tensors

SHORT = {
    "source": {"epochs": 1},
    "optimisation": {"epochs": 1, "head_epochs": 1},
    "data": {"train_images": 40, "augmentation": "shift"},
}
EVERYTHING = {"ema_decay": 0.9, "clip_gradient_norm": 1.0, "label_smoothing": 0.1, "accumulation_steps": 2}
INTERRUPTED = "an interrupted training"
PRUNE = {"name": "prune", "asked_removed_macs_fraction": 0.2}
TRANSTAILOR = {"name": "transtailor", "steps": 2, "alpha_epochs": 1}
ARMS: dict[str, dict[str, Any]] = {
    "transtailor": {"method": TRANSTAILOR},
    "transtailor with a teacher": {"method": TRANSTAILOR, "optimisation": {"distillation_weight": 0.5}},
    "transtailor, coupled, l2_sp": {
        "method": TRANSTAILOR,
        "optimisation": {"regulariser": "l2_sp"},
        "pruning": {"residual": "coupled"},
    },
    "target_aware_adaptation": {"method": {"name": "target_aware_adaptation", "kept_cumulative_fraction": 0.9}},
    "pac_net": {"method": {"name": "pac_net", "allocate_epochs": 1}},
    "head_only": {"method": {"name": "head_only"}},
    "fine_tune with all that there is": {"method": {"name": "fine_tune"}, "optimisation": EVERYTHING},
    "fine_tune, Adam, frozen": {
        "method": {"name": "fine_tune"},
        "optimisation": {"optimiser": "adam", "norm": "frozen"},
    },
    "fine_tune, today's recipe": {
        "method": {"name": "fine_tune"},
        "optimisation": {
            "optimiser": "adamw", "layer_decay": 0.7, "class_weights": "balanced", "mixup": 0.8, "cutmix": 1.0,
            "random_erasing": 0.5,
        },
    },
    "fine_tune, balanced": {"method": {"name": "fine_tune"}, "optimisation": {"sampling": "balanced"}},
    "fine_tune delta": {"method": {"name": "fine_tune"}, "optimisation": {"regulariser": "delta"}},
    "fine_tune bss": {"method": {"name": "fine_tune"}, "optimisation": {"regulariser": "bss"}},
    "slimming": {
        "method": PRUNE | {"criterion": "bn_gamma", "order": "tune_first", "first_regulariser": "slimming"}
    },
    "legr": {
        "method": PRUNE
        | {"criterion": "l2", "allocation": {"name": "legr", "population": 2, "generations": 2}}
    },
    "sfp": {"method": {"name": "sfp", "asked_removed_macs_fraction": 0.2}},
    "gbn": {"method": {"name": "gbn_of_two_ticks", "steps": 1}},
    "smaller_dense": {"method": {"name": "smaller_dense", "asked_removed_macs_fraction": 0.2}},
} | {
    f"prune {criterion}": {"method": PRUNE | {"criterion": criterion}}
    for criterion in ("fpgm", "taylor", "beta", "apoz", "mean_activation", "random")
}  # fmt: skip

# Of each kind one: factors with a teacher, all settings of training, a penalty, norms' factors, a search, a rule,
# changed and mixed images.
FEW = ["transtailor with a teacher", "fine_tune with all that there is", "fine_tune delta", "slimming", "legr",
       "target_aware_adaptation", "fine_tune, today's recipe"]  # fmt: skip


# Where the host may wait for the GPU: at agreements, which are about a second apart, and between epochs. BSS cannot but
# wait in each step: torch's singular values do.
AT_AGREEMENTS = {"epoch_meter.EpochMeter.read", "checkpoint.RankSync.synchronise", "penalties.bss.<locals>.value",
                 "schemes.zero_smallest", "schemes.zero_smallest.<locals>.<dictcomp>",
                 "image_changes._draw_mixtures", "sampling.image_weights", "task_data.epoch_order"}  # fmt: skip


def compare(arm: dict[str, Any], folder: Path) -> None:
    """Run a trial on the CPU and on the pretended GPU, compare what each stage stored, and where the host waited."""
    tables = {key: SHORT.get(key, {}) | arm.get(key, {}) for key in SHORT | arm}
    config = parse_trial(tables | {"network": "digits_resnet"}, "test")
    here = list(run_trial(config, cache=Cache(folder / "here"), ranks=join("cpu")))
    with pretended_gpu() as ranks, waits_within(train) as waits:
        there = list(run_trial(config, cache=Cache(folder / "there"), ranks=ranks))
    assert not any(event.result.cached for event in there)
    for one, two in zip(here, there, strict=True):
        assert_equal_tensors(two.result.read_tensors(), one.result.read_tensors())
    assert {asking for _, asking in waits} - AT_AGREEMENTS == set(), waits


def interrupt(folder: Path) -> None:
    """Train on the CPU in one go, and on the pretended GPU with interruptions inside epochs; compare the weights."""
    settings = training(epochs=3, optimiser="adam", ema_decay=0.9)
    straight = building.build("digits_resnet", 5, seed=0)
    train(straight, all_of(straight, settings), samples(), settings, "shift", no_checkpoint())
    with pretended_gpu() as ranks, mock.patch("tailor.training.checkpoint.AGREE_EVERY_STEPS", 2):
        placed = DeviceImages(ranks.device).place(samples())
        for interruption in range(4):  # each time another network is at hand, which takes over what was written
            model = building.build("digits_resnet", 5, seed=interruption).to(ranks.device)
            checkpoint = InterruptedCheckpoint(folder, ranks) if interruption < 3 else Checkpoint(folder, 1e9, ranks)
            with suppress(KeyboardInterrupt):
                train(model, all_of(model, settings), placed, settings, "shift", checkpoint)
        found = weights(model)
    assert_equal_tensors(found, dict(straight.state_dict()))


@pytest.mark.check
@pytest.mark.skipif(
    not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"),
    reason=f"torch {torch.__version__} has no devices that are written in Python",
)
@pytest.mark.parametrize(
    "chosen", [FEW, pytest.param([*ARMS], marks=[pytest.mark.long, pytest.mark.timeout(3600)])], ids=["few", "all"]
)
def test_every_method_moves_what_it_has_to_move(chosen: list[str], tmp_path: Path) -> None:
    """In a process of its own, which knows of the device for good."""
    arms = json.dumps({name: ARMS[name] for name in chosen})
    command = [sys.executable, "-m", "tests.tailor.execution.test_pretended_gpu", str(tmp_path), arms]
    here = str(Path(__file__).parents[3])
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": here}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [*chosen, INTERRUPTED]


if __name__ == "__main__":
    add_all()
    torch.set_num_threads(1)  # with more, sums of other layouts may be added up in another order
    for number, (name, settings) in enumerate(json.loads(sys.argv[2]).items()):
        compare(settings, Path(sys.argv[1]) / str(number))
        sys.stdout.write(f"{name}\n")
    interrupt(Path(sys.argv[1]) / "checkpoint")
    sys.stdout.write(f"{INTERRUPTED}\n")
