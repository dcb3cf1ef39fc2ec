"""Networks by name, built at their original widths or at the widths of a pruned state."""

import importlib

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tailor.catalog import NETWORKS


def build(name: str, classes: int, *, seed: int) -> nn.Module:
    """The network `name` with a last layer of `classes` outputs, initialised from `seed` alone.

    Torch initialises layers from its global generator, so that is put aside and restored.
    """
    module, function = NETWORKS[name].builder.split(":")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: nn.Module = getattr(importlib.import_module(module), function)(classes)
    return model


def conv(in_channels: int, out_channels: int, *, stride: int = 1, bias: bool = False) -> nn.Conv2d:
    """A 3 x 3 convolution that keeps height and width at stride 1."""
    return nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=bias)


class DigitsVGG(nn.Module):
    """Four plain convolutions with biases; the first linear layer reads a flattened feature map, as in VGG."""

    def __init__(self, classes: int, width: int = 24) -> None:
        super().__init__()
        self.features = nn.Sequential(
            conv(1, width, bias=True),
            nn.ReLU(),
            conv(width, 2 * width, bias=True),
            nn.ReLU(),
            nn.MaxPool2d(2),
            conv(2 * width, 2 * width, bias=True),
            nn.ReLU(),
            conv(2 * width, 2 * width, bias=True),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.classifier = nn.Sequential(nn.Linear(2 * width * 4, 64), nn.ReLU(), nn.Linear(64, classes))

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, classes) of images (B, 1, 8, 8)."""
        logits: Tensor = self.classifier(self.features(images).flatten(1))
        return logits


class Block(nn.Module):
    """The basic residual block: two convolutions with BatchNorm and a skip, projected where the shape changes."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int) -> None:
        super().__init__()
        self.conv1 = conv(in_channels, out_channels, stride=stride)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = conv(out_channels, out_channels)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.skip: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.skip = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, out_channels, H / stride, W / stride) of features (B, in_channels, H, W)."""
        inside = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(features)))))
        return F.relu(inside + self.skip(features))


class DigitsResNet(nn.Module):
    """A stem and two residual blocks with BatchNorm; average pooling before one linear layer."""

    def __init__(self, classes: int, width: int = 24) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv(1, width), nn.BatchNorm2d(width), nn.ReLU())
        self.blocks = nn.Sequential(Block(width, width, stride=1), Block(width, 2 * width, stride=2))
        self.head = nn.Linear(2 * width, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, classes) of images (B, 1, 8, 8)."""
        logits: Tensor = self.head(self.blocks(self.stem(images)).mean(dim=(2, 3)))
        return logits


def digits_vgg(classes: int) -> nn.Module:
    """The embedded network that stands for those without a norm."""
    return DigitsVGG(classes)


def digits_resnet(classes: int) -> nn.Module:
    """The embedded network that stands for residual ones with BatchNorm."""
    return DigitsResNet(classes)
