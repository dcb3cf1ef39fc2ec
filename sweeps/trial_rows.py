"""The rows of one trial: what its stages found, as the store's tables want it."""

from typing import Any

from tailor.config import TrialConfig
from tailor.runner import Result, StageEvent
from tailor.stage import OperatingPoint, TrainSource

Row = dict[str, Any]


class TrialRows:
    """Collects rows from a trial's events until they are taken to be written."""

    def __init__(self, task: dict[str, Any], config: TrialConfig) -> None:
        self._task = task
        self._trial = {"trial_id": task["trial_id"], "code_digest": task["code_digest"]}
        self._arm = {
            "sweep": task["sweep"],
            "label": task["label"],
            "method": config.method.name,
            "network": config.network,
            "dataset": config.data.name,
            "seed": config.seed,
        }
        self._protocol = config.protocol
        self._rows = _empty()

    def add(self, event: StageEvent) -> None:
        """Collect the rows of a finished stage."""
        self._rows["stages"].append(self._stage(event))
        self._rows["epochs"] += self._epochs(event.result)
        if event.point is not None:
            point = self._trial | {"point": event.point}
            self._rows["layers"] += [point | {"order": n} | row for n, row in enumerate(event.result.info["layers"])]
            self._rows["operating_points"].append(point | self._operating_point(event.result))
            self._rows["predictions"] += [point | row for row in _predictions(event.result)]

    def take(self) -> dict[str, list[Row]]:
        """The rows collected since the last call, by table."""
        taken, self._rows = self._rows, _empty()
        return taken

    def _stage(self, event: StageEvent) -> Row:
        result, made_by = event.result, event.result.description["made_by"]
        return self._trial | {
            "stage_key": result.key,
            "kind": result.stage.kind,
            "kind_version": result.stage.version,
            "order": event.order,
            "parents": list(result.stage.parents),
            "cached": result.cached,
            "compute_s": float(made_by["compute_s"]),
            "device": made_by["device"],
            "ranks": made_by["ranks"],
            "torch_version": made_by["torch_version"],
            "stored_bytes": result.tensors_bytes,
        }

    def _epochs(self, result: Result) -> list[Row]:
        stage = self._trial | {"stage_key": result.key, "kind": result.stage.kind}
        return [stage | epoch for epoch in result.info.get("epochs", [])]

    def _operating_point(self, result: Result) -> Row:
        info, stage = result.info, result.stage
        assert isinstance(stage, OperatingPoint)
        return self._arm | {
            "stage_key": result.key,
            "model_key": stage.parents[0],
            "protocol": self._protocol,
            "asked_removed_macs_fraction": stage.asked_removed_macs_fraction,
            "removed_macs_fraction": 1.0 - info["macs"] / info["original_macs"],
            "macs": info["macs"],
            "original_macs": info["original_macs"],
            "params": info["params"],
            "trained_epochs": _trained_epochs(result),
            "validation_loss": info["validation_loss"],
            "validation_accuracy_fraction": info["validation_accuracy"],
            "validation_images": info["validation_images"],
        }


def _empty() -> dict[str, list[Row]]:
    return {"stages": [], "epochs": [], "layers": [], "operating_points": [], "predictions": []}


def _trained_epochs(result: Result) -> int:
    """Epochs on the target data behind an operating point: head, factors and fine-tunings of its whole chain."""
    epochs = 0
    while isinstance(result.stage.of, Result):
        result = result.stage.of
        if not isinstance(result.stage, TrainSource):
            epochs += len(result.info.get("epochs", []))
    return epochs


def _predictions(result: Result) -> list[Row]:
    tensors = result.read_tensors()
    rows: list[Row] = []
    for split in ("validation", "test"):
        names = ("image_id", "label", "prediction", "probability")
        columns = [tensors[f"{split}/{name}"].tolist() for name in names]
        rows += [{"split": split} | dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]
    return rows
