"""What scores filters in the place of the target's images: the source's, and controls made of the target's own.

Each control takes away one thing: `shuffled` which image has which label, `scrambled` all shapes (each image keeps its
amplitudes at every frequency, hence its colours and textures' scales), `noise` everything but the mean and covariance
of the colours. Shapes: N samples, C channels, H height, W width.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor

from tailor.data import task_data
from tailor.data.task_data import Samples
from tailor.stages import Task

BATCH = 64


@lru_cache(maxsize=4)
def train_samples(task: Task, root: str | None = None) -> Samples:
    """Return what `task.images` says in the place of the target's training images, as many as these."""
    own = task_data.splits(replace(task, images="target", images_seed=None), root).train
    assert task.images_seed is not None
    numbers = task_data.generator(task.images_seed, task.images)
    if task.images == "source":
        return drawn(task_data.source(task.name, root, task.crop_px), len(own), numbers)
    return MAKERS[task.images](own, numbers)


def drawn(samples: Samples, count: int, numbers: torch.Generator) -> Samples:
    """Return `count` of the samples, drawn without repetition."""
    return samples.take(torch.randperm(len(samples), generator=numbers)[:count])


def shuffled(samples: Samples, numbers: torch.Generator) -> Samples:
    """Return the samples with their labels permuted: each class has as many as before."""
    return replace(samples, labels=samples.labels[torch.randperm(len(samples), generator=numbers)])


def scrambled(samples: Samples, numbers: torch.Generator) -> Samples:
    """Return the samples with other phases: those of an image's channels are turned by the phases of one white noise.

    So the channels keep their correlation at each frequency, and with it the image's colours.
    """

    def turn(images: Tensor) -> Tensor:
        white = torch.randn((len(images), 1, *images.shape[2:]), generator=numbers)
        phases = torch.fft.rfft2(white).angle()
        phases[..., 0, 0] = 0.0  # the mean stays, with its sign
        spectrum = torch.fft.rfft2(images) * torch.polar(torch.ones_like(phases), phases)
        turned: Tensor = torch.fft.irfft2(spectrum, s=images.shape[2:])
        return turned

    return _redrawn(samples, turn)


def noise(samples: Samples, numbers: torch.Generator) -> Samples:
    """Return images of independent normal pixels with the colours' mean (C,) and covariance (C, C), with the labels."""
    channels = samples.images.shape[1]
    sums = torch.zeros(channels).double()
    products = torch.zeros(channels, channels).double()
    pixels = 0
    for images in _float_images(samples):
        colours = images.transpose(0, 1).flatten(1).double()  # (C, pixels)
        sums += colours.sum(dim=1)
        products += colours @ colours.T
        pixels += colours.shape[1]
    mean = sums / pixels
    covariance = products / pixels - torch.outer(mean, mean)
    values, vectors = torch.linalg.eigh(covariance)
    root = (vectors * values.clamp(min=0.0).sqrt() @ vectors.T).float()  # the symmetric one, of which there is one

    def draw(images: Tensor) -> Tensor:
        white = torch.randn(images.shape, generator=numbers)
        return torch.einsum("cd,ndhw->nchw", root, white) + mean.float()[:, None, None]

    return _redrawn(samples, draw)


MAKERS: dict[str, Callable[[Samples, torch.Generator], Samples]] = {
    "noise": noise, "scrambled": scrambled, "shuffled": shuffled,
}  # fmt: skip


def _redrawn(samples: Samples, change: Callable[[Tensor], Tensor]) -> Samples:
    """Return the samples with other images: `change` gets some as numbers, and what it returns is rounded and cut."""
    is_float = samples.images.is_floating_point()
    parts = []
    for images in _float_images(samples):
        changed = change(images)
        parts.append(changed if is_float else changed.round().clamp(0, 255).to(torch.uint8))
    return replace(samples, images=torch.cat(parts), rows=None)


def _float_images(samples: Samples) -> Iterator[Tensor]:
    """Yield the images in order, some at a time: (N, C, H, W) float32."""
    for indices in torch.arange(len(samples)).split(BATCH):
        yield samples.fetch_images(indices).float()
