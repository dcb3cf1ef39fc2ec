"""Validation while a model trains: the right numbers, and no bit of the training changes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from tailor.config.trial import TrialConfig
from tailor.execution.cache import Cache
from tailor.execution.dry_run import dry_run
from tailor.execution.runner import Result, run_trial
from tailor.parallel.process_group import ProcessGroup
from tests.tailor.trials import short_trial

ALONE = ProcessGroup(rank=0, world_size=1, device=torch.device("cpu"))
METHODS: tuple[Mapping[str, Any], ...] = (
    {"name": "sfp", "asked_removed_macs_fraction": 0.3},
    {"name": "pac_net"},
)


def config_of(method: Mapping[str, Any], **changes: Any) -> TrialConfig:
    return short_trial(dict(method), network="digits_resnet").model_copy(update=changes)


def outcomes(config: TrialConfig, cache: Path) -> list[Result]:
    return [event.result for event in run_trial(config, cache=Cache(cache), ranks=ALONE)]


def epochs_of(results: list[Result]) -> list[dict[str, Any]]:
    return [row for result in results for row in result.info.get("epochs", [])]


@pytest.mark.parametrize(
    "method", [METHODS[0], pytest.param(METHODS[1], marks=pytest.mark.check)], ids=["sfp", "pac_net"]
)
def test_it_is_measured_where_asked_for_and_changes_no_bit(method: Mapping[str, Any], tmp_path: Path) -> None:
    plain = outcomes(config_of(method), tmp_path / "plain")
    measured = outcomes(config_of(method, validate_every=1), tmp_path / "measured")
    assert [one.key for one in plain] == [one.key for one in measured]
    for one, other in zip(plain, measured, strict=True):
        assert (tmp_path / "plain").exists() and one.read_tensors().keys() == other.read_tensors().keys()
        for name, tensor in one.read_tensors().items():
            assert torch.equal(tensor, other.read_tensors()[name]), (one.stage.kind, name)
    assert not any("validation_score" in row for row in epochs_of(plain))
    found = [row for row in epochs_of(measured) if "validation_score" in row]
    assert found and all(0.0 <= row["validation_score"] <= 1.0 and row["validation_loss"] > 0.0 for row in found)


def test_the_last_epoch_has_the_score_of_the_operating_point(tmp_path: Path) -> None:
    results = outcomes(config_of({"name": "fine_tune"}, validate_every=1), tmp_path)
    (tuned,) = [one for one in results if one.stage.kind == "fine_tune"]
    (point,) = [one for one in results if one.stage.kind == "operating_point"]
    facts, last = point.point_facts(), tuned.info["epochs"][-1]
    assert (last["validation_score"], last["validation_loss"]) == (facts.validation_score, facts.validation_loss)


@pytest.mark.check
def test_every_second_epoch(tmp_path: Path) -> None:
    config = config_of({"name": "fine_tune"}, validate_every=2)
    longer = config.model_copy(update={"optimisation": config.optimisation.model_copy(update={"epochs": 5})})
    (tuned,) = [one for one in outcomes(longer, tmp_path) if one.stage.kind == "fine_tune"]
    assert ["validation_score" in row for row in tuned.info["epochs"]] == [False, True, False, True, False]


def test_it_is_in_no_id_and_no_key() -> None:
    plain, measured = (
        dry_run(config_of({"name": "sfp", "asked_removed_macs_fraction": 0.3}, validate_every=every))
        for every in (None, 3)
    )
    assert plain.trial_id == measured.trial_id
    assert [stage.key for stage in plain.stages] == [stage.key for stage in measured.stages]
