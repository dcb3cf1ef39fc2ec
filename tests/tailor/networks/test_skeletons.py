"""Networks without memory keep what their code needs, and what is not understood of them is pinned."""

import importlib.util

import pytest
import torch

from tailor.facts.networks import NETWORKS
from tailor.networks import building
from tailor.pruning.groups import groups
from tailor.stages import GroupRule
from tests.tailor.refusals import refusals
from tests.tailor.small_networks import Pooled

ALL = GroupRule(residual="coupled", linear=True)


def test_integers_by_which_a_network_looks_up_others_keep_their_values() -> None:
    index = "features.1.0.attn.relative_position_index"
    skeleton, built = building.skeleton("swin_t", 5), building.build("swin_t", 5, seed=0)
    assert torch.equal(skeleton.get_buffer(index), built.get_buffer(index))
    assert all(parameter.is_meta for parameter in skeleton.parameters())
    floats = [buffer for buffer in skeleton.buffers() if buffer.dtype.is_floating_point]
    assert all(buffer.is_meta for buffer in floats)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_attention_by_a_parameter_is_pinned(device: str) -> None:
    model = Pooled().to(device)
    assert [group.name for group in groups(model, (3, 8, 8), ALL)] == ["first", "third"]
    assert "needed behind it" in refusals(model, (3, 8, 8), ALL)["second"]


@pytest.mark.check
@pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed")
@pytest.mark.parametrize(
    "name",
    [
        "vit_pe_core_tiny_patch16_384",  # attention by a parameter
        "vit_tiny_r_s16_p8_224",  # runs its convolutions while it is built
        pytest.param("vit_base_patch16_siglip_224", marks=pytest.mark.long),
        pytest.param("vitamin_small_224", marks=pytest.mark.long),
    ],
)
def test_networks_that_could_not_be_analysed(name: str) -> None:
    assert NETWORKS[f"timm/{name}"].macs > 0
    assert groups(building.skeleton(f"timm/{name}", 5), NETWORKS[f"timm/{name}"].input_shape, ALL)


@pytest.mark.check
@pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed")
def test_masks_that_no_state_has_are_computed_again() -> None:
    """Swin's masks of shifted windows are buffers outside of the state_dict."""
    name = "timm/swin_tiny_patch4_window7_224"
    model = building.build(name, 3, seed=0).eval()
    images = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(building.rebuild(name, 3, model.state_dict()).eval()(images), model(images))
