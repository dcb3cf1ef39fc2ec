"""Memory of a prepared data set: for its preparation, and in a process that trains from it.

    python benchmarks/prepared_memory.py            # about a minute
    python benchmarks/prepared_memory.py --quick    # about half a minute

Each number comes from a separate process, and is the growth of its memory. Training is measured from the memory map, as
trials read it, and from a copy of the images in memory.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the repository instead of this folder

import argparse
import multiprocessing
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import torch

from benchmarks.preparation import IMAGE_PX, draw, ours
from benchmarks.record import RESULTS, Cell, Measured, write
from tailor.data.task_data import Samples, batches, load
from tailor.parallel.process_group import ProcessGroup

NAME = "measured"  # as `preparation.ours` calls it
BATCH = 16  # small, so that batches do not hide the images
USUAL_IMAGES, QUICK_IMAGES = (1000, 4000), (200, 400)
SAMPLE_EVERY_S = 0.005
MB = 1e6

COLUMNS = ("what", "images", "file_mb", "own_peak_mb", "own_share_of_file", "resident_peak_mb")


@dataclass(frozen=True, kw_only=True)
class Memory:
    """The memory of a process."""

    own_bytes: int  # pages of its own (RssAnon)
    resident_bytes: int  # these and pages of files, which the system can take back and other processes share (VmRSS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description="memory of preparing a data set, and of training from it")
    parser.add_argument("--quick", action="store_true", help="fewer images: for a look, not for a record")
    parser.add_argument("--out", type=Path, default=RESULTS / "prepared_memory", help="path of the table, no suffix")
    options = parser.parse_args(arguments)
    rows: list[tuple[Cell, ...]] = []
    with tempfile.TemporaryDirectory() as folder:
        for count in QUICK_IMAGES if options.quick else USUAL_IMAGES:
            images, root = draw(Path(folder) / f"images_{count}", count), Path(folder) / f"root_{count}"
            rows += [
                row("preparing", count, root, prepare, images),
                row("an epoch from the memory map", count, root, from_the_map),
                row("an epoch from a copy in memory", count, root, from_a_copy),
            ]
    write(Measured(title="Memory of a prepared set", columns=COLUMNS, rows=tuple(rows), notes=_notes()), options.out)
    return 0


def row(what: str, count: int, root: Path, work: Callable[..., None], *given: Path) -> tuple[Cell, ...]:
    """A row of the table, measured in a separate process."""
    spawning = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawning) as alone:
        peak = alone.submit(peak_of, work, root, *given).result()
    file_bytes = (root / NAME / "target.images.npy").stat().st_size
    own_share = peak.own_bytes / file_bytes
    return (what, count, file_bytes / MB, peak.own_bytes / MB, own_share, peak.resident_bytes / MB)


def peak_of(work: Callable[..., None], root: Path, *given: Path) -> Memory:
    """The largest growth of this process's memory at any sample while it worked."""
    torch.set_num_threads(1)
    numbers = torch.arange(BATCH)
    train(Samples(images=torch.zeros(BATCH, 3, 8, 8, dtype=torch.uint8), labels=numbers, ids=numbers))
    before, samples, is_done = present_memory(), [present_memory()], threading.Event()

    def watch() -> None:
        while not is_done.wait(SAMPLE_EVERY_S):
            samples.append(present_memory())

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        work(root, *given)
    finally:
        samples.append(present_memory())
        is_done.set()
        watching.join()
    return Memory(
        own_bytes=max(sample.own_bytes for sample in samples) - before.own_bytes,
        resident_bytes=max(sample.resident_bytes for sample in samples) - before.resident_bytes,
    )


def present_memory() -> Memory:
    """The present memory of this process, from Linux."""
    lines = Path("/proc/self/status").read_text().splitlines()
    kilobytes = {
        name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines) if "Rss" in name
    }
    own_bytes = kilobytes["RssAnon"] * 1024
    return Memory(own_bytes=own_bytes, resident_bytes=own_bytes + kilobytes["RssFile"] * 1024)


def prepare(root: Path, images: Path) -> None:
    """Prepares the images, one thread."""
    ours(images, root, threads=1)


def from_the_map(root: Path) -> None:
    """An epoch of batches as a trial takes them."""
    train(load(NAME, str(root))["target"])


def from_a_copy(root: Path) -> None:
    """The same, after all images were copied into memory."""
    train(load(NAME, str(root))["target"].fetch())


def train(samples: Samples) -> None:
    """Takes an epoch of batches without using them."""
    for _ in batches(samples, BATCH, 0, 0, "none", ProcessGroup(rank=0, world_size=1, device=torch.device("cpu"))):
        pass


def _notes() -> tuple[str, ...]:
    return (
        f"Images of {IMAGE_PX} x {IMAGE_PX} pixels, of drawn JPEG files; an epoch reads the images that are not test "
        f"images, 80% of the file, in batches of {BATCH}, float32.",
        "own: memory that belongs to the process alone (RssAnon). resident: that and the pages of files that it has "
        "read, which all processes of a machine share and the system can take back. Both are the growth beyond the "
        f"start, the largest of samples taken every {1000 * SAMPLE_EVERY_S:.0f} ms.",
        "file: target.images.npy.",
    )


if __name__ == "__main__":
    sys.exit(main())
