"""1 rank == 2 ranks: real DistributedDataParallel over gloo, started by torchrun or as if by it."""

import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tailor.__main__ import main
from tailor.config.parsing import parse_trial
from tailor.execution.cache import Cache
from tailor.execution.runner import StageEvent
from tests.tailor.forking import ENVIRONMENT
from tests.tailor.two_ranks import copy_stage, on_two_ranks

# 33 images in batches of 8: the last batch has one image, so one of two ranks gets an empty share of it.
TOML = """
network = "{network}"
source = {{ epochs = 3 }}
data = {{ train_images = 33, augmentation = "shift" }}
optimisation = {{ epochs = 2, head_epochs = 2, batch_size = 8 }}
method = {{ name = "transtailor", steps = 2, alpha_epochs = 2 }}
"""


def by_torchrun(*words: str, folder: Path) -> str:
    """What torchrun's two ranks printed together."""
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "tailor"]
    environment = os.environ | ENVIRONMENT
    done = subprocess.run([*start, *words], env=environment, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def forked(*words: str, folder: Path) -> str:
    """The same of ranks that were forked."""
    return "".join(on_two_ranks(command, *words, folder=folder))


def command(*words: str) -> None:
    assert main(list(words)) == 0


@pytest.mark.check
@pytest.mark.parametrize(("network", "start"), [("digits_resnet", by_torchrun), ("digits_vgg", forked)])
def test_two_ranks_equal_one(
    network: str, start: Callable[..., str], run: Callable[..., list[StageEvent]], tmp_path: Path
) -> None:
    """Both start from the same source network.

    Ranks add up gradients and statistics in another order, which changes float32 sums by some 1e-7 of their size; ten
    steps with momentum and the curvature of the loss make up to 1e-4 of it. A mistake (a sample twice, a mean of
    means, a norm over one rank's share) is 1e-2 and more.
    """
    text = TOML.format(network=network)
    alone = run(parse_trial(tomllib.loads(text), "test"), Cache(tmp_path / "one"))
    source = alone[0].result.key
    copy_stage(source, Cache(tmp_path / "one"), Cache(tmp_path / "two"))
    (tmp_path / "trial.toml").write_text(text)
    trial, cache = str(tmp_path / "trial.toml"), str(tmp_path / "two")
    said = start("run", trial, "--cache", cache, "--device", "cpu", folder=tmp_path)
    assert said.count("point 2: ") == 1  # rank 0 alone prints

    together = run(parse_trial(tomllib.loads(text), "test"), Cache(tmp_path / "two"))
    assert all(event.result.cached for event in together)
    assert together[-1].result.description.made_by.ranks == 2
    for one, two in zip(alone, together, strict=True):
        assert one.result.key == two.result.key
        for left, right in zip(one.result.info.get("epochs", []), two.result.info.get("epochs", []), strict=True):
            assert right["images"] == left["images"]  # each sample counted once
            assert right["train_loss"] == pytest.approx(left["train_loss"], rel=1e-4)
        for name, tensor in one.result.read_tensors().items():
            other = two.result.read_tensors()[name]
            if tensor.is_floating_point():
                torch.testing.assert_close(other, tensor, rtol=2e-3, atol=2e-4, msg=lambda m, n=name: f"{n}: {m}")
            else:
                assert torch.equal(other, tensor), name  # the same filters go, the same predictions come
