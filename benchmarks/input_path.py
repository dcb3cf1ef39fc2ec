"""Images per second of our batches, cropped, mirrored and normalised, compared with torchvision in a DataLoader.

    python benchmarks/input_path.py                     # about two minutes
    python benchmarks/input_path.py --quick             # about half a minute
    python benchmarks/input_path.py --device cuda       # on a GPU: images from its memory, and from the memory map

Both sides read the same uint8 images from the same memory map and take turns; the batches are not used. First, the
centres of the images are compared, to check that both normalise in the same way.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the repository instead of this folder

import statistics
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import v2

from benchmarks.images import Photographs, finish, loader_of, normalisation
from benchmarks.record import Row, beside, parser_of, table_of, write
from tailor.data.device_images import DeviceImages, free_on
from tailor.data.prepared import image_tensor
from tailor.data.task_data import Samples, batches, ordered_batches
from tailor.parallel.process_group import ProcessGroup

IMAGE_PX, CROP_PX = 176, 160
BATCH = 64
CLASSES = 10
WORKERS = (0, 2)
SEED = 0


@dataclass(frozen=True, kw_only=True)
class Length:
    """How much to measure."""

    images: int
    rounds: int


USUAL = Length(images=1024, rounds=6)
QUICK = Length(images=256, rounds=3)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write the table."""
    parser = parser_of(__doc__, "input_path", quick="fewer images and rounds")
    parser.add_argument("--device", default="cpu", help="where batches are wanted: cpu (default) or cuda")
    options = parser.parse_args(arguments)
    length, device = QUICK if options.quick else USUAL, torch.device(options.device)
    with tempfile.TemporaryDirectory() as folder:
        samples = draw(Path(folder) / "images.npy", length.images)
        expect_same_pixels(samples)
        rows = [
            measure(samples, where, workers, device, length.rounds)
            for where in (["map"] if device.type == "cpu" else ["device", "map"])
            for workers in WORKERS
        ]
    write(table_of("Batches for training", rows, _notes(length)), options.out, packages=("torch", "torchvision"))
    return 0


def draw(path: Path, images: int) -> Samples:
    """Random images with labels, in a memory map as prepared sets have it."""
    random = np.random.default_rng(SEED)
    shape = (images, 3, IMAGE_PX, IMAGE_PX)
    stored = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    for image in stored:
        image[:] = random.integers(0, 256, shape[1:], np.uint8)
    stored.flush()
    return Samples(
        images=image_tensor(np.load(path, mmap_mode="r")),
        labels=torch.arange(images) % CLASSES,
        ids=torch.arange(images),
        crop_px=CROP_PX,
    )


def expect_same_pixels(samples: Samples) -> None:
    """Compares the results of both sides for the images' centres.

    Raises:
        AssertionError: they differ by more than rounding, so they do not do the same work.
    """
    theirs = Photographs(samples, normalisation(v2.CenterCrop(CROP_PX)))
    for number, image in enumerate(next(ordered_batches(samples))[0][:BATCH]):
        torch.testing.assert_close(theirs[number][0], image, rtol=0.0, atol=1e-6)


def measure(samples: Samples, where: str, workers: int, device: torch.device, rounds: int) -> Row:
    """A row of the table; each round is an epoch of both sides."""
    residence = DeviceImages(device, free_on if where == "device" else lambda _: 0)
    placed, alone = residence.place(samples), ProcessGroup(rank=0, world_size=1, device=device)
    loader = loader_of(samples, CROP_PX, BATCH, workers, device)
    ours_per_s, loader_per_s = [], []
    for epoch in range(rounds + 1):
        ours = ((batch.images, batch.labels) for batch in batches(placed, BATCH, SEED, epoch, "crop_flip", alone))
        ours_per_s.append(len(samples) / seconds(ours, device))
        loader_per_s.append(len(samples) / seconds(loader, device))
    del ours_per_s[0], loader_per_s[0]  # workers start, the map is read for the first time, a GPU wakes up
    return {
        "device": device.type,
        "images_lie": where,
        "loader_workers": workers,
        "ours_images_per_s": statistics.median(ours_per_s),
        "loader_images_per_s": statistics.median(loader_per_s),
    } | beside(ours_per_s, loader_per_s)


def seconds(pairs: Iterable[Sequence[Tensor]], device: torch.device) -> float:
    """Wall time until the last of these batches is on the device."""
    begun_s = time.perf_counter()
    for tensor in chain.from_iterable(pairs):
        tensor.to(device, non_blocking=True)
    finish(device)
    return time.perf_counter() - begun_s


def _notes(length: Length) -> tuple[str, ...]:
    return (
        f"{length.images} random images of {IMAGE_PX} x {IMAGE_PX} pixels, uint8, in a memory map; batches of {BATCH} "
        f"random crops of {CROP_PX} x {CROP_PX}, half of them mirrored, float32 in [-1, 1]; an epoch of each in turns.",
        "ours: `tailor.data.task_data.batches`, each batch cropped, mirrored and normalised at once in the process "
        f"that trains, with torch's {torch.get_num_threads()} threads there.",
        "loader: torch's DataLoader over torchvision's v2 RandomCrop, RandomHorizontalFlip, ToDtype and Normalize, "
        "image by image; 0 workers: in the process that trains; they are started before anything is timed.",
        "ratio: ours / loader in images/s. images_lie: of ours; the loader always reads the memory map.",
    )


if __name__ == "__main__":
    sys.exit(main())
