"""A user's module with networks that have one fault each; all read images (B, 1, 8, 8)."""

from pathlib import Path
from typing import Any

from tailor.config.parsing import parse_trial
from tailor.config.trial import TrialConfig
from tailor.execution.plugins import load

SOURCE = """
from dataclasses import replace

from tailor.facts.networks import NetworkInfo
from tailor.extend import NETWORKS

WIDTH = 24


def stack(*layers, num_classes):
    from torch import nn

    ends = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTH, num_classes)]
    first = [nn.Conv2d(1, WIDTH, 3, padding=1), nn.BatchNorm2d(WIDTH), nn.ReLU()]
    second = [nn.Conv2d(WIDTH, WIDTH, 3, padding=1), nn.BatchNorm2d(WIDTH), nn.ReLU()]
    return nn.Sequential(*first, *second, *layers, *ends)


def plain(num_classes):
    return stack(num_classes=num_classes)


def frozen(num_classes, *parts):
    network = plain(num_classes)
    for part in parts or ("0.weight", "0.bias", "1.weight", "3.weight"):
        network.get_parameter(part).requires_grad_(False)
    return network


def frozen_head(num_classes):
    return frozen(num_classes, "8.weight")


def unused(num_classes):
    from torch import nn

    network = plain(num_classes)
    network.append(nn.Identity())
    network[-1].spare = nn.Linear(3, 4)
    return network


def shared(num_classes):
    from torch import nn

    network = plain(num_classes)
    return nn.Sequential(*network[:3], *network[3:6], network[3], *network[6:])


def norm_of_vectors(num_classes):
    from torch import nn

    return stack(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(WIDTH), num_classes=num_classes)


def plain_norm(num_classes):
    from torch import nn

    return stack(nn.BatchNorm2d(WIDTH, affine=False), num_classes=num_classes)


def mixed(num_classes):
    from torch import nn

    layers = [nn.Conv2d(1, WIDTH, 3), nn.GroupNorm(2, WIDTH), nn.Flatten(), nn.Linear(WIDTH * 36, num_classes)]
    return nn.Sequential(*layers)


def pair(num_classes):
    from torch import nn

    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = plain(num_classes)
            self.body[8] = nn.Identity()
            self.head = nn.Linear(WIDTH, num_classes)

        def forward(self, images):
            made = self.head(self.body(images))
            return (made, made) if self.training else made

    return Pair()


def broken(num_classes):
    from torch import nn

    return stack(nn.Linear(7, WIDTH), num_classes=num_classes)


def branching(num_classes):
    from torch import nn

    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = plain(num_classes)

        def forward(self, images):
            return self.body(images if images.sum() > 0 else -images)

    return Branching()


def of_code(computed):
    # Two convolutions; features computed by code from the maps of the second one.
    from torch import nn

    class OfCode(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(1, WIDTH, 3, padding=1), nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
            self.head = nn.Linear(WIDTH, 5)

        def forward(self, images):
            maps = self.second(self.first(images).relu()).relu()
            return self.head(computed(maps.mean(dim=(2, 3), keepdim=True)))

    return OfCode()


def fixed(num_classes):
    return of_code(lambda maps: maps.view(-1, WIDTH))


def scaled(num_classes):
    return of_code(lambda maps: maps.flatten(1) * (WIDTH / maps.shape[1]))


def softmaxed(num_classes):
    from torch import nn

    return plain(num_classes).append(nn.Softmax(dim=1))


def sigmoid(num_classes):
    from torch import nn

    return plain(num_classes).append(nn.Sigmoid())


def scripted(num_classes):
    import torch

    return torch.jit.script(plain(num_classes))


def half(num_classes):
    return plain(num_classes).half()


def infinite(num_classes):
    network = plain(num_classes)
    network[3].weight.data[0] = float("inf")
    return network


def detached(num_classes):
    network = plain(num_classes)
    network[8].register_forward_hook(lambda layer, images, made: made.detach())
    return network


def held(num_classes):
    network = plain(num_classes)
    network[7].register_forward_hook(lambda layer, images, made: made.detach())
    return network


def with_two_heads(num_classes):
    # Its outputs are the mean of both; the record's head is the second.
    from torch import nn

    class TwoHeads(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = plain(num_classes)
            self.body[8] = nn.Identity()
            self.first, self.second = nn.Linear(WIDTH, num_classes), nn.Linear(WIDTH, num_classes)

        def forward(self, images):
            features = self.body(images)
            return (self.first(features) + self.second(features)) / 2

    return TwoHeads()


def of_distances(num_classes):
    # Multiplies by a weight in an operation that is not counted.
    import torch
    from torch import nn

    class OfDistances(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = plain(num_classes)
            self.body[8] = nn.Identity()
            self.centres, self.head = nn.Parameter(torch.rand(7, WIDTH)), nn.Linear(7, num_classes)

        def forward(self, images):
            return self.head(torch.cdist(self.body(images), self.centres))

    return OfDistances()


def without_classes():
    return plain(5)


def no_module(num_classes):
    return plain(num_classes).state_dict()


HEADS = {"branching": "body.8", "mixed": "3", "pair": "head", "broken": "9", "norm_of_vectors": "10", "plain_norm": "9"}
def with_classes_last(num_classes):
    # A second head of its own, whose weight is (features, classes).
    import torch
    from torch import nn

    class ClassesLast(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = plain(num_classes)
            self.body[8] = nn.Identity()
            self.head, self.second = nn.Linear(WIDTH, num_classes), nn.Parameter(torch.rand(WIDTH, num_classes))

        def forward(self, images):
            features = self.body(images)
            return self.head(features) + features @ self.second

    return ClassesLast()


HEADS |= {"fixed": "head", "scaled": "head", "shared": "9", "with_two_heads": "second", "of_distances": "head"}
BUILDERS = (plain, frozen, frozen_head, unused, norm_of_vectors, plain_norm, mixed, pair, broken, branching)
BUILDERS += (fixed, scaled, shared, softmaxed, sigmoid, scripted, half, infinite, detached, held)
BUILDERS += (with_two_heads, of_distances)
HEADS["with_classes_last"] = "head"
for builder in (*BUILDERS, without_classes, no_module, with_classes_last):
    name = builder.__name__
    head = HEADS.get(name, "8")
    NETWORKS.add(name, NetworkInfo(description="", builder=builder, head=head, input_shape=(1, 8, 8), macs=1))
NETWORKS.add("headless", replace(NETWORKS["plain"], head="9"))
NETWORKS.add("of_other_inputs", replace(NETWORKS["plain"], input_shape=[3, 8, 8]))
"""


def load_networks(folder: Path) -> None:
    """Import the module as `--import` does."""
    file = folder / "networks_of_a_user.py"
    file.write_text(SOURCE)
    load(file)


def trial_of(network: str, method: dict[str, Any], **settings: Any) -> TrialConfig:
    """A trial of a few steps; `settings` replace whole tables of it."""
    tables = {
        "source": {"epochs": 1, "batch_size": 256},
        "optimisation": {"epochs": 1, "head_epochs": 1, "batch_size": 64},
        "pruning": {"residual": "coupled", "linear": True},
    }
    return parse_trial(tables | {"network": network, "method": method} | settings, "test")
