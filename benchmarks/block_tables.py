"""How well tables of measured blocks predict whole networks: five kinds of networks, in ONNX Runtime on this CPU.

Each table is measured and judged as `transtailor model table` does it, by networks as a pruning chooses them, from a
fifth to 0.9 of the way from the smallest to the whole: 8 of them and the whole network give the line from the sum of
blocks, 12 others the error. End all other work first. The tables stay in a folder, for benchmarks/table_budgets.py.

    python benchmarks/block_tables.py                       # resumes: networks that have a table are left out
    python benchmarks/block_tables.py --networks resnet18   # this one, again
"""

import sys
import time
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the repository instead of this folder

from benchmarks.record import Cell, Measured, parser_of, read_rows, verdict, write
from tailor.catalogue.networks import NETWORKS
from tailor.deploy.block_table import measure_table
from tailor.saved_model import Timing
from tailor.stages import GroupRule

NETWORKS_MEASURED = ("resnet18", "mobilenet_v2", "efficientnet_b0", "resnet50", "vit_b_16")
QUICK = ("digits_resnet",)
RULE = GroupRule(residual="coupled", linear=True)
CLASSES = 1000
SIDE_PX = 224
THREADS = 1
MEDIAN_GOAL, WORST_GOAL, RANK_GOAL = 0.05, 0.12, 0.95
COLUMNS = ("network", "cells", "minutes", "median_error", "worst_error", "rank_correlation", "whole_ms", "least_ms",
           "verdict")  # fmt: skip


def main(arguments: list[str]) -> int:
    """Measure the tables that are not there, print and write the page."""
    parser = parser_of(__doc__, "block_tables", quick="one embedded network")
    parser.add_argument("--networks", nargs="+", metavar="NAME", help="measure these again")
    parser.add_argument("--tables", type=Path, default=Path("build/tables"), help="folder (default: %(default)s)")
    options = parser.parse_args(arguments)
    rows = {str(row[0]): row for row in read_rows(options.out, COLUMNS)}
    for network in options.networks or (QUICK if options.quick else NETWORKS_MEASURED):
        if network in rows and not options.networks:
            continue
        rows[network] = measure(network, options.tables)
        write(page(list(rows.values())), options.out, ("torch", "onnxruntime"))
    return 0


def input_shape_of(network: str) -> tuple[int, ...]:
    """Return a network's own input, or images of SIDE_PX pixels if it reads any size."""
    own = NETWORKS[network].input_shape
    return (own[0], SIDE_PX, SIDE_PX) if NETWORKS[network].any_size and own[-1] > SIDE_PX else own


def measure(network: str, folder: Path) -> tuple[Cell, ...]:
    """Measure and write a network's table; return its row."""
    circumstance, _device = Timing(batch=1, threads=THREADS, device="cpu", runtime="onnxruntime").here()
    begun_s = time.monotonic()
    lines = measure_table(network, CLASSES, input_shape_of(network), RULE, circumstance)
    while True:
        try:
            print(f"{network}: {next(lines)}", flush=True)
        except StopIteration as end:
            table = end.value
            break
    folder.mkdir(parents=True, exist_ok=True)
    table.write(folder / f"{network}.json")
    is_met = (
        table.held_out_median_error <= MEDIAN_GOAL
        and table.held_out_worst_error <= WORST_GOAL
        and table.held_out_rank_correlation >= RANK_GOAL
    )
    return (
        network,
        sum(map(len, table.cells.values())),
        (time.monotonic() - begun_s) / 60,
        table.held_out_median_error,
        table.held_out_worst_error,
        table.held_out_rank_correlation,
        table.whole_ms,
        table.least_ms,
        verdict(is_met),
    )


def page(rows: list[tuple[Cell, ...]]) -> Measured:
    """Return the table of the page."""
    return Measured(
        title="How well tables of blocks predict whole networks",
        columns=COLUMNS,
        rows=tuple(rows),
        notes=(
            f"ONNX Runtime, one image of {SIDE_PX} pixels, {THREADS} thread, {CLASSES} classes; all filters that "
            '`residual = "coupled"` and `linear` can remove. The error: of the predicted time of 12 networks that '
            "were not fitted, timed in turns. They keep the most of a random importance, as a pruning would choose "
            "them, at sums of cells from a fifth to 0.9 of the way from the smallest to the whole network's.",
            f"Goals: median at most {MEDIAN_GOAL:.0%}, worst at most {WORST_GOAL:.0%}, rank correlation at least "
            f"{RANK_GOAL}.",
        ),
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
