"""The rows of real trials of one epoch: the training behind a point counted by hand, classes and real values apart."""

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch

from results.store.reader import load
from results.store.schema import TABLES as SCHEMAS
from results.store.writer import Writer
from sweeps.driver.commits import Commits, FinishedStage
from sweeps.driver.events import EventLog
from sweeps.driver.stage_rows import StageTraining, total_training
from sweeps.planning.plan import Plan, PlannedTrial
from sweeps.run.run_folder import RunFolder
from sweeps.spec.json_settings import JsonSettings
from sweeps.spec.resources import Resources
from tailor.config.parsing import parse_trial
from tailor.config.trial import TrialConfig
from tailor.execution.cache import Cache
from tailor.execution.dry_run import dry_run
from tailor.execution.runner import StageEvent, run_trial
from tailor.parallel.process_group import join
from tailor.stages import OperatingPoint, PointFacts

TABLES = ("stages", "epochs", "layers", "kept_filters", "operating_points", "predictions", "estimates",
          "test_scores", "measured_points")  # fmt: skip

SHORT = {
    "source": {"epochs": 1},
    "optimisation": {"epochs": 2, "head_epochs": 3},
    "data": {"train_images": 64},
}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def rows_of(config: TrialConfig, folder: Path) -> tuple[list[StageEvent], dict[str, list[dict[str, Any]]]]:
    """The events of a trial, and its rows as the store gives them back; each call is a run of its own."""
    run = folder / f"run {len(list(folder.iterdir()))}"
    settings = JsonSettings(config.model_dump(mode="json"))
    stages = dry_run(config).stages
    trial = PlannedTrial(
        trial_id="t", label="l", arm="l", settings=settings, stages=stages, train_images=config.train_images
    )
    plan = Plan(name="s", trials=(trial,), resources=Resources(), spec_text="")
    writer = Writer(run / "tables")
    commits = Commits(
        writer, plan, RunFolder(run), folder / "cache", run_id="r", code_digest="c", written={},
        events=EventLog(writer, "d", "c", print),
    )  # fmt: skip
    commits.begin(trial)
    events = []
    for event in run_trial(config, cache=Cache(folder / "cache"), ranks=join("cpu")):
        commits.stage("t", FinishedStage(key=event.result.key, order=event.order, point=event.point))
        events.append(event)
    commits.commit()
    with load(run) as tables:
        return events, {table: tables.rows(f"SELECT * FROM {table}") for table in TABLES}


def test_the_work_behind_a_point_is_that_of_a_count_by_hand(tmp_path: Path) -> None:
    method = {"name": "transtailor", "steps": 2, "step_removed_macs_fraction": 0.1, "alpha_epochs": 1}
    events, rows = rows_of(parse_trial(SHORT | {"method": method}, "test"), tmp_path)
    macs = {event.result.stage.kind: [] for event in events}  # type: ignore[var-annotated]
    for event in events:
        macs[event.result.stage.kind].append(event.result.info.get("macs"))
    (whole,), first, second = macs["fit_head"], *macs["fine_tune"]
    factors = macs["train_factors"]
    head = 3 * 64 * whole  # frozen features: forward alone
    step_1 = 1 * 64 * 3 * factors[0] + 2 * 64 * 3 * first
    step_2 = 1 * 64 * 3 * factors[1] + 2 * 64 * 3 * second
    assert second < first < whole
    points = sorted(rows["operating_points"], key=lambda row: row["point"])
    tunings = len(macs["fine_tune"])
    found = [(row["trained_epochs"], row["trained_macs"]) for row in points]
    assert tunings == 2
    assert found[-2:] == [(6, head + step_1), (9, head + step_1 + step_2)]
    assert {row["kind"] for row in rows["epochs"]} == {"train_source", "fit_head", "train_factors", "fine_tune"}


def test_the_training_of_a_donor_is_not_that_of_the_model_that_adopts_its_scores(tmp_path: Path) -> None:
    method = {"name": "prune", "asked_removed_macs_fraction": 0.4}
    by_donor = SHORT | {"network": "digits_resnet", "method": method, "pruning": {"scores_from": "noise"}}
    events, rows = rows_of(parse_trial(by_donor, "test"), tmp_path)
    assert [event.result.stage.kind for event in events].count("fit_head") == 2  # the model's and the donor's
    assert rows["operating_points"][-1]["trained_epochs"] == 3 + 2


def test_the_filters_kept_are_those_that_its_prunings_left_one_after_the_other(tmp_path: Path) -> None:
    method = {"name": "transtailor", "steps": 2, "step_removed_macs_fraction": 0.2, "alpha_epochs": 1}
    config = parse_trial(SHORT | {"method": method}, "test")
    events, rows = rows_of(config, tmp_path)
    left: dict[str, list[int]] = {}
    by_point: dict[int, dict[str, list[int]]] = {}
    for event in events:
        if event.result.stage.kind == "prune":
            for name, kept in event.result.read_tensors().items():
                before = left.get(name, range(100))
                left[name] = [before[place] for place in kept.tolist()]
        if event.point is not None:
            by_point[event.point] = dict(left)
    original = {(row["point"], row["layer"]): row["original_width"] for row in rows["layers"]}
    expected = {
        (point, name.removeprefix("kept/")): kept
        for point, of_point in by_point.items() for name, kept in of_point.items()
        if len(kept) < original[point, name.removeprefix("kept/")]
    }  # fmt: skip
    found = {(row["point"], row["layer"]): row["filters"] for row in rows["kept_filters"]}
    assert found == expected and {point for point, _ in found} == {1, 2}
    widths = {(row["point"], row["layer"]): row["width"] for row in rows["layers"]}
    assert {key: len(kept) for key, kept in found.items()} == {key: widths[key] for key in found}
    events, again = rows_of(config, tmp_path)
    assert all(event.result.cached for event in events)
    assert {(row["point"], row["layer"]): row["filters"] for row in again["kept_filters"]} == found


@pytest.mark.parametrize("method", [
    {"name": "smaller_dense", "asked_removed_macs_fraction": 0.3},
    {"name": "prune", "asked_removed_macs_fraction": 0.3, "weights": "reinitialised"},
    {"name": "head_only"},
], ids=["narrower", "from scratch", "unpruned"])  # fmt: skip
def test_filters_that_are_none_of_the_pre_trained_network_are_in_no_row(tmp_path: Path, method: dict[str, Any]) -> None:
    _, rows = rows_of(parse_trial(SHORT | {"method": method}, "test"), tmp_path)
    is_narrower = any(row["width"] < row["original_width"] for row in rows["layers"])
    assert is_narrower == (method["name"] != "head_only")
    assert rows["kept_filters"] == []


def test_a_point_of_classes_has_its_accuracy_and_predictions(tmp_path: Path) -> None:
    _, rows = rows_of(parse_trial(SHORT | {"method": "head_only"}, "test"), tmp_path)
    (point,) = rows["operating_points"]
    validation = [row for row in rows["predictions"] if row["split"] == "validation"]
    right = sum(row["label"] == row["prediction"] for row in validation)
    assert point["metric"] == "accuracy"
    assert point["validation_score"] == point["deciding_score"] == pytest.approx(right / len(validation))
    assert point["validation_images"] == len(validation)
    assert rows["estimates"] == []
    assert all(0.0 <= row["train_accuracy_fraction"] <= 1.0 for row in rows["epochs"])


def test_a_point_of_another_metric_is_decided_and_compared_by_it(tmp_path: Path) -> None:
    settings = SHORT | {"method": {"name": "fine_tune"}, "validate_every": 1}
    _, by_accuracy = rows_of(parse_trial(settings, "test"), tmp_path)
    events, rows = rows_of(parse_trial(settings | {"metric": "macro_f1"}, "test"), tmp_path)
    assert [event.result.stage.kind for event in events if not event.result.cached] == ["operating_point"]
    for point, usual in zip(rows["measured_points"], by_accuracy["measured_points"], strict=True):
        assert (point["metric"], usual["metric"]) == ("macro_f1", "accuracy")
        assert point["validation_score"] == point["deciding_score"] == point["validation_macro_f1"]
        assert point["test_score"] == point["test_macro_f1"] != usual["test_score"]
        assert (
            usual["test_score"] == usual["test_accuracy"] and usual["validation_score"] == usual["validation_accuracy"]
        )
        scores = [name for name in point if name.startswith(("test_", "validation_")) and "score" not in name]
        assert len(scores) == 15
        assert {name: point[name] for name in scores} == {name: usual[name] for name in scores}
        assert [name for name in scores if point[name] is None] == ["validation_top_5", "test_top_5"]  # five classes
        images = [row for row in rows["predictions"] if (row["point"], row["split"]) == (point["point"], "test")]
        assert sum(row["true_rank"] == 1 for row in images) / len(images) == point["test_accuracy"]
        assert all((row["true_rank"] == 1) == (row["label"] == row["prediction"]) for row in images)
    (last,) = [row for row in rows["epochs"] if row["kind"] == "fine_tune" and row["epoch"] == 1]
    assert last["validation_score"] == rows["measured_points"][-1]["validation_macro_f1"]


def test_a_point_of_real_values_has_its_r_squared_and_estimates(tmp_path: Path) -> None:
    settings = SHORT | {"network": "friedman_mlp", "data": {"name": "friedman1", "train_images": 64}}
    _, rows = rows_of(parse_trial(settings | {"method": "head_only"}, "test"), tmp_path)
    (point,) = rows["operating_points"]
    validation = [row for row in rows["estimates"] if row["split"] == "validation"]
    mean = sum(row["target"] for row in validation) / len(validation)
    errors = sum((row["target"] - row["estimate"]) ** 2 for row in validation)
    spread = sum((row["target"] - mean) ** 2 for row in validation)
    assert point["metric"] == "r_squared"
    assert point["validation_score"] == pytest.approx(1 - errors / spread, rel=1e-5)
    assert rows["predictions"] == rows["test_scores"] == []
    assert rows["measured_points"][0]["test_accuracy"] is None
    assert {row["train_accuracy_fraction"] for row in rows["epochs"]} == {None}


def test_a_trial_that_decides_by_its_training_images_says_so(tmp_path: Path) -> None:
    _, rows = rows_of(parse_trial(SHORT | {"method": "head_only", "protocol": "paper"}, "test"), tmp_path)
    (point,) = rows["operating_points"]
    assert point["protocol"] == "paper"
    assert point["deciding_score"] != point["validation_score"]


def test_an_ancestor_reached_on_two_ways_counts_once() -> None:
    """source -> head -> {a, b} -> both."""
    stages = {
        "source": StageTraining(parents=(), trained_epochs=0, trained_macs=0.0),
        "head": StageTraining(parents=("source",), trained_epochs=1, trained_macs=1.0),
        "a": StageTraining(parents=("head",), trained_epochs=2, trained_macs=10.0),
        "b": StageTraining(parents=("head",), trained_epochs=4, trained_macs=100.0),
        "both": StageTraining(parents=("a", "b"), trained_epochs=8, trained_macs=1000.0),
    }
    assert total_training("both", stages) == (15, 1111.0)
    assert total_training("a", stages) == (3, 11.0)
    assert total_training("source", stages) == (0, 0.0)


def test_every_source_of_a_point_is_a_field_of_its_stage() -> None:
    """A name that is not there would be null in each row, if the column may be null."""
    parts = {"settings": {field.name for field in fields(OperatingPoint)}, "info": {f.name for f in fields(PointFacts)}}
    sources = [column.source.split(".") for column in SCHEMAS["operating_points"].columns]
    named = [(path[1], path[2]) for path in sources if path[0] == "stage" and path[1] in parts]
    assert len(named) > 10
    assert all(name in parts[part] for part, name in named)
