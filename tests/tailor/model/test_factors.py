"""Factors at the outputs of filters: where they act, and that a folded model computes the same without them."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tailor.data.task_data import generator
from tailor.model.circumstance import Timing
from tailor.model.factors import attach
from tailor.model.latency import measure
from tailor.model.state import ModelState, load_state, save_model
from tailor.pruning import surgery
from tailor.pruning.groups import groups
from tailor.pruning.importance import fold_importance
from tailor.stages import GroupRule
from tests.tailor.networks.test_timm import needs_timm
from tests.tailor.saved_models import outputs, pruned

ALL = GroupRule(residual="coupled", linear=True)


class NormAct(nn.BatchNorm2d):
    """A norm that applies its activation itself, built as timm builds its own."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.drop, self.act = nn.Identity(), nn.SiLU()

    def forward(self, images: Tensor) -> Tensor:
        return self.act(self.drop(super().forward(images)))  # type: ignore[no-any-return]


def drawn(size: int, seed: int = 0) -> Tensor:
    return torch.rand(size, generator=generator(seed, "test factors")) + 0.5


@pytest.mark.parametrize("is_trainable", [False, True])
def test_a_factor_of_a_norm_acts_before_the_activation_also_where_the_norm_applies_it(is_trainable: bool) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), NormAct(4)).eval()
    images, factor = torch.randn(2, 3, 8, 8, generator=generator(1, "test factors")), drawn(4)
    normed = nn.functional.batch_norm(model[0](images), torch.zeros(4), torch.ones(4))
    attach(model, {"1": factor}, trainable=is_trainable)
    torch.testing.assert_close(model(images), nn.functional.silu(normed * factor[:, None, None]))


@pytest.mark.parametrize(("shape", "layer"), [((2, 3, 4), nn.Conv1d(3, 4, 1)), ((2, 4, 3), nn.Linear(3, 4))])
def test_of_sequences_convolutions_have_their_channels_first_and_linear_layers_last(
    shape: tuple[int, ...], layer: nn.Module
) -> None:
    images, factor = torch.randn(shape), drawn(4)
    bare = layer(images)
    attach(layer, {"": factor})
    expected = bare * (factor[:, None] if isinstance(layer, nn.Conv1d) else factor)
    torch.testing.assert_close(layer(images), expected)


def test_a_copied_model_has_factors_of_its_own() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), NormAct(4)).eval()
    attach(model, {"0": drawn(4), "1": drawn(4, 1)})
    copied, images = copy.deepcopy(model), torch.randn(2, 3, 8, 8)
    before = model(images)
    for site in (0, 1):
        copied[site].get_buffer("factor").zero_()
    torch.testing.assert_close(model(images), before, rtol=0, atol=0)
    assert not copied(images).any()


@needs_timm
@pytest.mark.check
@pytest.mark.parametrize("name", ["efficientnet_b0", "resnet26"])
def test_folding_keeps_the_function_of_timms_networks(name: str) -> None:
    state = with_factors_of_timms(name)
    found = groups(replace(state, factors={}).build(), state.input_shape, GroupRule())
    images = torch.randn(2, *state.input_shape, generator=generator(0, "test images"))
    expected = outputs(state, images)
    assert (outputs(replace(state, factors={}), images) - expected).abs().max() > 0.01 * expected.abs().max()
    for folded in (fold_importance(state, found), state.fold_factors()):
        assert not folded.factors
        torch.testing.assert_close(
            outputs(folded, images), expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max())
        )


def with_factors_of_timms(name: str) -> ModelState:
    """One of timm's networks with drawn statistics, and factors behind the norms of all filters that can go."""
    import timm

    draw, shape = generator(0, "test statistics"), (3, 64, 64)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = timm.create_model(name, num_classes=5)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_(generator=draw)
            module.running_var.uniform_(0.5, 2.0, generator=draw)
    found = groups(model, shape, GroupRule())
    factors = {member.site("after_norm"): drawn(group.filters) for group in found for member in group.members}
    return ModelState(network=f"timm/{name}", classes=5, input_shape=shape, tensors=model.state_dict(), factors=factors)


@pytest.mark.parametrize("network", ["digits_vgg", "digits_resnet", "friedman_mlp"])
def test_a_saved_model_has_its_factors_in_its_weights(network: str, tmp_path: Path) -> None:
    state = pruned(network)
    assert state.factors
    save_model(state, tmp_path)
    saved = load_state(tmp_path)
    assert not saved.factors and not [name for name in saved.build().state_dict() if name.endswith("factor")]
    images = torch.randn(4, *state.input_shape, generator=generator(0, "test images"))
    torch.testing.assert_close(outputs(saved, images), outputs(state, images), rtol=1e-4, atol=1e-5)


def test_a_factor_behind_an_activation_is_saved_beside_the_weights(tmp_path: Path) -> None:
    bare = replace(pruned("digits_vgg_bn"), factors={})
    found = surgery.groups(bare.build(), bare.input_shape, ALL)
    sites = {
        m.site(where): drawn(g.filters)
        for g in found
        for m in g.members
        for where in ("after_norm", "after_activation")
    }
    state = replace(bare, factors=sites)
    save_model(state, tmp_path)
    saved = load_state(tmp_path)
    assert set(saved.factors) == {m.activation for g in found for m in g.members}
    images = torch.randn(4, *state.input_shape, generator=generator(0, "test images"))
    torch.testing.assert_close(outputs(saved, images), outputs(state, images), rtol=1e-4, atol=1e-5)


def test_what_is_timed_is_what_is_saved() -> None:
    state, multiplied = pruned("digits_vgg"), list[str]()

    def note(module: nn.Module, _inputs: object, _output: object) -> None:
        if hasattr(module, "factor"):
            multiplied.append(type(module).__name__)

    hook = nn.modules.module.register_module_forward_hook(note)
    try:
        circumstance = Timing(device="cpu", runtime="eager", threads=1).here()[0]
        measure(state, circumstance, device=torch.device("cpu"), repeats=2)
    finally:
        hook.remove()
    assert not multiplied
