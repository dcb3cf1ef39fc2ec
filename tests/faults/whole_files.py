"""Whole files of each kind that the product reads, as small as they can be, for tests to damage."""

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from results.store.writer import Writer
from sweeps.run.run_folder import FORMAT
from tailor.execution.cache import Cache, MadeBy, StageDescription

TRIALS = ("a" * 16, "b" * 16)
POINTS, SAMPLES, EPOCHS = 2, 3, 2
NOW = datetime(2024, 5, 1, tzinfo=UTC)
KEYS = ("1" * 64, "2" * 64)  # a trial's stages, each of which is a point
TENSORS = safetensors.numpy.save(
    {
        "kept/l": np.array([1]),
        "validation/image_id": np.arange(0),
        "test/image_id": np.arange(SAMPLES),
        "scores/test_accuracy": np.array(1.0),
    }
)


def write_trial(run: Path, trial: str) -> None:
    """All rows of one trial that finished at its first attempt."""
    writer, code = Writer(run / "tables"), {"code_digest": "c", "trial_id": trial}
    arm = {"label": "x", "arm": "x", "method": "x", "network": "n", "dataset": "d", "seed": 0, "sweep": "s"}
    plan = {"ranks": 1, "points_planned": POINTS, "config_json": "{}", "stage_keys": list(KEYS)}
    span = {"started_at": NOW, "ended_at": NOW}
    attempt = {"attempt": 1, "driver": "d", "host": "h", "status": "finished", **span, **code}
    stage = {"kind": "operating_point", "kind_version": 1, "parents": [], "cached": False, "compute_s": 1.0}
    stage |= {"device": "cpu", "ranks": 1, "torch_version": "2", "stored_bytes": 1, **code}
    stage |= {"tensors_sha256": hashlib.sha256(TENSORS).hexdigest()}
    epoch = {"kind": "k", "order": 0, "train_loss": 1.0, "learning_rate": 1.0, "head_learning_rate": 1.0}
    epoch |= {"images": 1, "seconds": 1.0, **code}
    point = {"protocol": "validation", "removed_macs_fraction": 0.0, "macs": 1, "original_macs": 1, "params": 1}
    point |= {"trained_epochs": 1, "trained_macs": 1.0, "metric": "accuracy"}
    point |= {"validation_score": 1.0, "deciding_score": 1.0}
    point |= {"validation_loss": 1.0, "validation_images": 1, **arm, **code}
    image = {"split": "test", "label": 0, "prediction": 0, "probability": 1.0, **code}
    layer = {"layer": "l", "order": 0, "width": 1, "original_width": 2, "macs": 1, **code}
    kept = {"layer": "l", "filters": [1], **code}
    writer.add("planned", [{**arm, **code, **plan}])
    for number, key in enumerate(KEYS):
        writer.add("stages", [{**stage, "stage_key": key, "order": number}])
        writer.add("epochs", [{**epoch, "stage_key": key, "epoch": n} for n in range(EPOCHS)])
        writer.add("layers", [{**layer, "point": number}])
        writer.add("kept_filters", [{**kept, "point": number}])
        writer.add("operating_points", [{**point, "point": number, "stage_key": key, "model_key": key}])
        writer.add("test_scores", [{"point": number, "test_accuracy": 1.0, **code}])
        writer.add("predictions", [{**image, "point": number, "image_id": image_id} for image_id in range(SAMPLES)])
    writer.add("attempts", [attempt])
    writer.write("trials", [{"status": "finished", "attempts": 1, "seconds": 1.0, **span, **code}])


def write_points(cache: Path) -> None:
    """The stages of these trials."""
    info = {"epochs": [{"seconds": 1.0}] * EPOCHS, "layers": [{"layer": "l"}]}
    for key in KEYS:
        Cache(cache).write(key, description(info), TENSORS)


def write_run(run: Path) -> None:
    """The folder of a run of two finished trials, as far as it is read again."""
    for trial in TRIALS:
        write_trial(run, trial)
    launch = {"packages": {"torch": "2"}, "command": "launch"}
    trials = {
        trial: {"label": "x", "arm": "x", "config": {"seed": 0}, "tuning_json": None, "tuning_order": None}
        for trial in TRIALS
    }
    plan = {"format": FORMAT, "name": "run", "trials": trials, "resources": {"ranks": 1}, "private_cache": False}
    plan["imports"] = []
    history = [{"what": "created", "command": "launch", "folder": "/"}]
    provenance = {"format": FORMAT, "name": "run", "run_id": "r", "code_digest": "c", "created": launch}
    provenance["history"] = history
    (run / "plan.json").write_text(json.dumps(plan))
    (run / "provenance.json").write_text(json.dumps(provenance))
    (run / "spec.toml").write_text('name = "run"\n')


def description(info: dict[str, Any]) -> StageDescription:
    """Of a stage that found this out."""
    made_by = MadeBy(compute_s=1.0, device="cpu", ranks=1, threads=1, torch_version="2")
    return StageDescription(kind="k", version=1, settings={}, parents=(), info=info, made_by=made_by)


def write_stage(cache: Path) -> None:
    """A finished stage in a cache."""
    import safetensors.torch
    import torch

    tensors = safetensors.torch.save({"weight": torch.arange(6.0), "indices": torch.tensor([1, 2])})
    Cache(cache).write(KEYS[0], description({"epochs": [{"loss": 1.5}]}), tensors)


def write_checkpoint(folder: Path) -> None:
    """The checkpoint of a model of one layer after two epochs."""
    import torch

    from tailor.parallel.process_group import join
    from tailor.training.checkpoint import Checkpoint, TrainingProgress
    from tailor.training.weight_average import WeightAverage

    model = torch.nn.Linear(3, 2)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.ones(1, 3)).sum().backward()
    optimiser.step()
    checkpoint = Checkpoint(folder / "checkpoint", 0.0, join("cpu"))
    checkpoint.save(TrainingProgress(epoch=2), model, optimiser, WeightAverage(model, 0.9))


def write_model(folder: Path) -> None:
    """A saved sub-model."""
    from tailor.facts.networks import NETWORKS
    from tailor.model.state import ModelState, save_model, weights
    from tailor.networks import building

    model = building.build("friedman_mlp", 1, seed=0)
    shape = NETWORKS["friedman_mlp"].input_shape
    save_model(ModelState(network="friedman_mlp", classes=1, input_shape=shape, tensors=weights(model)), folder)
