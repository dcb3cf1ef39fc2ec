"""timm's transformers without some of their heads, hidden units and channels are what the masked ones are."""

import importlib.util

import pytest
import torch
from torch import Tensor, nn

from tailor.data.task_data import generator
from tailor.model.state import ModelState
from tailor.networks import building
from tailor.networks.sizes import set_sizes
from tailor.pruning import surgery
from tailor.stages import GroupRule
from tools.masked_reference import mask_model

HAS_TIMM = importlib.util.find_spec("timm") is not None
pytestmark = [pytest.mark.check, pytest.mark.skipif(not HAS_TIMM, reason="timm is not installed")]
ALL = GroupRule(residual="coupled", linear=True, stream=True, heads=True)
SMALL = {
    "vit_tiny_patch16_224": {"img_size": 32, "depth": 2, "embed_dim": 24, "num_heads": 3},
    "vit_small_patch14_reg4_dinov2": {"img_size": 28, "depth": 2, "embed_dim": 24, "num_heads": 3},
    "deit3_small_patch16_224": {"img_size": 32, "depth": 2, "embed_dim": 24, "num_heads": 3},
    "swin_tiny_patch4_window7_224": {
        "img_size": 32, "window_size": 4, "embed_dim": 12, "depths": (2, 2), "num_heads": (3, 3),
    },
    "convnext_atto": {"depths": (1, 1, 1, 1), "dims": (8, 12, 12, 16)},
}  # fmt: skip
KINDS = {name: {"filters", "heads", "stream"} for name in SMALL} | {"convnext_atto": {"filters", "stream"}}


def small(name: str) -> nn.Module:
    import timm

    torch.manual_seed(0)
    model: nn.Module = timm.create_model(name, num_classes=5, **SMALL[name])
    draw = generator(0, "noise")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=draw) * 0.3)
    return model.double().eval()


def logits_of(model: nn.Module, size: int) -> Tensor:
    with torch.no_grad():
        made: Tensor = model(torch.randn(2, 3, size, size, generator=generator(0, "images"), dtype=torch.float64))
    return made


@pytest.mark.parametrize("name", SMALL)
def test_masked_equals_slimmed(name: str) -> None:
    size = SMALL[name].get("img_size", 32)
    assert isinstance(size, int)
    found = surgery.groups(small(name), (3, size, size), ALL)
    assert {group.kind for group in found} == KINDS[name]
    draw = generator(1, "kept")
    kept = {g.name: torch.randperm(g.filters, generator=draw)[: 1 + g.filters // 2].sort().values for g in found}
    reference, slimmed = small(name), small(name)
    mask_model(reference, kept, found)
    state = ModelState(network=name, classes=5, input_shape=(3, size, size), tensors=small(name).state_dict())
    smaller = surgery.slim(state, kept, found)
    set_sizes(slimmed, smaller.sizes)
    building.fill(slimmed, smaller.tensors)
    expected = logits_of(reference, size)
    assert (logits_of(slimmed, size) - expected).abs().max() < 1e-9 * expected.abs().max()
    assert (logits_of(small(name), size) - expected).abs().max() > 1e-3 * expected.abs().max()
