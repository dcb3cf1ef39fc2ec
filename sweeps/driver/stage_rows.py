"""The rows that a finished stage of a trial has in each table, made from the stage's file in the cache. Without torch.

A stage's file is durable before the stage is reported, and has all that its rows say. So these are pure functions: who
doubts a row makes it again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from results.store.rows import Rows
from results.store.schema import TABLES
from sweeps.planning.plan import PlannedTrial
from tailor.execution.cache import StoredStage
from tailor.execution.dry_run import Rung
from tailor.stages import BACKWARD_WORK, FineTunePart, FitHead, OperatingPoint, PointFacts

Row = dict[str, Any]
Tensors = Mapping[str, np.ndarray[Any, Any]]
NOT_VALIDATED: Row = {"validation_loss": None, "validation_score": None}
_KEPT = "kept/"
_COLUMNS = {
    "predictions": {"image_id": "image_id", "label": "label", "prediction": "prediction", "probability": "probability"},
    "estimates": {"sample_id": "image_id", "target": "label", "estimate": "prediction"},
}
"""Table -> its columns -> the tensors of an operating point that fill them."""


@dataclass(frozen=True, kw_only=True)
class TrialFacts:
    """What the rows of all stages of a trial have in common."""

    trial: PlannedTrial
    sweep: str
    run_id: str
    code_digest: str

    @property
    def key(self) -> Row:
        """The columns of every table."""
        return {"trial_id": self.trial.trial_id, "code_digest": self.code_digest}


@dataclass(frozen=True, kw_only=True)
class StageTraining:
    """What a stage adds to the models that are made from it.

    Attributes:
        epochs: of training on the target.
        macs: of these epochs.
        pruning_latency_ms: that the last pruning up to this stage has measured; None: none has.
    """

    parents: tuple[str, ...]
    epochs: int
    macs: float
    pruning_latency_ms: float | None


def training_of(stored: StoredStage, of: StageTraining | None) -> StageTraining:
    """Return the training that a finished stage adds: none, unless it trained on the target.

    A training stage's info has its epochs and the MACs of one forward pass of an image. A backward pass counts as two
    forward passes; fitting a head on frozen features has none. Stages that train on the target have a `task`; source
    training has none.

    Args:
        of: of its first parent; None: it has none.
    """
    stage = stored.description
    latency_ms = stage.info.get("pruning_latency_ms", of.pruning_latency_ms if of else None)
    epochs = stage.info.get("epochs", []) if stage.settings.get("task") is not None else []
    passes = 1.0 if stage.kind == FitHead.kind else 1.0 + BACKWARD_WORK
    images = sum(epoch["images"] for epoch in epochs)
    return StageTraining(
        parents=stage.parents,
        epochs=len(epochs),
        macs=images * passes * stage.info["macs"] if epochs else 0.0,
        pruning_latency_ms=None if latency_ms is None else float(latency_ms),
    )


def total_training(key: str, stages: Mapping[str, StageTraining]) -> tuple[int, float]:
    """Return epochs and MACs of all training on the target behind a stage, each of its ancestors counted once."""
    ancestors = {key}
    waiting = [key]
    while waiting:
        for parent in stages[waiting.pop()].parents:
            if parent not in ancestors:
                ancestors.add(parent)
                waiting.append(parent)
    epochs = sum(stages[ancestor].epochs for ancestor in ancestors)
    macs = sum(stages[ancestor].macs for ancestor in sorted(ancestors))
    return epochs, macs


def measures(stored: StoredStage) -> bool:
    """Whether a stage is an operating point, whose rows need its tensors."""
    return stored.description.kind == OperatingPoint.kind


def rows_of_stage(of: TrialFacts, order: int, stored: StoredStage) -> dict[str, Rows]:
    """Return the rows of a stage that every stage has; of an operating point see `rows_of_point`, too.

    Args:
        order: of execution in the trial, from 0.
    """
    stage = of.key | {"stage_key": stored.key, "kind": stored.description.kind}
    made_by = stored.description.made_by
    row = stage | {
        "kind_version": stored.description.version,
        "order": order,
        "parents": list(stored.description.parents),
        "cached": (made_by.run, made_by.trial_id) != (of.run_id, of.trial.trial_id),
        "compute_s": made_by.compute_s,
        "device": made_by.device,
        "ranks": made_by.ranks,
        "torch_version": made_by.torch_version,
        "stored_bytes": stored.tensors_bytes,
        "tensors_sha256": stored.tensors_sha256,
    }
    epochs = [stage | NOT_VALIDATED | epoch for epoch in stored.description.info.get("epochs", [])]
    return {"stages": [row], "epochs": epochs}


def rows_of_rung(of: TrialFacts, point: int | None, stored: StoredStage, rung: Rung) -> dict[str, Rows]:
    """Return the row of the rung if the trial rests after this stage; `point` is its number as an operating point."""
    is_part = stored.description.kind == FineTunePart.kind
    rests = is_part if rung.point is None else point == rung.point
    if not rests:
        return {}
    info = stored.description.info
    row = {
        "rung": rung.number,
        "epochs": rung.epochs,
        "point": rung.point,
        "stage_key": stored.key,
        "metric": info["metric"],
        "validation_score": info["validation_score"],
        "macs": info["macs"],
    }
    return {"rungs": [of.key | row]}


def rows_of_point(
    of: TrialFacts, point: int, stored: StoredStage, tensors: Tensors, training: Mapping[str, StageTraining]
) -> dict[str, Rows]:
    """Return the rows of an operating point.

    Args:
        point: its number.
        tensors: that it stored.
        training: of the stage and all stages before it.
    """
    key = of.key | {"point": point}
    facts = PointFacts(**{name: stored.description.info[name] for name in PointFacts.__dataclass_fields__})
    kept = [
        key | {"layer": name.removeprefix(_KEPT), "filters": filters.tolist()}
        for name, filters in sorted(tensors.items())
        if name.startswith(_KEPT)
    ]
    measured = "estimates" if facts.metric == "r_squared" else "predictions"
    return {
        "layers": [key | {"order": order} | layer for order, layer in enumerate(facts.layers)],
        "kept_filters": kept,
        measured: _measured_rows(measured, key, tensors),
        "operating_points": [key | _operating_point(of, stored, facts, training)],
    }


def _operating_point(
    of: TrialFacts, stored: StoredStage, facts: PointFacts, training: Mapping[str, StageTraining]
) -> Row:
    settings = stored.description.settings
    trial = of.trial
    epochs, macs = total_training(stored.key, training)
    return {
        "sweep": of.sweep,
        "label": trial.label,
        "arm": trial.arm,
        "method": trial.settings.method,
        "network": trial.settings.network,
        "dataset": trial.settings.dataset,
        "train_images": trial.train_images,
        "seed": trial.settings.seed,
        "stage_key": stored.key,
        "model_key": stored.description.parents[0],
        "protocol": trial.settings.values["protocol"],
        "asked_removed_macs_fraction": settings["asked_removed_macs_fraction"],
        "asked_latency_ms": settings.get("asked_latency_ms"),
        "asked_latency_fraction": settings.get("asked_latency_fraction"),
        "removed_macs_fraction": facts.removed_macs_fraction,
        "macs": facts.macs,
        "original_macs": facts.original_macs,
        "params": facts.params,
        "pruning_latency_ms": training[stored.key].pruning_latency_ms,
        "trained_epochs": epochs,
        "trained_macs": macs,
        "metric": facts.metric,
        "validation_score": facts.validation_score,
        "deciding_score": facts.deciding_score,
        "validation_loss": facts.validation_loss,
        "validation_images": facts.validation_images,
    }


def _measured_rows(table: str, key: Row, tensors: Tensors) -> pa.Table:
    """Return what a model says of each image of the validation and test splits, without a Python object per value."""
    types = {column.name: column.type for column in TABLES[table].columns}
    parts = []
    for split in ("validation", "test"):
        columns = {
            name: pa.array(np.ascontiguousarray(tensors[f"{split}/{tensor}"])).cast(types[name])
            for name, tensor in _COLUMNS[table].items()
        }
        count = len(next(iter(columns.values())))
        for name, value in (key | {"split": split}).items():
            columns[name] = pa.repeat(pa.scalar(value, types[name]), count)
        parts.append(pa.table(columns))
    return pa.concat_tables(parts)
