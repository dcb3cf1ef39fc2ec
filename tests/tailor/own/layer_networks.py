"""Small networks that between them use every layer class of torch.nn with weights, and what pruning does with each.

All read images (B, 1, 8, 8). Each is a frame (two convolutions, or two linear layers, and a head) around one part.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize
from torch.nn.utils import spectral_norm as old_spectral_norm
from torch.nn.utils import weight_norm as old_weight_norm
from torchvision.ops import FrozenBatchNorm2d

Part = Callable[[], nn.Module]
WIDTH = 24


@dataclass(frozen=True)
class Case:
    """A network and the verdict on it."""

    make: Callable[..., nn.Module]  # num_classes -> the network
    prunes: str = ""  # names of the groups that can lose filters, in the order of the network
    why: Mapping[str, str] = field(default_factory=dict)  # layer -> a part of the reason why it keeps its filters
    refused: str = ""  # a part of the message, where the whole network is refused
    refused_in_trial: str = ""  # the same where only a trial is refused
    removes: float = 0.2  # of its MACs
    uncounted_macs: int = 0  # by hand, of one image: what torch's counter leaves out on a CPU


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


def conv(**settings: Any) -> nn.Conv2d:
    return nn.Conv2d(WIDTH, WIDTH, 3, **{"padding": 1} | settings)


def standardising() -> nn.Module:
    layer = conv()
    parametrize.register_parametrization(layer, "weight", Standardising())
    return layer


def frozen(part: nn.Module) -> nn.Module:
    return part.requires_grad_(False)


def framed(
    frame: Callable[..., nn.Module], make_part: Callable[[], nn.Module], **settings: int
) -> Callable[..., nn.Module]:
    """The network of a frame around a new part."""

    def make(num_classes: int = 5) -> nn.Module:
        return frame(make_part(), num_classes, **settings)

    return make


def parts_of(frame: Callable[..., nn.Module], parts: Mapping[str, Part], **verdict: Any) -> dict[str, Case]:
    """Cases of one frame and one verdict."""
    return {name: Case(framed(frame, part), **verdict) for name, part in parts.items()}


def zeros_last(make: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """The network with a head of zeros, as some start: its outputs do not depend on anything."""

    def made(num_classes: int = 5) -> nn.Module:
        model = make(num_classes)
        nn.init.zeros_(model.get_parameter("head.weight"))
        return model

    return made


BOTH, SECOND, WITH_PART = "first second", "second", "first part second"
ONLY = "only convolutions and linear layers"
COMPUTED = {"first": "part, whose code computes its weight", "part": "its code computes its weight"}
BEHIND = "all of its outputs are needed behind it: "
KEEP_CHANNELS_APART: dict[str, Part] = {
    name: getattr(nn, name)
    for name in [
        *("ReLU", "LeakyReLU", "PReLU", "ReLU6", "ELU", "SELU", "CELU", "GELU", "SiLU", "Mish", "Softplus", "Sigmoid"),
        *("Hardsigmoid", "Hardswish", "Hardtanh", "Hardshrink", "Softshrink", "Softsign", "Tanh", "Tanhshrink"),
        *("Dropout", "Dropout2d", "AlphaDropout", "FeatureAlphaDropout", "Identity"),
    ]
}
KEEP_CHANNELS_APART |= {
    "Threshold": lambda: nn.Threshold(0.1, 0.3),  # which makes 0.3 of zero
    "PReLU of each channel": lambda: nn.PReLU(WIDTH),
    "BatchNorm2d": lambda: nn.BatchNorm2d(WIDTH),
    "BatchNorm2d without factors": lambda: nn.BatchNorm2d(WIDTH, affine=False),
    "BatchNorm2d without statistics": lambda: nn.BatchNorm2d(WIDTH, track_running_stats=False),
    "BatchNorm2d without both": lambda: nn.BatchNorm2d(WIDTH, affine=False, track_running_stats=False),
    "InstanceNorm2d": lambda: nn.Sequential(nn.InstanceNorm2d(WIDTH), nn.ReLU()),
    "InstanceNorm2d with factors": lambda: nn.Sequential(nn.InstanceNorm2d(WIDTH, affine=True), nn.ReLU()),
    "InstanceNorm2d with statistics": lambda: nn.InstanceNorm2d(WIDTH, track_running_stats=True),
    "InstanceNorm2d with both": lambda: nn.InstanceNorm2d(WIDTH, affine=True, track_running_stats=True),
    "GroupNorm of each channel": lambda: nn.Sequential(nn.GroupNorm(WIDTH, WIDTH), nn.ReLU()),
    "GroupNorm of each channel without factors": lambda: nn.GroupNorm(WIDTH, WIDTH, affine=False),
    "SyncBatchNorm": lambda: nn.SyncBatchNorm(WIDTH),
    "FrozenBatchNorm2d": lambda: nn.Sequential(FrozenBatchNorm2d(WIDTH), nn.ReLU()),
    "MaxPool2d": lambda: nn.MaxPool2d(2),
    "AvgPool2d": lambda: nn.AvgPool2d(2),
    "Upsample": lambda: nn.Upsample(scale_factor=2, mode="bilinear"),
    "ConstantPad2d": lambda: nn.ConstantPad2d(1, 0.5),
    "scale": lambda: Scale(WIDTH, 1, 1),
    "bias": lambda: nn.Sequential(Scale(WIDTH, 1, 1, adds=True), nn.ReLU()),
    "scale of a view": lambda: Scale(WIDTH, views=True),
    "scale that is a buffer": lambda: Scale(WIDTH, 1, 1, trained=False),
    "scale of one number": lambda: Scale(1),
    "unused": Silent,
}
MIX_CHANNELS: dict[str, tuple[Part, str]] = {
    "Softmax2d": (nn.Softmax2d, "softmax"),
    "GroupNorm of six groups": (lambda: nn.GroupNorm(6, WIDTH), "a norm over each 4 of its channels"),
    "GroupNorm of all channels": (lambda: nn.GroupNorm(1, WIDTH), "a norm over each 24 of its channels"),
    "LayerNorm of maps": (lambda: nn.LayerNorm([WIDTH, 8, 8]), "layer_norm"),
    "LocalResponseNorm": (lambda: nn.LocalResponseNorm(3), "pad"),
    "scale of positions": (lambda: Scale(1, 1, 8, 8), "a sum or product with values of no filter"),
    "ChannelShuffle": (lambda: nn.ChannelShuffle(2), "shuffle"),
    "mean over channels": (lambda: Code(lambda x: x - x.mean(1, keepdim=True)), "mean"),
    "grouped": (lambda: conv(groups=2), "a grouped convolution"),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(WIDTH, WIDTH, 2, stride=2), "convolution"),
    "ConvTranspose2d in groups": (lambda: nn.ConvTranspose2d(WIDTH, WIDTH, 2, stride=2, groups=2), "convolution"),
    "tied": (Tied, "its weight is another layer's, too"),
}
COMPUTE_THEIR_WEIGHT: dict[str, Part] = {
    "weight_norm": lambda: parametrizations.weight_norm(conv()),
    "weight_norm of hooks": lambda: old_weight_norm(conv()),
    "spectral_norm": lambda: parametrizations.spectral_norm(conv()),
    "spectral_norm of hooks": lambda: old_spectral_norm(conv()),
    "standardised": lambda: Standardised(WIDTH, WIDTH, 3),
    "standardised by a parametrisation": standardising,
}
OF_VECTORS: dict[str, Part] = {
    "BatchNorm1d of vectors": lambda: nn.BatchNorm1d(WIDTH),
    "PReLU of vectors": lambda: nn.PReLU(WIDTH),
    "Sigmoid of vectors": nn.Sigmoid,
}
OF_SERIES: dict[str, Part] = {
    "BatchNorm1d": lambda: nn.BatchNorm1d(WIDTH),
    "InstanceNorm1d": lambda: nn.InstanceNorm1d(WIDTH),
    "InstanceNorm1d with factors": lambda: nn.InstanceNorm1d(WIDTH, affine=True),
    "GroupNorm of a series": lambda: nn.GroupNorm(WIDTH, WIDTH),
    "PReLU of a series": lambda: nn.PReLU(WIDTH),
    "MaxPool1d": lambda: nn.MaxPool1d(2),
}
OF_VOLUMES: dict[str, Part] = {
    "BatchNorm3d": lambda: nn.BatchNorm3d(WIDTH),
    "InstanceNorm3d": lambda: nn.InstanceNorm3d(WIDTH, affine=True),
    "PReLU of a volume": lambda: nn.PReLU(WIDTH),
    "MaxPool3d": lambda: nn.MaxPool3d(2),
    "AvgPool3d": lambda: nn.AvgPool3d(2),
}
NORMS_OF_FEATURES: dict[str, Part] = {
    "LayerNorm": lambda: nn.LayerNorm(WIDTH),
    "LayerNorm without factors": lambda: nn.LayerNorm(WIDTH, elementwise_affine=False),
    "RMSNorm": lambda: nn.RMSNorm(WIDTH),
}


def of_tokens(kind: Callable[..., nn.Module], **settings: Any) -> Part:
    return lambda: kind(WIDTH, 2, 32, batch_first=True, dropout=0.0, **settings)


LSTM_MACS = 8 * 8 * WIDTH * WIDTH  # of eight tokens: four gates, each of the input and of the state before
CASES: dict[str, Case] = {
    **parts_of(Frame, KEEP_CHANNELS_APART, prunes=BOTH),
    **{name: Case(framed(Frame, part), SECOND, {"first": why}) for name, (part, why) in MIX_CHANNELS.items()},
    **parts_of(Frame, COMPUTE_THEIR_WEIGHT, prunes=SECOND, why=COMPUTED),
    "GLU": Case(framed(Frame, lambda: nn.GLU(1), width=WIDTH // 2), SECOND, {"first": "glu"}),
    "PixelShuffle": Case(framed(Frame, lambda: nn.PixelShuffle(2), width=WIDTH // 4), SECOND, {"first": "shuffle"}),
    "Conv2d": Case(framed(Frame, conv), WITH_PART),
    "depthwise": Case(framed(Frame, lambda: conv(groups=WIDTH)), BOTH),
    "depthwise, two of each": Case(
        framed(Frame, lambda: nn.Conv2d(WIDTH, 2 * WIDTH, 3, groups=WIDTH), width=2 * WIDTH), BOTH
    ),
    "residual": Case(framed(Frame, lambda: Residual(conv(), nn.ReLU(), conv())), "first part.inner.0 second"),
    "LayerScale": Case(framed(Frame, lambda: Residual(conv(), Scale(WIDTH, 1, 1))), BOTH),
    "gate": Case(framed(Frame, Gate), "first part.squeeze second"),
    "beside": Case(framed(Frame, lambda: Beside(conv()), width=2 * WIDTH), "first part.layer second"),
    "Linear": Case(framed(Vectors, lambda: nn.Linear(WIDTH, WIDTH)), WITH_PART),
    "Bilinear": Case(
        framed(Vectors, lambda: Twice(nn.Bilinear(WIDTH, WIDTH, WIDTH))),
        SECOND,
        {"first": "trilinear", "part.layer": ONLY},
        removes=0.02,
        uncounted_macs=WIDTH**3,
    ),
    "weight_norm of vectors": Case(
        framed(Vectors, lambda: parametrizations.weight_norm(nn.Linear(WIDTH, WIDTH))), SECOND, COMPUTED
    ),
    "Embedding": Case(framed(Vectors, lambda: LookedUp(nn.Embedding(10, WIDTH))), SECOND, {"part.table": ONLY}),
    "EmbeddingBag": Case(framed(Vectors, lambda: LookedUp(nn.EmbeddingBag(10, WIDTH))), SECOND, {"part.table": ONLY}),
    **{
        name: Case(framed(Vectors, partial(Cell, getattr(nn, name))), SECOND, {"part.cell": ONLY}, removes=0.05)
        for name in ("RNNCell", "GRUCell", "LSTMCell")
    },
    **parts_of(Vectors, OF_VECTORS, prunes=BOTH),
    **parts_of(Vectors, NORMS_OF_FEATURES, prunes=SECOND, why={"first": BEHIND}),
    "BatchNorm1d without both": Case(
        framed(Vectors, lambda: nn.BatchNorm1d(WIDTH, affine=False, track_running_stats=False)),
        refused="(one input alone|on 1 image).*more than 1 value per channel",
    ),
    "tokens": Case(framed(Tokens, nn.ReLU), BOTH),
    "MultiheadAttention": Case(framed(Tokens, Attention), SECOND, {"part.layer": ONLY}, removes=0.1),
    "TransformerEncoderLayer": Case(framed(Tokens, of_tokens(nn.TransformerEncoderLayer)), "part.linear1 second"),
    "TransformerDecoderLayer": Case(
        framed(Tokens, lambda: Twice(of_tokens(nn.TransformerDecoderLayer)())), "part.layer.linear1 second"
    ),
    "TransformerEncoder": Case(
        framed(Tokens, lambda: nn.TransformerEncoder(of_tokens(nn.TransformerEncoderLayer)(), 1)),
        "part.layers.0.linear1 second",
    ),
    "TransformerDecoder": Case(
        framed(Tokens, lambda: Twice(nn.TransformerDecoder(of_tokens(nn.TransformerDecoderLayer)(), 1))),
        "part.layer.layers.0.linear1 second",
    ),
    "Transformer": Case(
        framed(Tokens, lambda: Twice(nn.Transformer(WIDTH, 2, 1, 1, 32, 0.0, batch_first=True))),
        "part.layer.encoder.layers.0.linear1 part.layer.decoder.layers.0.linear1 second",
    ),
    "RNN": Case(framed(Tokens, partial(Recurrent, nn.RNN)), SECOND, {"part.layer": ONLY}),
    "GRU": Case(framed(Tokens, partial(Recurrent, nn.GRU)), SECOND, {"part.layer": ONLY}, removes=0.1),
    "LSTM": Case(
        framed(Tokens, partial(Recurrent, nn.LSTM)),
        SECOND,
        {"part.layer": ONLY},
        removes=0.05,
        uncounted_macs=LSTM_MACS,
    ),
    "Conv1d": Case(framed(Series, lambda: nn.Conv1d(WIDTH, WIDTH, 3)), WITH_PART),
    "ConvTranspose1d": Case(
        framed(Series, lambda: nn.ConvTranspose1d(WIDTH, WIDTH, 2, stride=2)), SECOND, {"part": ONLY}
    ),
    "weight_norm of a series": Case(
        framed(Series, lambda: parametrizations.weight_norm(nn.Conv1d(WIDTH, WIDTH, 3))), SECOND, COMPUTED
    ),
    **parts_of(Series, OF_SERIES, prunes=BOTH),
    "Conv3d": Case(framed(Volumes, lambda: nn.Conv3d(WIDTH, WIDTH, 3, padding=1)), WITH_PART),
    "ConvTranspose3d": Case(
        framed(Volumes, lambda: nn.ConvTranspose3d(WIDTH, WIDTH, 2, stride=2)), SECOND, {"part": ONLY}
    ),
    **parts_of(Volumes, OF_VOLUMES, prunes=BOTH),
    "lazy": Case(framed(Frame, lambda: nn.LazyConv2d(WIDTH, 3, padding=1)), refused="lazy layers"),
    "counts its filters": Case(
        without_bias(framed(Frame, lambda: Code(scaled_by_count))),
        refused="its code computes with the number of filters",
    ),
    "counts its filters before a last layer of zeros": Case(
        zeros_last(framed(Frame, lambda: Code(scaled_by_count))), refused="its code computes with the number of filters"
    ),
    "counts its filters in training": Case(
        framed(Frame, lambda: InTraining(scaled_by_count)),
        refused="in training mode.*its code computes with the number of filters",
    ),
    "draws": Case(framed(Frame, lambda: Code(with_noise)), SECOND, {"first": "randn"}),
    "draws in training": Case(framed(Frame, lambda: InTraining(with_noise)), BOTH),
    "reshapes": Case(Reshaping, "first hidden", {"second": "shape '[-1, 400]' is invalid"}),
    "flattens": Case(Flattened, "first second hidden"),
    "auxiliary output": Case(
        Auxiliary,
        SECOND,
        {"first": "in training mode", "auxiliary": "nothing calls it in evaluation mode"},
        refused_in_trial="2 images .* in training mode it makes a tuple",
    ),
    "auxiliary sum": Case(partial(Auxiliary, joins=True), SECOND, {"first": "in training mode"}),
    "frozen": Case(framed(Frame, lambda: nn.Sequential(frozen(conv()), nn.ReLU())), "first part.0 second"),
}
