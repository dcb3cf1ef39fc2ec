"""The cost of LeGR's search, in seconds and in epochs of fine-tuning: by default, and as published.

    python benchmarks/legr.py            # about three minutes
    python benchmarks/legr.py --quick    # about half a minute

Every individual costs the same, so the published search of 400 is extrapolated from its first ones, and marked so.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the repository instead of this folder

import argparse
import statistics
import tempfile
from collections.abc import Sequence

import torch

from benchmarks.record import RESULTS, Cell, Measured, write
from tailor.config.allocations import LeGR
from tailor.config.parsing import parse_trial
from tailor.execution.cache import Cache
from tailor.execution.runner import run_trial
from tailor.parallel.process_group import join

NETWORKS = ("digits_vgg", "digits_resnet")
SEARCHES = {
    "default": LeGR(),
    "without tuning, else as published": LeGR(population=64, samples=16, generations=400),
    "published": LeGR(population=64, samples=16, generations=400, tuning_steps=200),
}
WHOLE_UP_TO = 400  # individuals without tuning, which are quick
JUDGED, JUDGED_QUICK = 64, 8  # individuals that the search with tuning is extrapolated from

COLUMNS = (
    "network",
    "search",
    "generations",
    "tuning_steps",
    "judged",
    "search_s",
    "is_extrapolated",
    "epoch_s",
    "search_epochs",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description="what LeGR's search costs, in seconds and in epochs of fine-tuning")
    parser.add_argument("--quick", action="store_true", help="fewer individuals: for a look, not for a record")
    parser.add_argument("--out", type=Path, default=RESULTS / "legr", help="path of the table, without suffix")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rows = []
    for network in NETWORKS:
        for name, search in SEARCHES.items():
            most = JUDGED_QUICK if options.quick else JUDGED if search.tuning_steps else WHOLE_UP_TO
            rows.append(row(network, name, search, most))
            print(f"{network}, {name}: {rows[-1][-1]:.0f} epochs", file=sys.stderr, flush=True)
    write(Measured(title="LeGR's search", columns=COLUMNS, rows=tuple(rows), notes=NOTES), options.out)
    return 0


def row(network: str, name: str, search: LeGR, most: int) -> tuple[Cell, ...]:
    """A row of the table, from a trial whose search evaluates at most `most` individuals."""
    judged = min(search.generations, most)
    changes = {"generations": judged, "population": min(search.population, judged)}
    changes["samples"] = min(search.samples, changes["population"])
    trial = {
        "network": network,
        "optimisation": {"head_epochs": 10},
        "method": {
            "name": "prune",
            "criterion": "l2_squared",
            "removed_macs_fraction": 0.3,
            "allocation": search.model_dump() | changes,
        },
    }
    with tempfile.TemporaryDirectory() as folder:
        events = list(run_trial(parse_trial(trial, "benchmark"), cache=Cache(Path(folder)), ranks=join("cpu")))
    made = {event.result.stage.kind: event.result for event in events}
    search_s = made["learn_ranking"].description.made_by.compute_s * search.generations / judged
    epoch_s = statistics.median(epoch["seconds"] for epoch in made["fine_tune"].info["epochs"])
    is_extrapolated = "no" if judged == search.generations else f"yes, from {judged}"
    return (
        network,
        name,
        search.generations,
        search.tuning_steps,
        judged,
        search_s,
        is_extrapolated,
        epoch_s,
        search_s / epoch_s,
    )


NOTES = (
    "search_s: the stage `learn_ranking` at 30% of the MACs on the digits target task (200 training images, 348 "
    "validation images), one rank, one thread. is_extrapolated: search_s is that of the individuals judged, times "
    "generations / judged.",
    "epoch_s: median epoch of the fine-tuning of the pruned network in the same trial; search_epochs: search_s in it. "
    "A fine-tuning of the embedded sweep has 25 epochs.",
    "published: 64 alive, 400 judged, 200 steps of SGD (29 epochs here) before each judgement.",
)


if __name__ == "__main__":
    sys.exit(main())
