"""Each criterion against what its formula says, filter by filter; and how a group's scores become one."""

from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from tailor import stages
from tailor.config.parsing import parse_trial
from tailor.data.task_data import Samples, batches, generator
from tailor.model.factors import attach
from tailor.model.state import ModelState
from tailor.networks import building
from tailor.parallel.process_group import ProcessGroup
from tailor.pruning import budget_solver, surgery
from tailor.pruning.criteria import CRITERIA
from tailor.pruning.criteria.base import Scoring
from tailor.stages import Grouping, GroupRule
from tests.tailor.trials import NETWORKS, SHORT, planned_stages

EVERYTHING = GroupRule(residual="coupled", linear=True)
ALONE = ProcessGroup(rank=0, world_size=1, device=torch.device("cpu"))
BATCH_SIZE = 8


def state_of(network: str, classes: int = 5) -> ModelState:
    """A network with random weights, and norms that are not what they were initialised to."""
    model = building.build(network, classes, seed=3)
    draw = generator(4, "test norms")
    tensors = {
        name: tensor + 0.3 * torch.rand(tensor.shape, generator=draw) if tensor.dim() == 1 else tensor
        for name, tensor in model.state_dict().items()
    }
    input_shape = (10,) if network == "friedman_mlp" else (1, 8, 8)
    return ModelState(network=network, classes=classes, input_shape=input_shape, tensors=tensors)


def digits(count: int = 20) -> Samples:
    draw = generator(5, "test digits")
    images = torch.randint(0, 256, (count, 1, 8, 8), generator=draw, dtype=torch.uint8)
    return Samples(images=images, labels=torch.randint(0, 5, (count,), generator=draw), ids=torch.arange(count))


def scoring_of(state: ModelState, samples: Samples | None = None, rule: GroupRule = EVERYTHING) -> Scoring:
    return Scoring(
        state=state,
        found=surgery.groups(state.build(), state.input_shape, rule),
        ranks=ALONE,
        samples=samples or digits(),
        batch_size=BATCH_SIZE,
        placement="after_norm",
        seed=6,
    )


def scores_by(criterion: str, scoring: Scoring) -> dict[str, torch.Tensor]:
    return CRITERIA[criterion].function()(scoring)


# --- weights ---

SLOW: dict[str, Callable[[list[list[float]], int], float]] = {
    "l1": lambda filters, i: sum(abs(w) for w in filters[i]),
    "l2": lambda filters, i: sum(w * w for w in filters[i]) ** 0.5,
    "l2_squared": lambda filters, i: sum(w * w for w in filters[i]),
    "fpgm": lambda filters, i: sum(
        sum((w - v) ** 2 for w, v in zip(filters[i], other, strict=True)) ** 0.5 for other in filters
    ),
}


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("criterion", sorted(SLOW))
def test_scores_from_the_weights(criterion: str, network: str) -> None:
    state = state_of(network)
    scores = scores_by(criterion, scoring_of(state))
    layers = ["features.2", "classifier.0"] if network == "digits_vgg" else ["blocks.0.conv1", "blocks.1.skip.0"]
    assert set(layers) <= scores.keys()
    for layer in layers:
        filters = state.tensors[f"{layer}.weight"].flatten(1)
        assert scores[layer].shape == (len(filters),)
        for index in (0, 7, len(filters) - 1):
            expected = SLOW[criterion](filters.tolist(), index)
            assert scores[layer][index].item() == pytest.approx(expected, rel=1e-5)


def test_equal_filters_have_no_distance() -> None:
    """The filter at the geometric median of its layer goes first; distances between equal ones are exactly zero."""
    state = state_of("digits_vgg")
    equal = {"features.0.weight": torch.ones(24, 1, 3, 3) * 0.1}
    equal["features.0.weight"][5] = 2.0
    scores = scores_by("fpgm", scoring_of(replace(state, tensors=state.tensors | equal)))["features.0"]
    assert scores.tolist() == pytest.approx([1.9 * 3 if i != 5 else 23 * 1.9 * 3 for i in range(24)])


@pytest.mark.parametrize("network", ["digits_vgg_bn", "digits_resnet"])
def test_bn_gamma_is_the_absolute_factor_of_the_norm_behind(network: str) -> None:
    state = state_of(network)
    rule = GroupRule(residual="coupled")
    negative = {n: -t for n, t in state.tensors.items() if n.endswith(".weight") and t.dim() == 1}
    scoring = scoring_of(replace(state, tensors=state.tensors | negative), rule=rule)
    norms = {"stem.0": "stem.1", "blocks.0.conv1": "blocks.0.bn1", "blocks.1.skip.0": "blocks.1.skip.1"}
    if network == "digits_vgg_bn":
        norms = {"features.0": "features.1", "features.3": "features.4"}
    scores = scores_by("bn_gamma", scoring)
    for layer, norm in norms.items():
        assert scores[layer].tolist() == state.tensors[f"{norm}.weight"].abs().tolist()


def test_random_scores_are_of_their_seed_alone() -> None:
    scoring = scoring_of(state_of("digits_resnet"))
    first, again = scores_by("random", scoring), scores_by("random", scoring)
    other = scores_by("random", replace(scoring, seed=7))
    assert all(torch.equal(first[layer], again[layer]) for layer in first)
    assert not any(torch.equal(first[layer], other[layer]) for layer in first)
    assert min(float(s.min()) for s in first.values()) >= 0 and max(float(s.max()) for s in first.values()) < 1


# --- gradients ---


def slow_derivatives(scoring: Scoring, site: str, index: int, start: float = 1.0) -> list[float]:
    """dL/dz of one gate, all of its layer at `start`, for each mini-batch, by central differences in float64."""
    state = scoring.state
    real_valued = scoring.data.labels.is_floating_point()
    found = []
    for batch in batches(scoring.data, BATCH_SIZE, 0, 0, "none", ALONE):
        losses = []
        for step in (1e-5, -1e-5):
            gate = torch.full((len(state.tensors[f"{site}.weight"]),), start, dtype=torch.float64)
            gate[index] += step
            model = state.build().double().eval()
            attach(model, {site: gate})
            with torch.no_grad():
                outputs, labels = model(batch.images.double()), batch.labels
            loss = F.mse_loss(outputs[:, 0], labels.double()) if real_valued else F.cross_entropy(outputs, labels)
            losses.append(loss.item())
        found.append((losses[0] - losses[1]) / 2e-5)
    return found


SIZES: dict[str, Callable[[float], float]] = {"taylor": lambda g: g * g, "beta": abs}
SITES = {
    "digits_vgg": [("features.5", "features.5"), ("classifier.0", "classifier.0")],
    "digits_resnet": [("stem.0", "stem.1"), ("blocks.1.conv1", "blocks.1.bn1"), ("blocks.1.skip.0", "blocks.1.skip.1")],
    "friedman_mlp": [("hidden.0", "hidden.0"), ("hidden.2", "hidden.2")],
}


def weighted_mean(of_batches: Iterable[float]) -> float:
    """The mean of numbers of three batches, of 8, 8 and 4 samples."""
    first, second, last = of_batches
    return (8 * first + 8 * second + 4 * last) / 20


def real_values(count: int = 20) -> Samples:
    draw = generator(8, "test real values")
    images = torch.rand(count, 10, generator=draw)
    return Samples(images=images, labels=torch.randn(count, generator=draw), ids=torch.arange(count))


@pytest.mark.parametrize("network", sorted(SITES))
@pytest.mark.parametrize("criterion", sorted(SIZES))
def test_gates_are_scored_by_batch(criterion: str, network: str) -> None:
    """20 samples in batches of 8: the last one has 4, and weighs half as much. One task is real-valued."""
    is_real = network == "friedman_mlp"
    samples = real_values() if is_real else digits()
    scoring = scoring_of(state_of(network, 1 if is_real else 5), samples)
    scores = scores_by(criterion, scoring)
    for layer, site in SITES[network]:
        for index in (0, 11):
            derivatives = slow_derivatives(scoring, site, index)
            expected = weighted_mean(map(SIZES[criterion], derivatives))
            # Float32 gradients against float64 differences, which a ReLU's kink disturbs.
            assert scores[layer][index].item() == pytest.approx(expected, rel=2e-3, abs=1e-9)


def test_beta_reads_the_trained_factors_and_taylor_does_not() -> None:
    state = state_of("digits_vgg")
    trained = replace(state, alpha={"features.2": torch.full((48,), 2.0)})
    beta, taylor = (scores_by(name, scoring_of(trained)) for name in ("beta", "taylor"))
    plain = scores_by("taylor", scoring_of(state))
    assert all(torch.equal(taylor[layer], plain[layer]) for layer in plain)
    derivatives = slow_derivatives(scoring_of(state), "features.2", 11, start=2.0)
    expected = weighted_mean(abs(2.0 * derivative) for derivative in derivatives)
    assert beta["features.2"][11].item() == pytest.approx(expected, rel=2e-3)


# --- groups ---


@pytest.mark.parametrize("grouping", ["sum", "mean", "max"])
def test_a_groups_scores_become_one(grouping: Grouping) -> None:
    """Layers whose outputs are added are one group: its score is that of its members, filter by filter."""
    state = state_of("digits_resnet")
    scoring = scoring_of(state, rule=GroupRule(residual="coupled"))
    scores = scores_by("l1", scoring)
    ranking = budget_solver.combine_scores(scores, scoring.found, grouping)
    assert ranking.keys() == {"stem.0", "blocks.0.conv1", "blocks.1.conv1", "blocks.1.conv2"}
    slow = {"sum": sum, "mean": lambda values: sum(values) / len(values), "max": max}[grouping]
    for group, members in (
        ("stem.0", ["stem.0", "blocks.0.conv2"]),
        ("blocks.0.conv1", ["blocks.0.conv1"]),
        ("blocks.1.conv2", ["blocks.1.conv2", "blocks.1.skip.0"]),
    ):
        for index in range(len(ranking[group])):
            expected = slow([scores[member][index].item() for member in members])
            assert ranking[group][index].item() == pytest.approx(expected, rel=1e-6)


def test_members_of_a_group_lose_the_same_filters() -> None:
    state = state_of("digits_resnet")
    scoring = scoring_of(state, rule=GroupRule(residual="coupled"))
    ranking = budget_solver.combine_scores(scores_by("l1", scoring), scoring.found, "max")
    kept = budget_solver.uniform(budget_solver.Budget(state, scoring.found, 0.4, dict.fromkeys(ranking, 2)), ranking)
    slimmed = surgery.slim(state, kept, scoring.found)
    for group in scoring.found:
        assert len(kept[group.name]) < group.filters
        for member in group.members:
            whole, left = (s.tensors[f"{member.norm}.weight"] for s in (state, slimmed))
            assert torch.equal(left, whole[kept[group.name]])


# --- what stages carry ---


@pytest.mark.parametrize("criterion", sorted(CRITERIA))
def test_a_stage_carries_what_its_criterion_reads_and_nothing_else(criterion: str) -> None:
    network = "digits_resnet"
    config = parse_trial(SHORT | {"network": network, "method": {"name": "prune", "criterion": criterion}}, "test")
    scored = next(stage for stage in planned_stages(config) if isinstance(stage, stages.ScoreFilters))
    known = CRITERIA[criterion]
    assert (scored.task is not None) == (scored.batch_size is not None) == known.reads_data
    assert (scored.placement is not None) == known.has_gates
    assert (scored.seed is not None) == known.draws
