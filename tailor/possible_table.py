"""Writes tailor/possible.json, what every network of the catalog can lose: `python -m tailor.possible_table`."""

import argparse
import json
import math
import sys
from collections import Counter
from collections.abc import Iterable
from itertools import product

from tailor import cost, networks
from tailor.catalog import NETWORKS
from tailor.groups import Group, groups
from tailor.possible import TABLE_CLASSES, TABLE_FILE, Coefficients, Prunable, rule_name
from tailor.stages import GroupRule


def main(arguments: list[str]) -> int:
    """Write the rows of the networks that are named (none: all); returns 0."""
    parser = argparse.ArgumentParser(prog="python -m tailor.possible_table", description=__doc__)
    parser.add_argument("names", nargs="*", help="networks; the rows of others stay as they are")
    known = json.loads(TABLE_FILE.read_bytes()) if TABLE_FILE.exists() else {}
    for name in parser.parse_args(arguments).names or list(NETWORKS):
        known[name] = {rule: (found.macs, found.without_norm) for rule, found in rules(name).items()}
        print(name, flush=True)  # noqa: T201
    rows = [f"{json.dumps(name)}: {json.dumps(known[name])}" for name in sorted(known)]
    TABLE_FILE.write_text("{\n" + ",\n".join(rows) + "\n}\n")
    return 0


def rules(network: str) -> dict[str, Prunable]:
    """Name of each rule -> what can go under it."""
    return {
        rule_name(residual, linear): prunable(network, GroupRule(residual=residual, linear=linear))  # type: ignore[arg-type]
        for residual, linear in product(("inside", "coupled"), (False, True))
    }


def prunable(network: str, rule: GroupRule) -> Prunable:
    """What can go of a network whose groups are found anew."""
    model = networks.skeleton(network, TABLE_CLASSES)
    found = groups(model, NETWORKS[network].input_shape, rule)
    members = (member for group in found for member in group.members)
    with_factors = {name.removesuffix(".weight") for name, _ in model.named_parameters()}
    bare = (member.layer for member in members if member.norm not in with_factors)
    return Prunable(left_under(network, found), next(bare, ""))


def left_under(network: str, found: Iterable[Group]) -> Coefficients:
    """c such that c0 + c1 k + c2 k^2 MACs are left when each of these groups keeps the fraction k of its filters.

    A weight of (outputs, inputs, ...) is used once per position; of each of its two dimensions, a part shrinks.
    """
    shrinks: Counter[tuple[str, int]] = Counter()
    for group in found:
        for part in group.slices:
            shrinks[part.tensor, part.dim] += part.indices.numel()
    shapes, total = cost.original_shapes(network, TABLE_CLASSES), [0, 0, 0]
    for weight, count in cost.positions(network, TABLE_CLASSES, NETWORKS[network].input_shape).items():
        outputs, inputs, *kernel = shapes[weight]
        (o1, i1), times = (shrinks[weight, 0], shrinks[weight, 1]), count * math.prod(kernel)
        o0, i0 = outputs - o1, inputs - i1
        for power, macs in enumerate((o0 * i0, o0 * i1 + o1 * i0, o1 * i1)):
            total[power] += times * macs
    return total[0], total[1], total[2]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
