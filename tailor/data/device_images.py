"""The images of a trial while it runs: on its GPU if they fit, otherwise on the host, in the memory map.

In both cases a batch is cropped, mirrored and normalised on the device that trains, from the same uint8 pixels by the
same draws. So the place of the images changes no pixel.
"""

import logging
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from tailor.data.task_data import Samples

RESIDENT_FRACTION = 0.5  # of the free memory of the device; the other half is for networks
log = logging.getLogger(__name__)


def fits(images_bytes: int, free_bytes: int) -> bool:
    """Whether images are kept on a device with this much free memory: they take at most half of it.

    >>> fits(images_bytes=4_000, free_bytes=10_000), fits(images_bytes=6_000, free_bytes=10_000)
    (True, False)
    """
    return images_bytes <= RESIDENT_FRACTION * free_bytes


def free_on(device: torch.device) -> int:
    """Return how many bytes of a GPU no tensor of this process or another one holds."""
    free_bytes, _ = torch.cuda.mem_get_info(device)
    return free_bytes + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


class DeviceImages:
    """The images of one trial on its device: each tensor of images is moved once, at its first use, or never.

    Args:
        device: the device of fetched samples.
        free_bytes: gives the free memory of a device before images are moved.
    """

    def __init__(self, device: torch.device, free_bytes: Callable[[torch.device], int] = free_on) -> None:
        self._device = device
        self._free_bytes = free_bytes
        # By `id` of the original images: these, kept so that their id is not used again, and where they are now.
        self._placed: dict[int, tuple[Tensor, Tensor]] = {}

    def place(self, samples: Samples) -> Samples:
        """Return the same samples with `device` set: their batches are fetched to it, wherever the images stay."""
        images = self._placed_images(samples.images)
        return replace(
            samples,
            images=images,
            labels=samples.labels.to(images.device),
            ids=samples.ids.to(images.device),
            rows=None if samples.rows is None else samples.rows.to(images.device),
            device=self._device,
        )

    def _placed_images(self, images: Tensor) -> Tensor:
        if images.device == self._device:
            return images
        if id(images) not in self._placed:
            self._placed[id(images)] = (images, self._move(images))
        _original, placed = self._placed[id(images)]
        return placed

    def _move(self, images: Tensor) -> Tensor:
        """Return the images on the device if they fit; otherwise return them as they are."""
        free_bytes = self._free_bytes(self._device)
        if fits(images.nbytes, free_bytes):
            return images.to(self._device)
        log.info("%d bytes of images stay on the host: %s has %d free", images.nbytes, self._device, free_bytes)
        return images
