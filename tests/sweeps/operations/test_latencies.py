"""`transtailor time`: each sub-model of a run once, from the cache alone, and the front that comes of it."""

import os
import time
from pathlib import Path

import pytest

from results.questions.front import front_page
from results.store.reader import load
from results.text.formats import markdown_lines
from sweeps.errors import RunFolderError
from sweeps.operations.latencies import WAITING
from sweeps.operations.timed_models import SavedModels, call_in, one_process_each
from sweeps.run.run_folder import RunFolder
from tailor.model.circumstance import Timing
from tests.results.exact_run import Trial, write_run
from tests.sweeps.conftest import Command
from tests.tailor.saved_models import pruned


@pytest.mark.check
def test_each_sub_model_is_timed_once_and_nothing_is_trained(
    sweeps_command: Command, trained: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trained
    with load(run.path) as tables:
        models = {row["model_key"] for row in tables.rows("SELECT model_key FROM operating_points")}
    stages = sorted((tmp_path / "cache").glob("??/[!.]*.stage"))

    none = sweeps_command("time", "runs/trained", "--cache", "elsewhere", "--device", "cpu", "--runtime", "eager")
    assert (none.returncode, none.stdout) == (2, "")
    assert f"elsewhere lacks stages of each of the {len(models)} sub-models" in none.stderr

    with monkeypatch.context() as read_only:
        read_only.setattr(os, "access", lambda path, _mode: Path(path) != Path("runs/trained"))
        refused = sweeps_command("time", "runs/trained", "--device", "cpu", "--runtime", "eager")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "runs/trained: Permission denied; ask its owner" in refused.stderr

    done = sweeps_command(
        "time", "runs/trained", "--threads", "1", "--repeats", "3", "--device", "cpu", "--runtime", "eager"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{len(models)} sub-models timed in eager on " in done.stdout
    with load(run.path) as tables:
        rows = tables.rows("FROM timings")
        assert {row["model_key"] for row in rows} == models
        assert len(rows) == len(models)
        for row in rows:
            assert 0 < row["latency_lower_quartile_ms"] <= row["latency_ms"] <= row["latency_upper_quartile_ms"]
            assert (row["threads"], row["batch"], row["precision"], row["repeats"]) == (1, 1, "float32", 6)
            assert (row["runtime"], row["memory_format"]) == ("eager", "channels_last")
            assert 0 < row["speed_lower_quartile"] <= row["speed"] <= row["speed_upper_quartile"]
            assert row["whole_latency_ms"] > 0
            assert row["peak_memory_bytes"] is None  # on a CPU
        assert len({row["reference_latency_ms"] for row in rows}) == 1  # one network, whenever a sub-model was timed
        shown = tables.rows("SELECT latency_ms * speed AS whole_ms FROM measured_points")
        assert [row["whole_ms"] for row in shown] == pytest.approx([rows[0]["reference_latency_ms"]] * len(shown))
        text = "\n".join(markdown_lines(front_page(tables, "latency_ms")))
    assert "1 image in eager on" in text
    assert sorted((tmp_path / "cache").glob("??/[!.]*.stage")) == stages

    file = sweeps_command("time", "runs/trained", "--cache", "trained.toml", "--device", "cpu", "--runtime", "eager")
    assert (file.returncode, file.stdout) == (2, "")
    assert "--cache trained.toml: " in file.stderr and "trained.toml is a file" in file.stderr

    large = sweeps_command(
        "time", "runs/trained", "--threads", "1", "--batch", str(10**13), "--device", "cpu", "--runtime", "eager"
    )
    assert (large.returncode, large.stdout) == (2, "")
    assert large.stderr.startswith("error: a sub-model could not be timed: ") and "smaller --batch" in large.stderr

    again = sweeps_command("time", "runs/trained", "--threads", "1", "--device", "cpu", "--runtime", "eager")
    assert again.stdout.startswith("nothing to time: ")
    more = sweeps_command(
        "time",
        "runs/trained",
        "--threads",
        "1",
        "--batch",
        "2",
        "--repeats",
        "2",
        "--device",
        "cpu",
        "--runtime",
        "eager",
    )
    assert f"{len(models)} sub-models timed in eager on " in more.stdout
    words = ("--threads", "1", "--batch", "2", "--repeats", "2", "--device", "cpu", "--runtime", "eager", "--again")
    once_more = sweeps_command("time", "runs/trained", *words)
    assert f"{len(models)} sub-models timed in eager on " in once_more.stdout
    with load(run.path) as tables:
        assert len(tables.rows("FROM timings")) == 2 * len(models)  # of each the last row
    deployed = sweeps_command("time", "runs/trained", "--threads", "1", "--repeats", "2", "--device", "cpu")
    assert (deployed.returncode, deployed.stderr) == (0, "")
    assert "sub-models timed in onnxruntime on " in deployed.stdout
    with load(run.path) as tables:
        text = "\n".join(markdown_lines(front_page(tables, "latency_ms")))
    assert text.count("against latency_ms, ") == text.count("against latency_ms, 1 image in onnxr") == 1


def test_each_point_is_timed_under_the_name_of_its_own_arm(tmp_path: Path) -> None:
    """The first point of a path may be the fit of a head, of another arm than the points after it."""
    path = Trial(label="path", seed=0, right=(50, 90), asked=(0.0, 0.2), head_arm="head_only")
    with load(write_run(tmp_path, [path])) as run:
        (waiting,) = run.rows(WAITING.format(circumstance="1", values="2"), [True])
    assert (waiting["points"], waiting["arms"]) == ([0, 1], ["head_only", "path"])


@pytest.mark.check
def test_a_model_that_is_never_measured_ends_the_command() -> None:
    with one_process_each() as processes, pytest.raises(RunFolderError, match="not timed within 0.1 s"):
        call_in(processes, 0.1, time.sleep, 600.0)


def test_a_process_that_ends_while_it_measures_is_reported() -> None:
    """As it does with more --threads than the machine can start, or when its memory is needed elsewhere."""
    with one_process_each() as processes, pytest.raises(RunFolderError, match=r"not be timed: .* smaller --batch or"):
        call_in(processes, 60.0, os._exit, 1)


@pytest.mark.check
def test_a_sub_model_is_timed_as_model_export_would_write_it(tmp_path: Path) -> None:
    """With ONNX Runtime as its file, in other runtimes as a module."""
    state = pruned("digits_vgg")
    onnx = SavedModels(tmp_path / "onnx", Timing(device="cpu", runtime="onnxruntime", threads=1).here()[0])
    programs = onnx.sub_model(state)
    assert programs.content is not None and programs.content_beside is not None
    assert programs.content.read_bytes() != programs.content_beside.read_bytes()
    eager = SavedModels(tmp_path / "eager", Timing(device="cpu", runtime="eager", threads=1).here()[0]).sub_model(state)
    assert eager.content is None and eager.content_beside is None and eager.beside is not None
