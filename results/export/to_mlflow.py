"""Export each trial as an MLflow run: to a database in a folder, or to MLFLOW_TRACKING_URI."""

import math
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from results.errors import ResultsError
from results.export.series import Trial, Value
from results.export.target import library
from transtailor.files import make_folder

MOST_METRICS = 1000  # that MLflow takes in one request
MOST_PARAMS = 100  # likewise
LONGEST = 6000  # characters of a parameter
TRIAL_TAG = "trial_id"
INFINITE_TAG = "infinite_values"  # has the values that are no metrics
STATUS = {"finished": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}


class Mlflow:
    """An experiment with the sweep's name and a run for each trial; MLflow itself is asked what it has."""

    def __init__(self, folder: Path) -> None:
        """Open the database; raise ResultsError if MLflow is not installed.

        Writes:
            `folder`/mlflow.db, unless MLFLOW_TRACKING_URI names another place.
        """
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # else it reports its use to its makers
        self._entities = library("mlflow.entities", "mlflow")
        client = library("mlflow", "mlflow").MlflowClient
        self._refusal = library("mlflow.exceptions", "mlflow").MlflowException
        uri = os.environ.get("MLFLOW_TRACKING_URI")
        self._artifacts = None
        if uri is None:
            make_folder(folder)
            uri = f"sqlite:///{folder.resolve() / 'mlflow.db'}"
            self._artifacts = (folder.resolve() / "artifacts").as_uri()
        self._uri = uri
        self._client = client(uri)
        self._experiment: str | None = None
        self._runs: dict[str, tuple[str, str]] = {}  # trial -> id and status of its run
        self._exported: dict[str, set[tuple[str, int]]] = {}  # trial -> tag and step of each value in MLflow

    def add(self, trial: Trial, values: list[Value]) -> int:
        """Add missing values to the trial's run; return their number.

        Raises:
            ResultsError: MLflow refuses, or its server does not answer.
        """
        try:
            return self._add(trial, values)
        except self._refusal as error:
            raise ResultsError(
                f"MLflow refused trial {trial.trial_id}: {error}; once that is mended, the same command resumes there"
            ) from error

    def _add(self, trial: Trial, values: list[Value]) -> int:
        if self._experiment is None:
            self._experiment = self._open(trial.sweep)
        run, status = self._runs.get(trial.trial_id) or self._begin(trial)
        if status == STATUS["finished"]:
            return 0
        if trial.trial_id not in self._exported:
            self._exported[trial.trial_id] = self._read(run)
            self._send_settings(run, trial.settings)
        exported = self._exported[trial.trial_id]
        new = [value for value in values if (value.tag, value.step) not in exported]
        # MLflow's databases keep 1.8e308 for an infinite number, which would be another one.
        finite = [value for value in new if not math.isinf(value.number)]
        metrics = [self._metric(value) for value in finite]
        for first in range(0, len(metrics), MOST_METRICS):
            self._client.log_batch(run, metrics=metrics[first : first + MOST_METRICS])
        if len(finite) < len(new):
            infinite = []
            for value in values:
                if math.isinf(value.number):
                    infinite.append(f"{value.tag} = {value.number} at step {value.step}")
            self._client.set_tag(run, INFINITE_TAG, "; ".join(infinite)[:LONGEST])
        exported |= {(value.tag, value.step) for value in new}
        if trial.status is not None and STATUS[trial.status] != status:
            self._end(run, trial)
            self._runs[trial.trial_id] = (run, STATUS[trial.status])
        return len(new)

    def _metric(self, value: Value) -> Any:
        return self._entities.Metric(value.tag, value.number, value.at_us // 1000, value.step)

    def _open(self, name: str) -> str:
        """Return the id of the experiment, which is created if missing; note its runs.

        Raises:
            ResultsError: it was deleted in MLflow, which keeps it and its name.
        """
        experiment = self._client.get_experiment_by_name(name)
        if experiment is None:
            return str(self._client.create_experiment(name, artifact_location=self._artifacts))
        if experiment.lifecycle_stage == "deleted":
            restore = shlex.join(["mlflow", "experiments", "restore", "--experiment-id", experiment.experiment_id])
            raise ResultsError(
                f"the experiment {name!r} was deleted in MLflow; to restore it, type: "
                f"MLFLOW_TRACKING_URI={shlex.quote(self._uri)} {restore}, or export to another folder with --out"
            )
        page = None
        while True:
            runs = self._client.search_runs([experiment.experiment_id], max_results=1000, page_token=page)
            for run in runs:
                if TRIAL_TAG in run.data.tags:
                    self._runs[run.data.tags[TRIAL_TAG]] = (run.info.run_id, run.info.status)
            page = runs.token
            if not page:
                return str(experiment.experiment_id)

    def _begin(self, trial: Trial) -> tuple[str, str]:
        began_ms = None if trial.started_us is None else trial.started_us // 1000
        tags = {TRIAL_TAG: trial.trial_id}
        run = self._client.create_run(self._experiment, start_time=began_ms, run_name=trial.name, tags=tags)
        self._runs[trial.trial_id] = (run.info.run_id, run.info.status)
        return self._runs[trial.trial_id]

    def _read(self, run: str) -> set[tuple[str, int]]:
        """Return tag and step of each value in a run."""
        values = set()
        for tag in self._client.get_run(run).data.metrics:
            for metric in self._client.get_metric_history(run, tag):
                values.add((tag, metric.step))
        return values

    def _send_settings(self, run: str, settings: Mapping[str, Any]) -> None:
        exported = self._client.get_run(run).data.params
        params = []
        for key, value in settings.items():
            if key not in exported:
                params.append(self._entities.Param(key, str(value)[:LONGEST]))
        for first in range(0, len(params), MOST_PARAMS):
            self._client.log_batch(run, params=params[first : first + MOST_PARAMS])

    def _end(self, run: str, trial: Trial) -> None:
        if trial.error is not None:
            self._client.set_tag(run, "error", trial.error[:LONGEST])
        ended_ms = None if trial.ended_us is None else trial.ended_us // 1000
        self._client.set_terminated(run, STATUS[str(trial.status)], end_time=ended_ms)
