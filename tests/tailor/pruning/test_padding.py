"""Padded networks compute the same, whatever the code does with their filters; what is not padded is named."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tailor.data.task_data import generator
from tailor.facts.networks import NETWORKS, NetworkInfo
from tailor.model.cost import macs_of
from tailor.model.state import ModelState
from tailor.networks import building
from tailor.pruning import padding, surgery
from tailor.pruning.group_records import Group, Kept
from tailor.pruning.padding import PADDED, pad, places, widen
from tailor.stages import GroupRule

Forward = Callable[[nn.Module, Tensor], Tensor]


class Net(nn.Module):
    """Modules by name, and a forward pass of their own."""

    def __init__(self, forward: Forward, **modules: nn.Module) -> None:
        super().__init__()
        for name, module in modules.items():
            self.add_module(name, module)
        self.own_forward = forward

    def forward(self, images: Tensor) -> Tensor:
        return self.own_forward(self, images)


def pooled(x: Tensor) -> Tensor:
    return x.mean((2, 3))


def chain() -> Net:
    """Two convolutions with BatchNorm, an activation that makes something of zero, PReLU."""
    return Net(
        lambda net, x: net.head(pooled(net.prelu(net.b(torch.sigmoid(net.norm(net.a(x))))))),
        a=nn.Conv2d(3, 24, 3), norm=nn.BatchNorm2d(24), b=nn.Conv2d(24, 20, 3), prelu=nn.PReLU(20),
        head=nn.Linear(20, 5),
    )  # fmt: skip


def added() -> Net:
    return Net(
        lambda net, x: net.head(pooled((net.b(net.a(x).relu()) + net.skip(x)).relu())),
        a=nn.Conv2d(3, 24, 3, padding=1), b=nn.Conv2d(24, 16, 1), skip=nn.Conv2d(3, 16, 1), head=nn.Linear(16, 5),
    )  # fmt: skip


def depthwise() -> Net:
    return Net(
        lambda net, x: net.head(pooled(net.b(F.relu6(net.norm(net.deep(F.relu6(net.a(x)))))))),
        a=nn.Conv2d(3, 24, 1), deep=nn.Conv2d(24, 24, 3, groups=24), norm=nn.BatchNorm2d(24), b=nn.Conv2d(24, 16, 1),
        head=nn.Linear(16, 5),
    )  # fmt: skip


def squeezed() -> Net:
    """A gate from the means of all channels, as in squeeze-and-excite."""

    def forward(net: nn.Module, x: Tensor) -> Tensor:
        x = net.a(x)
        gate = torch.sigmoid(net.excite(F.silu(net.squeeze(x.mean((2, 3), keepdim=True)))))
        return net.head(pooled(net.b(x * gate).relu()))

    return Net(
        forward, a=nn.Conv2d(3, 24, 3), squeeze=nn.Conv2d(24, 12, 1), excite=nn.Conv2d(12, 24, 1),
        b=nn.Conv2d(24, 16, 1), head=nn.Linear(16, 5),
    )  # fmt: skip


def concatenated() -> Net:
    """Features of two layers side by side, one of them twice, under a norm of all."""

    def forward(net: nn.Module, x: Tensor) -> Tensor:
        a = net.a(x)
        b = net.b(a.relu())
        return net.head(pooled(net.c(net.norm(torch.cat([a, b, a], 1)).relu())))

    return Net(
        forward, a=nn.Conv2d(3, 12, 3, padding=1), b=nn.Conv2d(12, 16, 3, padding=1), norm=nn.BatchNorm2d(40),
        c=nn.Conv2d(40, 16, 1), head=nn.Linear(16, 5),
    )  # fmt: skip


def flattened() -> Net:
    return Net(
        lambda net, x: net.head(net.hidden(net.a(x).relu().flatten(1)).relu()),
        a=nn.Conv2d(3, 12, 3), hidden=nn.Linear(12 * 36, 20), head=nn.Linear(20, 5),
    )  # fmt: skip


def flattened_with_channels_last() -> Net:
    return Net(
        lambda net, x: net.head(net.a(x).relu().permute(0, 2, 3, 1).flatten(1)),
        a=nn.Conv2d(3, 12, 3), head=nn.Linear(12 * 36, 5),
    )  # fmt: skip


def instance_normed() -> Net:
    return Net(
        lambda net, x: net.head(pooled(net.b(net.two(net.one(net.a(x))).relu()).relu())),
        a=nn.Conv2d(3, 24, 3), one=nn.InstanceNorm2d(24), two=nn.InstanceNorm2d(24, affine=True),
        b=nn.Conv2d(24, 16, 1), head=nn.Linear(16, 5),
    )  # fmt: skip


def one_dimensional() -> Net:
    """A transposed convolution, whose weight has the inputs first, and a convolution of one dimension."""
    return Net(
        lambda net, x: net.head(net.b(net.a(x).relu().flatten(2)).mean(2)),
        a=nn.ConvTranspose2d(3, 12, 2, stride=2), b=nn.Conv1d(12, 16, 3), head=nn.Linear(16, 5),
    )  # fmt: skip


CONSTRUCTS = [
    chain, added, depthwise, squeezed, concatenated, flattened, flattened_with_channels_last, instance_normed,
    one_dimensional,
]  # fmt: skip


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Callable[[], nn.Module]], ModelState]]:
    """Make a network known by its function's name; its state with random numbers everywhere."""
    monkeypatch.setattr(NETWORKS, "_records", dict(NETWORKS._records))

    def register(build: Callable[[], nn.Module]) -> ModelState:
        name = f"{build.__name__} of the test of padding"
        NETWORKS.add(name, NetworkInfo(description="", builder=lambda num_classes: build(), input_shape=(3, 8, 8)))  # noqa: ARG005
        draw = generator(0, name)
        tensors = {key: torch.rand(t.shape, generator=draw) + 0.1 for key, t in build().state_dict().items()}
        return ModelState(network=name, classes=5, input_shape=(3, 8, 8), tensors=tensors)

    return register


def outputs(state: ModelState) -> Tensor:
    images = torch.rand(2, *state.input_shape, generator=generator(1, "images"), dtype=torch.float64)
    with torch.no_grad():
        made: Tensor = state.build().double().eval()(images)
    return made


def odd_widths(groups: tuple[Group, ...]) -> Kept:
    """Kept filters from all over each group, an odd number of them."""
    return {g.name: torch.arange(g.filters)[1 :: 2 if g.filters % 4 == 0 else 3][: g.filters // 2 - 1] for g in groups}


def pruned(state: ModelState, rule: GroupRule = PADDED) -> ModelState:
    groups = surgery.groups(state.build(), state.input_shape, rule)
    return surgery.slim(state, odd_widths(groups), groups)


@pytest.mark.parametrize("build", CONSTRUCTS, ids=lambda build: build.__name__)
def test_a_padded_network_computes_the_same(
    build: Callable[[], nn.Module], registered: Callable[..., ModelState]
) -> None:
    smaller = pruned(registered(build))
    made = pad(smaller, 4)
    assert made.refused == {}
    groups = surgery.groups(made.state.build(), smaller.input_shape, PADDED)
    assert made.widths.keys() <= {g.name for g in groups}
    assert made.widths and all(g.filters % 4 == 0 for g in groups)
    assert macs_of(made.state) > macs_of(smaller)
    torch.testing.assert_close(outputs(made.state), outputs(smaller), rtol=1e-9, atol=0.0)


@pytest.mark.parametrize("build", CONSTRUCTS, ids=lambda build: build.__name__)
def test_removing_the_zeros_gives_the_network_back(
    build: Callable[[], nn.Module], registered: Callable[..., ModelState]
) -> None:
    """Padding is the inverse of surgery, tensor by tensor."""
    smaller = pruned(registered(build))
    made = pad(smaller, 4)
    groups = surgery.groups(made.state.build(), smaller.input_shape, PADDED)
    before = {g.name: g.filters for g in surgery.groups(smaller.build(), smaller.input_shape, PADDED)}
    again = surgery.slim(made.state, {name: torch.arange(filters) for name, filters in before.items()}, groups)
    assert again.tensors.keys() == smaller.tensors.keys()
    for name, tensor in smaller.tensors.items():
        assert torch.equal(again.tensors[name], tensor), name


def test_no_layer_becomes_wider_than_it_was(registered: Callable[..., ModelState]) -> None:
    state = registered(chain)
    made = pad(pruned(state), 32)
    assert made.widths == {"a": 24, "b": 20}
    assert pad(state, 16).widths == {}


def test_factors_and_sizes_are_padded_with_the_filters(registered: Callable[..., ModelState]) -> None:
    smaller = pruned(registered(chain))
    filters = len(smaller.tensors["a.weight"])
    with_factors = replace(smaller, factors={"norm": torch.full((filters,), 1.5)})
    made = pad(with_factors, 4)
    assert len(made.state.factors["norm"]) == made.widths["a"]
    torch.testing.assert_close(outputs(made.state), outputs(with_factors), rtol=1e-9, atol=0.0)
    normed = pad(pruned(registered(instance_normed)), 4)
    assert normed.state.sizes["one"]["num_features"] == normed.widths["a"]


def streamed() -> Net:
    """The channels run through a LayerNorm, whose statistics zeros would change; the hidden layer's do not."""
    return Net(
        lambda net, x: net.head(net.norm(net.back(net.hidden(net.patches(x).flatten(2).mT).relu())).mean(1)),
        patches=nn.Conv2d(3, 16, 2, stride=2), hidden=nn.Linear(16, 24), back=nn.Linear(24, 16),
        norm=nn.LayerNorm(16), head=nn.Linear(16, 5),
    )  # fmt: skip


def test_a_stream_is_not_padded_and_named(registered: Callable[..., ModelState]) -> None:
    smaller = pruned(registered(streamed), PADDED.replace(stream=True))
    made = pad(smaller, 4)
    assert made.widths.keys() == {"patches", "hidden"}
    assert made.refused.keys() == {"back"}
    assert len(made.state.tensors["norm.weight"]) == len(smaller.tensors["norm.weight"])
    torch.testing.assert_close(outputs(made.state), outputs(smaller), rtol=1e-9, atol=0.0)


def group_normed() -> Net:
    return Net(
        lambda net, x: net.head(pooled(net.norm(net.a(x)).relu())),
        a=nn.Conv2d(3, 24, 3), norm=nn.GroupNorm(1, 24), head=nn.Linear(24, 5),
    )  # fmt: skip


def averaged() -> Net:
    """A mean and a maximum over channels, and a softmax."""
    return Net(
        lambda net, x: net.head((net.a(x).mean(1) + net.b(x).amax(1) + net.c(x).softmax(1)[:, 0]).flatten(1)),
        a=nn.Conv2d(3, 12, 3), b=nn.Conv2d(3, 12, 3), c=nn.Conv2d(3, 12, 3), head=nn.Linear(36, 5),
    )  # fmt: skip


def shared() -> Net:
    net = Net(
        lambda net, x: net.head(pooled(net.a(x).relu()) + pooled(net.b(x).relu())),
        a=nn.Conv2d(3, 12, 3), b=nn.Conv2d(3, 12, 3), head=nn.Linear(12, 5),
    )  # fmt: skip
    net.b.weight = net.a.weight
    return net


@pytest.mark.parametrize("build", [group_normed, averaged, shared], ids=lambda build: build.__name__)
def test_what_cannot_lose_filters_is_never_padded(
    build: Callable[[], nn.Module], registered: Callable[..., ModelState]
) -> None:
    state = registered(build)
    made = pad(state, 8)
    assert made.widths == {}
    assert made.state.tensors.keys() == state.tensors.keys()
    assert all(torch.equal(made.state.tensors[name], tensor) for name, tensor in state.tensors.items())


def counting() -> Net:
    """The code of the second layer computes with its number of filters."""
    return Net(
        lambda net, x: net.head(pooled(net.b(net.a(x).relu()))) * len(net.b.weight),
        a=nn.Conv2d(3, 12, 3), b=nn.Conv2d(12, 16, 3), head=nn.Linear(16, 5),
    )  # fmt: skip


def test_what_computes_with_the_number_of_filters_is_named(registered: Callable[..., ModelState]) -> None:
    smaller = pruned(registered(counting))
    made = pad(smaller, 4)
    assert made.widths.keys() == {"a"}
    assert made.refused == {"b": padding.COMPUTES_ELSE}
    torch.testing.assert_close(outputs(made.state), outputs(smaller), rtol=1e-9, atol=0.0)


def test_places_of_filters() -> None:
    def of(indices: list[list[int]]) -> padding.Places | None:
        return places(surgery.Slice(tensor="", dim=1, indices=torch.tensor(indices)))

    assert of([[3], [4], [5]]) == [(6, 1)]
    assert of([[0, 1], [2, 3]]) == [(4, 2)]  # flattened
    assert of([[0, 2], [1, 3]]) == [(2, 1), (4, 1)]  # with channels last, or twice
    assert of([[0, 1, 6], [2, 3, 7]]) == [(4, 2), (8, 1)]
    assert of([[0], [2], [4]]) is None  # every other one
    assert of([[1], [0]]) is None
    assert of([[0, 1]]) is None  # one place, or two
    assert of([[7]]) == [(8, 1)]


@pytest.mark.check
@pytest.mark.parametrize("network", ["mobilenet_v2", "densenet121", "efficientnet_b0"])
def test_real_networks_are_padded_without_a_rest(network: str) -> None:
    tensors = building.build(network, 5, seed=0).state_dict()
    state = ModelState(network=network, classes=5, input_shape=(3, 64, 64), tensors=tensors)
    smaller = pruned(state)
    made = pad(smaller, 8)
    assert made.refused == {}
    original = {name: t.shape for name, t in tensors.items()}
    groups = surgery.groups(made.state.build(), (3, 64, 64), PADDED)
    assert all(g.filters % 8 == 0 or g.filters == g.filters_in(original) for g in groups)
    torch.testing.assert_close(outputs(made.state), outputs(smaller), rtol=1e-9, atol=1e-12)


def test_widening_by_nothing_changes_nothing(registered: Callable[..., ModelState]) -> None:
    state = registered(added)
    groups = surgery.groups(state.build(), state.input_shape, PADDED)
    same = widen(state, groups, {g.name: g.filters for g in groups})
    assert all(torch.equal(same.tensors[name], tensor) for name, tensor in state.tensors.items())
