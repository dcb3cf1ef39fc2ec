"""Seconds to save, load and rebuild a pruned ResNet-101, compared with torch's pickle of the whole module.

    python benchmarks/pruned_model.py                   # about a minute
    python benchmarks/pruned_model.py --quick           # about twenty seconds

Both sides take turns on the same network; first, their outputs are compared. This program has just written the pickle
that it loads; a pickle from others could run any code.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the repository instead of this folder

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from benchmarks.record import RESULTS, Cell, Measured, spread, write
from tailor.model.cost import macs_of, original_macs
from tailor.model.state import ModelState, load_model, save_model
from tailor.networks import building
from tailor.stage_execution.preparing import initial_state, narrow_state

NETWORK, CLASSES, INPUT_SHAPE = "resnet101", 100, (3, 224, 224)
REMOVED_MACS_FRACTION = 0.3
CHECKED_PX = 64
USUAL_ROUNDS, QUICK_ROUNDS = 10, 2

COLUMNS = ("what", "ours_s", "beside", "beside_s", "ratio", "ratio_quartiles", "cpu_ratio", "rounds")

Work = Callable[[], object]


@dataclass(frozen=True, kw_only=True)
class Timing:
    """The cost of a piece of work."""

    wall_s: float
    cpu_s: float  # of this process, all threads: does not depend on other work


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description="a pruned ResNet-101 saved, loaded and rebuilt, beside torch's pickle")
    parser.add_argument("--quick", action="store_true", help="fewer rounds: for a look, not for a record")
    parser.add_argument("--out", type=Path, default=RESULTS / "pruned_model", help="path of the table, without suffix")
    options = parser.parse_args(arguments)
    rounds = QUICK_ROUNDS if options.quick else USUAL_ROUNDS
    state = narrow_state(initial_state(NETWORK, CLASSES, INPUT_SHAPE, seed=0), REMOVED_MACS_FRACTION, seed=0)
    with tempfile.TemporaryDirectory() as folder:
        rows = [measure(what, *pair, rounds) for what, pair in contenders(state, Path(folder)).items()]
        notes = _notes(state, Path(folder))
    measured = Measured(title="A pruned model, saved and loaded", columns=COLUMNS, rows=tuple(rows), notes=notes)
    write(measured, options.out, packages=("torch", "torchvision", "safetensors"))
    return 0


def contenders(state: ModelState, folder: Path) -> dict[str, tuple[Work, str, Work]]:
    """The timed functions: ours, the name of the alternative, and the alternative.

    Raises:
        ValueError: the outputs of the two sides differ.
    """
    ours, pickled, model = folder / "ours", folder / "model.pt", state.build().eval()
    found: dict[str, tuple[Work, str, Work]] = {
        "save": (lambda: save_model(state, ours), "torch.save of the module", lambda: torch.save(model, pickled)),
        "load": (lambda: load_model(ours), "torch.load of the module", lambda: _unpickle(pickled)),
        "rebuild from tensors": (
            state.build,
            "building the unpruned network",
            lambda: building.build(NETWORK, CLASSES, seed=0),
        ),
    }
    for one in (found["save"][0], found["save"][2]):
        one()
    images = torch.randn(2, 3, CHECKED_PX, CHECKED_PX, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        if not torch.equal(load_model(ours)(images), _unpickle(pickled)(images)):
            raise ValueError("what was saved gives other outputs than its pickle")
    return found


def _unpickle(path: Path) -> nn.Module:
    """The module in a file that this program has just written."""
    model: nn.Module = torch.load(path, weights_only=False)
    return model


def measure(what: str, ours: Work, beside: str, theirs: Work, rounds: int) -> tuple[Cell, ...]:
    """A row of the table; ratios are medians of the rounds' ratios. The first round is not counted."""
    pairs = [(time_work(ours), time_work(theirs)) for _ in range(rounds + 1)][1:]
    ratios = [own.wall_s / other.wall_s for own, other in pairs]
    ours_s, theirs_s = (statistics.median(pair[side].wall_s for pair in pairs) for side in (0, 1))
    cpu_ratio = statistics.median(own.cpu_s / other.cpu_s for own, other in pairs)
    return (what, ours_s, beside, theirs_s, statistics.median(ratios), spread(ratios), cpu_ratio, rounds)


def time_work(work: Work) -> Timing:
    """Do the work and return its cost."""
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    work()
    return Timing(cpu_s=time.process_time() - cpu_s, wall_s=time.perf_counter() - wall_s)


def _notes(state: ModelState, folder: Path) -> tuple[str, ...]:
    removed = 1.0 - macs_of(state) / original_macs(state)
    ours_bytes = sum(file.stat().st_size for file in (folder / "ours").iterdir())
    pickled_bytes = (folder / "model.pt").stat().st_size
    return (
        f"{NETWORK} with {CLASSES} classes and {removed:.1%} of its MACs removed, the same share of each layer's "
        "filters.",
        "save: `save_model`, safetensors and a description, with a SHA-256 over all of it, synced to the disk; "
        "torch.save does neither.",
        "load: `load_model`, the SHA-256 verified, the network rebuilt at its widths; torch.load unpickles the module.",
        "rebuild from tensors: `ModelState.build` of what is in memory, nothing drawn; the unpruned network is built "
        "by torchvision, with its random initialisation.",
        "ratio: ours / beside in seconds, the less the better; cpu_ratio: the same of the processor's seconds.",
        f"On disk: {ours_bytes:,} bytes, the pickle {pickled_bytes:,}.",
    )


if __name__ == "__main__":
    sys.exit(main())
