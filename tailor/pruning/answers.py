"""Answers the questions of `tailor.facts.asked`; as a program, one per line, in JSON."""

import inspect
import json
import os
import re
import sys
from dataclasses import replace
from typing import Any

from torchvision import models

from tailor.common.errors import ConfigError, explain_errors
from tailor.facts import asked
from tailor.facts.networks import NETWORKS, is_timms
from tailor.networks import timm_builders
from tailor.pruning.feasibility_count import prunable
from tailor.pruning.network_facts import find_facts
from tailor.stages import GroupRule

OF_PROCESS = ("builder", "facts_from")  # fields of a record that are no facts of the network
DIGITS = re.compile(r"-([0-9a-f]{8,64})\.pth")


def answer(kind: str, *about: Any) -> Any:
    """Return what is known of networks, of values that JSON has.

    Raises:
        ConfigError: there is no such network, or it cannot be analysed.
    """
    if kind == "names":
        return models.list_models(module=models)
    if kind == "weights":
        return weights()
    name = about[0]
    with explain_errors(f"network {name!r} cannot be analysed", "choose another one"):
        if kind == "facts":
            own = timm_builders.first_record(name) if is_timms(name) else NETWORKS.get_bare(name)
            NETWORKS.put(name, replace(own, facts_from=""))  # the network is built by this record
            facts = find_facts(name)
            NETWORKS.put(name, facts)
            return {key: value for key, value in vars(facts).items() if key not in OF_PROCESS}
        rule, input_shape = about[1:]
        return vars(prunable(name, GroupRule(**rule), tuple(input_shape)))


def weights() -> dict[str, dict[str, Any]]:
    """Exact name of torchvision's weights -> the fields of a `WeightsInfo`."""
    found = {}
    for network in models.list_models(module=models):
        for one in models.get_model_weights(network):
            if one.meta["categories"] is not None:  # else they have no classifier, whose hidden layers a head needs
                found[str(one)] = describe_weights(network, one)
    return found


def describe_weights(network: str, weights: Any) -> dict[str, Any]:
    """The facts of weights that a trial needs."""
    file = weights.url.rpartition("/")[2]
    digits = DIGITS.search(file)
    assert digits is not None  # torchvision's own convention, used to verify its downloads
    mean, std = tuple(weights.transforms().mean), tuple(weights.transforms().std)
    if "transform_input" in inspect.getsource(models.get_model_builder(network)):
        mean = std = (0.5, 0.5, 0.5)  # torchvision's network converts ImageNet's to these itself; ours does not
    return {
        "network": network,
        "file": file,
        "sha256": digits[1],
        "pixel_mean": mean,
        "pixel_std": std,
        "side_px": weights.transforms().crop_size[0],
    }


def main() -> None:
    """Answer each line until the input ends: a fault or null, and the answer."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    for line in sys.stdin:
        try:
            said = [None, asked.ask(*json.loads(line))]
        except ConfigError as error:
            said = [str(error), None]
        answers.write(f"{json.dumps(said)}\n")
        answers.flush()


if __name__ == "__main__":
    main()
