"""Images per second of preparing a data set, compared with a bare loop of Pillow over the same files.

    python benchmarks/preparation.py                      # about a minute
    python benchmarks/preparation.py --quick              # about fifteen seconds
    python benchmarks/preparation.py --images FOLDER      # the same with photographs in FOLDER/<class>/

Both sides take turns, so that other work on the machine affects both. First, their pixels are compared.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the repository instead of this folder

import io
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.record import Row, beside, parser_of, table_of, write
from tailor.prepare.arrays import load
from tailor.prepare.preparation import Request, prepare

IMAGE_PX = 176
CLASSES = 4
SIZE = (400, 300)  # of the drawn images: about the median of Caltech-256


@dataclass(frozen=True, kw_only=True)
class Length:
    """How much to measure."""

    images: int  # drawn where no folder is given
    rounds: int


USUAL = Length(images=1600, rounds=10)
QUICK = Length(images=200, rounds=4)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write the table."""
    parser = parser_of(__doc__, "preparation", quick="fewer images and rounds")
    parser.add_argument("--images", type=Path, help="folder with a folder of photographs for each class")
    options = parser.parse_args(arguments)
    length = QUICK if options.quick else USUAL
    with tempfile.TemporaryDirectory() as folder:
        images = options.images or draw(Path(folder) / "images", length.images)
        files = sorted(path for path in images.glob("*/*") if path.is_file())
        expect_same_pixels(images, files, Path(folder) / "checked")
        counts = sorted({1, len(os.sched_getaffinity(0))})
        rows = [measure(threads, images, files, Path(folder), length.rounds) for threads in counts]
    write(table_of("Preparing a data set", rows, _notes(options.images)), options.out)
    return 0


def draw(folder: Path, images: int) -> Path:
    """A folder of JPEG files as cameras make them: waves with some noise."""
    random = np.random.default_rng(0)
    across, down = np.meshgrid(np.linspace(0, 20, SIZE[0]), np.linspace(0, 15, SIZE[1]))
    for number in range(images):
        waves = [np.sin(random.uniform(0, 2) * across + random.uniform(0, 2) * down) for _ in range(3)]
        pixels = 127.5 + 100 * np.stack(waves, axis=2) + random.normal(0, 8, (*SIZE[::-1], 3))
        path = folder / f"class_{number % CLASSES}" / f"{number:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=90)
    return folder


def bare(files: Sequence[Path]) -> NDArray[np.uint8]:
    """The pixels of all files as a script would get them: one after the other, kept in memory."""
    pixels = np.empty((len(files), 3, IMAGE_PX, IMAGE_PX), np.uint8)
    for number, path in enumerate(files):
        with Image.open(path) as image:
            scale = IMAGE_PX / min(image.size)
            width, height = int(image.width * scale), int(image.height * scale)
            resized = image.convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
        left, top = round((width - IMAGE_PX) / 2), round((height - IMAGE_PX) / 2)
        square = resized.crop((left, top, left + IMAGE_PX, top + IMAGE_PX))
        pixels[number] = np.asarray(square).transpose(2, 0, 1)
    return pixels


def ours(images: Path, root: Path, threads: int) -> None:
    """Prepares the data set `measured` below `root`."""
    request = Request(
        name="measured",
        origins=(images,),
        root=root,
        layout="folder",
        image_px=IMAGE_PX,
        source_classes=(),
        source_from=None,
        test_fraction=None,
        split_seed=0,
        threads=threads,
    )
    prepare(request, io.StringIO())


def expect_same_pixels(images: Path, files: Sequence[Path], root: Path) -> None:
    """Compares the pixels of both sides.

    Raises:
        ValueError: they differ, so they do not do the same work.
    """
    ours(images, root, threads=1)
    if not np.array_equal(load(root, "measured")["target"].images, bare(files)):
        raise ValueError("ours and bare make different pixels")
    shutil.rmtree(root)


def measure(threads: int, images: Path, files: Sequence[Path], folder: Path, rounds: int) -> Row:
    """A row of the table; the two sides take turns."""
    ours_per_s, bare_per_s = [], []
    for _ in range(rounds):
        begun_s = time.perf_counter()
        ours(images, folder / "root", threads)
        between_s = time.perf_counter()
        bare(files)
        ended_s = time.perf_counter()
        ours_per_s.append(len(files) / (between_s - begun_s))
        bare_per_s.append(len(files) / (ended_s - between_s))
        shutil.rmtree(folder / "root")
    return {
        "threads": threads,
        "images": len(files),
        "ours_images_per_s": statistics.median(ours_per_s),
        "bare_images_per_s": statistics.median(bare_per_s),
    } | beside(ours_per_s, bare_per_s)


def _notes(images: Path | None) -> tuple[str, ...]:
    which = "photographs that were given" if images else f"drawn JPEG files of {SIZE[0]} x {SIZE[1]} pixels"
    return (
        f"Both sides decode {which} to {IMAGE_PX} x {IMAGE_PX} pixels, the same bit for bit; they take turns.",
        "ours: `tailor.prepare.preparation.prepare`: also checksums of all files, the journal that an interrupted call "
        "resumes from, the manifest, and all of it synced to the disk.",
        "bare: open, convert, resize, crop in one thread; pixels stay in memory and nothing is written.",
        "ratio: ours / bare in images/s. threads: of ours; bare has one.",
    )


if __name__ == "__main__":
    sys.exit(main())
