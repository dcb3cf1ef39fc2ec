"""The contrasts of docs/results/evidence/faster_photographs.md, which has the plan.

    python benchmarks/faster_study.py runs/faster_photographs --data-root datasets

Takes the last sub-model of each finished trial from the cache, times it in ONNX Runtime in turns with the whole
network, turns those of two arms into 8-bit integers, and adds all to points.parquet in the folder faster_photographs
beside that page. End all other work first. Once all seeds have ended, it computes the contrasts from all that is
there; before, only with --incomplete, so that no one looks at them while seeds are still to run.
"""

import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the repository instead of this folder

import pyarrow as pa
import pyarrow.parquet as pq
import torch

import results
from benchmarks.photographs_study import seeds_of_all
from benchmarks.record import EVIDENCE, Cell, Measured, parser_of, write
from results.statistics.pairs import compare_pairs, holm
from tailor.deploy.export import export
from tailor.deploy.int8 import quantise, score, splits_of
from tailor.model.circumstance import circumstance_here
from tailor.model.passes import as_deployed, onnx_pass
from tailor.model.programs import images_for
from tailor.model.timing import Pass, time_in_turns
from tailor.saved_model import read_model
from tailor.stage_execution.preparing import initial_state

FIRST = "TransTailor by ms"
WHOLE = "whole network"
INT8 = "INT8"
QUANTISED = (FIRST, WHOLE)
AGAINST = (f"{WHOLE}, 65 px", "random filters by ms", "Taylor by ms", f"{WHOLE}, {INT8}")  # the first one is primary
LABELS = (FIRST, "random filters by ms", "TransTailor by MACs", "Taylor by ms", WHOLE, f"{WHOLE}, 81 px",
          f"{WHOLE}, 65 px", f"{WHOLE}, {INT8}", f"{FIRST}, {INT8}")  # fmt: skip
SEEDS = 12
ASKED, WITHIN = 0.55, 0.03  # of the whole network's milliseconds, and how near to it times are comparable
ROUNDS = 20
CLASSES, SIDE_PX = 6, 97
TOGETHER = 12  # trials whose models are exported before these are timed
POINTS = """
SELECT trial_id, label, seed, max_by(test_score, point) AS test_score
FROM measured_points JOIN trials USING (trial_id) WHERE status = 'finished' GROUP BY ALL ORDER BY label, seed
"""

Row = dict[str, Any]
Scores = dict[str, dict[int, float]]  # label -> seed -> accuracy in per cent


class Exported(NamedTuple):
    """A file of ONNX and one image that it takes."""

    content: bytes
    images: torch.Tensor


def main(arguments: Sequence[str] | None = None) -> int:
    """Add the runs' rows to the committed ones, and write the contrasts."""
    parser = parser_of(__doc__, "faster_photographs_contrasts")
    parser.add_argument("runs", nargs="*", type=Path, help="the folders of the runs")
    parser.add_argument("--cache", type=Path, default=Path("cache"), help="their cache (default: %(default)s)")
    parser.add_argument("--data-root", type=Path, help="the folder of the data set")
    parser.add_argument("--rows", type=Path, default=EVIDENCE / "faster_photographs" / "points.parquet", metavar="FILE")
    parser.add_argument("--incomplete", action="store_true", help="compute the contrasts although seeds are missing")
    asked = parser.parse_args(arguments)
    rows: list[Row] = pq.read_table(asked.rows).to_pylist() if asked.rows.exists() else []
    known = {(row["label"], row["seed"]) for row in rows}
    for run in asked.runs:
        with results.load(run) as tables:
            finished = [trial for trial in tables.rows(POINTS) if (trial["label"], trial["seed"]) not in known]
        for start in range(0, len(finished), TOGETHER):
            trials = finished[start : start + TOGETHER]
            rows += [
                row | times(exported) for row, exported in exported_models(run, trials, asked.cache, asked.data_root)
            ]
            rows.sort(key=lambda row: (LABELS.index(row["label"]), row["seed"]))
            asked.rows.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.Table.from_pylist(rows), asked.rows, compression="zstd")
            print(f"{len(rows)} models are timed", flush=True)
    seeds = seeds_of_all({(row["label"], row["seed"]) for row in rows}, LABELS, SEEDS)
    if len(seeds) < (2 if asked.incomplete else SEEDS):
        print(f"{len(seeds)} of {SEEDS} seeds have ended in all arms: no contrasts yet")
        return 0
    write(results_table([row for row in rows if row["seed"] in seeds], seeds), asked.out, ("torch", "onnxruntime"))
    return 0


def exported_models(
    run: Path, trials: Sequence[Row], cache: Path, data_root: Path | None
) -> list[tuple[Row, Exported]]:
    """Return label, seed, score and file of the trials' last sub-models; two processes make them, which end here."""
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        waiting = [pool.submit(exported_model, run, trial, cache, data_root) for trial in trials]
        return [model for made in waiting for model in made.result()]


def exported_model(run: Path, trial: Row, cache: Path, data_root: Path | None) -> list[tuple[Row, Exported]]:
    """Return a trial's last sub-model and, for some arms, the same in 8-bit integers."""
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder) / "model"
        words = [sys.executable, "-m", "transtailor", "reproduce", str(run), trial["trial_id"], "--cache", str(cache)]
        subprocess.run([*words, "--save", str(saved)], check=True, capture_output=True, timeout=3600)
        state = read_model(saved)
        images = images_for(state, 1, seed=0)
        content = export(state, "onnx", None).content
        row = {"label": trial["label"], "seed": trial["seed"], "test_score": trial["test_score"]}
        models = [(row, Exported(content, images))]
        if trial["label"] in QUANTISED:
            data = splits_of(saved, data_root)
            integers = quantise(content, data.train)
            of_integers = {"label": f"{trial['label']}, {INT8}", "test_score": score(integers, data.test).score}
            models.append((row | of_integers, Exported(integers, images)))
        return models


def times(model: Exported) -> Row:
    """Return the share of the whole network's milliseconds that a file takes, and whether both were steady."""
    circumstance = circumstance_here(torch.device("cpu"), runtime="onnxruntime", batch=1, threads=1)
    with as_deployed(circumstance):
        passes = {WHOLE: whole_pass(), "model": onnx_pass(model.content, model.images, 1)}
        measured = time_in_turns(passes, rounds=ROUNDS)
    return {"ms_fraction": 1.0 / measured["model"].speed, "is_steady": measured["model"].is_steady}


@cache  # all sub-models are timed beside the same one
def whole_pass() -> Pass:
    """Return a pass of the whole network, exported, at the input of the study."""
    whole = initial_state("mobilenet_v2", CLASSES, (3, SIDE_PX, SIDE_PX), seed=0)
    return onnx_pass(export(whole, "onnx", None).content, images_for(whole, 1, seed=0), 1)


def results_table(rows: Sequence[Row], seeds: Sequence[int]) -> Measured:
    """Return a row for each arm: its accuracy, its time, and for the planned contrasts the difference."""
    scores: Scores = {}
    fractions: dict[str, list[float]] = {}
    for row in rows:
        scores.setdefault(row["label"], {})[row["seed"]] = 100.0 * row["test_score"]
        fractions.setdefault(row["label"], []).append(row["ms_fraction"])
    pairs = {against: compare_pairs(scores[FIRST], scores[against]) for against in AGAINST}
    corrected = dict(zip(pairs, holm([pair.p for pair in pairs.values()]), strict=True))
    return Measured(
        title="What to take who wants MobileNetV2 to be faster: accuracy on TrashNet and milliseconds",
        columns=(
            "arm",
            "seeds",
            "test_accuracy_percent",
            "ms_fraction",
            "as_fast_as_asked",
            f"{FIRST}, minus it",
            "low_95",
            "high_95",
            "p",
            "p_holm",
        ),
        rows=tuple(_row(label, scores, fractions, pairs, corrected) for label in LABELS),
        notes=(
            f"The plan is in faster_photographs.md. Means of {len(seeds)} of {SEEDS} planned seeds. ms_fraction: share "
            "of the whole network's milliseconds, median over the seeds; as fast as asked: within "
            f"{WITHIN:.0%} of {ASKED}. Differences are of {FIRST}, paired by seed, for the four planned contrasts.",
        ),
    )


def _row(
    label: str,
    scores: Scores,
    fractions: Mapping[str, Sequence[float]],
    pairs: Mapping[str, Any],
    corrected: Mapping[str, float | None],
) -> tuple[Cell, ...]:
    fraction = median(fractions[label])
    accuracy = sum(scores[label].values()) / len(scores[label])
    is_near = abs(fraction / ASKED - 1.0) <= WITHIN
    cells: tuple[Cell, ...] = (label, len(scores[label]), accuracy, fraction, "yes" if is_near else "no")
    if label not in pairs:
        return (*cells, None, None, None, None, None)
    difference = pairs[label].difference
    return (*cells, difference.mean, difference.low, difference.high, pairs[label].p, corrected[label])


if __name__ == "__main__":
    sys.exit(main())
