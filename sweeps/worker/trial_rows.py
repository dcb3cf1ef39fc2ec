"""The rows of one trial, made from the results of its stages."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sweeps.worker.messages import TrialTask
from tailor.config.trial import TrialConfig
from tailor.execution.dry_run import Rung
from tailor.execution.runner import Result, StageEvent
from tailor.stage_execution.base import Tensors, part
from tailor.stages import BACKWARD_WORK, FineTunePart, FitHead, OperatingPoint, PointFacts

Row = dict[str, Any]

TABLES_OF_A_TRIAL = (
    "stages", "epochs", "layers", "kept_filters", "operating_points", "predictions", "estimates", "rungs",
)  # fmt: skip
"""In the order in which they are written: operating points after their layers, and before their predictions."""
NOT_VALIDATED: Row = {"validation_loss": None, "validation_score": None}


class TrialRows:
    """Collects the rows of a trial until they are written."""

    def __init__(self, task: TrialTask, config: TrialConfig) -> None:
        self._trial = {"trial_id": task.trial_id, "code_digest": task.code_digest}
        self._arm = {
            "sweep": task.sweep,
            "label": task.label,
            "arm": task.arm,
            "method": config.method.name,
            "network": config.network,
            "dataset": config.data.name,
            "train_images": config.train_images,
            "seed": config.seed,
        }
        self._protocol = config.protocol
        self._rung = task.rung
        self._training: dict[str, StageTraining] = {}  # that each stage adds, by its key
        self._rows = _empty()

    def add(self, event: StageEvent) -> None:
        """Collect the rows of a finished stage; its parents have to come before it."""
        self._training[event.result.key] = training_of(event.result)
        self._rows["stages"].append(self._stage(event))
        self._rows["epochs"] += self._epochs(event.result)
        if self._rung is not None and _rests(event, self._rung):
            self._rows["rungs"].append(self._trial | _rung_row(event.result, self._rung))
        if event.point is not None:
            self._add_point(event.result, self._trial | {"point": event.point})

    def _add_point(self, result: Result, point: Row) -> None:
        """Collect the rows of an operating point; `point` has the columns that tell it from all others."""
        facts = result.point_facts()
        self._rows["layers"] += [point | {"order": order} | layer for order, layer in enumerate(facts.layers)]
        self._rows["operating_points"].append(point | self._operating_point(result, facts))
        tensors = result.read_tensors()
        for layer, filters in part("kept", tensors).items():
            self._rows["kept_filters"].append(point | {"layer": layer, "filters": filters.tolist()})
        table = "estimates" if facts.metric == "r_squared" else "predictions"
        self._rows[table] += [point | row for row in _prediction_rows(tensors, table)]

    @property
    def waiting(self) -> int:
        """The number of rows collected since the last call of `take`."""
        return sum(len(rows) for rows in self._rows.values())

    def take(self) -> dict[str, list[Row]]:
        """Return the rows collected since the last call, by table."""
        rows = self._rows
        self._rows = _empty()
        return rows

    def _stage(self, event: StageEvent) -> Row:
        result = event.result
        made_by = result.description.made_by
        return self._trial | {
            "stage_key": result.key,
            "kind": result.stage.kind,
            "kind_version": result.stage.version,
            "order": event.order,
            "parents": list(result.stage.parents),
            "cached": result.cached,
            "compute_s": made_by.compute_s,
            "device": made_by.device,
            "ranks": made_by.ranks,
            "torch_version": made_by.torch_version,
            "stored_bytes": result.tensors_bytes,
        }

    def _epochs(self, result: Result) -> list[Row]:
        stage = self._trial | {"stage_key": result.key, "kind": result.stage.kind}
        return [stage | NOT_VALIDATED | epoch for epoch in result.info.get("epochs", [])]

    def _operating_point(self, result: Result, facts: PointFacts) -> Row:
        stage = result.stage
        assert isinstance(stage, OperatingPoint)
        epochs, macs = total_training(result.key, self._training)
        return self._arm | {
            "stage_key": result.key,
            "model_key": stage.parents[0],
            "protocol": self._protocol,
            "asked_removed_macs_fraction": stage.asked_removed_macs_fraction,
            "asked_latency_ms": stage.asked_latency_ms,
            "asked_latency_fraction": stage.asked_latency_fraction,
            "removed_macs_fraction": facts.removed_macs_fraction,
            "macs": facts.macs,
            "original_macs": facts.original_macs,
            "params": facts.params,
            "pruning_latency_ms": result.pruning_latency_ms,
            "trained_epochs": epochs,
            "trained_macs": macs,
            "metric": facts.metric,
            "validation_score": facts.validation_score,
            "deciding_score": facts.deciding_score,
            "validation_loss": facts.validation_loss,
            "validation_images": facts.validation_images,
        }


@dataclass(frozen=True, kw_only=True)
class StageTraining:
    """The training that a stage adds to the models that are made from it."""

    parents: tuple[str, ...]
    epochs: int  # on the target
    macs: float  # of these epochs


def training_of(result: Result) -> StageTraining:
    """Return the training that a finished stage adds: none, unless it trained on the target.

    A training stage's info has its epochs and the MACs of one forward pass of an image. A backward pass counts as two
    forward passes; fitting a head on frozen features has none. Stages that train on the target have a `task`; source
    training has none.
    """
    is_on_target = getattr(result.stage, "task", None) is not None
    epochs = result.info.get("epochs", []) if is_on_target else []
    if not epochs:
        return StageTraining(parents=result.stage.parents, epochs=0, macs=0.0)
    passes = 1.0 if isinstance(result.stage, FitHead) else 1.0 + BACKWARD_WORK
    images = sum(epoch["images"] for epoch in epochs)
    return StageTraining(parents=result.stage.parents, epochs=len(epochs), macs=images * passes * result.info["macs"])


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


def _rests(event: StageEvent, rung: Rung) -> bool:
    """Whether the trial rests after this stage."""
    if rung.point is None:
        return isinstance(event.result.stage, FineTunePart)
    return event.point == rung.point


def _rung_row(result: Result, rung: Rung) -> Row:
    return {
        "rung": rung.number,
        "epochs": rung.epochs,
        "point": rung.point,
        "stage_key": result.key,
        "metric": result.info["metric"],
        "validation_score": result.info["validation_score"],
        "macs": result.info["macs"],
    }


def _empty() -> dict[str, list[Row]]:
    return {table: [] for table in TABLES_OF_A_TRIAL}


_COLUMNS = {
    "predictions": {"image_id": "image_id", "label": "label", "prediction": "prediction", "probability": "probability"},
    "estimates": {"sample_id": "image_id", "target": "label", "estimate": "prediction"},
}
"""Table -> its columns -> the tensors of an operating point that fill them."""


def _prediction_rows(tensors: Tensors, table: str) -> list[Row]:
    """Return the rows of a model's predictions for each image of the validation and test splits."""
    columns = _COLUMNS[table]
    rows: list[Row] = []
    for split in ("validation", "test"):
        values_by_column = [tensors[f"{split}/{name}"].tolist() for name in columns.values()]
        for values in zip(*values_by_column, strict=True):
            rows.append({"split": split} | dict(zip(columns, values, strict=True)))
    return rows
