"""Heads and channels of the stream: their scores, their factors, and trials that prune them."""

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tailor.common.errors import ConfigError
from tailor.config.parsing import parse_trial
from tailor.data.task_data import batches, generator
from tailor.execution.cache import Cache
from tailor.execution.runner import StageEvent
from tailor.facts.widths import WidthRule
from tailor.model.cost import removed_macs_fraction
from tailor.model.factors import attach
from tailor.model.state import ModelState
from tailor.pruning import budget_solver, importance, surgery
from tailor.pruning.criteria import CRITERIA
from tailor.pruning.criteria.weights import rows_of_values
from tailor.stages import AttachImportance, GroupRule
from tests.tailor.pruning.test_criteria import ALONE, digits, scores_by, scoring_of
from tests.tailor.pruning.test_criteria import state_of as random_state_of
from tests.tailor.trials import SHORT

Run = Callable[..., list[StageEvent]]
WHOLE = GroupRule(residual="coupled", linear=True, stream=True, heads=True)
HEADS = [f"blocks.{n}.attention.proj:heads" for n in range(3)]
SCORING = [name for name in CRITERIA if CRITERIA[name].scores_wholes]


@pytest.fixture
def state() -> ModelState:
    return random_state_of("digits_vit")


def logits_of(model: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        made: Tensor = model.eval()(images)
    return made


def images() -> Tensor:
    return torch.randn(8, 1, 8, 8, generator=generator(0, "images"))


def test_a_factors_gradient_is_the_finite_difference(state: ModelState) -> None:
    """In float64, for each factor of heads and of each layer that writes the stream."""
    found = surgery.groups(state.build(), state.input_shape, WHOLE)
    sites = {member.layer: group.filters for group in found for member in group.members}
    assert {f"blocks.{n}.{layer}" for n in range(3) for layer in ("attention.proj", "hidden.2")} <= sites.keys()
    assert {*HEADS, "patches"} <= sites.keys()
    ones = {site: torch.ones(count, dtype=torch.float64) for site, count in sites.items()}
    model = state.build().double().eval()
    x, labels = images().double(), torch.arange(8) % 5
    parameters = dict(zip(ones, attach(model, ones, trainable=True), strict=True))

    def loss() -> Tensor:
        return F.cross_entropy(model(x), labels)

    gradients = torch.autograd.grad(loss(), list(parameters.values()))
    step = 1e-5
    for (site, parameter), gradient in zip(parameters.items(), gradients, strict=True):
        for index in (0, len(parameter) - 1):
            ends = []
            for sign in (1.0, -1.0):
                with torch.no_grad():
                    parameter[index] += sign * step
                    ends.append(float(loss()))
                    parameter[index] -= sign * step
            assert float(gradient[index]) == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-5, abs=1e-9), site
        assert gradient.abs().max() > 1e-5, f"factors of {site} do not act"


def test_beta_is_the_mean_of_these_products(state: ModelState) -> None:
    scoring = scoring_of(state, rule=WHOLE)
    scores = scores_by("beta", scoring)
    values = {m.layer: torch.ones(g.filters) for g in scoring.found for m in g.members}
    model = state.build().eval()
    parameters = attach(model, values, trainable=True)
    total = {site: torch.zeros_like(value) for site, value in values.items()}
    images = len(digits())
    for batch in batches(digits(), 8, 0, 0, "none", ALONE):
        gradients = torch.autograd.grad(F.cross_entropy(model(batch.images), batch.labels), parameters)
        for site, gradient in zip(values, gradients, strict=True):
            total[site] += gradient.abs() * len(batch.labels) / images
    for site, expected in total.items():
        torch.testing.assert_close(scores[site], expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("criterion", SCORING)
def test_each_criterion_scores_each_head_and_channel(criterion: str, state: ModelState) -> None:
    scoring = scoring_of(state, rule=WHOLE)
    scores = scores_by(criterion, scoring)
    assert {m.layer: g.filters for g in scoring.found for m in g.members} == {n: len(s) for n, s in scores.items()}
    for name in HEADS:
        assert torch.isfinite(scores[name]).all() and scores[name].unique().numel() == 4


def test_the_weights_of_a_head_are_those_of_its_values(state: ModelState) -> None:
    scoring = scoring_of(state, rule=WHOLE)
    for group in (group for group in scoring.found if group.kind == "heads"):
        values = state.tensors[group.name.replace("proj:heads", "qkv.weight")][64:].reshape(4, 8 * 32)
        assert torch.equal(rows_of_values(state.tensors, group), values)
        torch.testing.assert_close(scores_by("l1", scoring)[group.name], values.abs().sum(dim=1))


def test_folding_keeps_the_function(state: ModelState) -> None:
    draw = generator(3, "factors")
    found = surgery.groups(state.build(), state.input_shape, WHOLE)
    factors = {m.layer: torch.rand(g.filters, generator=draw) + 0.5 for g in found for m in g.members}
    with_factors = replace(state, factors=factors)
    expected = logits_of(with_factors.build(), images())
    assert (expected - logits_of(state.build(), images())).abs().max() > 1e-2
    for folded in (with_factors.fold_factors(), importance.fold_importance(with_factors, found)):
        assert not folded.factors
        torch.testing.assert_close(logits_of(folded.build(), images()), expected, rtol=1e-4, atol=1e-5)
    how = AttachImportance(
        of=None, rule=WHOLE, mode="fold", normalisation="layer_mean", placement="after_norm", seed=None
    )
    attached = importance.attach_importance(replace(state, scores=factors), found, how)
    assert attached.factors.keys() == factors.keys()
    torch.testing.assert_close(
        logits_of(attached.build(), images()), logits_of(state.build(), images()), rtol=1e-4, atol=1e-5
    )


def test_factors_go_with_their_heads(state: ModelState) -> None:
    found = surgery.groups(state.build(), state.input_shape, WHOLE)
    numbered = {m.layer: torch.arange(float(g.filters)) for g in found for m in g.members}
    whole = replace(state, factors=numbered, scores=numbered)
    kept = {HEADS[1]: torch.tensor([1, 3]), "patches": torch.arange(5, 20)}
    slimmed = surgery.slim(whole, kept, found)
    assert slimmed.scores[HEADS[1]].tolist() == slimmed.factors[HEADS[1]].tolist() == [1.0, 3.0]
    assert slimmed.scores["blocks.1.attention.proj"].tolist() == list(range(5, 20))
    assert slimmed.scores[HEADS[0]].tolist() == [0.0, 1.0, 2.0, 3.0]
    assert logits_of(slimmed.build(), images()).shape == (8, 5)


@pytest.mark.parametrize("allocate", [budget_solver.lowest_of_all, budget_solver.uniform])
def test_a_budget_is_met_by_heads_and_channels(allocate: Any, state: ModelState) -> None:
    scoring = scoring_of(state, rule=WHOLE)
    ranking = budget_solver.combine_scores(scores_by("l2", scoring), scoring.found, "mean")
    least = budget_solver.minimums(state, scoring.found, 0.1)
    assert {name: least[name] for name in HEADS} == dict.fromkeys(HEADS, 1)
    kept = allocate(budget_solver.Budget(state, scoring.found, 0.4, least, WidthRule(multiple=4)), ranking)
    smaller = surgery.slim(state, kept, scoring.found)
    assert 0.4 <= removed_macs_fraction(smaller) < 0.45
    assert len(kept["patches"]) % 4 == 0


def test_by_kind_takes_the_same_share_of_each_kind_whatever_the_scale_of_its_scores(state: ModelState) -> None:
    found = surgery.groups(state.build(), state.input_shape, WHOLE)
    draw, least = generator(2, "scores"), dict.fromkeys((group.name for group in found), 1)
    ranking = {group.name: torch.rand(group.filters, generator=draw) for group in found}
    scales = {"heads": 1e-6, "stream": 1e6, "filters": 1.0}
    scaled = {group.name: ranking[group.name] * scales[group.kind] for group in found}
    kept = budget_solver.lowest_by_kind(budget_solver.Budget(state, found, 0.4, least), scaled)
    shares = {}
    for kind in scales:
        groups = [group for group in found if group.kind == kind]
        stays = torch.cat([torch.isin(torch.arange(g.filters), kept[g.name]) for g in groups])
        scores = torch.cat([ranking[g.name] for g in groups])
        assert scores[stays].min() > scores[~stays].max()
        shares[kind] = float(stays.sum()) / len(stays), 1 / len(stays)
    for (share, step), (other, other_step) in combinations(shares.values(), 2):
        assert abs(share - other) < step + other_step
    raw = budget_solver.lowest_of_all(budget_solver.Budget(state, found, 0.4, least), scaled)
    assert {name: len(stays) for name, stays in raw.items()} != {name: len(stays) for name, stays in kept.items()}


METHODS = [
    {"name": "prune", "criterion": "taylor", "steps": 2, "asked_removed_macs_fraction": 0.4},
    {"name": "transtailor", "steps": 2, "alpha_epochs": 1, "beta": "fold"},
]


@pytest.mark.check
@pytest.mark.parametrize("method", METHODS, ids=lambda method: method["name"])
def test_a_trial_prunes_them(method: dict[str, Any], run: Run, tmp_path: Any) -> None:
    pruning = {"heads": True, "stream": True, "linear": True}
    config = parse_trial(SHORT | {"network": "digits_vit", "method": method, "pruning": pruning}, "test")
    last = run(config, Cache(tmp_path))[-1].result
    assert last.info["macs"] < 0.95 * last.info["original_macs"]
    assert {name.rpartition(":")[2] for name in last.model_state().kept if ":" in name} <= {"heads"}
    again = run(config, Cache(tmp_path))[-1].result  # from the cache: cached equals computed
    assert again.info == last.info and again.model_state().sizes == last.model_state().sizes


@pytest.mark.parametrize(
    ("method", "pruning", "text"),
    [
        ({"name": "sfp"}, {"heads": True}, "method 'sfp' needs filters that are pruned alone"),
        ({"name": "target_aware_adaptation"}, {"stream": True}, "needs filters that are pruned alone"),
        (
            {"name": "prune", "criterion": "mean_absolute_activation"},
            {"heads": True},
            "needs filters that are pruned alone.*choose",
        ),
        ({"name": "transtailor", "beta": "grad"}, {"heads": True}, "heads have none of their own"),
    ],
)
def test_what_cannot_be_is_refused_while_planned(method: dict[str, Any], pruning: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        parse_trial(SHORT | {"network": "digits_vit", "method": method, "pruning": pruning | {"linear": True}}, "test")


@pytest.mark.parametrize("kind", ["heads", "stream"])
def test_a_network_without_such_a_kind_is_refused_while_planned(kind: str) -> None:
    method = {"name": "prune", "asked_removed_macs_fraction": 0.2}
    raw = SHORT | {"network": "digits_resnet", "method": method, "pruning": {kind: True}}
    with pytest.raises(ConfigError, match=f"pruning.{kind} = true, and digits_resnet has no {kind} that can go; leave"):
        parse_trial(raw, "test")


def test_a_budget_that_heads_cannot_reach_is_refused_while_planned() -> None:
    raw = SHORT | {"network": "digits_vit", "pruning": {"heads": True, "minimum_filters_fraction": 0.0}}
    with pytest.raises(ConfigError, match="more than digits_vit can lose, which is 0.41"):
        parse_trial(raw | {"method": {"name": "prune", "asked_removed_macs_fraction": 0.7}}, "test")
    parse_trial(raw | {"method": {"name": "prune", "asked_removed_macs_fraction": 0.4}}, "test")
