"""Backward passes that repeat their bits: which networks are tested, and what an operation without an algorithm does.

That torch's kernels repeat is checked on a GPU, by `make check-gpu`.
"""

import logging
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tailor.common.determinism import RepeatableBackward, has_attention, is_repeatable
from tailor.networks import building

META = torch.device("meta")  # a device that is no CPU and computes nothing
CPU = torch.device("cpu")


class Unrepeatable(torch.autograd.Function):
    """The identity, whose gradient torch has no deterministic algorithm for."""

    @staticmethod
    def forward(_context: Any, images: Tensor) -> Tensor:
        return images.clone()

    @staticmethod
    def backward(_context: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        torch.zeros(1).put_(torch.tensor([0]), torch.ones(1))
        return gradient


class Attention(nn.Module):
    """A norm and a layer, perhaps with that identity between them."""

    def __init__(self, can_repeat: bool) -> None:
        super().__init__()
        self.norm, self.layer, self._can_repeat = nn.BatchNorm1d(3), nn.Linear(3, 2), can_repeat

    def forward(self, images: Tensor) -> Tensor:
        images = self.norm(images)
        outputs: Tensor = self.layer(images if self._can_repeat else Unrepeatable.apply(images))
        return outputs


@pytest.fixture(autouse=True)
def _lenient() -> Iterator[None]:
    """As `join` leaves a process with a GPU."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


def modes() -> tuple[bool, bool]:
    """Whether deterministic algorithms are asked for, and whether torch only warns."""
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


def test_transformers_have_attention_and_residual_networks_none() -> None:
    assert has_attention(building.skeleton("vit_b_16", 5)) and has_attention(building.skeleton("swin_t", 5))
    assert not has_attention(building.skeleton("resnet18", 5))


@pytest.mark.parametrize("can_repeat", [True, False])
def test_a_network_is_tested_on_a_copy(can_repeat: bool, caplog: pytest.LogCaptureFixture) -> None:
    model = Attention(can_repeat).requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    images, drawn = torch.randn(4, 3), torch.get_rng_state()
    with caplog.at_level(logging.WARNING):
        assert is_repeatable(model, images) is can_repeat
    said = [] if can_repeat else ["repeated trials of this network may differ"]
    assert [record.getMessage()[:42] for record in caplog.records] == said
    assert modes() == (True, True) and torch.equal(drawn, torch.get_rng_state())
    assert model.training and not any(parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_an_error_of_another_kind_is_raised() -> None:
    with pytest.raises(RuntimeError, match="running_mean"):
        is_repeatable(Attention(True), torch.zeros(1, 5))
    assert modes() == (True, True)


@pytest.mark.parametrize("can_repeat", [True, False])
def test_attention_is_differentiated_strictly_where_torch_can(can_repeat: bool) -> None:
    model, tested = Attention(can_repeat).to(META), list[int]()
    model.register_forward_pre_hook(lambda _model, images: tested.append(len(images[0])))
    repeatable = RepeatableBackward(model)
    for _ in range(2):
        with repeatable.context(torch.zeros(4, 3, device=META)):
            assert modes() == (True, not can_repeat)
        assert modes() == (True, True)
    assert tested == [1]  # once, on one image


@pytest.mark.parametrize(("model", "device"), [(nn.Linear(3, 2), META), (Attention(True), CPU)])
def test_on_a_cpu_and_without_attention_nothing_is_tested(model: nn.Module, device: torch.device) -> None:
    with RepeatableBackward(model).context(torch.zeros(4, 3, device=device)):
        assert modes() == (True, True)


def test_where_it_is_not_asked_for_attention_is_differentiated_as_torch_likes() -> None:
    torch.use_deterministic_algorithms(False)
    with RepeatableBackward(Attention(True).to(META)).context(torch.zeros(4, 3, device=META)):
        assert modes() == (False, False)
