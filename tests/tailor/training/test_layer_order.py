"""AdamW and layer_decay against torch's AdamW with timm's own parameter groups, and the order of other networks."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tailor.common.errors import ConfigError
from tailor.facts.networks import NETWORKS
from tailor.model.state import ModelState
from tailor.networks import building
from tailor.pruning.network_facts import head_of
from tailor.stages import Training
from tailor.training.layer_order import count_layers, layer_numbers
from tailor.training.loop import optimiser_for, parameter_groups

TIMM = ("vit_tiny_patch16_224", "deit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "convnext_atto")
HOW = Training(
    epochs=1, batch_size=2, seed=0, optimiser="adamw", layer_decay=0.75, learning_rate=0.001,
    head_learning_rate=0.001, weight_decay=0.05,
)  # fmt: skip


def state_of(network: str) -> ModelState:
    tensors = building.tensors_of(building.build(network, 5, seed=0))
    return ModelState(network=network, classes=5, input_shape=NETWORKS[network].input_shape, tensors=tensors)


def rates_and_decays(model: nn.Module, groups: list[dict]) -> dict[str, tuple[float, float]]:  # type: ignore[type-arg]
    name_of = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        name_of[id(p)]: (pytest.approx(group["lr"]), group.get("weight_decay", HOW.weight_decay))
        for group in groups
        for p in group["params"]
    }


def timm_groups(model: nn.Module) -> list[dict]:  # type: ignore[type-arg]
    optim = pytest.importorskip("timm.optim")
    groups: list[dict] = optim.param_groups_layer_decay(  # type: ignore[type-arg]
        model, HOW.weight_decay, no_weight_decay_list=getattr(model, "no_weight_decay", set)(), layer_decay=0.75
    )
    return [
        {"params": g["params"], "weight_decay": g["weight_decay"], "lr": HOW.learning_rate * g["lr_scale"]}
        for g in groups
    ]


@pytest.mark.check
def test_a_step_on_a_vit_is_torchs_with_timms_groups() -> None:
    pytest.importorskip("timm")
    network = f"timm/{TIMM[0]}"
    state = state_of(network)
    ours, reference = state.build().train(), building.build(network, 5, seed=0).train()
    optimiser = optimiser_for(parameter_groups(ours, state, HOW), HOW)
    torchs = torch.optim.AdamW(timm_groups(reference))
    images, labels = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 3])
    for _ in range(2):
        for model, steps in ((ours, optimiser), (reference, torchs)):
            steps.zero_grad()
            F.cross_entropy(model(images), labels).backward()
            steps.step()
    for name, parameter in reference.named_parameters():
        torch.testing.assert_close(ours.get_parameter(name), parameter, rtol=0.0, atol=1e-6)


@pytest.mark.parametrize("name", TIMM)
def test_rates_and_decays_are_timms(name: str) -> None:
    pytest.importorskip("timm")
    state = state_of(f"timm/{name}")
    model = state.build()
    groups = parameter_groups(model, state, HOW)
    assert rates_and_decays(model, groups) == rates_and_decays(model, timm_groups(model))
    with_own_head = HOW.replace(head_learning_rate=0.5)
    rates = rates_and_decays(model, parameter_groups(model, state, with_own_head))
    assert {name for name, (rate, _) in rates.items() if rate == 0.5} == set(state.head_names())


@pytest.mark.check
@pytest.mark.parametrize(
    ("name", "of_timm"),
    [
        ("vit_b_32", "vit_base_patch32_224"),
        ("swin_t", "swin_tiny_patch4_window7_224"),
        ("convnext_tiny", "convnext_tiny"),
        ("resnet50", "resnet50"),
    ],
)
def test_torchvisions_networks_have_as_many_layers_as_timms(name: str, of_timm: str) -> None:
    pytest.importorskip("timm")
    ours, timms = (layer_numbers(network, 5, (3, 224, 224)) for network in (name, f"timm/{of_timm}"))
    assert sorted(set(ours.values())) == sorted(set(timms.values()))
    shapes = {name: p.shape for name, p in building.skeleton(name, 5).named_parameters()}
    timm_shapes = {name: p.shape for name, p in building.skeleton(f"timm/{of_timm}", 5).named_parameters()}
    for layer in set(ours.values()) - {0, max(ours.values())}:  # ConvNeXt's last norm is timm's head's
        numel, timm_numel = (
            sum(shape.numel() for name, shape in of.items() if of_layer[name] == layer and len(shape) > 1)
            for of, of_layer in ((shapes, ours), (timm_shapes, timms))
        )
        assert abs(numel - timm_numel) < 2000, layer  # whose scales of layers have other numbers of dims


@pytest.mark.check
@pytest.mark.parametrize("name", sorted(set(NETWORKS) - {"vit_h_14"}))
def test_the_layers_of_all_shipped_networks_have_an_order(name: str) -> None:
    numbers = layer_numbers(name, 5, NETWORKS.get_bare(name).input_shape)
    last = max(numbers.values())
    assert set(numbers.values()) == set(range(last + 1)) and last > 1
    head = head_of(building.skeleton(name, 5))
    assert {numbers[parameter] for parameter in numbers if parameter.startswith(f"{head}.")} == {last}


class Shared(nn.Module):
    """A layer that runs before and after another one."""

    def __init__(self, *, again: bool) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 5)
        self.again = again

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        hidden = self.second(self.first(self.first(rows)))
        return self.head(self.first(hidden) if self.again else hidden)  # type: ignore[no-any-return]


HEAD = ["head.weight", "head.bias"]


def test_layers_without_an_order_are_refused() -> None:
    with torch.device("meta"):
        in_order, shared, unused = Shared(again=False), Shared(again=True), Shared(again=False)
        unused.spare = nn.Linear(4, 4)
    numbers = count_layers(in_order, HEAD, (4,))
    assert [numbers[f"{name}.weight"] for name in ("first", "second", "head")] == [0, 1, 2]
    with pytest.raises(ConfigError, match="first runs again after second; leave layer_decay out"):
        count_layers(shared, HEAD, (4,))
    with pytest.raises(ConfigError, match="spare is never called; leave layer_decay out"):
        count_layers(unused, HEAD, (4,))


def test_without_layer_decay_sgd_and_adam_decay_everything_alike() -> None:
    state = state_of("digits_vgg")
    for optimiser in ("sgd", "adam"):
        how = HOW.replace(optimiser=optimiser, layer_decay=1.0)
        groups = parameter_groups(state.build(), state, how)
        assert all("weight_decay" not in group for group in groups)
        assert sum(len(group["params"]) for group in groups) == len(list(state.build().parameters()))
