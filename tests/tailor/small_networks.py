"""Networks of a few filters, each with one way in which layers hang together. All take images (B, 3, 8, 8)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def conv(before: int, after: int, *, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, padding=1, groups=groups)


class Small(nn.Module):
    """The end that all have: pooling and a head; `features` makes `width` channels."""

    width = 8

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.act = conv(3, 8), nn.BatchNorm2d(8), nn.ReLU()
        self.second, self.third = conv(8, 8), conv(8, 8)
        self.head = nn.Linear(self.width, 5)

    def features(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(self.act(self.norm(self.first(images)))).mean(dim=(2, 3)))
        return logits


class Chain(Small):
    def features(self, x: Tensor) -> Tensor:
        return F.relu(self.third(F.relu(self.second(x))))


class Flattened(Small):
    width = 8 * 4 * 4

    def features(self, x: Tensor) -> Tensor:
        return F.max_pool2d(self.second(x), 2).flatten(1)[:, :, None, None]


class Dense(Small):
    """What a layer puts out is read by several, beside others' outputs."""

    width = 24

    def __init__(self) -> None:
        super().__init__()
        self.third, self.all_norm = conv(16, 8), nn.BatchNorm2d(24)

    def features(self, x: Tensor) -> Tensor:
        both = torch.cat([x, self.second(x)], dim=1)
        return F.relu(self.all_norm(torch.cat([self.third(both), both], dim=1)))


class Skip(Small):
    """The outputs of `first` and `third` are added."""

    def features(self, x: Tensor) -> Tensor:
        return self.third(F.relu(self.second(x))) + x


class Gated(Small):
    """Squeeze and excitation: `excite` makes a factor for each channel of `second`."""

    def __init__(self) -> None:
        super().__init__()
        self.squeeze, self.excite = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)

    def features(self, x: Tensor) -> Tensor:
        x = self.second(x)
        gate = torch.sigmoid(self.excite(F.relu(self.squeeze(F.adaptive_avg_pool2d(x, 1)))))
        return F.relu(self.third(gate * x))


class Depthwise(Small):
    """A depthwise convolution that makes two channels of each."""

    def __init__(self) -> None:
        super().__init__()
        self.second, self.deep_norm, self.third = conv(8, 16, groups=8), nn.BatchNorm2d(16), conv(16, 8)

    def features(self, x: Tensor) -> Tensor:
        return self.third(F.hardswish(self.deep_norm(self.second(x))))


class Grouped(Small):
    """A convolution in two groups: it cannot lose one channel of one group."""

    def __init__(self) -> None:
        super().__init__()
        self.second = conv(8, 8, groups=2)

    def features(self, x: Tensor) -> Tensor:
        return self.third(self.second(x))


class Halves(Small):
    """The channels are cut into halves, so which channel is in which half depends on how many there are."""

    def __init__(self) -> None:
        super().__init__()
        self.third = conv(4, 8)

    def features(self, x: Tensor) -> Tensor:
        left, right = self.second(x).chunk(2, dim=1)
        return self.third(left) + self.third(right)


class Shuffled(Small):
    """Channels in two groups, transposed, as in ShuffleNet."""

    def features(self, x: Tensor) -> Tensor:
        x = self.second(x)
        return self.third(x.view(-1, 2, 4, 8, 8).transpose(1, 2).flatten(1, 2))


class Shared(Small):
    """One layer called twice: `second` reads `first` and itself, so they lose filters together."""

    def features(self, x: Tensor) -> Tensor:
        return self.third(self.second(self.second(x)))


class Tokens(Small):
    """Positions as tokens: attention and LayerNorm keep all, the hidden layer behind them need not."""

    def __init__(self) -> None:
        super().__init__()
        self.attention, self.layer_norm = nn.MultiheadAttention(8, 2, batch_first=True), nn.LayerNorm(8)
        self.up, self.gelu, self.down = nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8)

    def features(self, x: Tensor) -> Tensor:
        tokens = self.second(x).flatten(2).transpose(1, 2)
        tokens = tokens + self.attention(tokens, tokens, tokens, need_weights=False)[0]
        tokens = tokens + self.down(self.gelu(self.up(self.layer_norm(tokens))))
        return tokens.transpose(1, 2)[..., None]


class MixedTokens(Small):
    """A linear layer mixes positions, each channel by itself, and nothing says how many channels there are."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(64, 64)

    def features(self, x: Tensor) -> Tensor:
        tokens = self.second(x).flatten(2)
        return (tokens + self.mix(tokens))[..., None]


class Regression(nn.Module):
    """Linear layers with a norm; reads flattened images."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.norm, self.act = nn.Linear(192, 8), nn.BatchNorm1d(8), nn.Tanh()
        self.head = nn.Linear(8, 5)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.act(self.norm(self.hidden(images.flatten(1)))))
        return logits


class Padded(Small):
    """Rows and columns are added, taken away and moved; channels are not."""

    def features(self, x: Tensor) -> Tensor:
        x = F.pad(self.second(x), (1, 2, 0, 1)).roll(1, dims=2)[:, :, 1:]
        return self.third(F.interpolate(x, scale_factor=2.0))


class Bypassed(Small):
    """The weight of `second` is used without calling `second`."""

    def features(self, x: Tensor) -> Tensor:
        return self.third(F.conv2d(x, self.second.weight, self.second.bias, padding=1))


class Tied(Small):
    """Two layers have one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.second, self.third = (nn.Conv2d(8, 8, 3, padding=1, bias=False) for _ in range(2))
        self.third.weight = self.second.weight

    def features(self, x: Tensor) -> Tensor:
        return self.third(F.relu(self.second(x)))


class SharedNorm(Small):
    """One norm stands behind two layers, whose outputs are added."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.BatchNorm2d(8)

    def features(self, x: Tensor) -> Tensor:
        return F.relu(self.shared(self.second(x)) + self.shared(self.third(x)))


class Scaled(Small):
    """A parameter of the network itself multiplies the channels of `second`."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.rand(8, 1, 1))

    def features(self, x: Tensor) -> Tensor:
        return self.third(self.scale * self.second(x))


class ChannelsLast(Small):
    """Flattened so that one position's channels lie beside each other."""

    width = 8 * 4 * 4

    def features(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(self.second(x), 2).permute(0, 2, 3, 1).flatten(1)[:, :, None, None]


class Partial(Small):
    """`third` is added to `first` and `second` side by side."""

    width = 16

    def __init__(self) -> None:
        super().__init__()
        self.third = conv(8, 16)

    def features(self, x: Tensor) -> Tensor:
        return self.third(x) + torch.cat([x, self.second(x)], dim=1)


class Pooled(Small):
    """Attention whose query is made from a parameter alone gathers the positions, as in SigLIP."""

    def __init__(self) -> None:
        super().__init__()
        self.latent, self.query, self.key = nn.Parameter(torch.rand(1, 1, 8)), nn.Linear(8, 8), nn.Linear(8, 8)

    def features(self, x: Tensor) -> Tensor:
        tokens = self.second(x).flatten(2).transpose(1, 2)
        query = self.query(self.latent.expand(len(x), -1, -1))
        pooled = F.scaled_dot_product_attention(query, self.key(tokens), tokens)
        return self.third(pooled.transpose(1, 2)[..., None])
