"""Multiply-accumulates from shapes and products of activations, beside a count by hand and torch's own counter."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tailor.model import cost
from tailor.networks import building


def macs(name: str, size: int) -> int:
    return cost.macs(name, 5, cost.original_shapes(name, 5), (3, size, size))


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("mobilenet_v2", 96),  # depthwise convolutions
        ("regnet_y_400mf", 65),  # grouped convolutions, squeeze and excitation, an odd size
        ("swin_t", 96),  # linear layers called as functions
        pytest.param("convnext_tiny", 96, marks=pytest.mark.check),  # linear layers at each position
        pytest.param("vit_b_16", 224, marks=pytest.mark.check),  # the projections are another module's parameters
        pytest.param("maxvit_t", 224, marks=pytest.mark.check),  # attention in windows and in grids
    ],
)
def test_macs_agree_with_torchs_counter(name: str, size: int) -> None:
    model = building.skeleton(name, 5).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, size, size, device="meta"))
    assert macs(name, size) == counter.get_total_flops() // 2


def test_attention_counts_its_two_products() -> None:
    """Of vit_b_16: 12 layers, 197 tokens, 768 values each; queries times keys, and what they weigh times values."""
    assert cost.activation_macs("vit_b_16", 5, (3, 224, 224)) == 12 * 2 * 197 * 197 * 768
    assert cost.activation_macs("mobilenet_v2", 5, (3, 224, 224)) == 0


def test_a_depthwise_layer_costs_its_kernel_at_each_position() -> None:
    by_layer = cost.macs_by_layer("mobilenet_v2", 5, cost.original_shapes("mobilenet_v2", 5), (3, 64, 64))
    assert by_layer["features.1.conv.0.0.weight"] == 32 * 9 * 32 * 32
    assert by_layer["classifier.1.weight"] == 1280 * 5


def test_the_cost_follows_the_input_size() -> None:
    assert macs("resnet18", 128) > 3.9 * macs("resnet18", 64) - 4 * 512 * 5
    before = torch.random.get_rng_state()
    cost.original_shapes.__wrapped__("swin_t", 5)
    assert torch.equal(before, torch.random.get_rng_state())
