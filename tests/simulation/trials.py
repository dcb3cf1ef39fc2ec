"""Trials that compute nothing: the product's methods and stages, whose results are made up, equal for equal keys."""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import torch

from sweeps.planning.plan import Plan, make_plan, no_sharing
from sweeps.spec.spec import Spec, load_spec
from tailor.common.errors import Paused
from tailor.stage_execution.base import StageContext, StageOutput
from tailor.stages import Stage

NAME = "day"
SPEC = """
name = "day"
[trial]
network = "friedman_mlp"
pruning.linear = true
data = {{ name = "friedman1", train_images = 20 }}
source.epochs = 1
optimisation = {{ epochs = 1, head_epochs = 1 }}
[axes]
seed = {seeds}
[[variants]]
method.name = "fine_tune"
[[variants]]
method = {{ name = "prune", criterion = "l1", asked_removed_macs_fraction = 0.3 }}
[resources]
hang_limit_s = 20.0
"""
SEARCH = """
name = "day"
[trial]
network = "friedman_mlp"
method.name = "fine_tune"
data = { name = "friedman1", train_images = 20 }
source.epochs = 1
optimisation.epochs = 3
[axes]
optimisation.learning_rate = [0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512]
optimisation.head_epochs = [1, 2]
[search]
sampler = "tpe"
trials = 3
batch = 2
halving = { eta = 2, epochs = [1, 2] }
[confirm]
top = 1
seeds = 2
[resources]
hang_limit_s = 20.0
"""
SEEDS, EXTENDED = 2, 3
MACS = 4800


@cache
def plan(seeds: int = SEEDS, *, shares: bool = True) -> Plan:
    """A sweep of two trials for each seed."""
    made = make_plan(_loaded(SPEC.format(seeds=list(range(seeds)))))
    return made if shares else replace(no_sharing(made), name=NAME)


@cache
def search() -> Spec:
    """A search of three settings: two continue to the second rung, one to its end, which is then confirmed."""
    return _loaded(SEARCH)


def _loaded(text: str) -> Spec:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "day.toml")
        path.write_text(text)
        return load_spec(path)


def result(stage: Stage) -> StageOutput:
    """What a stage stores: as large as need be for rows in all tables."""
    chance = Random(stage.key())
    score = chance.random()
    match stage.kind:
        case "train_source" | "fit_head" | "fine_tune":
            epoch = {
                "epoch": 0, "train_loss": score, "train_accuracy_fraction": None, "learning_rate": 0.1,
                "head_learning_rate": 0.1, "images": 20, "seconds": 1.0,
            }  # fmt: skip
            return StageOutput(
                info={"epochs": [epoch], "macs": MACS}, tensors={"tensors/head.bias": torch.tensor([score])}
            )
        case "fine_tune_part":
            return StageOutput(
                info={"metric": "r_squared", "validation_score": score, "validation_loss": 1.0, "macs": MACS}
            )
        case "score_filters":
            return StageOutput(info={}, tensors={"scores/hidden.0": torch.tensor([score, 1.0])})
        case "prune":
            return StageOutput(info={"removed_macs_fraction": 0.3}, tensors={"kept/hidden.0": torch.tensor([1])})
        case "operating_point":
            layer: dict[str, Any] = {"layer": "hidden.0", "width": 1, "original_width": 2, "macs": MACS}
            info = {
                "macs": MACS, "original_macs": MACS, "params": 9, "layers": [layer], "metric": "r_squared",
                "deciding_score": score, "validation_score": score, "validation_loss": 1.0, "validation_images": 2,
            }  # fmt: skip
            tensors = {"kept/hidden.0": torch.tensor([1])}
            for split in ("validation", "test"):
                tensors[f"{split}/image_id"] = torch.tensor([0, 1])
                tensors |= {f"{split}/{name}": torch.tensor([score, 1.0]) for name in ("label", "prediction")}
            return StageOutput(info=info, tensors=tensors)
    raise AssertionError(f"the trials of this sweep have no stage of kind {stage.kind}")


def computing(works: Callable[[Stage, Callable[[], bool]], None]) -> Callable[..., StageOutput]:
    """What stands for `tailor.stage_execution.compute`; `works` lets time pass and asks whether to pause."""

    def compute(stage: Stage, _parent: object, context: StageContext) -> StageOutput:
        works(stage, context.pause)
        if context.pause():
            raise Paused
        return result(stage)

    return compute


def apply(*_: object) -> object:
    """What stands for `tailor.stage_execution.apply`: nobody looks at the model."""
    return object()
