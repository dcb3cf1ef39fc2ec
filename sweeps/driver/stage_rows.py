"""The rows that a finished stage of a trial has in each table, made from the stage's file in the cache. Without torch.

A stage's file is durable before the stage is reported, and has all that its rows say. So these are pure functions: who
doubts a row makes it again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from results.store.projection import project
from results.store.rows import Rows
from results.store.schema import TABLES
from sweeps.planning.plan import PlannedTrial
from tailor.execution.cache import StoredStage
from tailor.execution.dry_run import Rung
from tailor.stages import BACKWARD_WORK, AdoptScores, FineTunePart, FitHead

Row = dict[str, Any]
Tensors = Mapping[str, np.ndarray[Any, Any]]
_KEPT = "kept/"
_SCORES = "scores/"


@dataclass(frozen=True, kw_only=True)
class TrialFacts:
    """What the rows of all stages of a trial are made from, beside the stage."""

    trial: PlannedTrial
    head: Mapping[str, str] = field(default_factory=dict)
    """Arm, label and method of its point 0, where that is only the fit of a head with which its path begins."""
    sweep: str
    run_id: str
    code_digest: str

    @property
    def metric(self) -> str | None:
        """What decides in the trial; None: the usual score of its task."""
        metric: str | None = self.trial.settings.values.get("metric")
        return metric

    def project(self, table: str, **records: Any) -> Row:
        """Return the columns of a row whose sources are the trial or these records."""
        return project(table, trial=self.trial, sweep=self.sweep, code_digest=self.code_digest, **records)


@dataclass(frozen=True, kw_only=True)
class StageTraining:
    """What a stage adds to the models that are made from it.

    Attributes:
        trained_epochs: on the target, of this stage alone.
        trained_macs: of these epochs.
    """

    parents: tuple[str, ...]
    trained_epochs: int
    trained_macs: float


def training_of(stored: StoredStage) -> StageTraining:
    """Return the training that a finished stage adds: none, unless it trained on the target.

    A training stage's info has its epochs and the MACs of one forward pass of an image. A backward pass counts as two
    forward passes; fitting a head on frozen features has none. Stages that train on the target have a `task`; source
    training has none.
    """
    stage = stored.description
    epochs = stage.info.get("epochs", []) if stage.settings.get("task") is not None else []
    passes = 1.0 if stage.kind == FitHead.kind else 1.0 + BACKWARD_WORK
    images = sum(epoch["images"] for epoch in epochs)
    return StageTraining(
        parents=stage.parents[:1] if stage.kind == AdoptScores.kind else stage.parents,  # no weight is the donor's
        trained_epochs=len(epochs),
        trained_macs=images * passes * stage.info["macs"] if epochs else 0.0,
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
    epochs = sum(stages[ancestor].trained_epochs for ancestor in ancestors)
    macs = sum(stages[ancestor].trained_macs for ancestor in sorted(ancestors))
    return epochs, macs


def rows_of_stage(of: TrialFacts, order: int, stored: StoredStage) -> dict[str, Rows]:
    """Return the rows of a stage that every stage has; of an operating point see `rows_of_point`, too.

    Args:
        order: of execution in the trial, from 0.
    """
    stage = stored.description
    made_by = stage.made_by
    row = of.project("stages", stage=stage, file=stored) | {
        "order": order,
        "cached": (made_by.run, made_by.trial_id) != (of.run_id, of.trial.trial_id),
    }
    epochs = []
    for epoch in stage.info.get("epochs", []):
        of_epoch = of.project("epochs", stage=stage, file=stored, epoch=epoch) | {"order": order}
        if of.metric is not None:
            of_epoch["validation_score"] = epoch.get(f"validation_{of.metric}")
        epochs.append(of_epoch)
    return {"stages": [row], "epochs": epochs}


def rows_of_rung(of: TrialFacts, point: int | None, stored: StoredStage, rung: Rung) -> dict[str, Rows]:
    """Return the row of the rung if the trial rests after this stage; `point` is its number as an operating point."""
    is_part = stored.description.kind == FineTunePart.kind
    rests = is_part if rung.point is None else point == rung.point
    if not rests:
        return {}
    row = of.project("rungs", stage=stored.description, file=stored)
    return {"rungs": [row | {"rung": rung.number, "epochs": rung.epochs, "point": rung.point}]}


def rows_of_point(
    of: TrialFacts, point: int, stored: StoredStage, tensors: Tensors, training: Mapping[str, StageTraining]
) -> dict[str, Rows]:
    """Return the rows of an operating point.

    Args:
        point: its number.
        tensors: that it stored.
        training: of the stage and all stages before it.
    """
    stage = stored.description
    kept = [
        of.project("kept_filters") | {"point": point, "layer": name.removeprefix(_KEPT), "filters": filters.tolist()}
        for name, filters in sorted(tensors.items())
        if name.startswith(_KEPT)
    ]
    layers = [
        of.project("layers", layer=layer) | {"point": point, "order": order}
        for order, layer in enumerate(stage.info["layers"])
    ]
    measured = "estimates" if stage.info["metric"] == "r_squared" else "predictions"
    trained_epochs, trained_macs = total_training(stored.key, training)
    row = of.project("operating_points", stage=stage, file=stored)
    row |= {
        "point": point,
        "removed_macs_fraction": 1.0 - row["macs"] / row["original_macs"],
        "pruning_latency_ms": None,
        "trained_epochs": trained_epochs,
        "trained_macs": trained_macs,
    }
    if point == 0:
        row |= of.head
    return {
        "layers": layers,
        "kept_filters": kept,
        "test_scores": _rows_of_scores(of, point, tensors),
        measured: _measured_rows(measured, of, point, tensors),
        "operating_points": [row],
    }


def _rows_of_scores(of: TrialFacts, point: int, tensors: Tensors) -> list[Row]:
    """Return the row of the scores on the test split; none of real values, and of a stage that has stored none."""
    scores = {name.removeprefix(_SCORES): float(score) for name, score in tensors.items() if name.startswith(_SCORES)}
    return [of.project("test_scores", scores=scores) | {"point": point}] if scores else []


def _measured_rows(table: str, of: TrialFacts, point: int, tensors: Tensors) -> pa.Table:
    """Return what a model says of each image of the validation and test splits, without a Python object per value."""
    types = {column.name: column.type for column in TABLES[table].columns}
    parts = []
    for split in ("validation", "test"):
        prefix = f"{split}/"
        of_split = {name.removeprefix(prefix): values for name, values in tensors.items() if name.startswith(prefix)}
        count = len(of_split["label"])
        columns = {}
        for name, values in project(table, tensors=of_split).items():
            is_stored = values is not None
            column = pa.array(np.ascontiguousarray(values)) if is_stored else pa.nulls(count)
            columns[name] = column.cast(types[name])
        for name, value in (of.project(table) | {"point": point, "split": split}).items():
            columns[name] = pa.repeat(pa.scalar(value, types[name]), count)
        parts.append(pa.table(columns))
    return pa.concat_tables(parts)
