"""Which filters can go, what goes with them, and that nothing else changes."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tailor import cost, surgery
from tailor.data import generator
from tailor.errors import ConfigError
from tailor.importance import attach_importance, fold_importance
from tailor.state import ModelState, load_model, load_state, save_model
from tests.tailor.trials import NETWORKS

PRUNABLE = {
    "digits_vgg": [f"features.{n}" for n in (0, 2, 5, 7)],
    "digits_resnet": [f"blocks.{n}.conv1" for n in range(2)],  # inside the branches alone
}


def images(count: int = 16) -> torch.Tensor:
    return torch.randn(count, 1, 8, 8, generator=generator(0, "test images"))


def outputs(state: ModelState) -> torch.Tensor:
    with torch.no_grad():
        return state.build().eval()(images())


def random_kept(found: tuple[surgery.Group, ...]) -> surgery.Kept:
    draw = generator(1, "test kept")
    kept = {g.site: torch.rand(g.filters, generator=draw) < 0.6 for g in found}
    return {site: stays.nonzero().flatten() for site, stays in kept.items()}


@pytest.mark.parametrize("network", NETWORKS)
def test_prunable_layers(network: str, fitted: Callable[[str], ModelState]) -> None:
    state = fitted(network)
    found = surgery.groups(state.build(), network)
    assert [g.layer for g in found] == PRUNABLE[network]
    assert [g.filters for g in found] == [state.tensors[f"{name}.weight"].shape[0] for name in PRUNABLE[network]]
    expected_site = (lambda layer: layer.replace("conv", "bn")) if network == "digits_resnet" else (lambda layer: layer)
    assert [g.site for g in found] == [expected_site(g.layer) for g in found]


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("with_factors", [False, True])
def test_masked_equals_slimmed(network: str, with_factors: bool, fitted: Callable[[str], ModelState]) -> None:
    state = fitted(network)
    found = surgery.groups(state.build(), network)
    if with_factors:
        draw = generator(2, "test factors")
        scored = {g.site: torch.rand(g.filters, generator=draw) + 0.1 for g in found}
        state = attach_importance(replace(state, scores=scored), "sqrt", {})
    kept = random_kept(found)
    masked, slimmed = surgery.mask(state, kept, found), surgery.slim(state, kept, found)
    # Sums over fewer terms round differently: some 1e-6 of outputs of order one.
    torch.testing.assert_close(outputs(slimmed), outputs(masked), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(outputs(slimmed), outputs(state), atol=1e-2)
    for group in found:
        assert slimmed.tensors[f"{group.layer}.weight"].shape[0] == len(kept[group.site])


@pytest.mark.parametrize("network", NETWORKS)
def test_macs_of_a_slimmed_network_agree_with_an_independent_count(
    network: str, fitted: Callable[[str], ModelState]
) -> None:
    state = fitted(network)
    found = surgery.groups(state.build(), network)
    slimmed = surgery.slim(state, random_kept(found), found)
    model = slimmed.build().eval()
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 1, 8, 8))
    shapes = {name: tensor.shape for name, tensor in slimmed.tensors.items()}
    assert cost.macs(network, 5, shapes) == counter.get_total_flops() // 2
    assert cost.params_count(slimmed.tensors, model) == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("network", NETWORKS)
def test_slimming_twice_is_slimming_once(network: str, fitted: Callable[[str], ModelState]) -> None:
    state = fitted(network)
    found = surgery.groups(state.build(), network)
    first = {g.site: torch.arange(1, g.filters) for g in found}
    once = surgery.slim(state, {g.site: torch.arange(2, g.filters) for g in found}, found)
    between = surgery.slim(state, first, found)
    again = surgery.groups(between.build(), network)
    twice = surgery.slim(between, {g.site: torch.arange(1, g.filters) for g in again}, again)
    assert all(torch.equal(once.tensors[name], twice.tensors[name]) for name in once.tensors)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("mode", ["fold", "sqrt", "raw", "grad", "off"])
def test_folding_keeps_the_function(network: str, mode: str, fitted: Callable[[str], ModelState]) -> None:
    state = fitted(network)
    found = surgery.groups(state.build(), network)
    draw = generator(3, "test scores")
    scores = {g.site: torch.rand(g.filters, generator=draw) + 0.01 for g in found}
    scored = replace(state, scores=scores)
    attached = attach_importance(scored, mode, {g.site: g.layer for g in found})
    folded = fold_importance(attached)
    assert folded.factors == {} and folded.gradient_factors == {}
    torch.testing.assert_close(outputs(folded), outputs(attached), rtol=1e-4, atol=1e-5)
    same_as_before = torch.allclose(outputs(attached), outputs(state), rtol=1e-4, atol=1e-5)
    assert same_as_before == (mode in {"fold", "grad", "off"})


def test_a_saved_model_is_rebuilt_in_a_fresh_process(tmp_path: Path, fitted: Callable[[str], ModelState]) -> None:
    for network in NETWORKS:
        state = fitted(network)
        found = surgery.groups(state.build(), network)
        slimmed = surgery.slim(state, random_kept(found), found)
        with_factors = ModelState(
            **(
                vars(slimmed)
                | {"factors": {g.site: torch.full((len(random_kept(found)[g.site]),), 0.5) for g in found}}
            )
        )
        folder = tmp_path / network
        save_model(with_factors, folder)
        program = (
            "import sys, torch, tailor\n"
            f"model = tailor.load_model({str(folder)!r})\n"
            f"images = torch.load({str(tmp_path / 'images.pt')!r}, weights_only=True)\n"
            f"torch.save(model(images).detach(), {str(tmp_path / 'logits.pt')!r})\n"
            "assert 'torch_pruning' not in sys.modules\n"
        )
        torch.save(images(), tmp_path / "images.pt")
        subprocess.run([sys.executable, "-c", program], check=True)
        logits = torch.load(tmp_path / "logits.pt", weights_only=True)
        torch.testing.assert_close(logits, outputs(with_factors))


def test_a_changed_model_file_is_refused(tmp_path: Path, fitted: Callable[[str], ModelState]) -> None:
    save_model(fitted("digits_vgg"), tmp_path / "model")
    file = tmp_path / "model" / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(ConfigError, match="changed or is torn"):
        load_state(tmp_path / "model")
    with pytest.raises(ConfigError, match="holds no saved model"):
        load_model(tmp_path)
