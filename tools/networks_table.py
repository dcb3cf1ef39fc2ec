"""The facts of torchvision's classifiers, measured by building and pruning each: `python -m tools.networks_table`.

Writes docs/networks.json, and docs/networks.md from it.
"""

import argparse
import sys
import tempfile
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor
from torchvision import models

from tailor.data.task_data import generator
from tailor.facts.networks import INPUT_SHAPE, NETWORKS
from tailor.model import cost
from tailor.model.state import ModelState
from tailor.networks import building
from tailor.pruning import surgery
from tailor.pruning.group_records import Group
from tailor.pruning.groups import candidates, groups
from tailor.pruning.network_facts import CLASSES
from tailor.stages import GroupRule
from tools import networks_document
from tools.networks_document import MOST_USED, NOT_TRIED, REMOVED_MACS_FRACTION, TOLERANCE, Checked
from tools.networks_saved import save_example, try_export, try_rebuild

RULES = (
    GroupRule(),
    GroupRule(residual="coupled"),
    GroupRule(linear=True),
    GroupRule(residual="coupled", linear=True),
)


def main(arguments: list[str]) -> int:
    """Check the named networks (default: all), and write both files after each; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m tools.networks_table", description=__doc__)
    parser.add_argument("names", nargs="*", help="torchvision's names; the lines of others do not change")
    parser.add_argument("--untried", action="store_true", help="skip networks whose checks are complete")
    asked = parser.parse_args(arguments)
    for name in asked.names or models.list_models(module=models):
        if asked.untried and not is_untried(name):
            continue
        info, checked = NETWORKS[name], check(name)
        print(f"{name}: {networks_document.summary(checked)}", flush=True)  # noqa: T201
        networks_document.update_table(name, {"info": asdict(info), "checked": asdict(checked)})
    return 0


def is_untried(name: str) -> bool:
    """Whether some check of a network is missing from the table."""
    if (line := networks_document.load_table().get(name)) is None:
        return True
    checked = Checked(**line["checked"])
    return NOT_TRIED in (checked.rebuilt, checked.torch_export, *([checked.onnx] if name in MOST_USED else []))


def check(name: str) -> Checked:
    """Prune a network under the first rule that can remove enough, compare, save, rebuild and export it."""
    model = building.skeleton(name, CLASSES)
    found = [groups(model, INPUT_SHAPE, rule) for rule in RULES]
    can_go = [1.0 - macs_with(name, each, 0.0) / macs_with(name, each, 1.0) for each in found]
    chosen = next((i for i, fraction in enumerate(can_go) if fraction > REMOVED_MACS_FRACTION), None)
    if chosen is None:
        passes, note, taken_home = False, "no rule can remove enough", {}
    else:
        passes, note = compare_slimmed_with_masked(name, found[chosen], RULES[chosen])
        taken_home = check_saved(name, found[chosen]) if passes else {}
    traced = [c for c in candidates(model, INPUT_SHAPE, RULES[-1]) if c.group.slices]
    reasons = [c.reason for c in traced for _ in c.group.members if c.reason is not None]
    whys = Counter(why.partition(": ")[2] or why for why in reasons)
    whole = ", ".join(f"{why} ({n})" for why, n in whys.most_common() if why != "the network's output")
    return Checked(
        groups=tuple(map(len, found)),
        can_go=tuple(round(fraction, 3) for fraction in can_go),
        passes=passes,
        note=note,
        whole=whole,
        **taken_home,
    )


def compare_slimmed_with_masked(name: str, found: tuple[Group, ...], rule: GroupRule) -> tuple[bool, str]:
    """Whether a pruned network runs and equals the masked one; and the rule of its groups, or the error."""
    named = rule.residual + (" + linear" if rule.linear else "")
    try:
        difference, effect = measure_differences(name, found)
    except RuntimeError as error:
        return False, f"{named}: {str(error).partition(chr(10))[0]}"
    if difference <= TOLERANCE < effect / 100:
        return True, named
    return False, f"{named}: masked and slimmed differ by {difference:.1e}, pruning by {effect:.1e}"


def check_saved(name: str, found: tuple[Group, ...]) -> dict[str, str]:
    """Save, rebuild and export the pruned network; the results by the fields of `Checked`."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        save_example(surgery.slim(*choose_kept(name, found, INPUT_SHAPE), found), folder)
        return {
            "rebuilt": try_rebuild(folder),
            "torch_export": try_export(folder, "torch-export"),
            "onnx": try_export(folder, "onnx") if name in MOST_USED else NOT_TRIED,
        }


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


def choose_at_random(
    name: str, found: tuple[Group, ...], asked_removed_macs_fraction: float, seed: int
) -> surgery.Kept:
    """Keep the same fraction of random filters of each group, so that about this fraction of the MACs is removed."""
    allowed, low, high = macs_with(name, found, 1.0) * (1.0 - asked_removed_macs_fraction), 0.0, 1.0
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (middle, high) if macs_with(name, found, middle) <= allowed else (low, middle)
    draw = generator(seed, "kept at random")
    return {g.name: torch.randperm(g.filters, generator=draw)[: filters_left(g, low)].sort().values for g in found}


def choose_kept(name: str, found: tuple[Group, ...], input_shape: tuple[int, ...]) -> tuple[ModelState, surgery.Kept]:
    """A network before pruning, and the filters that are kept when REMOVED_MACS_FRACTION is removed."""
    tensors = replace_statistics(building.build(name, CLASSES, seed=0).state_dict())
    state = ModelState(network=name, classes=CLASSES, input_shape=input_shape, tensors=tensors)
    return state, choose_at_random(name, found, REMOVED_MACS_FRACTION, seed=0)


def measure_differences(
    name: str, found: tuple[Group, ...], input_shape: tuple[int, ...] = INPUT_SHAPE
) -> tuple[float, float]:
    """Measure the difference of the slimmed network from the masked one, and of the masked one from the original.

    Returns:
        The largest differences between the logits, divided by the largest logit.

    Raises:
        RuntimeError: the slimmed network does not run forward or backward.
    """
    state, kept = choose_kept(name, found, input_shape)
    images = torch.randn(2, *input_shape, generator=generator(0, "images"))
    slimmed = surgery.slim(state, kept, found).build().eval()(images)
    slimmed.square().sum().backward()
    with torch.no_grad():
        original = state.build().eval()(images)
        masked = surgery.mask(state, kept, found).build().eval()(images)
    scale = float(masked.abs().max())
    return float((slimmed.detach() - masked).abs().max()) / scale, float((original - masked).abs().max()) / scale


def replace_statistics(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a new network, with random values instead of those that hide the effect of pruning.

    New norms are all equal, so a wrong index would not show; some heads start at zero, some branches at one millionth.
    """
    draw = generator(0, "statistics")
    drawn = {}
    for name, tensor in tensors.items():
        norm = f"{name.rpartition('.')[0]}.running_mean" in tensors
        low, high = (-0.1, 0.1) if name.endswith(("running_mean", "bias")) else (0.8, 1.2)
        if name.endswith(("running_mean", "running_var", "layer_scale", "gamma")) or (norm and tensor.dim()):
            drawn[name] = torch.rand(tensor.shape, generator=draw) * (high - low) + low
        elif name.endswith(".weight") and not tensor.any():
            drawn[name] = torch.randn(tensor.shape, generator=draw) * 0.02
        else:
            drawn[name] = tensor
    return drawn


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
