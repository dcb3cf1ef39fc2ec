"""Frames of small networks around one part, and parts; what pruning does with each is in `layer_networks`.

All networks read images (B, 1, 8, 8).
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDTH = 24


class Frame(nn.Module):
    """A convolution, the part, a convolution, pooling and a head; `width` is what the part puts out."""

    def __init__(self, part: nn.Module, num_classes: int = 5, width: int = WIDTH) -> None:
        super().__init__()
        self.first, self.part = nn.Conv2d(1, WIDTH, 3, padding=1), part
        self.second, self.head = nn.Conv2d(width, WIDTH, 3, padding=1), nn.Linear(WIDTH, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        features = self.second(self.part(self.first(images)))
        logits: Tensor = self.head(F.relu(features).mean(dim=(2, 3)))
        return logits


class Vectors(nn.Module):
    """The same of linear layers: the part reads (B, WIDTH)."""

    def __init__(self, part: nn.Module, num_classes: int = 5, width: int = WIDTH) -> None:
        super().__init__()
        self.first, self.part = nn.Linear(64, WIDTH), part
        self.second, self.head = nn.Linear(width, WIDTH), nn.Linear(WIDTH, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(F.relu(self.second(self.part(F.relu(self.first(images.flatten(1)))))))
        return logits


class Tokens(nn.Module):
    """The same of linear layers at each of eight tokens: the part reads (B, 8, WIDTH)."""

    def __init__(self, part: nn.Module, num_classes: int = 5, width: int = WIDTH) -> None:
        super().__init__()
        self.first, self.part = nn.Linear(8, WIDTH), part
        self.second, self.head = nn.Linear(width, WIDTH), nn.Linear(WIDTH, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.part(F.relu(self.first(images[:, 0])))
        logits: Tensor = self.head(F.relu(self.second(tokens)).mean(dim=1))
        return logits


class Series(nn.Module):
    """The same of one-dimensional convolutions."""

    def __init__(self, part: nn.Module, num_classes: int = 5, width: int = WIDTH) -> None:
        super().__init__()
        self.first, self.part = nn.Conv1d(8, WIDTH, 3, padding=1), part
        self.second, self.head = nn.Conv1d(width, WIDTH, 3, padding=1), nn.Linear(WIDTH, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(F.relu(self.second(self.part(self.first(images[:, 0])))).mean(dim=2))
        return logits


class Volumes(nn.Module):
    """The same of three-dimensional convolutions."""

    def __init__(self, part: nn.Module, num_classes: int = 5, width: int = WIDTH) -> None:
        super().__init__()
        self.first, self.part = nn.Conv3d(1, WIDTH, 3, padding=1), part
        self.second, self.head = nn.Conv3d(width, WIDTH, 3, padding=1), nn.Linear(WIDTH, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        cubes = images.reshape(-1, 1, 4, 4, 4)
        logits: Tensor = self.head(F.relu(self.second(self.part(self.first(cubes)))).mean(dim=(2, 3, 4)))
        return logits


class Code(nn.Module):
    """A part that is a function of its input alone."""

    def __init__(self, compute: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.compute = compute

    def forward(self, x: Tensor) -> Tensor:
        return self.compute(x)


class Scale(nn.Module):
    """A learned (or buffered) number for each channel, multiplied or added."""

    def __init__(self, *shape: int, adds: bool = False, views: bool = False, trained: bool = True) -> None:
        super().__init__()
        numbers = torch.rand(shape) + 0.5
        if trained:
            self.numbers = nn.Parameter(numbers)
        else:
            self.register_buffer("numbers", numbers)
        self.adds, self.views = adds, views

    def forward(self, x: Tensor) -> Tensor:
        numbers = self.numbers[None, :, None, None] if self.views else self.numbers
        return x + numbers if self.adds else numbers * x


class Standardised(nn.Conv2d):
    """A convolution whose forward standardises its weight (Qiao et al., 2019)."""

    def forward(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(self.weight, dim=(1, 2, 3), keepdim=True)
        weight = (self.weight - mean) * torch.rsqrt(variance + 1e-5)
        return F.conv2d(x, weight, self.bias, padding=1)


class Standardising(nn.Module):
    """The same as a parametrisation."""

    def forward(self, weight: Tensor) -> Tensor:
        variance, mean = torch.var_mean(weight, dim=(1, 2, 3), keepdim=True)
        return (weight - mean) * torch.rsqrt(variance + 1e-5)


class Recurrent(nn.Module):
    """The last output of a recurrent layer."""

    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.layer = kind(WIDTH, WIDTH, batch_first=True)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.layer(tokens)[0]


class Cell(nn.Module):
    """A recurrent cell that is called once."""

    def __init__(self, kind: type[nn.RNNCellBase]) -> None:
        super().__init__()
        self.cell = kind(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        made = self.cell(x)
        return made[0] if isinstance(made, tuple) else made


class Twice(nn.Module):
    """A layer of two inputs that gets the same one twice."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x, x)


class Attention(nn.Module):
    def __init__(self, **settings: bool) -> None:
        super().__init__()
        self.layer = nn.MultiheadAttention(WIDTH, 2, batch_first=True, **settings)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.layer(tokens, tokens, tokens, need_weights=False)[0]


class LookedUp(nn.Module):
    """Embeddings of what a feature is rounded to."""

    def __init__(self, table: nn.Module) -> None:
        super().__init__()
        self.table = table

    def forward(self, x: Tensor) -> Tensor:
        rounded = (x[:, :4].abs() * 10).long().clamp(max=9)
        found = self.table(rounded)
        return found.mean(dim=1) if found.dim() == 3 else found


class Residual(nn.Module):
    def __init__(self, *parts: nn.Module) -> None:
        super().__init__()
        self.inner = nn.Sequential(*parts)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.inner(x))


class Gate(nn.Module):
    """Squeeze and excitation."""

    def __init__(self) -> None:
        super().__init__()
        self.squeeze, self.excite = nn.Conv2d(WIDTH, 6, 1), nn.Conv2d(6, WIDTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.excite(F.relu(self.squeeze(x.mean(dim=(2, 3), keepdim=True)))))


class Beside(nn.Module):
    """The input and what a layer makes of it, side by side."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.layer(x)], dim=1)


class Auxiliary(Frame):
    """A second head in training mode, which a loss of the user's reads."""

    def __init__(self, num_classes: int = 5, *, joins: bool = False) -> None:
        super().__init__(nn.ReLU(), num_classes)
        self.auxiliary, self.joins = nn.Linear(WIDTH, num_classes), joins

    def forward(self, images: Tensor) -> Tensor:
        features = self.part(self.first(images))
        logits: Tensor = self.head(F.relu(self.second(features)).mean(dim=(2, 3)))
        if not self.training:
            return logits
        other = self.auxiliary(features.mean(dim=(2, 3)))
        return logits + other if self.joins else (logits, other)


class InTraining(nn.Module):
    """Something else in training mode."""

    def __init__(self, compute: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.compute = compute

    def forward(self, x: Tensor) -> Tensor:
        return self.compute(x) if self.training else x


class Unregistered(nn.Module):
    """A layer or a weight in a plain list or dictionary, which torch does not see."""

    def __init__(self, hidden: list[nn.Module] | dict[str, nn.Parameter]) -> None:
        super().__init__()
        self.activation = nn.ReLU()
        self.seen = [self.activation, nn.ReLU()]  # without weights, or seen by another name
        self.hidden = hidden

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self.hidden, dict):
            return self.activation(x) * self.hidden["scale"]
        for layer in [*self.seen, *self.hidden]:
            x = layer(x)
        return x


class Reshaping(nn.Module):
    """A network of convolution and linear layers between which the code has the number of features."""

    def __init__(self, num_classes: int = 5) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, WIDTH, 3), nn.Conv2d(WIDTH, 16, 2)
        self.hidden, self.head = nn.Linear(16 * 5 * 5, WIDTH), nn.Linear(WIDTH, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        features = F.relu(self.second(F.relu(self.first(images)))).view(-1, 16 * 5 * 5)
        logits: Tensor = self.head(F.relu(self.hidden(features)))
        return logits


class Flattened(Reshaping):
    def forward(self, images: Tensor) -> Tensor:
        features = F.relu(self.second(F.relu(self.first(images)))).flatten(1)
        logits: Tensor = self.head(F.relu(self.hidden(features)))
        return logits


class Tied(nn.Module):
    """Two layers have one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = (nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False) for _ in range(2))
        self.other.weight = self.one.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.other(F.relu(self.one(F.relu(x))))


class Silent(nn.Module):
    """A layer that nothing calls."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x)


def scaled_by_count(x: Tensor) -> Tensor:
    return x * (16 / x.shape[1])


def with_noise(x: Tensor) -> Tensor:
    return x + 0.1 * torch.randn_like(x)


def without_bias(make: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """The network with convolutions without bias, in which zeros give zeros."""

    def made(num_classes: int = 5) -> nn.Module:
        model = make(num_classes)
        model.first.bias = model.second.bias = None
        return model

    return made
