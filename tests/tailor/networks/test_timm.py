"""timm's networks by name, on the same path as torchvision's; skipped where timm is not installed."""

import importlib.util
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tailor.common.errors import ConfigError
from tailor.config.parsing import parse_trial
from tailor.data.task_data import Samples, digest
from tailor.execution.cache import Cache
from tailor.execution.runner import StageEvent
from tailor.facts.datasets import DATASETS, DataInfo
from tailor.facts.networks import NETWORKS
from tailor.model import cost
from tailor.model.state import ModelState, load_model, save_model
from tailor.networks import building
from tailor.pruning import surgery
from tailor.pruning.groups import groups
from tailor.stages import GroupRule
from tools.networks_table import choose_at_random, measure_differences, replace_statistics

Run = Callable[..., list[StageEvent]]
HAS_TIMM = importlib.util.find_spec("timm") is not None
needs_timm = pytest.mark.skipif(not HAS_TIMM, reason="timm is not installed (pip install 'transtailor-sweeps[timm]')")
INSIDE, COUPLED, LINEAR = GroupRule(), GroupRule(residual="coupled"), GroupRule(linear=True)
pytestmark = pytest.mark.check
SOME = [
    pytest.param("timm/resnet26", COUPLED, 64, "fc"),
    pytest.param("timm/mobilenetv3_small_100", INSIDE, 64, "classifier", marks=pytest.mark.long),
    pytest.param("timm/efficientnet_lite0", INSIDE, 64, "classifier", marks=pytest.mark.long),
    pytest.param("timm/convnext_atto", LINEAR, 64, "head.fc"),
    pytest.param("timm/vit_tiny_patch16_224", LINEAR, 224, "head", marks=pytest.mark.long),
]


def trial(network: str, method: dict[str, Any], **settings: Any) -> dict[str, Any]:
    data = {"name": "photographs", "train_images": 20}
    return {"network": network, "data": data, "method": method} | settings


@pytest.fixture
def photographs(monkeypatch: pytest.MonkeyPatch) -> None:
    """60 random images of three classes, and a source task of two."""

    def load() -> dict[str, Samples]:
        draw = torch.Generator().manual_seed(0)
        return {
            task: Samples(
                images=torch.randint(0, 256, (images, 3, 64, 64), generator=draw, dtype=torch.uint8),
                labels=torch.arange(images) % classes,
                ids=torch.arange(images) + first,
            )
            for task, images, classes, first in (("source", 20, 2, 0), ("target", 60, 3, 100))
        }

    info = DataInfo(
        description="Random pixels.",
        loader=load,
        sha256=digest(load()),
        input_shape=(3, 64, 64),
        source_classes=2,
        target_classes=3,
        source_images=20,
        target_images=60,
        test_images=20,
    )
    monkeypatch.setitem(DATASETS._records, "photographs", info)  # type: ignore[attr-defined]


@needs_timm
@pytest.mark.parametrize(("name", "rule", "size", "head"), SOME)
def test_a_pruned_network_is_the_masked_one(name: str, rule: GroupRule, size: int, head: str, tmp_path: Path) -> None:
    """30% of the MACs go; forward, backward, masked == slimmed; saved and rebuilt with equal outputs."""
    assert NETWORKS[name].head == head
    shape = (3, size, size)
    found = groups(building.skeleton(name, 5), shape, rule)
    difference, effect = measure_differences(name, found, shape)
    assert difference < 1e-5
    assert effect > 1e-3
    tensors = replace_statistics(building.build(name, 5, seed=0).state_dict())
    state = ModelState(network=name, classes=5, input_shape=shape, tensors=tensors)
    slimmed = surgery.slim(state, choose_at_random(name, found, 0.3, seed=1), found)
    save_model(slimmed, tmp_path / "model")
    images = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(load_model(tmp_path / "model")(images), slimmed.build().eval()(images))
    assert cost.params_count(slimmed.tensors, slimmed.build()) < NETWORKS[name].params_count


@needs_timm
@pytest.mark.usefixtures("photographs")
def test_a_trial_runs_on_it(run: Run, tmp_path: Path) -> None:
    method = {"name": "transtailor", "steps": 1, "alpha_epochs": 1}
    short = {"source": {"epochs": 1}, "optimisation": {"epochs": 1, "head_epochs": 1, "batch_size": 10}}
    config = parse_trial(trial("timm/mobilenetv3_small_100", method, **short), "test")
    last = run(config, Cache(tmp_path))[-1].result
    assert last.info["macs"] <= 0.9 * last.info["original_macs"]
    assert last.model_state().network == "timm/mobilenetv3_small_100"


@needs_timm
@pytest.mark.usefixtures("photographs")
def test_what_it_can_lose_is_known_before_it_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    full_size = replace(DATASETS["photographs"], input_shape=(3, 224, 224))
    monkeypatch.setitem(DATASETS._records, "photographs", full_size)  # type: ignore[attr-defined]
    method = {"name": "prune", "asked_removed_macs_fraction": 0.95}
    with pytest.raises(ConfigError, match=r"0.95 of the MACs is more than timm/resnet26 can lose, which is 0\.8"):
        parse_trial(trial("timm/resnet26", method), "test")
    parse_trial(trial("timm/resnet26", method, pruning={"residual": "coupled"}), "test")


@needs_timm
@pytest.mark.usefixtures("photographs")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm/resnet27", r"timm .* has no network 'resnet27'; did you mean 'resnet26'"),
        ("timm/resnet26.bt_in1k", r"has the name of weights after the dot; give 'timm/resnet26', and the file"),
    ],
)
def test_what_timm_does_not_have_is_refused(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_trial(trial(name, {"name": "head_only"}), "test")
    assert name not in list(NETWORKS)
