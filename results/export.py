"""Bring the trials of a run, each with settings, curves and operating points, into TensorBoard, MLflow or W&B."""

import itertools
import json
import os
import shlex
import shutil
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from results.errors import ResultsError
from results.store.completeness import is_over, refuse_gaps
from results.store.lock import hold_lock
from results.store.reader import load
from results.store.schema import TABLES
from results.store.views import literal
from results.text.settings import leaves
from transtailor import cli
from transtailor.documents import read_json
from transtailor.file_names import file_name
from transtailor.files import make_folder, name_file, name_folder, refuse_unwritable
from transtailor.ownership import refuse_outside
from transtailor.shell import command, pip

FOLLOW_EVERY_S = 10.0
VIEWS = {
    "tensorboard": "to view it, type: tensorboard --logdir {0}",
    "mlflow": "to view it, type: mlflow server --backend-store-uri sqlite:///{0}/mlflow.db",
    "wandb": "to upload it, type: wandb sync {0}/*/wandb/offline-run-*",
}
TRIALS = """
SELECT trial_id, sweep, label, arm, network, dataset, seed, config_json, status, error,
    coalesce(trials.attempts, 0) AS attempts, epoch_us(ended_at) AS ended_us
FROM planned LEFT JOIN trials USING (trial_id) ORDER BY trials.ended_at, planned.written_at, trial_id
"""
_NUMBERS = {name: [one.name for one in table.columns if one.type_name == "double"] for name, table in TABLES.items()}
_OF_POINTS = [*_NUMBERS["operating_points"], "macs", "params", "trained_epochs", "test_score", *_NUMBERS["test_scores"]]
VALUES = f"""
SELECT part || '/' || name AS tag, step, number, at_us FROM (
    UNPIVOT (SELECT printf('%02d_%s', stages."order", epochs.kind) AS part, epoch AS step,
            epoch_us(epochs.written_at) AS at_us, {", ".join(f"epochs.{name}" for name in _NUMBERS["epochs"])}
        FROM epochs JOIN stages USING (trial_id, stage_key) WHERE trial_id = $1)
    ON COLUMNS(* EXCLUDE (part, step, at_us)) INTO NAME name VALUE number UNION ALL BY NAME
    UNPIVOT (SELECT 'point' AS part, point AS step, epoch_us(written_at) AS at_us,
            {", ".join(f"{name}::DOUBLE AS {name}" for name in _OF_POINTS)}
        FROM measured_points WHERE trial_id = $1 AND (test_images > 0 OR $1 IN (SELECT trial_id FROM trials)))
    ON COLUMNS(* EXCLUDE (part, step, at_us)) INTO NAME name VALUE number
) WHERE NOT isinf(number) ORDER BY part, step, tag
"""
"""A point waits for its test rows: an exported value never changes. MLflow's databases have no infinite numbers."""
Value = tuple[str, int, float, int]
"""Tag (such as 03_fine_tune/train_loss) and step, which identify it within its trial; the number; microseconds."""
Add = Callable[[dict[str, Any], list[Value]], int]
"""Adds what a tool lacks of a trial, a row of `TRIALS` with `settings` and a `name` for files; returns its number."""


def _tensorboard(folder: Path) -> Add:
    """Write a folder of event files for each trial, each atomically; they say which values are there."""
    from tensorboardX import record_writer, summary
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.proto.summary_pb2 import Summary

    exported: dict[str, set[tuple[str, int]]] = {}  # trial -> tag and step of each value in its files

    def read(content: bytes) -> Iterator[tuple[str, int]]:
        while content:  # records with 12 bytes before each, and 4 behind (TFRecord)
            (length,) = struct.unpack_from("<Q", content)
            event = Event.FromString(content[12 : 12 + length])
            content = content[12 + length + 4 :]
            yield from ((value.tag, event.step) for value in event.summary.value)

    def add(trial: dict[str, Any], values: list[Value]) -> int:
        files = sorted((folder / trial["name"]).glob("events.out.tfevents.*"))
        if trial["trial_id"] not in exported:
            exported[trial["trial_id"]] = {value for file in files for value in read(file.read_bytes())}
        new = [value for value in values if value[:2] not in exported[trial["trial_id"]]]
        if not new and files:
            return 0
        make_folder(folder / trial["name"])
        temporary = folder / trial["name"] / ".being_made"  # "tfevents" in a name is a file to read
        writer = record_writer.RecordWriter(str(temporary))
        writer.write(Event(file_version="brain.Event:2").SerializeToString())
        settings = summary.hparams(trial["settings"], {f"point/{name}": 0.0 for name in _OF_POINTS})
        for part in () if files else settings:
            writer.write(Event(summary=part).SerializeToString())
        for tag, step, number, at_us in new:
            scalar = Summary(value=[Summary.Value(tag=tag, simple_value=number)])
            writer.write(Event(wall_time=at_us / 1e6, step=step, summary=scalar).SerializeToString())
        writer.close()
        name_file(temporary, folder / trial["name"] / f"events.out.tfevents.{len(files):06d}")
        exported[trial["trial_id"]].update(value[:2] for value in new)
        return len(new)

    return add


def _mlflow(folder: Path) -> Add:
    """Write a run for each trial to a folder's database, or to MLFLOW_TRACKING_URI; MLflow is asked what it has."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # else it reports its use to its makers
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param
    from mlflow.exceptions import MlflowException

    make_folder(folder)
    client = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{folder.resolve() / 'mlflow.db'}"))
    runs: dict[str, tuple[str, set[tuple[str, int]]]] = {}  # trial -> its run; tag and step of each value there

    def add(trial: dict[str, Any], values: list[Value]) -> int:
        try:
            if trial["trial_id"] not in runs:
                experiment = client.get_experiment_by_name(trial["sweep"])
                number = experiment.experiment_id if experiment else client.create_experiment(trial["sweep"])
                found = client.search_runs([number], f"attributes.run_name = '{trial['name']}'")
                run = found[0] if found else client.create_run(number, run_name=trial["name"])
                params = [Param(key, str(value)[:6000]) for key, value in trial["settings"].items()]
                for first in range(0, len(params), 100):  # that MLflow takes in one request
                    client.log_batch(run.info.run_id, params=params[first : first + 100])
                there = [one for tag in run.data.metrics for one in client.get_metric_history(run.info.run_id, tag)]
                runs[trial["trial_id"]] = run.info.run_id, {(metric.key, metric.step) for metric in there}
            run_id, exported = runs[trial["trial_id"]]
            new = [value for value in values if value[:2] not in exported]
            metrics = [Metric(tag, number, at_us // 1000, step) for tag, step, number, at_us in new]
            for first in range(0, len(metrics), 1000):
                client.log_batch(run_id, metrics=metrics[first : first + 1000])
            exported.update(value[:2] for value in new)
            if trial["status"] is not None:
                status = {"finished": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}[trial["status"]]
                client.set_terminated(run_id, status, end_time=trial["ended_us"] // 1000)
        except MlflowException as error:
            raise ResultsError(f"MLflow refused trial {trial['trial_id']}: {error}") from error
        return len(new)

    return add


def _wandb(folder: Path) -> Add:
    """Write a folder for each trial that has ended, atomically: an offline run cannot be resumed."""
    mode = os.environ.get("WANDB_MODE", "offline")
    if mode == "offline":
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # else it reports errors to its makers
    import wandb

    settings = wandb.Settings(mode=mode, silent=True, console="off", disable_git=True, disable_job_creation=True,
                              save_code=False, x_disable_stats=True, x_disable_meta=True)  # fmt: skip

    def add(trial: dict[str, Any], values: list[Value]) -> int:
        final = folder / f"{trial['name']}-{trial['attempts']}"
        if trial["status"] is None or final.exists():
            return 0
        temporary = final.with_name(f".{final.name}")
        shutil.rmtree(temporary, ignore_errors=True)  # of an export that was killed
        make_folder(temporary)
        run = wandb.init(
            project=trial["sweep"], id=f"{trial['trial_id']}-{trial['attempts']}", name=trial["name"], dir=temporary,
            config=trial["settings"], group=trial["arm"], settings=settings, reinit="create_new",
            resume="allow" if mode == "online" else None,
        )  # fmt: skip
        run.define_metric("*", step_metric="step")
        rows = itertools.groupby(values, key=lambda value: (value[0].partition("/")[0], value[1]))
        for number, ((_, step), row) in enumerate(rows):  # with their numbers none is added twice
            run.log({"step": step} | {tag: amount for tag, _, amount, _ in row}, step=number)
        run.summary.update({"status": trial["status"], "error": trial["error"] or ""})
        run.finish(exit_code=int(trial["status"] == "failed"))  # a stopped trial has not crashed
        name_folder(temporary, final)
        return len(values)

    return add


@cli.command(example="runs/demo --to tensorboard")
@cli.run_argument
@cli.option("--to", type=click.Choice([*VIEWS, "csv"]), required=True, metavar="TOOL", help=", ".join(VIEWS))
@cli.option("--out", type=cli.FOLDER, metavar="FOLDER", help="folder to write to (default: RUN/export/TOOL)")
@cli.option("--follow", is_flag=True, help="continue until the sweep has ended")
def export(run: Path, to: str, out: Path | None, follow: bool) -> Iterator[str]:
    """Write a run for TensorBoard, MLflow or Weights & Biases; the run may be running."""
    if to == "csv":
        raise ResultsError(f"--to csv is gone; type: {command('query', run, 'FROM points', '--format', 'csv')}")
    folder = (out or run / "export" / to).absolute()
    refuse_outside(run, [] if out else [run / "export" / to], ResultsError)
    with load(run) as tables:
        refuse_gaps(tables)
    refuse_unwritable(folder, "--out", ResultsError)
    try:
        add = {"tensorboard": _tensorboard, "mlflow": _mlflow, "wandb": _wandb}[to](folder)
    except ImportError as error:
        install = pip("install", f"transtailor-sweeps[{to}]")
        raise ResultsError(f"exporting to {to} needs {error.name} ({error}); type: {install}") from error
    make_folder(folder)
    with hold_lock(folder / ".lock", f"another process exports to {str(folder)!r}; wait for it, or type another --out"):
        done: set[tuple[str, int]] = set()  # trials that have ended, with their number of attempts
        for look in itertools.count():
            if look:
                time.sleep(FOLLOW_EVERY_S)
            added = 0
            with load(run) as tables:
                is_last = is_over(tables) or not follow
                trials = [trial for trial in tables.rows(TRIALS) if (trial["trial_id"], trial["attempts"]) not in done]
                ids = ", ".join(literal(trial["trial_id"]) for trial in trials) or "NULL"
                tables.hold("stages", "epochs", "measured_points", where=f"trial_id IN ({ids})")  # read once for all
                for trial in trials:
                    trial["settings"] = {"label": trial["label"], "arm": trial["arm"]}
                    for key, one in leaves(read_json(trial["config_json"])):
                        trial["settings"][key] = one if isinstance(one, str | int | float) else json.dumps(one)
                    words = file_name(trial["label"], trial["network"], trial["dataset"], f"seed{trial['seed']}")
                    trial["name"] = f"{words}-{trial['trial_id']}"
                    values: list[Value] = [tuple(row.values()) for row in tables.rows(VALUES, [trial["trial_id"]])]
                    added += add(trial, values) if values or trial["status"] else 0
                    if trial["status"]:
                        done.add((trial["trial_id"], trial["attempts"]))
            if added or not look:
                yield f"{added:,} new values"
            if is_last:
                break
    yield VIEWS[to].format(shlex.quote(str(folder)))
