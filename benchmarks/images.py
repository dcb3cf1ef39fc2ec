"""What benchmarks train on: the images of the digits task, or random ones for networks that read photographs."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from tailor.catalogue.networks import NETWORKS
from tailor.config.trial import TrialConfig
from tailor.data.task_data import Samples, splits
from tailor.methods.recipe import Recipe
from tailor.methods.transtailor import TransTailor

SEED = 0
CLASSES = 5  # of the digits task; random labels are of as many
PIXELS = 96  # of photographs where the size does not matter


def training_images(network: str, photographs: int) -> Samples:
    """The training images of the digits task, or this many random images if the network reads photographs."""
    channels = NETWORKS[network].input_shape[0]
    if channels == 3:
        return random_images((photographs, channels, PIXELS, PIXELS), CLASSES)
    return splits(Recipe(TrialConfig(method=TransTailor())).task).train


def random_images(shape: tuple[int, ...], classes: int, crop_px: int | None = None) -> Samples:
    """Random uint8 images of a shape (N, C, H, W) with random labels; of which the network sees a crop of `crop_px`."""
    random = torch.Generator().manual_seed(SEED)
    return Samples(
        images=torch.randint(0, 256, shape, generator=random, dtype=torch.uint8),
        labels=torch.randint(0, classes, shape[:1], generator=random),
        ids=torch.arange(shape[0]),
        crop_px=crop_px,
    )


class Photographs(Dataset[tuple[Tensor, Tensor]]):
    """The images as torchvision's users load them: one after the other, each through the transforms."""

    def __init__(self, samples: Samples, transforms: v2.Transform) -> None:
        self._images, self._labels, self._transforms = samples.images, samples.labels, transforms

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self._transforms(self._images[index]), self._labels[index]


def normalisation(*crops: v2.Transform) -> v2.Compose:
    """Torchvision's transforms from uint8 images to what networks see."""
    return v2.Compose([*crops, v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5], [0.5])])


def loader_of(
    samples: Samples, crop_px: int, batch: int, workers: int, device: torch.device
) -> Iterable[tuple[Tensor, Tensor]]:
    """Torchvision's random crops and mirrorings in a DataLoader, its workers kept from epoch to epoch."""
    return DataLoader(
        Photographs(samples, normalisation(v2.RandomCrop(crop_px), v2.RandomHorizontalFlip())),
        batch,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=device.type == "cuda",
    )


def finish(device: torch.device) -> None:
    """Wait until the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
