"""Every method on networks of three kinds: it runs, or is refused by name before anything trains."""

from typing import Any

import pytest
import torch

from tailor.common.errors import ConfigError
from tailor.config.needs import find_prunable
from tailor.config.parsing import parse_trial
from tailor.config.trial import METHODS
from tailor.facts.datasets import DATASETS
from tailor.facts.networks import NETWORKS
from tailor.pruning.criteria import CRITERIA
from tools import methods_table
from tools.methods_table import arms, outcome, outcomes, random_pixels, rule_of, trial
from tools.networks_document import MOST_USED, load_table
from tools.networks_saved import YES

NO_NORM = dict.fromkeys(("gbn", "prune, bn_gamma"), "has no norm; choose another")
SOME_NORMS = dict.fromkeys(NO_NORM, "has none; choose another")
NO_RELU = dict.fromkeys(("target_aware_adaptation", "prune, apoz"), "needs activations from 0 on")
REFUSED = {
    **dict.fromkeys(MOST_USED, {}),
    "vgg16": NO_NORM,
    **dict.fromkeys(("mobilenet_v3_large", "efficientnet_b0"), NO_RELU | SOME_NORMS),  # by squeeze-and-excitation
    **dict.fromkeys(("regnet_y_400mf", "densenet121"), SOME_NORMS),
    **dict.fromkeys(("convnext_tiny", "vit_b_16"), NO_NORM | NO_RELU),
}
"""Network -> arm -> the words with which it is refused."""
SIDE_PX = 32  # for the suite; the command takes more


@pytest.fixture(autouse=True)
def own_data_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DATASETS, "_records", dict(DATASETS._records))


def test_all_methods_and_criteria_are_tried() -> None:
    named = [method["name"] for method in arms().values()]
    assert set(named) == set(METHODS)
    assert {method["criterion"] for method in arms().values() if method["name"] == "prune"} == set(CRITERIA)


@pytest.mark.parametrize("network", MOST_USED)
def test_what_cannot_be_is_refused_by_name_before_anything_trains(network: str) -> None:
    data = random_pixels(64 if NETWORKS[network].any_size else 224)
    refused = {}
    for arm, method in arms().items():
        try:
            trial(network, data, method)
        except ConfigError as error:
            refused[arm] = str(error)
    assert refused.keys() == REFUSED[network].keys()
    for arm, words in REFUSED[network].items():
        assert words in refused[arm] and network in refused[arm]


SHIPPED = arms()  # as long as no test has brought its own


@pytest.mark.parametrize(
    "network",
    [
        "resnet18",
        pytest.param("mobilenet_v3_large", marks=pytest.mark.long),
        pytest.param("convnext_tiny", marks=pytest.mark.long),
    ],
)
def test_every_method_runs_or_was_refused(network: str) -> None:
    torch.set_num_threads(1)
    found = outcomes(network, SHIPPED, SIDE_PX)
    assert found.keys() == SHIPPED.keys()
    assert {arm for arm, said in found.items() if said.startswith("refused: ")} == REFUSED[network].keys()
    assert all(said == YES for arm, said in found.items() if arm not in REFUSED[network])


def test_the_table_says_the_same_of_all() -> None:
    """Of those that were tried."""
    for network in MOST_USED:
        for arm, said in load_table()[network].get("methods", {}).items():
            assert said == YES or REFUSED[network][arm] in said, (network, arm)


def test_what_ends_later_is_no_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    def stops(*_: Any, **__: Any) -> None:
        raise ConfigError("too late")

    monkeypatch.setattr(methods_table, "run_trial", stops)
    data = random_pixels(SIDE_PX)
    assert outcome("resnet18", data, {"name": "head_only"}, None, None) == "fails: too late"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "method",
    [
        {"name": "target_aware_adaptation", "statistic": "mean_absolute_activation"},
        {"name": "transtailor", "prune_by": "nothing"},
    ],
    ids=str,
)
def test_a_network_without_a_filter_to_lose_is_refused_at_any_size(method: dict[str, Any]) -> None:
    """convnext_tiny's filters can go with its linear layers alone; 64 px is no size of the table of what can go."""
    raw = {
        "network": "convnext_tiny",
        "data": {"name": random_pixels(64), "train_images": 8},
        "method": method,
    }
    with pytest.raises(ConfigError, match=r"no layer of convnext_tiny can lose filters .*; set pruning\.linear = true"):
        parse_trial(raw, "test")
    known = find_prunable(parse_trial(raw | {"pruning": rule_of("convnext_tiny")}, "test"))
    assert known is not None and known.widths
    with pytest.raises(ConfigError, match=r"0\.2 of the MACs is more than convnext_tiny can lose, which is 0\.000"):
        parse_trial(raw | {"method": {"name": "prune"}}, "test")
