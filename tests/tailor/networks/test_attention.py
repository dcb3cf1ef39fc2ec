"""Attention that runs with fewer heads is, with all of them, the attention that it replaces."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.swin_transformer import ShiftedWindowAttention, ShiftedWindowAttentionV2

from tailor.networks.attention import SelfAttention, WindowAttention, WindowAttentionV2, replace_attention


def noisy(module: nn.Module) -> nn.Module:
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=draw) * 0.3)
    return module.double().eval()


def outputs_and_gradients(module: nn.Module, x: Tensor) -> dict[str, Tensor]:
    x = x.clone().requires_grad_()
    made = module(x, x, x, need_weights=False)[0] if isinstance(module, nn.MultiheadAttention) else module(x)
    weights = torch.linspace(-1.0, 1.0, made.numel(), dtype=made.dtype).reshape(made.shape)
    (made * weights).sum().backward()
    gradients = {name: parameter.grad for name, parameter in module.named_parameters() if parameter.grad is not None}
    assert x.grad is not None
    return {"output": made.detach(), "input": x.grad, **gradients}


def compared(module: nn.Module, x: Tensor, kind: type[nn.Module]) -> None:
    other = copy.deepcopy(module)
    replace_attention(other)
    assert type(other) is kind and type(module) is not kind
    assert list(other.state_dict()) == list(module.state_dict())
    expected, found = outputs_and_gradients(module, x), outputs_and_gradients(other, x)
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-9, atol=1e-10, msg=lambda text, name=name: name + text)


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_self_attention(batch_first: bool, bias: bool) -> None:
    module = noisy(nn.MultiheadAttention(12, 3, batch_first=batch_first, bias=bias))
    compared(module, torch.randn(2, 5, 12, dtype=torch.float64), SelfAttention)


@pytest.mark.parametrize("size", [(8, 8), (6, 9), (4, 4), (4, 8)], ids=str)
@pytest.mark.parametrize("shift", [[0, 0], [2, 2], [0, 2]], ids=str)
@pytest.mark.parametrize("kind", [ShiftedWindowAttention, ShiftedWindowAttentionV2])
def test_window_attention(kind: type[nn.Module], shift: list[int], size: tuple[int, int]) -> None:
    module = noisy(kind(12, [4, 4], shift, 3))
    replacement = WindowAttention if kind is ShiftedWindowAttention else WindowAttentionV2
    compared(module, torch.randn(2, *size, 12, dtype=torch.float64), replacement)


def test_what_is_no_attention_of_tokens_to_themselves_is_as_before() -> None:
    module = noisy(nn.MultiheadAttention(12, 3, batch_first=True))
    other = copy.deepcopy(module)
    replace_attention(other)
    tokens, keys = (torch.randn(2, n, 12, dtype=torch.float64) for n in (5, 7))
    for expected, found in zip(module(tokens, keys, keys), other(tokens, keys, keys), strict=True):
        assert torch.equal(expected, found)
    own = nn.MultiheadAttention(12, 3, kdim=6)
    replace_attention(own)
    assert type(own) is nn.MultiheadAttention
