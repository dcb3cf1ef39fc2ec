"""Writers of the same rows: our store and other tools; each writer runs in a separate process.

A row has the results of an epoch: the trial, the epoch, and four numbers.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

Row = Mapping[str, Any]
Write = Callable[[Sequence[Row]], object]  # returns when the rows are as safe as they will be

NUMBERS = ("train_loss", "train_accuracy_fraction", "learning_rate", "seconds")


@dataclass(frozen=True, kw_only=True)
class Store:
    """One way to keep rows."""

    name: str
    open: Callable[[Path, int], AbstractContextManager[Write]]  # folder that all processes share, number of the process
    safe: str  # against what the rows are safe when the call returns
    rows_per_call: tuple[int, ...]
    package: str


def rows_from(process: int, first: int, count: int) -> list[Row]:
    """The rows of one call, with numbers that differ."""
    return [
        {"trial": f"trial{process:04d}", "epoch": epoch, "train_loss": 2.3 / (epoch + 1),
         "train_accuracy_fraction": 1 - 1 / (epoch + 2), "learning_rate": 0.01, "seconds": 1.5 + process}
        for epoch in range(first, first + count)
    ]  # fmt: skip


@contextmanager
def _ours(folder: Path, _process: int) -> Iterator[Write]:
    from results.store.writer import Writer

    writer = Writer(folder / "tables")
    same = {"stage_key": "0" * 64, "kind": "fine_tune", "images": 1000, "code_digest": "0" * 64}

    def write(rows: Sequence[Row]) -> object:
        return writer.write(
            "epochs",
            [same | {"trial_id": row["trial"], "epoch": row["epoch"]} | {n: row[n] for n in NUMBERS} for row in rows],
        )

    yield write


@dataclass(eq=False)
class _Trial:
    """The part of Ray Tune's Trial that its loggers look at."""

    local_path: str
    config: dict[str, Any]
    evaluated_params: dict[str, Any]
    checkpoint: None = None

    def init_local_path(self) -> None:
        Path(self.local_path).mkdir(parents=True, exist_ok=True)


@contextmanager
def _ray_tune(folder: Path, process: int) -> Iterator[Write]:
    from ray.tune.logger import CSVLoggerCallback, JsonLoggerCallback, TBXLoggerCallback

    settings = {"seed": process}
    trial = _Trial(local_path=str(folder / f"trial{process:04d}"), config=settings, evaluated_params=settings)
    trial.init_local_path()
    loggers = [JsonLoggerCallback(), CSVLoggerCallback(), TBXLoggerCallback()]
    facts = {"config": settings, "trial_id": f"trial{process:04d}"}

    def write(rows: Sequence[Row]) -> object:
        for row in rows:
            result = facts | row | {"training_iteration": row["epoch"], "timesteps_total": row["epoch"]}
            for logger in loggers:
                logger.log_trial_result(row["epoch"], trial, result)
        return None

    yield write
    for logger in loggers:
        logger.log_trial_end(trial)


@contextmanager
def _mlflow(folder: Path, process: int) -> Iterator[Write]:
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    from mlflow import MlflowClient
    from mlflow.entities import Metric

    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    run = client.create_run("0", tags={"trial": f"trial{process:04d}"}).info.run_id

    def write(rows: Sequence[Row]) -> object:
        metrics = [Metric(name, row[name], 1_700_000_000_000, row["epoch"]) for row in rows for name in NUMBERS]
        return client.log_batch(run, metrics=metrics)

    yield write


def _prepare_mlflow(folder: Path) -> None:
    """Makes the database, which several processes cannot do at once."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    from mlflow import MlflowClient

    MlflowClient(f"sqlite:///{folder / 'mlflow.db'}").search_experiments()


@contextmanager
def _trackio(folder: Path, process: int) -> Iterator[Write]:
    os.environ["TRACKIO_DIR"] = str(folder)
    from trackio.sqlite_storage import SQLiteStorage

    def write(rows: Sequence[Row]) -> object:
        numbers = [{name: row[name] for name in NUMBERS} for row in rows]
        steps = [row["epoch"] for row in rows]
        return SQLiteStorage.bulk_log("sweep", f"trial{process:04d}", numbers, steps=steps)

    yield write


PREPARE: Mapping[str, Callable[[Path], None]] = MappingProxyType({"MLflow, SQLite": _prepare_mlflow})

STORES = (
    Store(name="ours", open=_ours, safe="loss of power", rows_per_call=(1, 100), package="pyarrow"),
    Store(
        name="Ray Tune: JSON + CSV + TensorBoard", open=_ray_tune, safe="end of the process", rows_per_call=(1,),
        package="ray",
    ),
    Store(name="MLflow, SQLite", open=_mlflow, safe="loss of power", rows_per_call=(1, 100), package="mlflow"),
    Store(
        name="Trackio's storage", open=_trackio, safe="end of the process", rows_per_call=(1, 100), package="trackio"
    ),
)  # fmt: skip
