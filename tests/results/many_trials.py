"""A synthetic run of any size, with everything that a report shows: failures, lost attempts, events, printed numbers.

python -m tests.results.many_trials FOLDER 1000
"""

import json
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from results.store.writer import Writer
from tests.results.conftest import CODE, START, sha

NETWORKS = ("vgg16", "resnet101")
CRITERIA = ("transtailor", "l1", "l2", "taylor", "fpgm", "random")
RATES = (0.001, 0.005)
PATH = (0.0, 0.1, 0.2, 0.3, 0.4)
LAYERS = tuple(f"features.{place}" for place in (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28))
IMAGES = 40
NODES, LANES = 4, 4
BATCH = 100
EVIL = "</script><script>alert('x')</script>"


def write_many(folder: Path, trials: int) -> Path:
    """Writes a run of so many trials, and says where; the same number gives the same run."""
    writer = Writer(folder / "tables")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "provenance.json").write_text(json.dumps({"name": folder.name, "packages": {"torch": "2.11.0"}}))
    generator = np.random.default_rng(trials)
    busy_until = np.zeros(NODES * LANES)
    rows: dict[str, list[dict[str, Any]]] = {}
    for number in range(trials):
        for table, some in _trial(number, generator, busy_until).items():
            rows.setdefault(table, []).extend(some)
        if (number + 1) % BATCH == 0 or number == trials - 1:
            for table, some in rows.items():
                writer.add(table, some)
            rows = {}
    writer.add("events", list(_events()))
    writer.add("printed", [_printed()])
    writer.commit()
    return folder


def _trial(number: int, generator: np.random.Generator, busy_until: np.ndarray) -> dict[str, list[dict[str, Any]]]:
    network = NETWORKS[number % 2]
    rate = RATES[number // 2 % 2]
    criterion = CRITERIA[number // 4 % len(CRITERIA)]
    seed = number // (4 * len(CRITERIA)) % 10
    variant = number // (4 * len(CRITERIA) * 10)
    method = "transtailor" if criterion == "transtailor" else "prune"
    label = criterion + (f" v{variant}" if variant else "")
    if criterion == "random" and variant == 0:
        label, method = "fine_tune", "fine_tune"
    trial_id = sha("trial", number)[:16]
    common = {"trial_id": trial_id, "code_digest": CODE}
    arm = {
        "label": label,
        "arm": label,
        "method": method,
        "network": network,
        "dataset": "flowers",
        "seed": seed,
        "train_images": 2040,
    }
    config = {"network": network, "seed": seed, "method": {"name": method, "criterion": criterion, "variant": variant},
              "optimisation": {"learning_rate": rate, "epochs": 30, "batch_size": 64}}  # fmt: skip
    path = (0.0,) if method == "fine_tune" else PATH
    chain = _chain(number, network, seed, path)
    rows: dict[str, list[dict[str, Any]]] = {
        "planned": [{**common, **arm, "sweep": "many", "ranks": 2, "points_planned": len(path),
                     "config_json": json.dumps(config), "stage_keys": [key for key, *_ in chain]}],
    }  # fmt: skip
    if number % 97 == 5:  # never ran
        return rows
    failed = number % 53 == 7
    cause = f"RuntimeError: CUDA out of memory on layer {number % 3}\n{EVIL}" if failed else None
    rows |= _attempts(number, common, generator, busy_until, cause)
    ended = rows["attempts"][-1]
    rows["trials"] = [{
        **common, "status": ended["status"], "attempts": len(rows["attempts"]), "started_at": ended["started_at"],
        "ended_at": ended["ended_at"], "seconds": 60.0, "error": cause,
    }]  # fmt: skip
    if failed:
        return rows
    rows["stages"] = [
        {**common, "stage_key": key, "kind": kind, "kind_version": 1, "order": order, "parents": parents,
         "cached": len(parents) < 2 and kind in ("train_source", "fit_head") and number > 40, "compute_s": seconds,
         "device": "NVIDIA H200", "ranks": 2, "torch_version": "2.11.0", "stored_bytes": 100,
         "tensors_sha256": sha("tensors", key)}
        for order, (key, kind, parents, seconds) in enumerate(chain)
    ]  # fmt: skip
    _learning(rows, common, chain, rate)
    _points(rows, common, arm, path, chain, generator)
    return rows


def _chain(number: int, network: str, seed: int, path: tuple[float, ...]) -> list[tuple[str, str, list[str], float]]:
    """The stages of a trial: key, kind, parents, seconds."""
    source, head = sha("source", network), sha("head", network, seed)
    chain = [(source, "train_source", [], 900.0), (head, "fit_head", [source], 60.0)]
    model = head
    for place in range(len(path)):
        pruned, tuned, point = (sha(kind, number, place) for kind in ("prune", "tune", "point"))
        chain += [(pruned, "prune", [model], 4.0), (tuned, "fine_tune", [pruned], 200.0 + number % 7)]
        chain.append((point, "operating_point", [tuned], 6.0))
        model = tuned
    return chain


def _attempts(
    number: int, common: dict[str, Any], generator: np.random.Generator, busy_until: np.ndarray, cause: str | None
) -> dict[str, list[dict[str, Any]]]:
    """One attempt, or two where the first died."""
    attempts = []
    ends = ["died"] * (number % 41 == 3) + ["failed" if cause else "finished"]
    for place, status in enumerate(ends, 1):
        lane = int(np.argmin(busy_until))
        start = busy_until[lane] + generator.uniform(1, 20)
        busy_until[lane] = start + generator.uniform(200, 900) * (0.4 if status != "finished" else 1.0)
        attempts.append({
            **common, "attempt": place, "driver": "d", "status": status, "log_tail": None, "host": "login",
            "cause": None if status == "finished" else cause or "its node was lost",
            "nodes": [f"node{lane // LANES + 1}"],
            "started_at": START + timedelta(seconds=float(start)),
            "ended_at": START + timedelta(seconds=float(busy_until[lane])),
        })  # fmt: skip
    return {"attempts": attempts}


def _learning(
    rows: dict[str, list[dict[str, Any]]], common: dict[str, Any], chain: list[tuple[str, str, list[str], float]],
    rate: float,
) -> None:  # fmt: skip
    rows["epochs"] = [
        {**common, "stage_key": key, "epoch": epoch, "kind": kind, "train_loss": float(2 * np.exp(-epoch / 4) + noise),
         "train_accuracy_fraction": float(0.95 - 0.6 * np.exp(-(epoch + 1) * 100 * rate) + noise / 3),
         "learning_rate": rate, "head_learning_rate": rate, "order": 0, "images": 2040, "seconds": 6.0}
        for key, kind, *_ in chain if kind in ("fine_tune", "fit_head")
        for epoch, noise in enumerate(np.random.default_rng(int(key[:8], 16)).uniform(0, 0.1, 12))
    ]  # fmt: skip


def _points(
    rows: dict[str, list[dict[str, Any]]], common: dict[str, Any], arm: dict[str, Any], path: tuple[float, ...],
    chain: list[tuple[str, str, list[str], float]], generator: np.random.Generator,
) -> None:  # fmt: skip
    keys = [(key, parents[0]) for key, kind, parents, _ in chain if kind == "operating_point"]
    rows |= {"operating_points": [], "predictions": [], "layers": [], "kept_filters": []}
    quality = 0.9 - len(arm["label"]) / 150 + (0.03 if arm["method"] == "transtailor" else 0.0)
    for point, (asked, (key, model)) in enumerate(zip(path, keys, strict=True)):
        skill = quality - asked**2 / 2 + generator.normal(0, 0.01)
        score = float(np.clip(skill + generator.normal(0, 0.02), 0, 1))
        rows["operating_points"].append({
            **common, **arm, "sweep": "many", "point": point, "stage_key": key, "model_key": model,
            "protocol": "validation", "asked_removed_macs_fraction": asked,
            "removed_macs_fraction": float(asked * generator.uniform(1, 1.05)), "macs": int(15e9 * (1 - asked)),
            "original_macs": 15_000_000_000, "params": int(138e6 * (1 - asked * generator.uniform(0.4, 0.9))),
            "trained_epochs": 12 * (point + 1), "trained_macs": 3e13, "metric": "accuracy", "validation_score": score,
            "deciding_score": score, "validation_loss": 0.5, "validation_images": 1020,
        })  # fmt: skip
        right = generator.random(IMAGES) < skill
        rows["predictions"] += [
            {**common, "point": point, "split": "test", "image_id": image, "label": image % 10,
             "prediction": (image + (not good)) % 10, "probability": 0.9}
            for image, good in enumerate(right)
        ]  # fmt: skip
        shares = np.clip(1 - asked * generator.uniform(0, 2, len(LAYERS)), 0.1, 1)
        rows["layers"] += [
            {**common, "point": point, "layer": layer, "order": order, "width": int(512 * share), "original_width": 512,
             "macs": int(1e9 * share)}
            for order, (layer, share) in enumerate(zip(LAYERS, shares, strict=True))
        ]  # fmt: skip
        order_of = np.random.default_rng(int(common["trial_id"], 16) + point).permutation(512)
        rows["kept_filters"] += [
            {**common, "point": point, "layer": layer, "filters": sorted(order_of[: int(512 * share)].tolist())}
            for layer, share in zip(LAYERS, shares, strict=True) if int(512 * share) < 512
        ]  # fmt: skip


def _events() -> list[dict[str, Any]]:
    kinds = ("controller_started", "worker_joined", "worker_joined", "worker_lost", "worker_submitted", "worker_joined")
    return [
        {"driver": "d", "number": number, "kind": kind, "job": "4711", "node": f"node{number % NODES + 1}",
         "slots": LANES, "detail": None, "happened_at": START + timedelta(seconds=1500 * number), "code_digest": CODE}
        for number, kind in enumerate(kinds)
    ]  # fmt: skip


def _printed() -> dict[str, Any]:
    return {"paper": "TransTailor (AAAI 2021)", "place": "Table 1", "label": "transtailor", "method": "transtailor",
            "network": "vgg16", "dataset": "flowers", "asked_removed_macs_fraction": 0.3, "metric": "accuracy",
            "value": 0.94, "note": None, "code_digest": CODE}  # fmt: skip


if __name__ == "__main__":
    write_many(Path(sys.argv[1]), int(sys.argv[2]))
