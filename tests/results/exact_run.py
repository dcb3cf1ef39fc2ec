"""Runs whose every score is known: how many of 100 test images each operating point names rightly."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from results.store.schema import TABLES
from results.store.writer import Writer

IMAGES = 100
START = datetime(2024, 5, 1, 12, 0, tzinfo=UTC)
COMMON = {"code_digest": "c0de" * 16}


def sha(*parts: object) -> str:
    """A stage key that depends on these words."""
    return hashlib.sha256("/".join(map(str, parts)).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One trial.

    Attributes:
        right: of each operating point, how many of the images 0..99 are named rightly; or which images.
        asked: budget of each point; None leaves it to a rule.
        validation: score of each point; the test score where it is None.
        ended: finished, failed or missing; what failed or is missing has the points that `right` gives it.
        model: names the model of its points; None: each point has one of its own.
        epochs: of training on the target behind each model.
        shared_source: whether all seeds of the run have one source training, of each `source.seed` in `config`.
        config: settings beside the network, the method and the seed; two trials that differ elsewhere have others.
        arm: name of its arm; the label where it is empty.
        asked_latency_fraction: of each point, of the whole network's milliseconds.
        metric: of the scores, which are the share of the images that are named rightly whatever it is.
        head_arm: the arm of its first point, where that is the fit of a head with which a path begins.
        tuning_order: place of its `config` among the settings of [tuning], if it has that.
    """

    label: str
    seed: int
    right: Sequence[int | Sequence[int]]
    asked: Sequence[float | None] = (0.2,)
    removed: Sequence[float] | None = None
    validation: Sequence[float] | None = None
    method: str = "prune"
    network: str = "net"
    dataset: str = "digits"
    ended: str = "finished"
    device: str = "cpu"
    model: str | None = None
    shared_source: bool = False
    seconds: float = 3600.0
    epochs: int = 1
    config: Mapping[str, Any] = field(default_factory=dict)
    asked_latency_fraction: float | None = None
    arm: str = ""
    train_images: int = 50
    metric: str = "accuracy"
    head_arm: str | None = None
    tuning_order: int | None = None

    @property
    def trial_id(self) -> str:
        """Depends on all that tells two trials apart here."""
        return sha(self.label, self.seed, self.network, self.dataset, json.dumps(self.config), self.asked)[:16]

    @property
    def point_keys(self) -> Sequence[tuple[str, str]]:
        """Of each operating point, the keys of its stage and of the one that made its model."""
        keys = [sha("point", self.trial_id, point) for point in range(len(self.right))]
        return [(key, sha("model", self.model or key)) for key in keys]


def rows_of(trials: Sequence[Trial], images: Sequence[int] = range(IMAGES)) -> dict[str, list[dict[str, Any]]]:
    """Table -> the rows of these trials; `images` are the ids of the test images."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for trial in trials:
        for table, several in _rows(trial, images).items():
            names = {column.name for column in TABLES[table].columns}
            rows.setdefault(table, []).extend(
                {name: value for name, value in row.items() if name in names} for row in several
            )
    return rows


def write_run(folder: Path, trials: Sequence[Trial], *, images: Sequence[int] = range(IMAGES)) -> Path:
    """Writes the run and returns its folder."""
    (folder / "tables").mkdir(parents=True, exist_ok=True)
    writer = Writer(folder / "tables")
    for table, several in rows_of(trials, images).items():
        writer.add(table, several)
    writer.commit()
    return folder


def write_search(run: Path, confirmed: int, failed: int | None = None) -> Path:
    """Three settings searched, with scores that are too good; so many confirmed with six seeds, one but five."""
    searched = [Trial(label="arm", seed=0, right=(99,), config={"x": n}) for n in range(3)]
    new = [
        Trial(label=f"arm, proposal {n}", seed=seed, right=(80 + 5 * n + seed % 2,), config={"x": n},
              ended="failed" if (n, seed) == (failed, 6) else "finished")
        for n in range(confirmed) for seed in range(1, 7)
    ]  # fmt: skip
    of = {"batch": 0, "variant": 0, "values_json": "{}", "drawn_by": "random", "code_digest": "c"}
    groups = [([trial], "search", None) for trial in searched]
    groups += [(new[6 * n : 6 * n + 6], "confirm", n) for n in range(confirmed)]
    rows = [
        {**of, "number": number, "purpose": purpose, "confirms": confirms, "refusal": None,
         "seeds": [trial.seed for trial in trials], "trial_ids": [trial.trial_id for trial in trials]}
        for number, (trials, purpose, confirms) in enumerate(groups)
    ]  # fmt: skip
    Writer(write_run(run, [*searched, *new]) / "tables").write("proposals", rows)
    return run


def _rows(trial: Trial, images: Sequence[int]) -> dict[str, list[dict[str, Any]]]:
    of = {**COMMON, "trial_id": trial.trial_id, "sweep": "exact", "label": trial.label,
          "arm": trial.arm or trial.label, "method": trial.method, "network": trial.network, "dataset": trial.dataset,
          "seed": trial.seed, "train_images": trial.train_images}  # fmt: skip
    settings = {"network": trial.network, "method": {"name": trial.method}, "seed": trial.seed, **trial.config}
    source = sha("source", trial.network, 0 if trial.shared_source else trial.seed, trial.config.get("source.seed"))
    keys = [key for key, _ in trial.point_keys]
    planned = {"ranks": 1, "points_planned": max(len(keys), len(trial.asked)), "config_json": json.dumps(settings),
               "stage_keys": [source, *keys], "head_arm": trial.head_arm,
               "tuning_json": None if trial.tuning_order is None else json.dumps(trial.config),
               "tuning_order": trial.tuning_order}  # fmt: skip
    rows: dict[str, list[dict[str, Any]]] = {"planned": [{**of, **planned}]}
    if trial.ended != "missing":
        error = "RuntimeError: no" if trial.ended == "failed" else None
        times = {"started_at": START, "ended_at": START, "seconds": 1.0, "attempts": 1, "error": error}
        rows["trials"] = [{**of, **times, "status": trial.ended}]
    if not keys:
        return rows
    how = {"kind_version": 1, "cached": False, "ranks": 2, "torch_version": "2", "stored_bytes": 1}
    stages = [(source, "train_source", []), *((key, "operating_point", [source]) for key in keys)]
    rows["stages"] = [
        {**of, **how, "device": trial.device, "stage_key": key, "kind": kind, "order": order, "parents": parents,
         "compute_s": trial.seconds, "tensors_sha256": sha("tensors", key)}
        for order, (key, kind, parents) in enumerate(stages)
    ]  # fmt: skip
    epoch = {
        "epoch": 0,
        "train_loss": 1.0,
        "train_accuracy_fraction": 0.5,
        "learning_rate": 0.1,
        "head_learning_rate": 0.1,
        "order": 0,
        "images": 50,
    }
    rows["epochs"] = [{**of, **epoch, "stage_key": source, "kind": "train_source", "seconds": 1.0}]
    for point in range(len(keys)):
        _add_point(rows, trial, of, point, images)
    return rows


def _add_point(
    rows: dict[str, list[dict[str, Any]]], trial: Trial, of: Mapping[str, Any], point: int,
    images: Sequence[int],
) -> None:  # fmt: skip
    chosen = trial.right[point]
    right = set(list(images)[:chosen]) if isinstance(chosen, int) else set(chosen)
    asked = trial.asked[point]
    removed = (asked or 0.0) if trial.removed is None else trial.removed[point]
    score = len(right) / len(images) if trial.validation is None else trial.validation[point]
    key, model_key = trial.point_keys[point]
    rows.setdefault("operating_points", []).append({
        **of, "point": point, "stage_key": key, "model_key": model_key, "protocol": "validation",
        "asked_removed_macs_fraction": asked, "removed_macs_fraction": removed, "macs": round(1000 * (1 - removed)),
        "original_macs": 1000, "params": 10, "trained_epochs": trial.epochs, "trained_macs": 1.0,
        "metric": trial.metric, "validation_score": score, "deciding_score": score, "validation_loss": 1.0,
        "validation_images": 100,
        "pruning_latency_ms": None, "asked_latency_fraction": trial.asked_latency_fraction,
    })  # fmt: skip
    if trial.metric != "accuracy":
        tested = {f"test_{trial.metric}": len(right) / len(images)}
        rows.setdefault("test_scores", []).append({**of, "point": point, **tested})
    rows.setdefault("predictions", []).extend(
        {**of, "point": point, "split": "test", "image_id": image, "label": image % 2,
         "prediction": image % 2 if image in right else 9, "probability": 0.9,
         "true_probability": 0.9 if image in right else 0.05, "true_rank": 1 if image in right else 2}
        for image in images
    )  # fmt: skip
