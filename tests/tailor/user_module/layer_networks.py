"""Small networks that between them use every layer class of torch.nn with weights, and what pruning does with each.

Each is a frame (two convolutions, or two linear layers, and a head) around one part.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import nn, ones
from torch.nn.utils import parametrizations, parametrize
from torch.nn.utils import spectral_norm as old_spectral_norm
from torch.nn.utils import weight_norm as old_weight_norm
from torchvision.ops import FrozenBatchNorm2d

from tests.tailor.user_module.layer_parts import (
    WIDTH,
    Attention,
    Auxiliary,
    Beside,
    Cell,
    Code,
    Flattened,
    Frame,
    Gate,
    InTraining,
    LookedUp,
    Recurrent,
    Reshaping,
    Residual,
    Scale,
    Series,
    Silent,
    Standardised,
    Standardising,
    Tied,
    Tokens,
    Twice,
    Unregistered,
    Vectors,
    Volumes,
    scaled_by_count,
    with_noise,
    without_bias,
)

Part = Callable[[], nn.Module]


@dataclass(frozen=True)
class Case:
    """A network and the verdict on it."""

    make: Callable[..., nn.Module]  # num_classes -> the network
    prunes: str = ""  # names of the groups that can lose filters, in the order of the network
    why: Mapping[str, str] = field(default_factory=dict)  # layer -> a part of the reason why it keeps its filters
    refused: str = ""  # a part of the message, where the whole network is refused
    removes: float = 0.2  # of its MACs
    uncounted_macs: int = 0  # by hand, of one image: what torch's counter leaves out on a CPU


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
    "a layer that is not read": Silent,
}
MIX_CHANNELS: dict[str, tuple[Part, str]] = {
    "Softmax2d": (nn.Softmax2d, "combined with each other"),
    "GroupNorm of six groups": (lambda: nn.GroupNorm(6, WIDTH), "a norm over each 4 of its channels"),
    "GroupNorm of all channels": (lambda: nn.GroupNorm(1, WIDTH), "norms over channels"),
    "LayerNorm of maps": (lambda: nn.LayerNorm([WIDTH, 8, 8]), "layer_norm"),
    "LocalResponseNorm": (lambda: nn.LocalResponseNorm(3), "pad"),
    "scale of positions": (lambda: Scale(1, 1, 8, 8), "combined with each other"),
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
NORMS_OF_FEATURES: dict[str, tuple[Part, str]] = {
    "LayerNorm": (lambda: nn.LayerNorm(WIDTH), "norms over channels"),
    "LayerNorm without factors": (lambda: nn.LayerNorm(WIDTH, elementwise_affine=False), BEHIND),
    "RMSNorm": (lambda: nn.RMSNorm(WIDTH), "norms over channels"),
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
    "LayerScale": Case(framed(Frame, lambda: Residual(conv(), Scale(WIDTH, 1, 1))), BOTH, removes=0.3),
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
    **{name: Case(framed(Vectors, part), SECOND, {"first": why}) for name, (part, why) in NORMS_OF_FEATURES.items()},
    "BatchNorm1d without both": Case(
        framed(Vectors, lambda: nn.BatchNorm1d(WIDTH, affine=False, track_running_stats=False)),
        refused="one input alone.*more than 1 value per channel",
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
    "layers in a list": Case(
        framed(Frame, lambda: Unregistered([nn.Conv2d(WIDTH, WIDTH, 3, padding=1)])),
        refused=r"part.hidden is a list .*neither trains nor saves; write torch.nn.ModuleList\(...\)",
    ),
    "weights in a dictionary": Case(
        framed(Frame, lambda: Unregistered({"scale": nn.Parameter(ones(1))})),
        refused=r"part.hidden is a dict .*; write torch.nn.ParameterDict\(...\)",
    ),
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
    ),
    "auxiliary sum": Case(partial(Auxiliary, joins=True), SECOND, {"first": "in training mode"}),
    "a frozen layer": Case(framed(Frame, lambda: nn.Sequential(frozen(conv()), nn.ReLU())), "first part.0 second"),
}
