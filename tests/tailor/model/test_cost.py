"""Multiply-accumulates from shapes and products of activations, beside a count by hand and torch's own counter."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from torchvision import ops

from tailor.facts.networks import NETWORKS, is_timms
from tailor.model import cost
from tailor.networks import building


def macs(name: str, size: int) -> int:
    return cost.macs(name, 5, cost.original_shapes(name, 5), (3, size, size))


class Twice(nn.Module):
    """A layer of two inputs that gets the same one twice."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.layer(x, x)
        return made


class Last(nn.Module):
    """The last output of a recurrent layer."""

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.layer(x)[0][:, -1]
        return made


class Query(nn.Module):
    """A linear layer of a learned input (3, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.latent, self.layer = nn.Parameter(torch.rand(3, 4)), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return x.sum() + self.layer(self.latent)


QUICK = {
    "mobilenet_v2": 96,  # depthwise convolutions
    "regnet_y_400mf": 65,  # grouped convolutions, squeeze and excitation, an odd size
    "swin_t": 96,  # linear layers called as functions
}
IN_CHECK = {
    "convnext_tiny": 96,  # linear layers at each position
    "vit_b_16": 224,  # the projections are another module's parameters
    "maxvit_t": 224,  # attention in windows and in grids
}
ALL = {name: NETWORKS.get_bare(name).input_shape for name in NETWORKS if not is_timms(name)}


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        *((name, (3, size, size)) for name, size in QUICK.items()),
        *(pytest.param(name, (3, size, size), marks=pytest.mark.check) for name, size in IN_CHECK.items()),
        *(pytest.param(name, shape, marks=pytest.mark.long) for name, shape in ALL.items()),
    ],
)
def test_macs_agree_with_torchs_counter(name: str, shape: tuple[int, ...]) -> None:
    model = building.skeleton(name, 5).eval()
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, *shape, device="meta"))
    assert cost.macs(name, 5, cost.original_shapes(name, 5), shape) == counter.get_total_flops() // 2


def test_a_transposed_convolution_uses_its_weights_at_each_input() -> None:
    """By hand: 25 inputs x 4 channels x 3 channels x 4 places."""
    layer = nn.ConvTranspose2d(4, 3, 2, stride=2).to("meta")
    assert cost.products_of(layer, (4, 5, 5)).all_macs == 25 * 4 * 3 * 4


def test_what_torchs_counter_leaves_out_is_counted() -> None:
    """By hand: each weight of a Bilinear once; of an LSTM four gates of both its inputs at each of seven places."""
    assert cost.products_of(Twice(nn.Bilinear(4, 4, 6)).to("meta"), (4,)).all_macs == 4 * 4 * 6
    assert cost.products_of(Last(nn.LSTM(5, 6, batch_first=True)).to("meta"), (7, 5)).all_macs == 7 * 4 * 6 * (5 + 6)


class Called(nn.Module):
    """A function of a weight and the input."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor], *shape: int) -> None:
        super().__init__()
        self.function, self.weight = function, nn.Parameter(torch.rand(shape, device="meta"))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.weight, x)


class Deformable(nn.Module):
    """A deformable convolution in two groups, at offsets from another one."""

    def __init__(self) -> None:
        super().__init__()
        self.offsets, self.layer = nn.Conv2d(4, 18, 3), ops.DeformConv2d(4, 6, 3, groups=2)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.layer(x, self.offsets(x))
        return made


def products(function: Callable[[Tensor, Tensor], Tensor], *shape: int) -> tuple[int, set[str]]:
    counted = cost.products_of(Called(function, *shape), (6,))
    return counted.all_macs, counted.uncounted


def test_products_under_other_names_are_counted_too() -> None:
    """By hand: each of 5 x 6 weights once, as in a linear layer; deformable, 36 places of 2 x 6 x 9 weights."""
    ways: list[Callable[[Tensor, Tensor], Tensor]] = [
        lambda weight, x: (weight @ x[0])[None],
        lambda weight, x: torch.addmv(x[0, :5], weight, x[0])[None],
        lambda weight, x: (weight * x[:, None]).sum(2),
        lambda weight, x: (weight.abs() * x[:, None]).sum(2),
        lambda weight, x: (x[:, None].expand(-1, 5, -1) * weight).sum(2),
        lambda weight, x: (x[:, None].repeat(1, 5, 1) * weight).sum(2),
        lambda weight, x: (weight.clone().mul_(x)).sum(1)[None],
        lambda weight, x: torch.addcmul(x, x, weight[:, :1]).sum(1)[None],
        lambda weight, x: (x / weight).sum(1)[None],
    ]
    assert [products(way, 5, 6) for way in ways] == [(30, set())] * len(ways)
    assert cost.products_of(Deformable().to("meta"), (4, 8, 8)).all_macs == 36 * (4 * 18 * 9 + 2 * 6 * 9)


def test_an_operation_that_multiplies_by_a_weight_and_is_not_counted_is_named() -> None:
    named = (0, {"aten._cdist_forward of weight"})
    assert products(lambda weight, x: torch.cdist(x, weight), 5, 6) == named
    assert products(lambda weight, x: torch.cdist(x, weight.t().contiguous()), 6, 5) == named


def test_lookups_sums_scales_and_norms_are_no_products() -> None:
    ways: list[Callable[[Tensor, Tensor], Tensor]] = [
        lambda weight, x: functional.embedding(x.long(), weight),
        lambda weight, x: torch.cat([weight, x]) + weight[:1],
        lambda weight, x: functional.layer_norm(x.expand(5, 6), (5, 6), weight),
        lambda weight, x: x * weight[:1],
        lambda weight, x: x.expand(5, 6) * weight.softmax(1).mean(),
    ]
    assert [products(way, 5, 6) for way in ways] == [(0, set())] * len(ways)
    layer = nn.utils.parametrizations.spectral_norm(nn.Linear(4, 5)).to("meta")
    assert cost.products_of(layer, (4,)).all_macs == 4 * 5  # not what makes its weight


def test_a_product_of_two_parameters_counts_once() -> None:
    assert cost.products_of(Query().to("meta"), (2,)).all_macs == 3 * 4 * 5


def test_attention_counts_its_two_products() -> None:
    """Of vit_b_16: 12 layers, 197 tokens, 768 values each; queries times keys, and what they weigh times values."""
    assert cost.count_products("vit_b_16", 5, (3, 224, 224)).activation_macs == 12 * 2 * 197 * 197 * 768
    assert cost.count_products("mobilenet_v2", 5, (3, 224, 224)).activation_macs == 0


def test_a_depthwise_layer_costs_its_kernel_at_each_position() -> None:
    by_layer = cost.macs_by_layer("mobilenet_v2", 5, cost.original_shapes("mobilenet_v2", 5), (3, 64, 64))
    assert by_layer["features.1.conv.0.0.weight"] == 32 * 9 * 32 * 32
    assert by_layer["classifier.1.weight"] == 1280 * 5


def test_the_cost_follows_the_input_size() -> None:
    assert macs("resnet18", 128) > 3.9 * macs("resnet18", 64) - 4 * 512 * 5
    before = torch.random.get_rng_state()
    cost.original_shapes.__wrapped__("swin_t", 5)
    assert torch.equal(before, torch.random.get_rng_state())
