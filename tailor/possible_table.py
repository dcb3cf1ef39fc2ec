"""Writes tailor/possible.json, what every network of the catalog can lose: `python -m tailor.possible_table`."""

import argparse
import json
import math
import sys
from collections import Counter
from itertools import product

from tailor import cost, networks
from tailor.catalog import NETWORKS
from tailor.groups import groups
from tailor.possible import TABLE_CLASSES, TABLE_FILE, Coefficients, rule_name
from tailor.stages import GroupRule


def main(arguments: list[str]) -> int:
    """Write the lines of the networks that are named (none: all); returns 0."""
    parser = argparse.ArgumentParser(prog="python -m tailor.possible_table", description=__doc__)
    parser.add_argument("names", nargs="*", help="networks; the lines of others stay as they are")
    known = json.loads(TABLE_FILE.read_bytes()) if TABLE_FILE.exists() else {}
    for name in parser.parse_args(arguments).names or list(NETWORKS):
        known[name] = lines(name)
        print(name, flush=True)  # noqa: T201
    rows = [f"{json.dumps(name)}: {json.dumps(known[name])}" for name in sorted(known)]
    TABLE_FILE.write_text("{\n" + ",\n".join(rows) + "\n}\n")
    return 0


def lines(network: str) -> dict[str, Coefficients]:
    """Name of each rule -> the coefficients of what is left under it."""
    return {
        rule_name(residual, linear): left_under(network, GroupRule(residual=residual, linear=linear))  # type: ignore[arg-type]
        for residual, linear in product(("inside", "coupled"), (False, True))
    }


def left_under(network: str, rule: GroupRule) -> Coefficients:
    """c such that c0 + c1 k + c2 k^2 MACs are left when each group keeps the fraction k of its filters.

    A weight of (outputs, inputs, ...) is used once per position; of each of its two dimensions, a part shrinks.
    """
    input_shape = NETWORKS[network].input_shape
    prunable: Counter[tuple[str, int]] = Counter()
    for group in groups(networks.skeleton(network, TABLE_CLASSES), input_shape, rule):
        for part in group.slices:
            prunable[part.tensor, part.dim] += part.indices.numel()
    shapes, total = cost.original_shapes(network, TABLE_CLASSES), [0, 0, 0]
    for weight, count in cost.positions(network, TABLE_CLASSES, input_shape).items():
        outputs, inputs, *kernel = shapes[weight]
        (o1, i1), times = (prunable[weight, 0], prunable[weight, 1]), count * math.prod(kernel)
        o0, i0 = outputs - o1, inputs - i1
        for power, macs in enumerate((o0 * i0, o0 * i1 + o1 * i0, o1 * i1)):
            total[power] += times * macs
    return total[0], total[1], total[2]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
