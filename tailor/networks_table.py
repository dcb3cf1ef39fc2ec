"""What is known of torchvision's classifiers, found by building and pruning each: `python -m tailor.networks_table`.

Writes tailor/torchvision_networks.json, which plans read without torch, and docs/networks.md.
"""

import argparse
import json
import sys
from collections import Counter
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torchvision import models

from tailor import cost, networks, surgery
from tailor.catalog import NETWORKS, TORCHVISION_FILE, NetworkInfo
from tailor.data import generator
from tailor.groups import Group, groups, refusals
from tailor.stages import GroupRule
from tailor.state import ModelState

CLASSES, INPUT_SHAPE = 5, (3, 224, 224)
OTHER_SIZES = (96, 225)
OWN_BUILDERS = {name: f"tailor.torchvision_networks:{name}" for name in ("googlenet", "inception_v3")}
RULES = (
    GroupRule(),
    GroupRule(residual="coupled"),
    GroupRule(linear=True),
    GroupRule(residual="coupled", linear=True),
)
REMOVED_MACS_FRACTION = 0.3
TOLERANCE = 1e-5  # masked and slimmed differ by rounding alone
DOCUMENT = Path(__file__).parent.parent / "docs" / "networks.md"
COLUMNS = (
    *("network", "head", "parameters", "MACs", "inside", "coupled", "inside + linear", "coupled + linear"),
    *("can go", "passes", "rule, or why not", "what keeps all its filters under coupled + linear"),
)
VERSION = torchvision.__version__.partition("+")[0]
HEADING = f"""# Torchvision's classifiers

Made by `python -m tailor.networks_table` with torchvision {VERSION}; all networks are without weights.

- Parameters and MACs are with {CLASSES} classes at the size {INPUT_SHAPE[1:]}. A star: the network reads no other.
- Groups of filters under each rule. *Inside*: layers that can lose filters alone. *Coupled*: also layers whose outputs
  are added to each other, together. *+ linear*: also hidden linear layers.
- *Can go*: most of the MACs that goes, with one filter left in each group, inside and under coupled + linear.
- *Passes*: random filters with {REMOVED_MACS_FRACTION:.0%} of the MACs are removed under the first rule that allows it;
  forward and backward run; masked equals slimmed to {TOLERANCE:g} of the largest logit, while pruning moves logits a
  hundred times as far at least.

| {" | ".join(COLUMNS)} |
|{" --- |" * len(COLUMNS)}
"""


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What pruning a network showed."""

    groups: tuple[int, ...]  # under each of RULES
    can_go: tuple[float, ...]  # under each of RULES, fraction of the MACs
    passes: bool
    note: str  # the rule under which it was pruned, or what went wrong
    whole: str  # what keeps the other layers from losing filters


def main(arguments: list[str]) -> int:
    """Check the networks that are named (none: all), and write both files.

    Returns:
        0; whether a network passes is a fact of the table.
    """
    parser = argparse.ArgumentParser(prog="python -m tailor.networks_table", description=__doc__)
    parser.add_argument("names", nargs="*", help="torchvision's names; the lines of others stay as they are")
    names = parser.parse_args(arguments).names or models.list_models(module=models)
    known = json.loads(TORCHVISION_FILE.read_bytes()) if TORCHVISION_FILE.exists() else {}
    for name in names:
        info = describe(name)
        checked = check(name)
        print(f"{name}: {'passes' if checked.passes else 'fails'}, {checked.note}", flush=True)  # noqa: T201
        known[name] = {"info": asdict(info), "checked": asdict(checked)}
        text = json.dumps({key: known[key] for key in sorted(known)}, indent=1) + "\n"
        TORCHVISION_FILE.write_text(text)
    rows = [row(name, NetworkInfo(**known[name]["info"]), Checked(**known[name]["checked"])) for name in sorted(known)]
    DOCUMENT.write_text(HEADING + "\n".join(rows) + "\n")
    return 0


def describe(name: str) -> NetworkInfo:
    """The facts of one of torchvision's classifiers that a plan needs."""
    values: dict[str, Any] = {f.name: 0 for f in fields(NetworkInfo)} | {
        "description": f"torchvision's {name}, without weights.",
        "builder": OWN_BUILDERS.get(name, f"torchvision.models:{name}"),
        "input_shape": INPUT_SHAPE,
    }
    if name not in NETWORKS:
        NETWORKS.add(name, NetworkInfo(**values))
    model = networks.skeleton(name, CLASSES)
    members = [m for g in groups(model, INPUT_SHAPE, GroupRule(linear=True)) for m in g.members]
    head = head_of(model)
    values |= {
        "head": head,
        "has_norm": any(member.norm for member in members),
        "activation": "+".join(sorted({m.activation_kind for m in members if m.activation_kind})) or "none",
        "macs": cost.macs(name, CLASSES, cost.original_shapes(name, CLASSES), INPUT_SHAPE),
        "params_count": sum(p.numel() for p in model.parameters()),
        "head_params_count": sum(p.numel() for p in model.get_submodule(head).parameters()),
        "any_size": all(reads(model, size) for size in OTHER_SIZES),
    }
    return NetworkInfo(**values)


def reads(model: nn.Module, size: int) -> bool:
    """Whether a network on `meta` reads images of another size."""
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(1, 3, size, size, device="meta"))
    except (AssertionError, RuntimeError, ValueError):  # torchvision's networks have no common error for this
        return False
    return True


def head_of(model: nn.Module) -> str:
    """Name of the last layer with as many outputs as classes."""
    weights = [name for name, p in model.named_parameters() if name.endswith(".weight") and p.shape[0] == CLASSES]
    return weights[-1].removesuffix(".weight")


def check(name: str) -> Checked:
    """Prune a network under the first rule that lets it lose enough, and compare."""
    model = networks.skeleton(name, CLASSES)
    found = [groups(model, INPUT_SHAPE, rule) for rule in RULES]
    can_go = [1.0 - macs_with(name, each, 0.0) / macs_with(name, each, 1.0) for each in found]
    chosen = next((i for i, fraction in enumerate(can_go) if fraction > REMOVED_MACS_FRACTION), None)
    if chosen is None:
        passes, note = False, "no rule can lose so much"
    else:
        difference, effect = difference_of_masked(name, found[chosen])
        passes = difference <= TOLERANCE < effect / 100
        rule = RULES[chosen].residual + (" + linear" if RULES[chosen].linear else "")
        note = rule if passes else f"{rule}: masked and slimmed differ by {difference:.1e}, pruning by {effect:.1e}"
    whys = Counter(why.partition(": ")[2] or why for why in refusals(model, INPUT_SHAPE, RULES[-1]).values())
    whole = ", ".join(f"{why} ({n})" for why, n in whys.most_common() if why != "the network's output")
    return Checked(
        groups=tuple(map(len, found)),
        can_go=tuple(round(fraction, 3) for fraction in can_go),
        passes=passes,
        note=note,
        whole=whole,
    )


def macs_with(name: str, found: tuple[Group, ...], kept_fraction: float) -> int:
    """MACs when each group keeps this fraction of its filters, at least one."""
    shapes = {tensor: list(shape) for tensor, shape in cost.original_shapes(name, CLASSES).items()}
    for group in found:
        for part in group.slices:
            gone = group.filters - filters_left(group, kept_fraction)
            shapes[part.tensor][part.dim] -= gone * part.indices.shape[1]
    return cost.macs(name, CLASSES, {tensor: torch.Size(shape) for tensor, shape in shapes.items()}, INPUT_SHAPE)


def filters_left(group: Group, kept_fraction: float) -> int:
    """Number of filters of a group that stay, at least one."""
    return max(1, round(kept_fraction * group.filters))


def kept_at_random(name: str, found: tuple[Group, ...], removed_macs_fraction: float, seed: int) -> surgery.Kept:
    """The same fraction of random filters from each group, so many that about this fraction of the MACs goes."""
    allowed, low, high = macs_with(name, found, 1.0) * (1.0 - removed_macs_fraction), 0.0, 1.0
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (middle, high) if macs_with(name, found, middle) <= allowed else (low, middle)
    draw = generator(seed, "kept at random")
    return {g.name: torch.randperm(g.filters, generator=draw)[: filters_left(g, low)].sort().values for g in found}


def difference_of_masked(
    name: str, found: tuple[Group, ...], input_shape: tuple[int, ...] = INPUT_SHAPE
) -> tuple[float, float]:
    """How far the slimmed network is from the masked one, and how far the masked one is from the original.

    Returns:
        The largest differences between the logits, over the largest logit.

    Raises:
        RuntimeError: the slimmed network does not run forward or backward.
    """
    tensors = with_statistics(networks.build(name, CLASSES, seed=0).state_dict())
    state = ModelState(network=name, classes=CLASSES, input_shape=input_shape, tensors=tensors)
    kept = kept_at_random(name, found, REMOVED_MACS_FRACTION, seed=0)
    images = torch.randn(2, *input_shape, generator=generator(0, "images"))
    slimmed = surgery.slim(state, kept, found).build().eval()(images)
    slimmed.square().sum().backward()
    with torch.no_grad():
        original = state.build().eval()(images)
        masked = surgery.mask(state, kept, found).build().eval()(images)
    scale = float(masked.abs().max())
    return float((slimmed.detach() - masked).abs().max()) / scale, float((original - masked).abs().max()) / scale


def with_statistics(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a new network, with values in place of those that hide what pruning changes.

    New norms are all alike, so a wrong index would not show; some heads start at zero, some branches at one millionth.
    """
    draw = generator(0, "statistics")
    drawn = {}
    for name, tensor in tensors.items():
        norm = f"{name.rpartition('.')[0]}.running_mean" in tensors
        low, high = (-0.1, 0.1) if name.endswith(("running_mean", "bias")) else (0.8, 1.2)
        if name.endswith(("running_mean", "running_var", "layer_scale")) or (norm and tensor.dim()):
            drawn[name] = torch.rand(tensor.shape, generator=draw) * (high - low) + low
        elif name.endswith(".weight") and not tensor.any():
            drawn[name] = torch.randn(tensor.shape, generator=draw) * 0.02
        else:
            drawn[name] = tensor
    return drawn


def row(name: str, info: NetworkInfo, checked: Checked) -> str:
    """A line of the table."""
    cells = (
        name + ("" if info.any_size else " \\*"),
        f"`{info.head}`",
        f"{info.params_count / 1e6:.1f} M",
        f"{info.macs / 1e9:.2f} G",
        *map(str, checked.groups),
        f"{checked.can_go[0]:.0%}, {checked.can_go[-1]:.0%}",
        "yes" if checked.passes else "no",
        checked.note,
        checked.whole,
    )
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
