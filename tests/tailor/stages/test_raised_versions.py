"""A mend that changes results gives new ids to the trials whose results it changes, and to no others."""

from typing import Any

import pytest

from tailor.catalogue.datasets import DATASETS
from tailor.config.parsing import parse_trial
from tailor.execution.dry_run import DryRun, dry_run
from tests.tailor.trials import PHOTOGRAPHS

PRUNE, LOOP = {"name": "prune"}, {"name": "transtailor"}
AT_RANDOM, BEST = {"criterion": "random"}, {"allocation": "random_best"}
SLIMMING = {"network": "digits_resnet", "optimisation": {"regulariser": "slimming"}}
VIT = {"network": "digits_vit", "pruning": {"linear": True}}
SCRATCH = PRUNE | {"weights": "reinitialised"}
GROUPS: dict[str, Any] = {
    "network": "resnext50_32x4d",
    "data": {"name": "photographs", "train_images": 500},
    "source": {"weights": "net.safetensors", "weights_sha256": "1" * 64},
}
BOTH = {"conv_groups": "alike", "width_multiple": 8}

# Ids before the mends, of trials whose results stay.
KEPT: list[tuple[str, dict[str, Any]]] = [
    # Random numbers in a first step; nothing is drawn; LeGR's search, which is no random control.
    ("5b29e4f0f5093e02", {"method": PRUNE | AT_RANDOM}),
    ("17ebe1a175a4c421", {"method": PRUNE | BEST}),
    ("5b491eff3a9b9aa4", {"method": LOOP | {"steps": 1, "prune_by": "random"}}),
    ("bc4244826b04eeb5", {"method": LOOP | {"steps": 3, "prune_by": "random"}, "last_point": 1}),
    ("5aa5d48101b449d1", {"method": PRUNE | {"steps": 3}}),
    ("42ec58e566db231a", {"method": PRUNE | {"allocation": "legr", "criterion": "l2_squared", "steps": 3}}),
    ("001d1861bcde414f", {"method": LOOP | {"steps": 3, "prune_by": "nothing"}}),
    # Slimming without factors, and factors without slimming.
    ("fba56cbadc14097d", {"method": LOOP | {"steps": 3}, "network": "digits_resnet"}),
    ("9135c80cfe236ea0", {"method": LOOP | {"steps": 3}, "last_point": 0} | SLIMMING),
    ("e039fb85b750b3dc", {"method": LOOP | {"steps": 2, "beta": "off"}} | SLIMMING),
    ("6120c49888b1172d", {"method": LOOP | {"steps": 2, "beta": "grad"}} | SLIMMING),
    ("75eb1f88efaad693", {"method": PRUNE | {"steps": 3}} | SLIMMING),
    # From scratch where each layer has its own initialisation, and transformers that keep their weights.
    ("0fadbd9cfcf3a56a", {"method": SCRATCH}),
    ("12f973c38ea2a467", {"method": SCRATCH, "network": "digits_resnet"}),
    ("b658d3c3e084ea62", {"method": {"name": "smaller_dense"}} | VIT),
    ("6a1976138f88bb9e", {"method": PRUNE | {"steps": 3}} | VIT),
    # Groups of convolutions without a multiple.
    ("69a6abba51344f33", {"method": PRUNE, "pruning": {"conv_groups": "alike", "width_multiple": 1}} | GROUPS),
    ("b6fd6a991f8def9c", {"method": PRUNE | BEST, "pruning": {"conv_groups": "alike", "width_multiple": 1}} | GROUPS),
]
# Ids before the mends, of trials whose results changed; with the kind of the stage that is another one.
RENEWED: list[tuple[str, str, dict[str, Any]]] = [
    ("4750b5d6e2d2c5fa", "score_filters", {"method": PRUNE | AT_RANDOM | {"steps": 3}}),
    ("fbe58f287d5451bd", "prune_best_of_random", {"method": PRUNE | BEST | {"steps": 3}}),
    ("74b650d217a06919", "prune", {"method": LOOP | {"steps": 3, "prune_by": "random"}}),
    ("f547a0368bea805d", "fine_tune", {"method": LOOP | {"steps": 3}} | SLIMMING),
    ("ef4433c2f8e533af", "fine_tune", {"method": LOOP | {"steps": 1, "beta": "sqrt"}} | SLIMMING),
    ("dcbab3e387a5e2ab", "reinitialise", {"method": SCRATCH} | VIT),
    ("cd10df7651fab737", "prune", {"method": PRUNE, "pruning": BOTH} | GROUPS),
    ("e6669a960d228d5f", "prune_best_of_random", {"method": PRUNE | BEST, "pruning": BOTH} | GROUPS),
    ("0db3acd895fbe7db", "learn_ranking", {"method": PRUNE | {"allocation": "legr"}, "pruning": BOTH} | GROUPS),
]


@pytest.fixture(autouse=True)
def photographs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DATASETS, "_records", dict(DATASETS._records) | {"photographs": PHOTOGRAPHS})


def walked(raw: dict[str, Any]) -> DryRun:
    method = raw["method"]
    if raw.get("pruning", {}).get("conv_groups"):
        method = method | {"criterion": "l1"}
    return dry_run(parse_trial(raw | {"method": method}, "test"))


@pytest.mark.parametrize(("before", "raw"), KEPT)
def test_a_trial_whose_results_stay_keeps_its_id(before: str, raw: dict[str, Any]) -> None:
    found = walked(raw)
    assert found.trial_id == before
    assert {stage.version for stage in found.stages} == {1}


@pytest.mark.parametrize(("before", "kind", "raw"), RENEWED)
def test_a_trial_whose_results_changed_has_a_new_id(before: str, kind: str, raw: dict[str, Any]) -> None:
    found = walked(raw)
    assert found.trial_id != before
    assert kind in {stage.kind for stage in found.stages if stage.version == 2}


def test_the_first_step_of_a_random_path_is_shared_with_a_trial_of_one_step() -> None:
    short, long = (walked({"method": LOOP | {"steps": steps, "prune_by": "random"}}) for steps in (1, 3))
    assert [stage.key for stage in long.stages][: len(short.stages)] == [stage.key for stage in short.stages]
    assert [stage.version for stage in long.stages if stage.kind == "prune"] == [1, 2, 2]
