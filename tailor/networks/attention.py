"""Attention that runs with fewer heads, in place of modules that ask for as many as they were made with.

`nn.MultiheadAttention` and torchvision's Swin compute the width of a head from the width of their input. The modules
here take it from their weights. They have the same tensors under the same names, so they are the same objects of
another class: weights, hooks and settings stay.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.swin_transformer import ShiftedWindowAttention, ShiftedWindowAttentionV2

MASKED = -100.0  # what torchvision adds between positions that a shift brought beside each other


class SelfAttention(nn.MultiheadAttention):
    """As its base for the attention of tokens to themselves; anything else (masks, another key) is left to the base."""

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, *others: Any, **named: Any
    ) -> tuple[Tensor, Tensor | None]:
        """Tokens (B, N, C) and None."""
        is_to_themselves = query is key is value and query.dim() == 3
        has_no_options = not others and all(option is None or option is False for option in named.values())
        if not is_to_themselves or not has_no_options or named.get("need_weights") is not False:
            return super().forward(query, key, value, *others, **named)
        tokens = query if self.batch_first else query.transpose(0, 1)
        projected = F.linear(tokens, self.in_proj_weight, self.in_proj_bias)
        by_head = projected.reshape(*projected.shape[:2], 3, self.num_heads, self.head_dim)
        q, k, v = by_head.permute(2, 0, 3, 1, 4).unbind(0)
        heads = F.scaled_dot_product_attention(q, k, v, dropout_p=self.dropout if self.training else 0.0)
        out = self.out_proj(heads.transpose(1, 2).flatten(2))
        return (out if self.batch_first else out.transpose(0, 1)), None


class WindowAttention(ShiftedWindowAttention):  # type: ignore[misc]  # torchvision has no types
    """As its base: Swin's."""

    head_dim: int

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, H, W, C) of features of the same shape."""
        return _attend_in_windows(self, x, lambda windows, bias: _attend(self, self.qkv(windows), bias))


class WindowAttentionV2(ShiftedWindowAttentionV2):  # type: ignore[misc]
    """As its base: Swin's second version, in which cosines are compared and keys have no bias."""

    head_dim: int

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, H, W, C) of features of the same shape."""
        return _attend_in_windows(self, x, self._attend)

    def _attend(self, windows: Tensor, bias: Tensor) -> Tensor:
        qkv = F.linear(windows, self.qkv.weight)
        if self.qkv.bias is not None:
            q, k, v = qkv.chunk(3, dim=-1)
            q_bias, k_bias, v_bias = self.qkv.bias.chunk(3)
            qkv = torch.cat([q + q_bias, k + 0.0 * k_bias, v + v_bias], dim=-1)  # 0: a trace sees whose bias it is
        return _attend(self, qkv, bias, self.logit_scale.clamp(max=math.log(100.0)).exp())


def _attend(module: ShiftedWindowAttention, qkv: Tensor, bias: Tensor, cosine_scale: Tensor | None = None) -> Tensor:
    """What each window's tokens (B, windows, N, heads x D) gather, from queries, keys and values side by side."""
    by_head = qkv.reshape(*qkv.shape[:3], 3, module.num_heads, module.head_dim)
    q, k, v = by_head.permute(3, 0, 1, 4, 2, 5).unbind(0)
    scale = None
    if cosine_scale is not None:
        q = F.normalize(q, dim=-1) * cosine_scale
        k = F.normalize(k, dim=-1)
        scale = 1.0
    dropout = module.attention_dropout if module.training else 0.0
    heads = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=dropout, scale=scale)
    return heads.transpose(2, 3).flatten(3)


def _attend_in_windows(module: ShiftedWindowAttention, x: Tensor, attend: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Features cut into windows, attended to with the module's relative positions, projected, and put together."""
    _, height, width, _ = x.shape
    rows, columns = module.window_size
    x = F.pad(x, (0, 0, 0, -width % columns, 0, -height % rows))
    batch, high, wide, _ = x.shape
    shift_down, shift_right = module.shift_size
    down = 0 if rows >= high else shift_down  # one window along a side has nothing to be shifted to
    right = 0 if columns >= wide else shift_right
    if down or right:
        x = x.roll((-down, -right), dims=(1, 2))
    grid = x.reshape(batch, high // rows, rows, wide // columns, columns, -1)
    windows = grid.transpose(2, 3).reshape(batch, -1, rows * columns, x.shape[-1])
    bias = module.get_relative_position_bias()
    if down or right:
        bias = bias + _window_mask(high, wide, rows, columns, down, right, x)
    x = F.dropout(module.proj(attend(windows, bias)), module.dropout, module.training)
    grid = x.reshape(batch, high // rows, wide // columns, rows, columns, -1)
    x = grid.transpose(2, 3).reshape(batch, high, wide, x.shape[-1])
    if down or right:
        x = x.roll((down, right), dims=(1, 2))
    return x[:, :height, :width].contiguous()


def _window_mask(high: int, wide: int, rows: int, columns: int, down: int, right: int, x: Tensor) -> Tensor:
    """(windows, 1, N, N): MASKED between positions of a window that the shift brought beside each other, else 0."""

    def part_along(side: int, window: int, shift: int) -> Tensor:
        """(side,): 0, 1 or 2, the number of the part that a position belongs to."""
        positions = torch.arange(side, device=x.device)
        if not shift:
            return torch.zeros_like(positions)
        return (positions >= side - window).int() + (positions >= side - shift).int()

    part = 3 * part_along(high, rows, down)[:, None] + part_along(wide, columns, right)[None]
    part = part.reshape(high // rows, rows, wide // columns, columns).transpose(1, 2).reshape(-1, rows * columns)
    is_apart = part[:, None] != part[:, :, None]
    return (is_apart * torch.full((), MASKED, dtype=x.dtype, device=x.device))[:, None]


RUNS_WITH_FEWER: dict[type[nn.Module], type[nn.Module]] = {
    nn.MultiheadAttention: SelfAttention,
    ShiftedWindowAttention: WindowAttention,
    ShiftedWindowAttentionV2: WindowAttentionV2,
}


def is_replaced(module: nn.Module) -> bool:
    """Whether this is one of the replacements."""
    return type(module) in RUNS_WITH_FEWER.values()


def replace_attention(model: nn.Module) -> None:
    """Make every attention of these kinds in a model one that runs with fewer heads, in place.

    One whose queries, keys and values have weights of their own or added tokens stays as it is, and so do subclasses.
    """
    for module in model.modules():
        replacement = RUNS_WITH_FEWER.get(type(module))
        if replacement is SelfAttention and not _is_plain(module):
            continue
        if isinstance(module, ShiftedWindowAttention) and replacement is not None:
            module.head_dim = module.qkv.out_features // (3 * module.num_heads)
        if replacement is not None:
            module.__class__ = replacement


def _is_plain(module: nn.Module) -> bool:
    assert isinstance(module, nn.MultiheadAttention)
    return isinstance(module.in_proj_weight, Tensor) and module.bias_k is None and not module.add_zero_attn
