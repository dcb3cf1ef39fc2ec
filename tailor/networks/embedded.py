"""The embedded networks, small enough for tests and demonstrations on a CPU."""

from torch import Tensor, nn


def conv(in_channels: int, out_channels: int, *, stride: int = 1, bias: bool = False) -> nn.Conv2d:
    """A 3 x 3 convolution that keeps height and width at stride 1."""
    return nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=bias)


class DigitsVGG(nn.Module):
    """Four convolutions with biases; the first linear layer reads a flattened feature map, as in VGG."""

    def __init__(self, num_classes: int, width: int = 24, *, norm: bool = False) -> None:
        super().__init__()
        widths = (width, 2 * width, 2 * width, 2 * width)
        layers: list[nn.Module] = []
        for number, (before, after) in enumerate(zip((1, *widths), widths, strict=False)):
            layers += [conv(before, after, bias=True), *([nn.BatchNorm2d(after)] if norm else []), nn.ReLU()]
            if number % 2:
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


class FriedmanMLP(nn.Module):
    """Two hidden linear layers with ReLU; for regression with one output."""

    def __init__(self, num_classes: int, width: int = 64) -> None:
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(10, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.head = nn.Linear(width, num_classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs (B, num_classes) of inputs (B, 10)."""
        outputs: Tensor = self.head(self.hidden(inputs))
        return outputs


def digits_vgg(num_classes: int) -> nn.Module:
    """The embedded network without a norm."""
    return DigitsVGG(num_classes)


def digits_vgg_bn(num_classes: int) -> nn.Module:
    """The embedded network without skips, with BatchNorm."""
    return DigitsVGG(num_classes, norm=True)


def digits_resnet(num_classes: int) -> nn.Module:
    """The embedded residual network, with BatchNorm."""
    return DigitsResNet(num_classes)


def friedman_mlp(num_classes: int) -> nn.Module:
    """The embedded network for inputs that are not images."""
    return FriedmanMLP(num_classes)
