"""The embedded networks, small enough for tests and demonstrations on a CPU."""

from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional


def conv(in_channels: int, out_channels: int, *, stride: int = 1, bias: bool = False) -> nn.Conv2d:
    """A 3 x 3 convolution that keeps height and width at stride 1."""
    return nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=bias)


class DigitsVGG(nn.Module):
    """Four convolutions with biases; the first linear layer reads a flattened feature map, as in VGG."""

    def __init__(self, num_classes: int, width: int = 24, *, norm: bool = False) -> None:
        super().__init__()
        widths = (1, width, 2 * width, 2 * width, 2 * width)
        layers: list[nn.Module] = []
        for number, (in_channels, out_channels) in enumerate(pairwise(widths)):
            layers.append(conv(in_channels, out_channels, bias=True))
            if norm:
                layers.append(nn.BatchNorm2d(out_channels))
            layers.append(nn.ReLU())
            if number % 2 == 1:
                layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Linear(widths[-1] * 4, 64), nn.ReLU(), nn.Linear(64, num_classes))

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, num_classes) of images (B, 1, 8, 8)."""
        logits: Tensor = self.classifier(self.features(images).flatten(1))
        return logits


class Block(nn.Module):
    """The basic residual block: two convolutions with BatchNorm and a skip, projected where the shape changes."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int) -> None:
        super().__init__()
        self.conv1 = conv(in_channels, out_channels, stride=stride)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.relu1 = nn.ReLU()
        self.conv2 = conv(out_channels, out_channels)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.relu2 = nn.ReLU()
        self.skip: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.skip = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, out_channels, H / stride, W / stride) of features (B, in_channels, H, W)."""
        inside = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(features)))))
        out: Tensor = self.relu2(inside + self.skip(features))
        return out


class DigitsResNet(nn.Module):
    """A stem and two residual blocks with BatchNorm; average pooling before one linear layer."""

    def __init__(self, num_classes: int, width: int = 24) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv(1, width), nn.BatchNorm2d(width), nn.ReLU())
        self.blocks = nn.Sequential(Block(width, width, stride=1), Block(width, 2 * width, stride=2))
        self.head = nn.Linear(2 * width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, num_classes) of images (B, 1, 8, 8)."""
        logits: Tensor = self.head(self.blocks(self.stem(images)).mean(dim=(2, 3)))
        return logits


class RegressionMLP(nn.Module):
    """Two hidden linear layers with ReLU; for regression with one output."""

    def __init__(self, num_classes: int, inputs: int, width: int = 64) -> None:
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.head = nn.Linear(width, num_classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs (B, num_classes) of rows of numbers (B, inputs)."""
        outputs: Tensor = self.head(self.hidden(inputs))
        return outputs


class DigitsAttention(nn.Module):
    """Heads of a fixed width, whose number is an attribute; queries, keys and values come from one layer."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.head_dim = width // num_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (B, N, width) of tokens of the same shape."""
        by_head = self.qkv(tokens).unflatten(2, (3, self.num_heads, self.head_dim))
        queries, keys, values = by_head.permute(2, 0, 3, 1, 4).unbind(0)
        heads = functional.scaled_dot_product_attention(queries, keys, values)
        out: Tensor = self.proj(heads.transpose(1, 2).flatten(2))
        return out


class TransformerBlock(nn.Module):
    """Attention and a hidden layer, each behind a norm and with a skip."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = DigitsAttention(width, num_heads)
        self.norm2 = nn.LayerNorm(width)
        self.hidden = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (B, N, width) of tokens of the same shape."""
        tokens = tokens + self.attention(self.norm1(tokens))
        out: Tensor = tokens + self.hidden(self.norm2(tokens))
        return out


class DigitsViT(nn.Module):
    """Patches of 2 x 2 pixels, a class token, learned positions, three blocks; the class token is classified."""

    def __init__(self, num_classes: int, width: int = 32, depth: int = 3, num_heads: int = 4) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, 2, stride=2)
        self.class_token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.positions = nn.Parameter(0.02 * torch.randn(1, 17, width))
        self.blocks = nn.Sequential(*(TransformerBlock(width, num_heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, num_classes) of images (B, 1, 8, 8)."""
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_token.expand(tokens.shape[0], -1, -1), tokens], dim=1) + self.positions
        logits: Tensor = self.head(self.norm(self.blocks(tokens))[:, 0])
        return logits


# The catalogue calls these with the number of classes alone.
digits_vgg_bn = partial(DigitsVGG, norm=True)
friedman_mlp = partial(RegressionMLP, inputs=10)
oscillator_mlp = partial(RegressionMLP, inputs=3)
