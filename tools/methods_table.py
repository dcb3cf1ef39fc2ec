"""Which method runs on which network: `python -m tools.methods_table`.

Every method, and `prune` with every criterion, trains briefly on a few images of random pixels. After each network the
command updates docs/networks.json and docs/networks.md.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from tailor.common.errors import ConfigError, TrainingError
from tailor.config.parsing import parse_trial
from tailor.config.trial import METHODS, TrialConfig
from tailor.data.task_data import Samples, digest, generator
from tailor.execution.cache import Cache
from tailor.execution.runner import run_trial
from tailor.facts.datasets import DATASETS, DataInfo
from tailor.facts.networks import NETWORKS
from tailor.parallel.process_group import ProcessGroup, join
from tailor.pruning.criteria import CRITERIA
from tools.networks_document import MOST_USED, Checked, load_table, update_table
from tools.networks_saved import YES

SIDE_PX = 64  # of the images, if the network accepts any size
IMAGES = {"source": 8, "target": 20}  # of two classes
WHERE = "trial"  # messages of mistakes begin with it
TRAIN_IMAGES, TEST_IMAGES = 8, 4  # of the target's
RATE = 1e-4  # of all trainings: the norms have seen few images, so logits are large
TRAINING = {"batch_size": 4, "learning_rate": RATE}
SHORT = {  # a method gets those of these settings that it has
    **{"steps": 1, "iterations": 1, "alpha_epochs": 1, "allocate_epochs": 1},
    "alpha_learning_rate": RATE,
    "kept_cumulative_fraction": 0.5,  # with random features, 0.99 leaves nothing to remove
}


def main(arguments: list[str]) -> int:
    """Try all methods on the named networks (default: those of the page) and record the results; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m tools.methods_table", description=__doc__)
    parser.add_argument("names", nargs="*", help="torchvision's names; the results of others do not change")
    for name in parser.parse_args(arguments).names or MOST_USED:
        found = outcomes(name, arms(), side_px=SIDE_PX if NETWORKS[name].any_size else NETWORKS[name].input_shape[-1])
        print(f"{name}: {sum(one == YES for one in found.values())} of {len(found)} run", flush=True)  # noqa: T201
        update_table(name, {"methods": found})
    return 0


def arms() -> dict[str, dict[str, Any]]:
    """Name -> settings of each method, and of `prune` with each criterion, as short as possible."""
    found: dict[str, dict[str, Any]] = {name: {"name": name} for name in METHODS if name != "prune"}
    statistic = "mean_absolute_activation"  # for activations that can be negative
    found[f"target_aware_adaptation, {statistic}"] = {"name": "target_aware_adaptation", "statistic": statistic}
    found |= {f"prune, {criterion}": {"name": "prune", "criterion": criterion} for criterion in CRITERIA}
    return {arm: table | shorten(table["name"]) for arm, table in found.items()}


def shorten(method: str) -> dict[str, Any]:
    """The settings with which a method trains as briefly as possible."""
    return {key: value for key, value in SHORT.items() if key in METHODS[method].model_fields}


def rule_of(network: str) -> dict[str, Any]:
    """The settings of the rule of groups that the table uses for a network."""
    note = Checked(**load_table()[network]["checked"]).note
    return {"residual": note.partition(" ")[0], "linear": note.endswith(" + linear")}


def trial(network: str, data: str, method: dict[str, Any]) -> TrialConfig:
    """A trial in which every training has one epoch.

    Raises:
        ConfigError: the method refuses the network.
    """
    raw = {
        "network": network,
        "data": {"name": data, "train_images": TRAIN_IMAGES},
        "source": {"epochs": 1} | TRAINING,
        "method": method,
        "optimisation": {"epochs": 1, "head_epochs": 1} | TRAINING,
        "pruning": rule_of(network),
    }
    return parse_trial(raw, WHERE)


def outcomes(network: str, methods: dict[str, dict[str, Any]], side_px: int) -> dict[str, str]:
    """Name of each arm -> "yes", "refused: why" if its settings are refused, "fails: why" if it fails later."""
    data = random_pixels(side_px)
    with tempfile.TemporaryDirectory() as folder:
        cache, ranks = Cache(Path(folder)), join("cpu")  # stages that arms share are trained once
        return {arm: outcome(network, data, method, cache, ranks) for arm, method in methods.items()}


def outcome(network: str, data: str, method: dict[str, Any], cache: Cache, ranks: ProcessGroup) -> str:
    """The result of one arm on one network, as in `outcomes`."""
    try:
        config = trial(network, data, method)
    except ConfigError as error:
        return f"refused: {str(error).removeprefix(f'{WHERE}: settings: ')}"
    try:
        for _ in run_trial(config, cache=cache, ranks=ranks):
            pass
    except (ConfigError, TrainingError, RuntimeError) as error:
        return f"fails: {error}"
    return YES


def random_pixels(side_px: int) -> str:
    """Register a data set with images of random pixels, once per process; returns its name."""
    name = f"random_pixels_{side_px}"
    if name not in DATASETS:
        source = random_samples(IMAGES["source"], side_px)
        target = random_samples(IMAGES["target"], side_px, first_id=len(source))
        samples = {"source": source, "target": target}
        info = DataInfo(
            description="Random pixels.",
            loader=lambda: samples,
            sha256=digest(samples),
            input_shape=(3, side_px, side_px),
            source_classes=2,
            target_classes=2,
            source_images=IMAGES["source"],
            target_images=IMAGES["target"],
            test_images=TEST_IMAGES,
        )
        DATASETS.add(name, info)
    return name


def random_samples(count: int, side_px: int, *, first_id: int = 0) -> Samples:
    """`count` images of random pixels, in two classes that alternate."""
    draw = generator(count, "random pixels")
    images = torch.randint(0, 256, (count, 3, side_px, side_px), generator=draw, dtype=torch.uint8)
    return Samples(images=images, labels=torch.arange(count) % 2, ids=torch.arange(count) + first_id)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
