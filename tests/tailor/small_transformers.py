"""Transformers of a few units. All take images (B, 3, 16, 16) and have five classes."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import swin_transformer
from torchvision.models.swin_transformer import SwinTransformer
from torchvision.models.vision_transformer import VisionTransformer


class Attention(nn.Module):
    """As most write it: queries, keys and values of one layer, sizes from attributes."""

    fused = False

    def __init__(self, width: int, heads: int, head_dim: int) -> None:
        super().__init__()
        self.num_heads, self.head_dim = heads, head_dim
        self.qkv, self.proj = nn.Linear(width, 3 * heads * head_dim), nn.Linear(heads * head_dim, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, _ = x.shape
        made = self.qkv(x).reshape(batch, tokens, 3, self.num_heads, self.head_dim)
        q, k, v = self.prepared(*made.permute(2, 0, 3, 1, 4).unbind(0))
        if self.fused:
            gathered = F.scaled_dot_product_attention(q, k, v)
        else:
            gathered = ((q * self.head_dim**-0.5) @ k.transpose(-2, -1)).softmax(dim=-1) @ v
        out: Tensor = self.proj(gathered.transpose(1, 2).reshape(batch, tokens, -1))
        return out

    def prepared(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return q, k, v


class FusedAttention(Attention):
    fused = True


class NormedAttention(Attention):
    """Queries and keys have norms inside each head."""

    def __init__(self, width: int, heads: int, head_dim: int) -> None:
        super().__init__(width, heads, head_dim)
        self.q_norm, self.k_norm = nn.LayerNorm(head_dim), nn.LayerNorm(head_dim)

    def prepared(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.q_norm(q), self.k_norm(k), v


class HardCodedAttention(Attention):
    """Nothing but the code says how many heads there are."""

    def __init__(self, width: int, heads: int, head_dim: int) -> None:
        super().__init__(width, heads, head_dim)
        del self.num_heads

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, _ = x.shape
        q, k, v = self.qkv(x).reshape(batch, tokens, 3, 3, self.head_dim).permute(2, 0, 3, 1, 4).unbind(0)
        gathered = F.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.proj(gathered.transpose(1, 2).flatten(2))
        return out


class FixedWidthAttention(Attention):
    """The width of a head follows from that of the input, as in many older codes."""

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        made = self.qkv(x).reshape(batch, tokens, 3, self.num_heads, width // self.num_heads)
        q, k, v = made.permute(2, 0, 3, 1, 4).unbind(0)
        gathered = F.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.proj(gathered.transpose(1, 2).reshape(batch, tokens, width))
        return out


class Block(nn.Module):
    """Attention and a hidden layer, each behind a norm, scaled and added."""

    def __init__(self, width: int, attention: nn.Module, norm: type[nn.Module]) -> None:
        super().__init__()
        self.norm1, self.attn, self.norm2 = norm(width), attention, norm(width)
        self.up, self.act, self.down = nn.Linear(width, 16), nn.GELU(), nn.Linear(16, width)
        self.scale1, self.scale2 = (nn.Parameter(torch.rand(width) + 0.5) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.scale1 * self.attn(self.norm1(x))
        out: Tensor = x + self.scale2 * self.down(self.act(self.up(self.norm2(x))))
        return out


class ViT(nn.Module):
    """Patches, a class token, embeddings of positions, two blocks, a norm and a head."""

    attention: type[Attention] = Attention
    norm: type[nn.Module] = nn.LayerNorm

    def __init__(self) -> None:
        super().__init__()
        width = 12
        self.patches, self.cls = nn.Conv2d(3, width, 4, stride=4), nn.Parameter(torch.randn(1, 1, width))
        self.positions = nn.Parameter(torch.randn(1, 17, width))
        self.blocks = nn.Sequential(*(Block(width, self.attention(width, 3, 4), self.norm) for _ in range(2)))
        self.last_norm, self.head = self.norm(width), nn.Linear(width, 5)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls.expand(tokens.shape[0], -1, -1), tokens], dim=1) + self.positions
        logits: Tensor = self.head(self.last_norm(self.blocks(tokens))[:, 0])
        return logits


class FusedViT(ViT):
    attention = FusedAttention


class NormedViT(ViT):
    attention = NormedAttention


class RmsViT(ViT):
    norm = nn.RMSNorm


class HardCodedViT(ViT):
    attention = HardCodedAttention


class FixedWidthViT(ViT):
    attention = FixedWidthAttention


class Mixer(nn.Module):
    """Tokens are mixed channel by channel, behind a norm over channels and positions."""

    def __init__(self) -> None:
        super().__init__()
        self.embed_dim = width = 12
        self.patches, self.mixed_norm = nn.Conv2d(3, width, 4, stride=4), nn.GroupNorm(1, width)
        self.mix, self.unmix = nn.Linear(16, 8), nn.Linear(8, 16)
        self.norm, self.up, self.down = nn.LayerNorm(width), nn.Linear(width, 16), nn.Linear(16, width)
        self.last_norm, self.head = nn.LayerNorm(width), nn.Linear(width, 5)

    def forward(self, images: Tensor) -> Tensor:
        x = self.patches(images).flatten(2)
        x = (x + self.unmix(F.gelu(self.mix(self.mixed_norm(x))))).transpose(1, 2)
        x = x + self.down(F.gelu(self.up(self.norm(x))))
        logits: Tensor = self.head(self.last_norm(x).mean(dim=1))
        return logits


class TorchvisionViT(VisionTransformer):
    def __init__(self) -> None:
        super().__init__(16, 4, num_layers=2, num_heads=3, hidden_dim=12, mlp_dim=16, num_classes=5)


class _Swin(SwinTransformer):
    block, merging = swin_transformer.SwinTransformerBlock, swin_transformer.PatchMerging

    def __init__(self) -> None:
        super().__init__(
            [2, 2], 12, [2, 2], [3, 3], [2, 2], num_classes=5, block=self.block, downsample_layer=self.merging
        )


class Swin(_Swin): ...


class SwinV2(_Swin):
    block, merging = swin_transformer.SwinTransformerBlockV2, swin_transformer.PatchMergingV2


class Grouped(nn.Module):
    """Two convolutions in groups behind each other, each between others, with norms and a gate; no transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm1 = nn.Conv2d(3, 12, 3, padding=1), nn.BatchNorm2d(12)
        self.grouped, self.norm2 = nn.Conv2d(12, 24, 3, padding=1, groups=3), nn.BatchNorm2d(24)
        self.again = nn.Conv2d(24, 12, 3, padding=1, groups=3, bias=False)
        self.squeeze, self.excite = nn.Conv2d(12, 4, 1), nn.Conv2d(4, 12, 1)
        self.last, self.head = nn.Conv2d(12, 8, 1), nn.Linear(8, 5)

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(self.norm2(self.grouped(F.relu(self.norm1(self.first(images))))))
        x = self.again(x)
        x = x * torch.sigmoid(self.excite(F.relu(self.squeeze(x.mean(dim=(2, 3), keepdim=True)))))
        logits: Tensor = self.head(F.relu(self.last(F.relu(x))).mean(dim=(2, 3)))
        return logits
