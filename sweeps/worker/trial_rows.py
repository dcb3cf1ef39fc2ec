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
        self._protocol, self._rung = config.protocol, task.rung
        self._passed: dict[str, Passed] = {}
        self._rows = _empty()

    def add(self, event: StageEvent) -> None:
        """Collect the rows of a finished stage; its parents have to come before it."""
        self._passed[event.result.key] = training_of(event.result)
        self._rows["stages"].append(self._stage(event))
        self._rows["epochs"] += self._epochs(event.result)
        if self._rung is not None and _rests(event, self._rung):
            self._rows["rungs"].append(self._trial | _rung_row(event.result, self._rung))
        if event.point is not None:
            point = self._trial | {"point": event.point}
            facts = event.result.point_facts()
            self._rows["layers"] += [point | {"order": n} | row for n, row in enumerate(facts.layers)]
            self._rows["operating_points"].append(point | self._operating_point(event.result, facts))
            tensors = event.result.read_tensors()
            self._rows["kept_filters"] += [
                point | {"layer": layer, "filters": kept.tolist()} for layer, kept in part("kept", tensors).items()
            ]
            table = "estimates" if facts.metric == "r_squared" else "predictions"
            self._rows[table] += [point | row for row in _prediction_rows(tensors, table)]

    @property
    def waiting(self) -> int:
        """The number of rows collected since the last call of `take`."""
        return sum(len(rows) for rows in self._rows.values())

    def take(self) -> dict[str, list[Row]]:
        """The rows collected since the last call, by table."""
        taken, self._rows = self._rows, _empty()
        return taken

    def _stage(self, event: StageEvent) -> Row:
        result, made_by = event.result, event.result.description.made_by
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
        epochs, macs = total_training(result.key, self._passed)
        return self._arm | {
            "stage_key": result.key,
            "model_key": stage.parents[0],
            "protocol": self._protocol,
            "asked_removed_macs_fraction": stage.asked_removed_macs_fraction,
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
class Passed:
    """The training that a stage adds to the models that are made from it."""

    parents: tuple[str, ...]
    epochs: int  # on the target
    macs: float  # of these epochs


def training_of(result: Result) -> Passed:
    """The training that a finished stage adds: none, unless it trained on the target.

    A training stage's info has its epochs and the MACs of one forward pass of an image. A backward pass counts as two
    forward passes; fitting a head on frozen features has none. Stages that train on the target have a `task`; source
    training has none.
    """
    epochs = result.info.get("epochs", []) if getattr(result.stage, "task", None) is not None else []
    passes = 1.0 if isinstance(result.stage, FitHead) else 1.0 + BACKWARD_WORK
    images = sum(epoch["images"] for epoch in epochs)
    return Passed(
        parents=result.stage.parents, epochs=len(epochs), macs=images * passes * result.info["macs"] if epochs else 0.0
    )


def total_training(key: str, stages: Mapping[str, Passed]) -> tuple[int, float]:
    """Epochs and MACs of all training on the target behind a stage, each of its ancestors counted once."""
    ancestors, waiting = {key}, [key]
    while waiting:
        for parent in stages[waiting.pop()].parents:
            if parent not in ancestors:
                ancestors.add(parent)
                waiting.append(parent)
    return sum(stages[stage].epochs for stage in ancestors), sum(stages[stage].macs for stage in sorted(ancestors))


def _rests(event: StageEvent, rung: Rung) -> bool:
    """Whether the trial rests after this stage."""
    return isinstance(event.result.stage, FineTunePart) if rung.point is None else event.point == rung.point


def _rung_row(result: Result, rung: Rung) -> Row:
    place = {"rung": rung.number, "epochs": rung.epochs, "point": rung.point, "stage_key": result.key}
    return place | {name: result.info[name] for name in ("metric", "validation_score", "macs")}


def _empty() -> dict[str, list[Row]]:
    return {table: [] for table in TABLES_OF_A_TRIAL}


_COLUMNS = {
    "predictions": {"image_id": "image_id", "label": "label", "prediction": "prediction", "probability": "probability"},
    "estimates": {"sample_id": "image_id", "target": "label", "estimate": "prediction"},
}
"""Table -> its columns -> the tensors of an operating point that fill them."""


def _prediction_rows(tensors: Tensors, table: str) -> list[Row]:
    """The rows of a model's predictions for each image of the validation and test splits."""
    columns = _COLUMNS[table]
    rows: list[Row] = []
    for split in ("validation", "test"):
        values = [tensors[f"{split}/{name}"].tolist() for name in columns.values()]
        rows += [{"split": split} | dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True)]
    return rows
