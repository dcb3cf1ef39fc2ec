"""A small synthetic run: numbers drawn from a seed, rows written by the real writer."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from results.store.writer import Writer
from tests.commands import Said, transtailor_command

CODE = "c0de" * 16
START = datetime(2024, 5, 1, 12, 0, tzinfo=UTC)


def sha(*parts: object) -> str:
    """A stage key that depends on these words."""
    return hashlib.sha256("/".join(map(str, parts)).encode()).hexdigest()


@dataclass(frozen=True)
class Synthetic:
    """What a synthetic run holds; `end` says how each trial ended, by (label, seed): finished, failed or missing."""

    networks: Sequence[str] = ("vgg11",)
    dataset: str = "digits"
    labels: Sequence[tuple[str, str]] = (("transtailor", "transtailor"), ("fine_tune", "fine_tune"))
    seeds: Sequence[int] = (0, 1, 2)
    budgets: Sequence[float] = (0.0, 0.1, 0.2, 0.3)
    gain_fraction: float = 0.02
    test_images: int = 200
    end: Callable[[str, int], str] = lambda _label, _seed: "finished"
    validation: Callable[[str, int, int], float | None] = lambda _label, _seed, _point: None
    device: Callable[[str, int], str] = lambda _label, _seed: "cpu"
    error: str = "RuntimeError: out of memory"
    provenance: object = None
    config: Callable[[str, int], dict[str, Any]] = lambda _label, _seed: {}

    def write(self, run: Path) -> Path:
        """Writes the whole run, and says where."""
        writer = Writer(run / "tables")
        (run / "tables").mkdir(parents=True, exist_ok=True)
        if self.provenance is not None:
            (run / "provenance.json").write_text(json.dumps(self.provenance))
        for network in self.networks:
            for label, method in self.labels:
                for seed in self.seeds:
                    self._trial(writer, network, label, method, seed)
        writer.commit()
        return run

    def _trial(self, writer: Writer, network: str, label: str, method: str, seed: int) -> None:
        trial_id = sha("trial", network, self.dataset, label, seed)[:16]
        arm = {
            "label": label,
            "arm": label,
            "method": method,
            "network": network,
            "dataset": self.dataset,
            "seed": seed,
            "train_images": None,
        }
        budgets = self.budgets if method != "fine_tune" else (0.0,)
        source, head = sha("source", network), sha("head", network, seed)
        keys = [sha("point", network, label, seed, point) for point in range(len(budgets))]
        common = {"trial_id": trial_id, "code_digest": CODE}
        plan = {
            "sweep": "demo",
            "ranks": 1,
            "points_planned": len(budgets),
            "config_json": json.dumps(self.config(label, seed)),
        }
        plan |= {"tuning_json": None, "tuning_order": None}
        writer.add("planned", [{**common, **arm, **plan, "stage_keys": [source, head, *keys]}])
        end = self.end(label, seed)
        if end == "missing":
            return
        times = {"started_at": START, "ended_at": START + timedelta(seconds=90)}
        error = self.error if end == "failed" else None
        writer.add("trials", [{**common, **times, "status": end, "attempts": 1, "seconds": 90.0, "error": error}])
        attempt = {"attempt": 1, "driver": "d", "status": end, "cause": error, "log_tail": None, "host": "h"}
        writer.add("attempts", [{**common, **times, **attempt}])
        if end == "failed":
            return
        chain = [(source, "train_source", [], 100.0), (head, "FitHead", [source], 20.0)]
        chain += [(key, "OperatingPoint", [([head, *keys][point])], 5.0) for point, key in enumerate(keys)]
        device = self.device(label, seed)
        how = {"kind_version": 1, "cached": False, "device": device, "ranks": 1, "torch_version": "2.11.0"}
        writer.add(
            "stages",
            [
                {**common, **how, "stage_key": key, "kind": kind, "order": order, "parents": parents,
                 "compute_s": seconds, "stored_bytes": 10, "tensors_sha256": sha("tensors", key)}
                for order, (key, kind, parents, seconds) in enumerate(chain)
            ],
        )  # fmt: skip
        generator = np.random.default_rng([seed, self.labels.index((label, method)), self.networks.index(network)])
        points, predictions = list[dict[str, Any]](), list[dict[str, Any]]()
        for point, (budget, key) in enumerate(zip(budgets, keys, strict=True)):
            skill = 0.85 + (self.gain_fraction if method == "transtailor" else 0.0) - budget**2 / 2
            right = generator.random(self.test_images) < skill
            drawn = float(np.mean(generator.random(100) < skill))
            accuracy = self.validation(label, seed, point)
            points.append({
                **common, **arm, "sweep": "demo", "point": point, "stage_key": key, "model_key": sha("model", key),
                "protocol": "validation", "asked_removed_macs_fraction": budget, "removed_macs_fraction": budget * 1.03,
                "macs": int(1e6 * (1 - budget)), "original_macs": 1_000_000, "params": 1000, "trained_epochs": 3,
                "trained_macs": 3e9, "validation_loss": 0.4, "validation_images": 100, "metric": "accuracy",
                "validation_score": drawn if accuracy is None else accuracy,
                "deciding_score": drawn if accuracy is None else accuracy,
            })  # fmt: skip
            predictions += [
                {**common, "point": point, "split": "test", "image_id": image, "label": image % 10,
                 "prediction": image % 10 if good else (image + 1) % 10, "probability": 0.9}
                for image, good in enumerate(right)
            ]  # fmt: skip
        writer.add("operating_points", points)
        writer.add("predictions", predictions)


@pytest.fixture
def command() -> Callable[..., Said]:
    """`python -m results` with these words, in this process."""
    return partial(transtailor_command, folder=Path())


@pytest.fixture
def synthetic() -> type[Synthetic]:
    """The builder of synthetic runs."""
    return Synthetic


@pytest.fixture
def trial_row() -> Callable[..., dict[str, Any]]:
    """Makes a row of `trials`; what is given replaces what stands here."""

    def make(**changes: Any) -> dict[str, Any]:
        row = {"trial_id": "a", "status": "finished", "attempts": 1, "started_at": START, "ended_at": START,
               "seconds": 1.0, "error": None, "code_digest": CODE}  # fmt: skip
        return {**row, **changes}

    return make
