"""Does a padded file compute what the model does? Pruned networks of each kind, padded, as files of ONNX.

Random filters of every layer go, which leaves odd widths. Each network is padded to multiples of 8
and, without being timed, exported: the file's outputs are compared with those of the unpadded model.

python benchmarks/padded_exports.py                        # resumes: networks that are in the table are left out
python benchmarks/padded_exports.py --networks vgg16 --again
"""

import json
import sys
from collections.abc import Iterable
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the repository instead of this folder

import torch

from benchmarks.record import ROOT, Cell, Measured, parser_of, read_rows, write
from tailor.catalogue.networks import NETWORKS
from tailor.core.errors import ConfigError
from tailor.data.task_data import generator
from tailor.deploy.export import export
from tailor.model.cost import macs_of
from tailor.model.programs import images_for
from tailor.model.state import ModelState
from tailor.networks import building
from tailor.pruning import surgery
from tailor.pruning.padding import PADDED, pad
from tools.networks_table import replace_statistics

NAME = "padded_exports"
COLUMNS = (
    *("network", "side_px", "groups_padded", "groups_with_odd_widths", "macs_pruned", "macs_padded"),
    *("difference_of_largest_logit", "why_not"),
)
MULTIPLE = 8
KEPT_FRACTION = 0.83  # of each group's filters: about 0.7 of the MACs
SIDE_PX = 128  # of networks that read any size
GOAL = 1e-5  # of the largest logit
SMALL = ("digits_vgg", "digits_vit")


def main(arguments: list[str]) -> int:
    """Add the rows of the networks to the table; return 1 if a padded file computes something else."""
    parser = parser_of(__doc__, NAME, quick="two embedded networks")
    parser.add_argument("--networks", nargs="+", help="names (default: those of docs/transformers_table.json)")
    parser.add_argument("--again", action="store_true", help="also networks that are in the table")
    options = parser.parse_args(arguments)
    names = options.networks or json.loads((ROOT / "docs" / "transformers_table.json").read_bytes())
    rows = {str(row[0]): _with_counts(row) for row in read_rows(options.out, COLUMNS)}
    for name in SMALL if options.quick else names:
        if name not in rows or options.again:
            rows[name] = measure(name)
            write(page(list(rows.values())), options.out)
    return int(_largest_difference(rows.values()) > GOAL)


def _value(row: tuple[Cell, ...], column: str) -> Cell:
    return row[COLUMNS.index(column)]


def _largest_difference(rows: Iterable[tuple[Cell, ...]]) -> float:
    return max((float(_value(row, "difference_of_largest_logit") or 0.0) for row in rows), default=0.0)


def _with_counts(row: tuple[Cell, ...]) -> tuple[Cell, ...]:
    """A row of a table that was read, in which counts are whole numbers."""
    return tuple(int(cell) if isinstance(cell, float) and cell.is_integer() else cell for cell in row)


def measure(name: str) -> tuple[Cell, ...]:
    """Prune, pad and export a network; return its row."""
    try:
        channels, *sides = NETWORKS[name].input_shape
        if NETWORKS[name].any_size and sides[0] > SIDE_PX:
            sides = [SIDE_PX, SIDE_PX]
        input_shape = (channels, *sides)
        groups = surgery.groups(building.skeleton(name, 5), input_shape, PADDED)
        tensors = replace_statistics(building.build(name, 5, seed=0).state_dict())
        state = ModelState(network=name, classes=5, input_shape=input_shape, tensors=tensors)
        smaller = surgery.slim(state, {group.name: odd_choice(group) for group in groups}, groups)
        padding = pad(smaller, MULTIPLE)
        difference = difference_of(smaller, padding.state) if padding.widths else 0.0
    except (ConfigError, RuntimeError) as error:
        return (name, None, 0, 0, None, None, None, str(error).partition("\n")[0])
    odd = len(padding.widths) + len(padding.refused)
    why = "; ".join(sorted(set(padding.refused.values())))
    macs = (macs_of(smaller), macs_of(padding.state))
    return (name, sides[0], len(padding.widths), odd, *macs, difference, why)


def odd_choice(group: surgery.Group) -> torch.Tensor:
    """Random filters of a group, an odd number of them, about five of six."""
    count = round(KEPT_FRACTION * group.filters) // 2 * 2 + 1
    return torch.randperm(group.filters, generator=generator(0, group.name))[:count].sort().values


def difference_of(state: ModelState, padded: ModelState) -> float:
    """The largest difference of the padded file's outputs from the model's, as a share of the largest output."""
    program = export(padded, "onnx", 1, computed_as=state)
    with torch.no_grad():
        largest = float(state.build().eval()(images_for(state, 1, seed=1)).abs().max())
    return program.difference / largest


def page(rows: list[tuple[Cell, ...]]) -> Measured:
    """The table."""
    exported = [row for row in rows if _value(row, "groups_padded")]
    worst = _largest_difference(exported)
    whole = sum(_value(row, "groups_padded") == _value(row, "groups_with_odd_widths") for row in exported)
    return Measured(
        title="Padded files compute what the pruned network does",
        columns=COLUMNS,
        rows=tuple(sorted(rows, key=lambda row: str(row[0]))),
        notes=(
            f"{len(exported)} networks padded and exported; the largest difference is {worst:.1e} of the largest logit,"
            f" and the goal {GOAL:g}. In {whole} of them every group with an odd width was padded.",
            f"Of each group of filters {KEPT_FRACTION:.0%} stay, at random and an odd number; widths are padded to "
            f"multiples of {MULTIPLE}, at most to the original ones. Random weights, norms with random statistics. The "
            "file is compared with the unpadded model in torch, on an image of random numbers.",
        ),
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
