"""MLflow and Weights & Biases hold what the tables hold, each value once; nothing is sent anywhere.

Left out, and named as such, where these libraries are not installed.
"""

import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from results.store.reader import load
from results.store.writer import Writer
from tests.results.conftest import CODE
from tests.results.export.test_export import add_epochs, exported, values_in
from tests.results.halved_run import Tried, write_halved

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
        run.data.tags["trial_id"]: Counter(
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


def in_wandb(folder: Path) -> tuple[Counter[tuple[str, int, float]], int]:
    """The values of a run that was written offline, and its exit code."""
    from wandb.proto.wandb_internal_pb2 import Record

    (file,) = folder.glob("wandb/offline-run-*/*.wandb")
    found: Counter[tuple[str, int, float]] = Counter()
    codes = []
    for content in records_in(file.read_bytes()):
        record = Record.FromString(content)
        if record.HasField("exit"):
            codes.append(record.exit.exit_code)
        row = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
        steps = [int(value) for key, value in row.items() if key.endswith(("/epoch", "/number"))]
        named = {key: value for key, value in row.items() if not key.startswith("_")}
        found.update((key, steps[0], value) for key, value in named.items() if not key.endswith(("/epoch", "/number")))
    (code,) = codes
    return found, code


def statuses_in(folder: Path) -> list[str]:
    """The status in the summary of a run that was written offline."""
    from wandb.proto.wandb_internal_pb2 import Record

    (file,) = folder.glob("wandb/offline-run-*/*.wandb")
    records = [Record.FromString(content) for content in records_in(file.read_bytes())]
    items = [item for record in records for item in record.summary.update]
    return [json.loads(item.value_json) for item in items if (item.key or item.nested_key[0]) == "status"]


def records_in(content: bytes) -> Iterator[bytes]:
    """The records of a file in LevelDB's log format: blocks, in which each piece has a head of 7 bytes."""
    block, head, first, last = 32768, 7, (1, 2), (1, 4)
    place, record = head, b""
    while place + head < len(content):
        if block - place % block < head:
            place += block - place % block
        length, kind = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
        piece = content[place + head : place + head + length]
        record = piece if kind in first else record + piece
        if kind in last:
            yield record
        place += head + length


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
    values = values_in(run)
    found, code = in_wandb(folders["transtailor"])
    assert code == 0
    (trial_id,) = values
    assert found == values[trial_id]
    assert in_wandb(folders["fine_tune"]) == (Counter(), 1)


@pytest.fixture
def halved(tmp_path: Path) -> Path:
    """A search of two trials: one finished, one was stopped at its first rung."""
    scores = {"finished": (0.5, 0.6, 0.7), "stopped": (0.3,)}
    tried = [Tried(scores=several, state=state, values={"x": state}) for state, several in scores.items()]
    return write_halved(tmp_path / "halved", tried)


def test_a_trial_that_a_search_stopped_is_killed_in_mlflow(halved: Path, tmp_path: Path) -> None:
    pytest.importorskip("mlflow", reason="the extra `mlflow` is not installed")
    from mlflow import MlflowClient

    done = exported(halved, "--to", "mlflow", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    runs = MlflowClient(f"sqlite:///{tmp_path / 'out' / 'mlflow.db'}").search_runs(["1"])
    assert {run.data.params["x"]: run.info.status for run in runs} == {"finished": "FINISHED", "stopped": "KILLED"}


def test_an_infinite_value_is_not_another_number_in_mlflow(run: Path, tmp_path: Path) -> None:
    """Its databases would keep 1.8e308."""
    pytest.importorskip("mlflow", reason="the extra `mlflow` is not installed")
    from mlflow import MlflowClient

    with load(run) as tables:
        (head,) = tables.rows("SELECT trial_id, stage_key, kind FROM stages WHERE kind = 'FitHead'")
    row = head | {"order": 0, "learning_rate": 0.1, "head_learning_rate": 0.1, "images": 10, "seconds": 0.5}
    losses = {7: float("inf"), 8: float("-inf"), 9: 0.25}
    rows = [row | {"epoch": epoch, "train_loss": loss, "code_digest": CODE} for epoch, loss in losses.items()]
    Writer(run / "tables").write("epochs", rows)
    for _ in range(2):  # also when it is typed again
        done = exported(run, "--to", "mlflow", "--out", tmp_path / "out")
        assert done.returncode == 0, done.stderr
    client = MlflowClient(f"sqlite:///{tmp_path / 'out' / 'mlflow.db'}")
    (found,) = (one for one in client.search_runs(["1"]) if one.data.tags["trial_id"] == head["trial_id"])
    losses_there = client.get_metric_history(found.info.run_id, "01_FitHead/train_loss")
    assert [(metric.step, metric.value) for metric in losses_there if metric.step > 6] == [(9, 0.25)]
    assert found.data.tags["infinite_values"] == (
        "01_FitHead/train_loss = inf at step 7; 01_FitHead/train_loss = -inf at step 8"
    )


def test_an_experiment_that_was_deleted_is_not_one_to_type_again(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("mlflow", reason="the extra `mlflow` is not installed")
    from mlflow import MlflowClient

    assert exported(run, "--to", "mlflow", "--out", tmp_path / "out").returncode == 0
    uri = f"sqlite:///{tmp_path / 'out' / 'mlflow.db'}"
    MlflowClient(uri).delete_experiment("1")
    done = exported(run, "--to", "mlflow", "--out", tmp_path / "out")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "was deleted in MLflow" in done.stderr and "resumes" not in done.stderr
    assert f"MLFLOW_TRACKING_URI={uri} mlflow experiments restore --experiment-id 1" in done.stderr
    MlflowClient(uri).restore_experiment("1")
    assert exported(run, "--to", "mlflow", "--out", tmp_path / "out").returncode == 0


def test_a_trial_that_a_search_stopped_has_not_crashed_in_weights_and_biases(halved: Path, tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason="the extra `wandb` is not installed")
    out = tmp_path / "out"
    done = exported(halved, "--to", "wandb", "--out", out)
    assert done.returncode == 0, done.stderr
    folders = [path for path in out.iterdir() if path.is_dir()]
    assert [in_wandb(folder)[1] for folder in folders] == [0, 0]
    assert sorted(status for folder in folders for status in statuses_in(folder)) == ["finished", "stopped"]


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
