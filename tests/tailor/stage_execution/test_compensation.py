"""Biases that take over what removed filters and heads gave on average."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tailor.common.errors import ConfigError
from tailor.config.parsing import parse_trial
from tailor.data import task_data
from tailor.execution.cache import Cache
from tailor.execution.runner import StageEvent
from tailor.methods.recipe import Recipe
from tailor.parallel.process_group import ProcessGroup
from tests.tailor.trials import SHORT

Run = Callable[..., list[StageEvent]]
TRIAL: dict[str, Any] = SHORT | {
    "network": "digits_vit",
    "method": {"name": "prune", "criterion": "l2", "asked_removed_macs_fraction": 0.4},
    "pruning": {"heads": True, "linear": True, "shift_means": True},
}


def test_each_bias_takes_over_the_mean_of_what_is_gone(run: Run, tmp_path: Path, ranks: ProcessGroup) -> None:
    """Written out for each layer that reads heads or hidden units."""
    config = parse_trial(TRIAL, "test")
    states = {event.result.stage.kind: event.result.model_state() for event in run(config, Cache(tmp_path))}
    unpruned, pruned, shifted = (states[kind] for kind in ("score_filters", "prune", "shift_means"))
    model, read = unpruned.build().eval(), dict[str, list[Tensor]]()
    gave = {f"blocks.{n}.{reads}": f"blocks.{n}.{made}" for n in range(3) for reads, made in READ.items()}
    for layer in gave:
        read[layer] = []
        module = model.get_submodule(layer)
        module.register_forward_pre_hook(lambda _m, inputs, layer=layer: read[layer].append(inputs[0].flatten(0, 1)))
    with torch.no_grad():
        for batch in task_data.batches(task_data.splits(Recipe(config).task).train, 32, 0, 0, "none", ranks):
            model(batch.images)
    expected = dict(pruned.tensors)
    assert pruned.kept
    for layer, name in gave.items():
        weight, mean = unpruned.tensors[f"{layer}.weight"], torch.cat(read[layer]).mean(dim=0)
        each = 8 if name.endswith(":heads") else 1
        gone = torch.ones(weight.shape[1] // each, dtype=torch.bool)
        gone[pruned.kept.get(name, slice(None))] = False
        inputs = gone.repeat_interleave(each)
        expected[f"{layer}.bias"] = pruned.tensors[f"{layer}.bias"] + weight[:, inputs] @ mean[inputs]
    for name, tensor in shifted.tensors.items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-4, atol=1e-5, msg=name)
    moved = [
        layer for layer in gave if not torch.equal(shifted.tensors[f"{layer}.bias"], pruned.tensors[f"{layer}.bias"])
    ]
    assert {layer.rpartition("blocks.")[2][2:] for layer in moved} == READ.keys()


READ = {"attention.proj": "attention.proj:heads", "hidden.2": "hidden.0"}


def test_a_network_in_which_no_bias_can_take_over_anything_is_refused(run: Run, tmp_path: Path) -> None:
    """Every layer behind a removed filter has a norm in the place of its bias."""
    method = {"name": "prune", "criterion": "l2", "asked_removed_macs_fraction": 0.4}
    config = parse_trial(
        SHORT | {"network": "digits_resnet", "method": method, "pruning": {"shift_means": True}}, "test"
    )
    with pytest.raises(ConfigError, match="shift_means = true has no effect: no layer that reads .* has a bias"):
        run(config, Cache(tmp_path))
