"""`transtailor time`: each sub-model of a run once, from the cache alone, and the front that comes of it."""

import os
import time
from pathlib import Path

import pytest

from results.questions.front import front_page
from results.store.reader import load
from results.text.formats import markdown_lines
from sweeps.errors import RunFolderError
from sweeps.operations.latencies import _one_process_each, call_in
from sweeps.run.run_folder import RunFolder
from tailor.core.errors import ConfigError
from tailor.saved_model import Timing
from tests.sweeps.conftest import Command


@pytest.mark.check
def test_each_sub_model_is_timed_once_and_nothing_is_trained(
    sweeps_command: Command, trained: RunFolder, tmp_path: Path
) -> None:
    run = trained
    with load(run.path) as tables:
        models = {row["model_key"] for row in tables.rows("SELECT model_key FROM operating_points")}
    stages = sorted((tmp_path / "cache").glob("??/[!.]*.stage"))

    none = sweeps_command("time", "runs/trained", "--cache", "elsewhere", "--device", "cpu", "--runtime", "eager")
    assert (none.returncode, none.stdout) == (2, "")
    assert f"elsewhere lacks stages of each of the {len(models)} sub-models" in none.stderr

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
            assert row["speed"] > 0 and row["whole_latency_ms"] > 0
            assert row["peak_memory_bytes"] > 0
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
    assert [
        text.count(f"against latency_ms, {way}")
        for way in ("1 image in eager", "2 images in eager", "1 image in onnxr")
    ] == [1, 1, 1]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"batch": 0}, "--batch is 0; expected 1 or more"),
        ({"threads": 0}, "--threads is 0; expected 1 or more"),
        ({"repeats": 1}, "--repeats is 1; expected 2 or more"),
    ],
)
def test_numbers_that_measure_nothing_are_refused(given: dict[str, int], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Timing(**given)  # type: ignore[arg-type]


def test_a_model_that_is_never_measured_ends_the_command() -> None:
    with _one_process_each() as processes, pytest.raises(RunFolderError, match="not timed within 0.1 s"):
        call_in(processes, 0.1, time.sleep, 600.0)


def test_a_process_that_ends_while_it_measures_is_reported() -> None:
    """As it does with more --threads than the machine can start, or when its memory is needed elsewhere."""
    with _one_process_each() as processes, pytest.raises(RunFolderError, match=r"not be timed: .* smaller --batch or"):
        call_in(processes, 60.0, os._exit, 1)
