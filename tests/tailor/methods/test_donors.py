"""Scores by the images of a donor: which stages are shared, what a donor's images are, and what is refused."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from tailor.common.errors import ConfigError
from tailor.config.trial import TrialConfig
from tailor.data import donor_images, task_data
from tailor.data.task_data import Samples
from tailor.execution.cache import Cache
from tailor.execution.runner import StageEvent
from tailor.facts.datasets import DATASETS
from tailor.stage_execution.pruning import groups_of
from tailor.stages import AdoptScores, FitHead, ScoreFilters
from tests.tailor.trials import PHOTOGRAPHS, by_kind, planned_stages, short_trial

PRUNE = {"name": "prune", "asked_removed_macs_fraction": 0.4}
TRANSTAILOR = {"name": "transtailor", "steps": 1, "step_removed_macs_fraction": 0.4, "alpha_epochs": 1}
MADE = ("noise", "scrambled", "shuffled")
NAMES = ("birds", "leaves")


@pytest.fixture
def photographs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two data sets of photographs, and others that cannot be donors of them; they are planned and never loaded."""
    for number, name in enumerate(NAMES):
        monkeypatch.setitem(DATASETS._records, name, replace(PHOTOGRAPHS, sha256=str(number) * 64))
    for name, change in {
        "one_class": {"target_classes": 1},
        "small": {"input_shape": (3, 32, 32)},
        "few": {"target_images": 400},
        "same": {"sha256": "0" * 64},
    }.items():
        monkeypatch.setitem(DATASETS._records, name, replace(PHOTOGRAPHS, **{"sha256": "f" * 64} | change))


def by_photographs(target: str, donor: str, **changes: Any) -> TrialConfig:
    method = changes if "name" in changes else PRUNE | changes
    return short_trial(
        method,
        network="resnet18",
        data={"name": target, "train_images": 200},
        source={"weights": "/nowhere/w.safetensors", "weights_sha256": "a" * 64},
        pruning={"scores_from": donor},
    )


@pytest.mark.usefixtures("photographs")
def test_the_own_importance_by_name_is_the_default() -> None:
    default = by_photographs("birds", "target")
    assert by_photographs("birds", "birds") == default
    assert "scores_from" not in str(default.identity())
    kinds = [stage.kind for stage in planned_stages(default)]
    assert kinds.count("fit_head") == 1 and "adopt_scores" not in kinds


@pytest.mark.usefixtures("photographs")
@pytest.mark.parametrize("method", [PRUNE, TRANSTAILOR], ids=["taylor", "factors"])
def test_all_targets_share_what_is_of_the_donor_alone(method: dict[str, Any]) -> None:
    by_target = [planned_stages(by_photographs(target, "leaves", **method)) for target in NAMES]
    of_target, of_donor = ([stage.key() for stage in stages] for stages in by_target)
    heads = [stage for stage in by_target[0] if isinstance(stage, FitHead)]
    (scored,) = [stage for stage in by_target[0] if isinstance(stage, ScoreFilters)]
    (adopted,) = [stage for stage in by_target[0] if isinstance(stage, AdoptScores)]
    assert [head.task.name for head in heads] == ["birds", "leaves"] and heads[0].parents == heads[1].parents
    assert {heads[1].key(), scored.key()} <= {*of_donor}  # computed once, for both
    assert not {*of_target[of_target.index(adopted.key()) :]} & {*of_donor}


@pytest.mark.usefixtures("photographs")
@pytest.mark.parametrize(
    ("donor", "method", "text"),
    [
        ("nowhere", {}, "no such data set: 'nowhere'"),
        ("one_class", {}, "a head for it needs two classes or more"),
        ("small", {}, "has samples of shape (3, 32, 32), and birds of (3, 64, 64)"),
        ("few", {}, "train_images = 200 leaves no validation image: few has 100 target images"),
        ("same", {}, "is the target itself, birds; leave scores_from out"),
        ("source", {}, "birds has 0 source images of 0 classes"),
        ("noise", {"criterion": "l1"}, "only with a method and a criterion that score filters by images"),
    ],
)
def test_what_cannot_be_a_donor_is_refused(donor: str, method: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(text)) as refused:
        by_photographs("birds", donor, **method)
    assert f"pruning.scores_from = {donor!r}" in str(refused.value)


@pytest.mark.parametrize(("data", "donor"), [("friedman1", "shuffled"), ("digits", "friedman1")])
def test_another_task_is_refused(data: str, donor: str) -> None:
    network = {"friedman1": "friedman_mlp", "digits": "digits_resnet"}[data]
    with pytest.raises(ConfigError, match="real values|two classes"):
        short_trial(
            PRUNE,
            network=network,
            data={"name": data, "train_images": 20},
            pruning={"scores_from": donor, "linear": True},
        )


@pytest.mark.parametrize("method", [PRUNE, TRANSTAILOR], ids=["taylor", "factors"])
def test_a_model_adopts_the_donors_scores(
    method: dict[str, Any], run: Callable[..., list[StageEvent]], shared_cache: Cache
) -> None:
    """The filters that stay are those of the donor's scores; weights, head and measurements are the target's."""
    events = {
        donor: run(short_trial(method, network="digits_resnet", pruning={"scores_from": donor}), shared_cache)
        for donor in ("target", "source", *MADE)
    }
    kept = {}
    for donor, of_trial in events.items():
        scored = by_kind(of_trial, "score_filters")[0].result.model_state()
        (pruned,) = by_kind(of_trial, "prune")
        before = pruned.result.stage.of.model_state()
        assert all(torch.equal(before.scores[layer], scored.scores[layer]) for layer in scored.scores)
        head = by_kind(of_trial, "fit_head")[0].result.model_state()
        assert all(torch.equal(before.tensors[name], head.tensors[name]) for name in head.tensors)
        groups = groups_of(before, pruned.result.stage.rule)
        kept[donor] = torch.cat([pruned.result.model_state().kept[group.name] for group in groups])
    assert all(not torch.equal(kept["target"], kept[donor]) for donor in ("source", *MADE))
    again = run(short_trial(method, network="digits_resnet", pruning={"scores_from": "noise"}), shared_cache)
    assert all(event.result.cached for event in again)


def test_what_is_made_of_the_targets_images() -> None:
    numbers = torch.Generator().manual_seed(0)
    pixels = torch.rand(60, 3, 9, 8, generator=numbers)
    pixels[:, 1] = 0.6 * pixels[:, 0] + 0.1  # two of the colours go together
    own = Samples(images=(pixels * 150 + 50).to(torch.uint8), labels=torch.arange(60) % 4, ids=torch.arange(60)).take(
        torch.randperm(60, generator=numbers)
    )
    before = own.fetch().images.float()
    made = {name: donor_images.MAKERS[name](own, torch.Generator().manual_seed(1)) for name in MADE}
    for name, samples in made.items():
        assert len(samples) == len(own) and torch.equal(samples.ids, own.ids), name
        assert samples.fetch().images.dtype == torch.uint8 and samples.fetch().images.shape == before.shape
    assert torch.equal(made["shuffled"].fetch().images, own.fetch().images)
    assert torch.equal(made["shuffled"].labels.bincount(), own.labels.bincount())
    assert not torch.equal(made["shuffled"].labels, own.labels)
    assert torch.equal(made["scrambled"].labels, own.labels) and torch.equal(made["noise"].labels, own.labels)

    scrambled = made["scrambled"].fetch().images.float()
    assert (scrambled.mean(dim=(2, 3)) - before.mean(dim=(2, 3))).abs().max() < 4.0  # cut at 0 and 255
    assert _correlation(scrambled, before) < 0.3  # of shapes nothing is left
    strength = [torch.fft.rfft2(images).abs().flatten(1)[:, 1:] for images in (scrambled, before)]
    assert _correlation(*strength) > 0.95  # and of each frequency all
    assert _colours(scrambled)[0, 1] / _colours(before)[0, 1] == pytest.approx(1.0, abs=0.1)

    noise = made["noise"].fetch().images.float()
    torch.testing.assert_close(_colours(noise), _colours(before), rtol=0.1, atol=60.0)
    assert abs(_correlation(noise, before)) < 0.05


def _colours(images: torch.Tensor) -> torch.Tensor:
    return torch.cov(images.transpose(0, 1).flatten(1))


def _correlation(one: torch.Tensor, other: torch.Tensor) -> float:
    one, other = one - one.mean(dim=(2, 3), keepdim=True) if one.dim() == 4 else one, other
    return float(torch.corrcoef(torch.stack([one.flatten(), (other - other.mean()).flatten()]))[0, 1])


def test_the_source_gives_as_many_images_as_the_target() -> None:
    config = short_trial(PRUNE, network="digits_resnet", data={"train_images": 50}, pruning={"scores_from": "source"})
    (stage,) = [stage for stage in planned_stages(config) if isinstance(stage, ScoreFilters)]
    assert stage.task is not None
    found = donor_images.train_samples(stage.task)
    source = task_data.source("digits")
    assert len(found) == 50 and set(found.ids.tolist()) < set(source.ids.tolist())
    assert len(set(found.ids.tolist())) == 50
