"""The memory that a rank takes from the system, and what that costs: as glibc has it, and as ranks set it.

    python benchmarks/heap.py            # about five minutes
    python benchmarks/heap.py --quick    # about a minute

A process trains MobileNetV2 for some steps, then others of random widths, one after the other, as trials on a CPU do.
The two settings take turns, each in processes of its own.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the repository instead of this folder

import multiprocessing
import random
import resource
import statistics
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor

import torch
from torchvision.models import mobilenet_v2

from benchmarks.record import Measured, Row, parser_of, spread, table_of, write
from tailor.core.heap import give_back_freed_memory, keep_freed_memory

SETTINGS = ("glibc", "rank")
BATCH, PIXELS, CLASSES = 32, 97, 6
WARM_UP_STEPS, STEPS_OF_A_MODEL = 5, 3

# key of a figure -> what it is and its unit
FIGURES = {
    "step_ms": "processor time of a step (ms)",
    "system_ms": "... of it in the system (ms)",
    "page_faults": "page faults of a step",
    "whole_mb": "memory after these steps (MB)",
    "models_mb": "memory after the sub-models (MB)",
    "given_back_mb": "memory when the next trial begins (MB)",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write the table."""
    options = parser_of(__doc__, "heap", quick="few steps, one round").parse_args(arguments)
    steps, models, rounds = (3, 3, 1) if options.quick else (25, 24, 3)
    measured: dict[str, list[dict[str, float]]] = {setting: [] for setting in SETTINGS}
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), max_tasks_per_child=1) as alone:
        for _ in range(rounds):
            for setting in SETTINGS:
                measured[setting].append(alone.submit(_figures, setting, steps, models).result())
    write(_table(measured, steps, models), options.out)
    return 0


def _figures(setting: str, steps: int, models: int) -> dict[str, float]:
    """Train in this process; the figures by their keys."""
    torch.set_num_threads(1)
    if setting == "rank":
        keep_freed_memory()
    images = torch.randn(BATCH, 3, PIXELS, PIXELS, generator=torch.Generator().manual_seed(0))

    def train(model: torch.nn.Module, times: int) -> None:
        optimiser = torch.optim.Adam(model.parameters())
        for _ in range(times):
            optimiser.zero_grad()
            model(images).square().mean().backward()
            optimiser.step()

    model = mobilenet_v2(num_classes=CLASSES)
    train(model, WARM_UP_STEPS)
    before = resource.getrusage(resource.RUSAGE_SELF)
    train(model, steps)
    after = resource.getrusage(resource.RUSAGE_SELF)
    system_s = after.ru_stime - before.ru_stime
    figures = {
        "step_ms": 1e3 * (after.ru_utime - before.ru_utime + system_s) / steps,
        "system_ms": 1e3 * system_s / steps,
        "page_faults": (after.ru_minflt - before.ru_minflt) / steps,
        "whole_mb": _own_memory_mb(),
    }
    widths = random.Random(0)
    for _ in range(models):
        model = mobilenet_v2(num_classes=CLASSES, width_mult=widths.uniform(0.5, 1.0))
        train(model, STEPS_OF_A_MODEL)
    figures["models_mb"] = _own_memory_mb()
    del model
    if setting == "rank":
        give_back_freed_memory()
    return figures | {"given_back_mb": _own_memory_mb()}


def _own_memory_mb() -> float:
    """Pages of this process alone, from Linux."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (own_kb,) = (int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))
    return own_kb * 1024 / 1e6


def _table(measured: dict[str, list[dict[str, float]]], steps: int, models: int) -> Measured:
    rows: list[Row] = []
    for key, name in FIGURES.items():
        usual, ours = ([figures[key] for figures in measured[setting]] for setting in SETTINGS)
        of_usual = statistics.median(own / other for own, other in zip(ours, usual, strict=True))
        rows.append({
            "what": name,
            "as glibc has it": statistics.median(usual),
            "its quartiles": spread(usual),
            "as ranks set it": statistics.median(ours),
            "their quartiles": spread(ours),
            "ratio": of_usual,
        })  # fmt: skip
    return table_of(
        "The heap of a rank",
        rows,
        (
            f"MobileNetV2, batches of {BATCH} images of {PIXELS} x {PIXELS}, Adam, one thread: {steps} steps after "
            f"{WARM_UP_STEPS}; then {models} networks of 0.5 to 1.0 of its width, drawn at random, {STEPS_OF_A_MODEL} "
            "steps each.",
            f"Medians of {len(measured['rank'])} processes of each setting, in turns.",
            "As ranks set it (tailor/core/heap.py): what a step frees stays in the process, and goes back to the "
            "system when the next trial begins.",
        ),
    )


if __name__ == "__main__":
    sys.exit(main())
