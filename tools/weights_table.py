"""Write torchvision's facts about its weights to tailor/facts: `python -m tools.weights_table`."""

import argparse
import inspect
import json
import re
import sys
from dataclasses import asdict
from typing import Any

from torchvision import models

from tailor.facts.networks import NETWORKS
from tailor.facts.weights import TABLE_FILE, WeightsInfo

DIGITS = re.compile(r"-([0-9a-f]{8,64})\.pth")


def main(arguments: list[str]) -> int:
    """Write the table and print the weights that are left out, with the reason; returns 0."""
    argparse.ArgumentParser(prog="python -m tools.weights_table", description=__doc__).parse_args(arguments)
    found = {}
    for network in models.list_models(module=models):
        for weights in models.get_model_weights(network):
            why_not = reason_to_omit(network, weights)
            if why_not is None:
                found[str(weights)] = asdict(describe_weights(network, weights))
            else:
                print(f"{weights}: left out, {why_not}")  # noqa: T201
    lines = [f"{json.dumps(name)}: {json.dumps(found[name])}" for name in sorted(found)]
    TABLE_FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    return 0


def reason_to_omit(network: str, weights: Any) -> str | None:
    """Why weights cannot be used here; None if they can."""
    if weights.meta["categories"] is None:
        return "they have no classifier, whose hidden layers a target's head needs"
    size = tuple(weights.transforms().crop_size) * 2
    if not NETWORKS[network].any_size and size != NETWORKS[network].input_shape[1:]:
        return f"they are for {size[0]} px, and {network} is only built for {NETWORKS[network].input_shape[1]}"
    return None


def describe_weights(network: str, weights: Any) -> WeightsInfo:
    """The facts of weights that a trial needs."""
    file = weights.url.rpartition("/")[2]
    digits = DIGITS.search(file)
    assert digits is not None  # torchvision's own convention, used to verify its downloads
    mean, std = tuple(weights.transforms().mean), tuple(weights.transforms().std)
    if "transform_input" in inspect.getsource(models.get_model_builder(network)):
        mean = std = (0.5, 0.5, 0.5)  # torchvision's network converts ImageNet's to these itself; ours does not
    return WeightsInfo(network=network, file=file, sha256=digits[1], pixel_mean=mean, pixel_std=std)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
