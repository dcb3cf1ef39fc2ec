"""MLflow and Weights & Biases hold what the tables hold, each value once; nothing is sent anywhere.

Left out, and named as such, where these libraries are not installed.
"""

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.results.test_export import add_epochs, exported, values_in

pytestmark = pytest.mark.check


@pytest.fixture(autouse=True)
def nothing_is_sent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Offline, and no file but in the test's folder; no server is named."""
    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "WANDB_"))]:
        monkeypatch.delenv(name)
    for name in ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "wandb_home"))


@pytest.fixture
def run(tmp_path: Path, synthetic: Any) -> Path:
    """A run of two trials: one finished, one failed."""
    end = {"transtailor": "finished", "fine_tune": "failed"}
    run: Path = synthetic(seeds=(0,), test_images=5, end=lambda label, _: end[label]).write(tmp_path / "run")
    add_epochs(run)
    return run


def in_mlflow(out: Path) -> dict[str, Counter[tuple[str, int, float]]]:
    """Trial -> the values of its run."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{out / 'mlflow.db'}")
    (experiment,) = (found for found in client.search_experiments() if found.name == "demo")
    return {
        run.info.run_name.rpartition("-")[2]: Counter(
            (tag, metric.step, metric.value)
            for tag in run.data.metrics
            for metric in client.get_metric_history(run.info.run_id, tag)
        )
        for run in client.search_runs([experiment.experiment_id])
        if run.data.metrics
    }


def test_mlflow_has_each_value_once_and_how_trials_ended(run: Path, tmp_path: Path, synthetic: Any) -> None:
    pytest.importorskip("mlflow", reason="the extra `mlflow` is not installed")
    from mlflow import MlflowClient

    out = tmp_path / "out"
    killed = """
import os, signal
from mlflow import MlflowClient
log = MlflowClient.log_batch
def then_die(client, run_id, **given):
    log(client, run_id, **given)
    if "metrics" in given:
        os.kill(os.getpid(), signal.SIGKILL)
MlflowClient.log_batch = then_die
"""
    assert exported(run, "--to", "mlflow", "--out", out, code=killed).returncode == -9
    done = exported(run, "--to", "mlflow", "--out", out)
    assert done.returncode == 0, done.stderr
    assert in_mlflow(out) == values_in(run)
    failed = (("fine_tune", "fine_tune"),)
    synthetic(seeds=(0,), test_images=5, labels=failed).write(run)  # it is tried again and finishes
    assert exported(run, "--to", "mlflow", "--out", out).returncode == 0
    assert exported(run, "--to", "mlflow", "--out", out).stdout.startswith("0 new values\n")
    assert in_mlflow(out) == values_in(run)
    (one, other) = MlflowClient(f"sqlite:///{out / 'mlflow.db'}").search_runs(["1"])
    assert {one.info.status, other.info.status} == {"FINISHED"}
    assert {one.data.params["label"], other.data.params["label"]} == {"transtailor", "fine_tune"}


def test_weights_and_biases_has_each_ended_trial_once_and_whole(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason="the extra `wandb` is not installed")
    out = tmp_path / "out"
    killed = """
import os, signal
def hook(event, given):
    if event == "os.rename" and "out" in str(given[0]):
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
"""
    assert exported(run, "--to", "wandb", "--out", out, code=killed).returncode == -9
    done = exported(run, "--to", "wandb", "--out", out)
    assert done.returncode == 0, done.stderr
    assert exported(run, "--to", "wandb", "--out", out).stdout.startswith("0 new values\n")
    folders = {path.name.split("-")[0]: path for path in out.iterdir() if path.is_dir() and path.name[0] != "."}
    assert set(folders) == {"transtailor", "fine_tune"}
    for folder in folders.values():
        (file,) = folder.glob("wandb/offline-run-*/*.wandb")
        assert file.stat().st_size > 0


def test_nothing_but_this_machine_is_spoken_to(run: Path, tmp_path: Path) -> None:
    """Every connection that Python code opens would be refused here; the libraries' own programs are offline."""
    pytest.importorskip("mlflow", reason="the extra `mlflow` is not installed")
    refusing = """
def hook(event, given):
    if event == "socket.connect" and not isinstance(given[1], (str, bytes)) and given[1][0] not in ("127.0.0.1", "::1"):
        raise RuntimeError(f"spoken to: {given[1]}")
sys.addaudithook(hook)
"""
    for tool in ("mlflow", "wandb"):
        done = exported(run, "--to", tool, "--out", tmp_path / tool, code=refusing)
        assert done.returncode == 0, done.stderr
        assert "spoken to" not in done.stderr
