"""Makes up a run of any number of trials, with every table filled: for benchmarks, and for looking at large reports.

    python benchmarks/synthetic_run.py runs/synthetic                  # 10,000 trials, about a minute
    python benchmarks/synthetic_run.py runs/small --trials 100 --seed 7

The same seed makes the same rows, but for the moments of writing. Some trials fail, some have not begun, some run; a
node is lost on the way. Nothing in it was measured: methods differ as `ARMS` says, and seeds by drawn numbers.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the repository instead of this folder

import argparse
import hashlib
import heapq
import itertools
import json
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from results.store.schema import TABLES
from results.store.writer import Writer
from sweeps.run.run_folder import FORMAT
from transtailor.files import make_folder, write_file

Row = dict[str, Any]

START = datetime(2024, 5, 1, 12, 0, tzinfo=UTC)
CODE = hashlib.sha256(b"synthetic").hexdigest()
DRIVER = "login1-4711-synthetic"
NETWORKS = {"vgg16": 15_500_000_000, "resnet50": 4_100_000_000, "mobilenet_v2": 300_000_000}  # -> MACs
DATASETS = ("birds", "cars", "flowers", "dogs")
BUDGETS = (0.1, 0.2, 0.3, 0.4, 0.5)
LAYERS = (64, 128, 256, 256, 512, 512)  # widths
EPOCHS, TRAIN_IMAGES, CLASSES = 3, 2000, 10
SLOTS, NODES = 16, 4
LOST_NODE_AT_TRIAL = 50
PAPER = "Synthetic (no paper)"


@dataclass(frozen=True)
class Arm:
    """A method: how well it does without pruning, against the best, and what removing all MACs would cost it."""

    label: str
    method: str
    gain_fraction: float
    slope_fraction: float
    prunes: bool = True


ARMS = (
    Arm("transtailor", "transtailor", 0.0, 0.18),
    Arm("pac_net", "pac_net", -0.004, 0.20),
    Arm("taylor", "prune", -0.003, 0.24),
    Arm("l1", "prune", -0.003, 0.28),
    Arm("random", "prune", -0.003, 0.45),
    Arm("target_aware", "target_aware_adaptation", -0.010, 0.26),
    Arm("fine_tune", "fine_tune", -0.002, 0.0, prunes=False),
    Arm("head_only", "head_only", -0.08, 0.0, prunes=False),
)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One trial of the made-up sweep, and when it ran where."""

    trial_id: str
    arm: Arm
    network: str
    dataset: str
    seed: int
    status: str  # finished, failed, running or missing
    started_at: datetime
    seconds: float
    node: str

    @property
    def budgets(self) -> tuple[float, ...]:
        """What its operating points ask for."""
        return BUDGETS if self.arm.prunes else (0.0,)

    @property
    def config(self) -> dict[str, Any]:
        """Settings as a trial might have them."""
        return {
            "network": self.network,
            "seed": self.seed,
            "method": {"name": self.arm.method, "criterion": self.arm.label, "steps": len(self.budgets)},
            "data": {"name": self.dataset, "train_images": TRAIN_IMAGES},
            "optimisation": {"epochs": EPOCHS, "learning_rate": 0.005, "batch_size": 64},
        }


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the run that was asked for and print where it is."""
    parser = argparse.ArgumentParser(description="a made-up run with every table filled")
    parser.add_argument("run", type=Path, help="folder to make")
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--test-images", type=int, default=20, help="rows of predictions of each operating point")
    parser.add_argument("--trials-per-part", type=int, default=100, help="1 is how a sweep writes them")
    options = parser.parse_args(arguments)
    if options.run.exists():
        parser.error(f"{options.run} is there already; name a new folder")
    counts = write_synthetic_run(
        options.run,
        options.trials,
        seed=options.seed,
        test_images=options.test_images,
        trials_per_part=options.trials_per_part,
    )
    print(f"{options.run}: " + ", ".join(f"{count:,} {table}" for table, count in counts.items()))
    return 0


def write_synthetic_run(
    folder: Path, trials: int, *, seed: int = 0, test_images: int = 20, trials_per_part: int = 100
) -> dict[str, int]:
    """Makes the folder of a run and returns how many rows each table got.

    Args:
        folder: new.
        trials: how many; from about a hundred on, each arm meets each network and data set.
        seed: of all that is drawn.
        test_images: rows of `predictions` of each operating point.
        trials_per_part: trials whose rows go into one file of each table.
    """
    drawn = _trials(trials, seed)
    writer, counts = Writer(folder / "tables"), dict.fromkeys(TABLES, 0)
    _write(writer, counts, {"events": _events(drawn), "printed": _printed_rows()})
    for first in range(0, len(drawn), trials_per_part):
        tables: dict[str, list[Row]] = {}
        for trial in drawn[first : first + trials_per_part]:
            for table, rows in _rows_of(trial, folder.name, seed, test_images).items():
                tables.setdefault(table, []).extend(rows)
        _write(writer, counts, tables)
    _write_facts(folder, drawn)
    return counts


def _write(writer: Writer, counts: dict[str, int], tables: dict[str, list[Row]]) -> None:
    for table, rows in tables.items():
        writer.write(table, [row | {"code_digest": CODE} for row in rows])
        counts[table] += len(rows)


def _trials(count: int, seed: int) -> list[Trial]:
    """The trials in the order of their starts: each goes to the slot that is free first."""
    numbers = np.random.default_rng([seed, 0])
    cells = itertools.islice(
        ((s, network, dataset, arm) for s in itertools.count() for network in NETWORKS for dataset in DATASETS
         for arm in ARMS), count
    )  # fmt: skip
    free = [(0.0, slot) for slot in range(SLOTS)]
    trials = []
    for number, (trial_seed, network, dataset, arm) in enumerate(cells):
        start_s, slot = heapq.heappop(free)
        seconds = float(numbers.lognormal(6.0, 0.4)) * (len(BUDGETS) if arm.prunes else 1) / 5
        heapq.heappush(free, (start_s + seconds, slot))
        chance = float(numbers.random())
        status = "failed" if chance < 0.02 else "finished"
        if number >= count - count // 50:
            status = "running" if number < count - count // 50 + SLOTS // 2 else "missing"
        trials.append(
            Trial(
                trial_id=_sha("trial", network, dataset, arm.label, trial_seed)[:16], arm=arm, network=network,
                dataset=dataset, seed=trial_seed, status=status, started_at=START + timedelta(seconds=start_s),
                seconds=seconds, node=f"node{slot % NODES}",
            )
        )  # fmt: skip
    return trials


def _sha(*words: object) -> str:
    return hashlib.sha256("/".join(map(str, words)).encode()).hexdigest()


def _rows_of(trial: Trial, sweep: str, seed: int, test_images: int) -> dict[str, list[Row]]:
    """Table -> the rows of one trial."""
    tables = {"planned": [_planned_row(trial, sweep)], "attempts": list(_attempts(trial))}
    if trial.status == "missing":
        return tables
    reached = trial.budgets if trial.status == "finished" else trial.budgets[: len(trial.budgets) // 2]
    chain = list(_chain(trial, len(reached)))
    tables["stages"] = [stage for stage, _ in chain]
    tables["epochs"] = [row for stage, epochs in chain if epochs for row in _epochs(trial, stage, seed)]
    points = [stage for stage, _ in chain if stage["kind"] == "operating_point"]
    numbers = np.random.default_rng([seed, int(trial.trial_id[:8], 16)])
    for point, (budget, stage) in enumerate(zip(reached, points, strict=True)):
        skill = _skill(trial, budget, seed) + float(numbers.normal(0, 0.004))
        tables.setdefault("operating_points", []).append(_point(trial, sweep, point, budget, stage, skill))
        tables.setdefault("timings", []).append(_timing(budget, stage, numbers))
        layers = list(_layers(trial, point, budget, numbers))
        tables.setdefault("layers", []).extend(layers)
        tables.setdefault("kept_filters", []).extend(_kept_rows(trial, layers))
        tables.setdefault("predictions", []).extend(_predictions(trial, point, skill, numbers, test_images))
    if trial.status != "running":
        tables["trials"] = [_end_row(trial)]
    return tables


def _planned_row(trial: Trial, sweep: str) -> Row:
    keys = [stage["stage_key"] for stage, _ in _chain(trial, len(trial.budgets))]
    return _arm(trial) | {
        "sweep": sweep, "ranks": 1, "points_planned": len(trial.budgets), "stage_keys": keys,
        "config_json": json.dumps(trial.config, sort_keys=True),
    }  # fmt: skip


def _arm(trial: Trial) -> Row:
    return {
        "trial_id": trial.trial_id, "label": trial.arm.label, "arm": trial.arm.label, "method": trial.arm.method,
        "network": trial.network, "dataset": trial.dataset, "train_images": TRAIN_IMAGES, "seed": trial.seed,
    }  # fmt: skip


def _attempts(trial: Trial) -> Iterator[Row]:
    """The tries of a trial: one, or two where a node was lost."""
    if trial.status == "missing":
        return
    common = {"trial_id": trial.trial_id, "driver": DRIVER, "host": "login1", "nodes": [trial.node]}
    begun, ended = trial.started_at, trial.started_at + timedelta(seconds=trial.seconds)
    number = 1
    if _was_lost(trial):
        lost = {"status": "died", "cause": f"{trial.node} was lost", "log_tail": "epoch 1 of 3", "ended_at": begun}
        yield common | lost | {"attempt": number, "started_at": begun}
        number = 2
    cause = "RuntimeError: CUDA out of memory" if trial.status == "failed" else None
    yield common | {
        "attempt": number, "status": trial.status, "cause": cause, "log_tail": cause, "started_at": begun,
        "ended_at": None if trial.status == "running" else ended,
    }  # fmt: skip


def _was_lost(trial: Trial) -> bool:
    return int(trial.trial_id, 16) % 97 == 0


def _chain(trial: Trial, points: int) -> Iterator[tuple[Row, bool]]:
    """The stages of a trial in order, and whether each trains."""
    source = _sha("source", trial.network)
    head = _sha("head", trial.network, trial.dataset, trial.seed)
    parts = [("train_source", source, [], 900.0, trial.seed > 0 or trial.dataset != DATASETS[0])]
    parts += [("fit_head", head, [source], 20.0, trial.arm is not ARMS[0])]
    last = head
    for point in range(points):
        for kind, seconds in (("score_filters", 8.0), ("prune", 1.0), ("fine_tune", 60.0), ("operating_point", 4.0)):
            if trial.arm.prunes or kind in ("fine_tune", "operating_point"):
                key = _sha(kind, trial.trial_id, point)
                parts.append((kind, key, [last], seconds, False))
                last = key if kind != "operating_point" else last
    for order, (kind, key, parents, seconds, is_cached) in enumerate(parts):
        yield {
            "trial_id": trial.trial_id, "stage_key": key, "kind": kind, "kind_version": 1, "order": order,
            "parents": parents, "cached": is_cached, "compute_s": seconds, "device": "cpu", "ranks": 1,
            "torch_version": "2.11.0", "stored_bytes": 40_000_000 if kind == "fine_tune" else 10_000,
        }, kind in ("train_source", "fit_head", "fine_tune")  # fmt: skip


def _epochs(trial: Trial, stage: Row, seed: int) -> Iterator[Row]:
    numbers = np.random.default_rng([seed, int(stage["stage_key"][:8], 16)])
    for epoch in range(EPOCHS):
        loss = 2.3 * float(np.exp(-0.6 * (epoch + 1))) + float(numbers.uniform(0, 0.05))
        yield {
            "trial_id": trial.trial_id, "stage_key": stage["stage_key"], "epoch": epoch, "kind": stage["kind"],
            "train_loss": loss, "train_accuracy_fraction": max(0.0, 1 - loss / 2.3),
            "learning_rate": 0.005 * (1 - epoch / EPOCHS), "images": TRAIN_IMAGES,
            "seconds": stage["compute_s"] / EPOCHS,
        }  # fmt: skip


def _skill(trial: Trial, budget: float, seed: int) -> float:
    """The share of images that the model names rightly; what the seed adds is the same for all arms."""
    luck = np.random.default_rng([seed, 1, trial.seed, *trial.network.encode(), *trial.dataset.encode()])
    level = 0.9 - 0.04 * DATASETS.index(trial.dataset) - 0.02 * list(NETWORKS).index(trial.network)
    return level + trial.arm.gain_fraction - trial.arm.slope_fraction * budget**2 + float(luck.normal(0, 0.008))


def _point(trial: Trial, sweep: str, point: int, budget: float, stage: Row, skill: float) -> Row:
    macs = NETWORKS[trial.network]
    return _arm(trial) | {
        "sweep": sweep, "point": point, "stage_key": stage["stage_key"], "model_key": stage["parents"][0],
        "protocol": "validation", "asked_removed_macs_fraction": budget, "removed_macs_fraction": budget * 1.02,
        "macs": int(macs * (1 - budget * 1.02)), "original_macs": macs, "params": int(25e6 * (1 - budget) ** 1.5),
        "trained_epochs": EPOCHS * (point + 2), "trained_macs": 3.0 * macs * TRAIN_IMAGES * EPOCHS * (point + 1),
        "metric": "accuracy", "validation_score": skill, "deciding_score": skill, "validation_loss": 1.4 * (1 - skill),
        "validation_images": 1000,
    }  # fmt: skip


def _timing(budget: float, stage: Row, numbers: np.random.Generator) -> Row:
    latency_ms = (2 + 8 * (1 - budget)) * float(numbers.lognormal(0, 0.02))
    return {
        "model_key": stage["parents"][0], "device_name": "synthetic", "threads": 1, "precision": "float32", "batch": 1,
        "repeats": 50, "latency_ms": latency_ms, "latency_lower_quartile_ms": 0.98 * latency_ms,
        "latency_upper_quartile_ms": 1.03 * latency_ms, "peak_memory_bytes": int(6e8 * (1 - budget / 2)),
        "runtime": "eager", "memory_format": "contiguous", "versions": "torch 2.11.0", "speed": 10 / latency_ms,
        "whole_latency_ms": 10.0, "is_steady": True,
    }  # fmt: skip


def _layers(trial: Trial, point: int, budget: float, numbers: np.random.Generator) -> Iterator[Row]:
    shares = np.clip(1 - budget * numbers.uniform(0.3, 1.5, len(LAYERS)), 0.05, 1)
    for order, (width, share) in enumerate(zip(LAYERS, shares, strict=True)):
        kept = max(1, int(width * share))
        yield {
            "trial_id": trial.trial_id, "point": point, "layer": f"features.{order}", "order": order, "width": kept,
            "original_width": width, "macs": kept * 100_000,
        }  # fmt: skip


def _kept_rows(trial: Trial, layers: Sequence[Row]) -> Iterator[Row]:
    """What is left of each layer that lost filters: those of the highest scores, which seeds share in part."""
    for layer in layers:
        drawn = (np.random.default_rng([*of.encode(), layer["order"]]) for of in (trial.arm.label, trial.trial_id))
        scores = sum(numbers.random(layer["original_width"]) for numbers in drawn)
        if removed := layer["original_width"] - layer["width"]:
            filters = np.sort(np.argsort(scores)[removed:]).tolist()
            yield {name: layer[name] for name in ("trial_id", "point", "layer")} | {"filters": filters}


def _predictions(trial: Trial, point: int, skill: float, numbers: np.random.Generator, images: int) -> Iterator[Row]:
    right = numbers.random(images) < skill
    for image in range(images):
        label = image % CLASSES
        yield {
            "trial_id": trial.trial_id, "point": point, "split": "test", "image_id": image, "label": label,
            "prediction": label if right[image] else (label + 1) % CLASSES, "probability": skill,
        }  # fmt: skip


def _end_row(trial: Trial) -> Row:
    return {
        "trial_id": trial.trial_id, "status": trial.status, "attempts": 2 if _was_lost(trial) else 1,
        "started_at": trial.started_at, "ended_at": trial.started_at + timedelta(seconds=trial.seconds),
        "seconds": trial.seconds, "error": "RuntimeError: CUDA out of memory" if trial.status == "failed" else None,
    }  # fmt: skip


def _events(trials: Sequence[Trial]) -> list[Row]:
    """What the made-up cluster did: nodes come one after the other, one is lost and replaced."""
    happened: list[tuple[float, str, str | None, int]] = [(-60.0, "controller_started", None, 0)]
    each = SLOTS // NODES
    for node in range(NODES):
        happened += [(-50.0, "worker_submitted", f"node{node}", 0), (-10.0, "worker_joined", f"node{node}", each)]
    if len(trials) > LOST_NODE_AT_TRIAL:
        lost_s = (trials[LOST_NODE_AT_TRIAL].started_at - START).total_seconds()
        happened += [(lost_s, "worker_lost", "node1", -each), (lost_s + 5, "worker_submitted", "node1", 0)]
        happened += [(lost_s + 90, "worker_joined", "node1", each)]
    slots, rows = 0, []
    for number, (at_s, kind, node, more) in enumerate(sorted(happened, key=lambda event: event[0])):
        slots += more
        rows.append({
            "driver": DRIVER, "number": number, "happened_at": START + timedelta(seconds=at_s), "kind": kind,
            "node": node,
            "job": None if node is None else str(1000 + int(node[4:])), "slots": slots,
            "detail": "no word from it for 60 s" if kind == "worker_lost" else None,
        })  # fmt: skip
    return rows


def _printed_rows() -> list[Row]:
    return [
        {"paper": PAPER, "place": "Table 1", "label": "transtailor", "method": "transtailor", "network": "vgg16",
         "dataset": dataset, "asked_removed_macs_fraction": budget, "metric": "accuracy",
         "value": 0.9 - 0.04 * number - 0.15 * budget**2, "note": "made up"}
        for number, dataset in enumerate(DATASETS) for budget in (0.3, 0.5)
    ]  # fmt: skip


def _write_facts(folder: Path, trials: Sequence[Trial]) -> None:
    """The other files of a run, so that whatever reads runs reads this one."""
    launch = {
        "at": START.isoformat(), "command": "python benchmarks/synthetic_run.py",
        "argv": ["benchmarks/synthetic_run.py"], "folder": ".",
        "host": "login1", "pid": 4711, "cores": SLOTS, "python": platform.python_version(), "platform": "synthetic",
        "packages": {}, "git": None, "code_digest": CODE,
    }  # fmt: skip
    provenance = {
        "format": FORMAT, "name": folder.name, "code_digest": CODE, "created": launch,
        "history": [launch | {"what": f"created with {len(trials)} trials", "other_packages": {}}],
    }  # fmt: skip
    plan = {
        "format": FORMAT, "name": folder.name, "resources": {"ranks": 1, "threads_per_rank": 1}, "private_cache": False,
        "imports": [],
        "trials": {
            trial.trial_id: {
                "label": trial.arm.label, "arm": trial.arm.label, "config": trial.config,
                "tuning_json": None, "tuning_order": None,
            }
            for trial in trials
        },
    }  # fmt: skip
    make_folder(folder / "trials")
    for name, text in (
        ("spec.toml", f'name = "{folder.name}"  # made up\n'),
        ("provenance.json", json.dumps(provenance, indent=1)),
        ("plan.json", json.dumps(plan)),
    ):
        write_file(folder / name, text)


if __name__ == "__main__":
    sys.exit(main())
