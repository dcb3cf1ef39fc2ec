"""LeGR: fitness against networks pruned by hand, what counts in its keys, resuming, several ranks."""

import hashlib
import math
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch.nn import functional as F

from tailor import stages
from tailor.common.errors import ConfigError
from tailor.config.parsing import parse_trial
from tailor.data import task_data
from tailor.data.task_data import generator
from tailor.execution.cache import Cache
from tailor.execution.dry_run import dry_run
from tailor.execution.runner import StageEvent
from tailor.model.state import ModelState
from tailor.pruning import budget_solver, surgery
from tailor.stage_execution.base import StageContext
from tailor.stage_execution.legr import evolve, tune_briefly
from tailor.stages import Task
from tailor.training.checkpoint import CHECKSUM_BYTES
from tests.tailor.forking import end_of
from tests.tailor.struck import run_until_struck
from tests.tailor.trials import SHORT, assert_equal_tensors, short_trial

pytestmark = pytest.mark.usefixtures("other_constants")

Run = Callable[..., list[StageEvent]]
# --- fitness ---

LEGR = {"name": "legr", "population": 5, "generations": 9}


def method(**allocation: Any) -> dict[str, Any]:
    return {
        "name": "prune",
        "criterion": "l2_squared",
        "asked_removed_macs_fraction": 0.3,
        "allocation": LEGR | allocation,
    }


def learned(events: list[StageEvent]) -> tuple[StageEvent, stages.LearnRanking, ModelState]:
    """The search, its stage, and the scored state that it started from."""
    (order,) = (event.order for event in events if event.result.stage.kind == "learn_ranking")
    stage = events[order].result.stage
    assert isinstance(stage, stages.LearnRanking)
    return events[order], stage, events[order - 1].result.model_state()


def validation_loss(state: ModelState, task: Task) -> float:
    samples = task_data.splits(task).validation
    model = state.build().eval()
    with torch.no_grad():
        return F.cross_entropy(model(task_data.normalise(samples.fetch().images)), samples.labels).item()


def test_fitness_is_the_validation_loss_after_pruning(run: Run, shared_cache: Cache) -> None:
    coupled = {"residual": "coupled", "linear": True}
    events = run(short_trial(method(), network="digits_resnet", pruning=coupled), shared_cache)
    event, stage, scored = learned(events)
    found = surgery.groups(scored.build(), scored.input_shape, stage.rule)
    least = budget_solver.minimums(scored, found, 0.1)
    losses = event.result.info["losses"]
    spread = {layer: np.std(scores.numpy()).item() for layer, scores in scored.scores.items()}
    assert len(losses) == 9
    for number, individual in enumerate(evolve(stage, spread, lambda _: math.nan, losses)):
        ranking = {
            g.name: sum(  # type: ignore[misc]
                scored.scores[m.layer] * individual.affine[m.layer][0] + individual.affine[m.layer][1]
                for m in g.members
            )
            for g in found
        }
        pruned = surgery.slim(
            scored, budget_solver.lowest_of_all(budget_solver.Budget(scored, found, 0.3, least), ranking), found
        )
        assert losses[number] == pytest.approx(validation_loss(pruned, stage.task), rel=1e-5)
        if losses[number] == min(losses):
            best = pruned
    after = events[event.order + 1].result
    assert after.stage.kind == "prune"
    assert validation_loss(after.model_state(), stage.task) == pytest.approx(
        validation_loss(best, stage.task), rel=1e-6
    )
    assert after.removed_macs_fraction >= 0.3
    affine = {layer: tuple(values) for layer, values in event.result.info["affine"].items()}
    for layer, scores in event.result.model_state().scores.items():
        assert torch.equal(scores, scored.scores[layer] * affine[layer][0] + affine[layer][1])


def test_tuning_takes_its_steps_on_the_training_images(run: Run, place: StageContext, shared_cache: Cache) -> None:
    """Nine batches of 32 from 200 images: plain SGD by hand, every image once or twice."""
    config = short_trial(method(name="legr_of_nine_steps"), network="digits_resnet")
    _, stage, scored = learned(run(config, shared_cache))
    assert stage.training is not None and stage.training.batch_size == 32
    samples = task_data.splits(stage.task).train
    fast = tune_briefly(stage, scored, samples, place)

    repeated = torch.cat([torch.arange(200), torch.arange(88)])
    order = repeated[torch.randperm(288, generator=generator(stage.training.seed, "order", 0))]
    model = scored.build().train()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    for step in range(9):
        batch = order[step * 32 : step * 32 + 32]
        optimiser.zero_grad()
        F.cross_entropy(model(task_data.normalise(samples.fetch(batch).images)), samples.labels[batch]).backward()
        optimiser.step()
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(fast.tensors[name], tensor, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(fast.tensors[name], scored.tensors[name], atol=1e-3)


# --- what counts and what does not ---


def keys(kind: str, config: dict[str, Any]) -> list[str]:
    planned = dry_run(parse_trial(SHORT | {"method": config}, "test")).stages
    return [stage.key for stage in planned if stage.kind == kind]


def test_one_ranking_serves_all_budgets_up_to_where_it_was_learned() -> None:
    def ranking_of(budget: float, **allocation: Any) -> list[str]:
        return keys("learn_ranking", method(**allocation) | {"asked_removed_macs_fraction": budget})

    assert ranking_of(0.2, name="one_legr") == ranking_of(0.4, name="one_legr") == ranking_of(0.4)
    assert ranking_of(0.5, name="one_legr") == ranking_of(0.5)
    assert ranking_of(0.2) != ranking_of(0.4)
    assert keys("prune", method(name="one_legr")) != keys("prune", method())


def test_another_tuning_is_another_search() -> None:
    names = ("legr", "tuned_legr", "legr_of_nine_steps")
    assert len({tuple(keys("learn_ranking", method(name=name))) for name in names}) == 3


def test_a_plan_counts_the_search() -> None:
    def work(**allocation: Any) -> float:
        planned = dry_run(parse_trial(SHORT | {"method": method(**allocation)}, "test")).stages
        return sum(stage.work for stage in planned if stage.kind == "learn_ranking")

    assert work(generations=18) == 2 * work(generations=9)
    assert work(name="legr_of_nine_steps") - work() == pytest.approx(9 * 9 * 32 * 3 * work() / 9 / (896 - 200))


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"generations": 4}, r"generations = 4 counts the first population, which has 5; choose more"),
    ],
)
def test_an_impossible_search_is_refused(given: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        parse_trial(SHORT | {"method": method(**given)}, "test")


# --- cached == computed, resumed == straight, two ranks == one ---


@pytest.mark.check
def test_killed_inside_the_search_equals_straight(run: Run, tmp_path: Path) -> None:
    config = short_trial(method(generations=15, name="tuned_legr"), network="digits_resnet")
    straight = run(config, Cache(tmp_path / "straight"))
    key = learned(straight)[0].result.key
    cache, checkpoint = tmp_path / "killed", tmp_path / "checkpoints" / f"{key}.checkpoint"
    given = run_until_struck, config.model_dump_json(), cache, checkpoint.parent
    assert end_of(*given, checkpoint.name) == -signal.SIGKILL
    assert not Cache(cache).has(key)
    found = losses_in(checkpoint)
    assert found == learned(straight)[0].result.info["losses"][:3]
    assert end_of(*given, "nobody") == 0
    resumed = run(config, Cache(cache))
    assert all(event.result.cached for event in resumed)
    assert learned(resumed)[0].result.info == learned(straight)[0].result.info
    for kind in ("learn_ranking", "prune", "fine_tune"):
        tensors = [
            event.result.read_tensors()
            for events in (resumed, straight)
            for event in events
            if event.result.stage.kind == kind
        ]
        assert_equal_tensors(*tensors)
    assert not checkpoint.exists()


def losses_in(checkpoint: Path) -> list[float]:
    losses: list[float] = safetensors.torch.load(checkpoint.read_bytes()[CHECKSUM_BYTES:])["losses"].tolist()
    return losses


@pytest.mark.check
def test_a_search_goes_on_from_what_it_recalls(run: Run, tmp_path: Path) -> None:
    """Losses that no network has: were they judged again, the search would end elsewhere."""
    config = short_trial(method())
    event, _, _ = learned(run(config, Cache(tmp_path / "straight")))
    invented = [float(n) for n in range(4)]
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    content = safetensors.torch.save({"losses": torch.tensor(invented, dtype=torch.float64)})
    (folder / f"{event.result.key}.checkpoint").write_bytes(hashlib.sha256(content).digest() + content)
    found, _, _ = learned(run(config, Cache(tmp_path / "resumed"), folder))
    assert found.result.info["losses"][:4] == invented
