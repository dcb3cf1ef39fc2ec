"""cached == computed, resumed == straight, same seed same result; and the test split decides nothing."""

import signal
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tailor.common.errors import TrainingError
from tailor.config.trial import TrialConfig
from tailor.data import task_data
from tailor.data.task_data import Samples
from tailor.execution.cache import Cache
from tailor.execution.runner import StageEvent, run_trial
from tailor.facts.datasets import DATASETS
from tailor.model.state import ModelState
from tailor.parallel.process_group import ProcessGroup
from tests.tailor.forking import end_of
from tests.tailor.struck import run_until_struck
from tests.tailor.trials import assert_equal_tensors, short_trial

pytestmark = pytest.mark.usefixtures("other_constants")

Run = Callable[..., list[StageEvent]]
METHODS = [
    {"name": "transtailor", "steps": 2, "alpha_epochs": 1},
    {"name": "prune", "criterion": "random"},
]
LEGR = {"name": "tuned_legr", "population": 3, "generations": 4}
EVERY_KIND_OF_STAGE: list[dict[str, Any]] = [
    *METHODS,
    {"name": "fine_tune"},
    {"name": "smaller_dense"},
    {"name": "prune", "criterion": "l2", "allocation": LEGR},
    {"name": "prune", "criterion": "l1", "weights": "reinitialised"},
    {"name": "pac_net", "allocate_epochs": 1},
    {"name": "sfp"},
    {"name": "gbn_of_two_ticks", "steps": 1},
    {"name": "target_aware_adaptation", "iterations": 2},
]


def stored(cache: Cache, events: list[StageEvent]) -> dict[str, bytes]:
    return {event.result.key: cache.read_tensors(event.result.key) for event in events}


def facts(events: list[StageEvent]) -> list[tuple[str, dict[str, Any]]]:
    """What stages found out, without the times they took."""
    found = []
    for event in events:
        info = dict(event.result.info)
        info["epochs"] = [{k: v for k, v in e.items() if k != "seconds"} for e in info.get("epochs", [])]
        found.append((event.result.key, info))
    return found


def tensors_of(state: ModelState) -> dict[str, torch.Tensor]:
    """All that a state knows: weights, factors, scores, momentum, which filters are left, and so on."""
    parts = {part.name: getattr(state, part.name) for part in fields(state)}
    return {
        f"{part}/{name}": tensor
        for part, values in parts.items()
        if isinstance(values, dict) and part != "sizes"
        for name, tensor in values.items()
    }


@pytest.mark.parametrize("method", EVERY_KIND_OF_STAGE, ids=str)
def test_cached_equals_computed(method: dict[str, Any], run: Run, tmp_path: Path) -> None:
    pruning = {"scores_from": "scrambled"} if method["name"] == "transtailor" else {}
    config = short_trial(method, network="digits_resnet", data={"train_images": 100}, pruning=pruning)
    computed = run(config, Cache(tmp_path))
    assert not any(event.result.cached for event in computed)
    again = run(config, Cache(tmp_path))
    assert all(event.result.cached for event in again)
    assert facts(again) == facts(computed)
    for before, after in zip(computed, again, strict=True):
        assert_equal_tensors(tensors_of(after.result.model_state()), tensors_of(before.result.model_state()))


def test_stopped_between_stages_equals_straight(run: Run, ranks: ProcessGroup, tmp_path: Path) -> None:
    config = short_trial(METHODS[0], network="digits_resnet")
    straight = run(config, Cache(tmp_path / "straight"))
    pieces = Cache(tmp_path / "pieces")
    for stages in range(1, len(straight)):  # each time one stage further, everything else from the disk
        events = run_trial(config, cache=pieces, ranks=ranks)
        for _ in range(stages):
            next(events)
    resumed = run(config, pieces)
    assert sum(not event.result.cached for event in resumed) == 1
    assert facts(resumed) == facts(straight)
    assert stored(pieces, resumed) == stored(Cache(tmp_path / "straight"), straight)


@pytest.mark.check
def test_killed_inside_a_stage_equals_straight(run: Run, tmp_path: Path) -> None:
    config = short_trial(METHODS[0], network="digits_resnet", optimisation={"epochs": 6, "head_epochs": 2})
    straight = run(config, Cache(tmp_path / "straight"))
    cache, checkpoints = tmp_path / "killed", tmp_path / "checkpoints"
    given = run_until_struck, config.model_dump_json(), cache, checkpoints
    fine_tunes = [event.result.key for event in straight if event.result.stage.kind == "fine_tune"]
    for key in fine_tunes:  # killed once inside each fine-tuning
        assert end_of(*given, f"{key}.checkpoint") == -signal.SIGKILL
        assert (checkpoints / f"{key}.checkpoint").exists()
        assert not Cache(cache).has(key)
    assert end_of(*given, "nobody") == 0
    resumed = run(config, Cache(cache))
    assert all(event.result.cached for event in resumed)
    assert facts(resumed) == facts(straight)
    assert stored(Cache(cache), resumed) == stored(Cache(tmp_path / "straight"), straight)
    assert list(checkpoints.iterdir()) == []


@pytest.mark.parametrize(
    "method", [METHODS[0], pytest.param(METHODS[1], marks=pytest.mark.check)], ids=["transtailor", "prune"]
)
def test_the_seed_alone_decides_whatever_the_global_generators_were(
    method: dict[str, object], run: Run, tmp_path: Path
) -> None:
    results = []
    for number, seed in ((1, 0), (2, 0), (3, 1)):
        torch.manual_seed(number)
        np.random.seed(number)  # noqa: NPY002  # the global generator is what must not matter
        cache = Cache(tmp_path / str(number))
        data = {"augmentation": "shift", "images_per_class": 20}
        events = run(short_trial(method, seed=seed, data=data), cache)
        results.append((facts(events), stored(cache, events)))
    same, again, other = results
    assert same == again
    (key, info), (other_key, other_info) = same[0][-1], other[0][-1]
    assert key != other_key
    assert info["validation_loss"] != other_info["validation_loss"]


def test_a_last_step_behind_which_outputs_are_no_numbers_ends_the_trial(run: Run, tmp_path: Path) -> None:
    once = {"epochs": 1, "head_epochs": 1, "batch_size": 200}  # the loss of the only step is from before it
    config = short_trial({"name": "fine_tune"}, optimisation={**once, "learning_rate": 1e38})
    with pytest.raises(TrainingError, match=r"stage operating_point .*: the loss of \d+ images is nan after training"):
        run(config, Cache(tmp_path))


def test_a_damaged_stage_is_computed_anew(run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache, config = Cache(tmp_path), short_trial({"name": "fine_tune"})
    before = run(config, cache)
    for where, event in ((-1, before[2]), (20, before[0])):  # in the tensors, in the description
        file = cache.path(event.result.key)
        content = bytearray(file.read_bytes())
        content[where] ^= 0xFF
        file.write_bytes(content)
    after = run(config, cache)
    assert [event.result.cached for event in after] == [False, True, False, True]
    assert facts(after) == facts(before)
    assert caplog.text.count("damaged stage, computed again") == 2


# --- no decision reads the test split ---


def register_digits(name: str, change: Callable[[Samples], Samples], monkeypatch: pytest.MonkeyPatch) -> None:
    """Digits as a data set of another name, its target changed; all else as it is."""
    module = sys.modules[__name__]
    target = change(task_data.load("digits")["target"])
    loaded = {"source": task_data.load("digits")["source"], "target": target}
    monkeypatch.setattr(module, f"load_{name}", lambda: loaded, raising=False)
    monkeypatch.setitem(sys.modules, "tests_poisoned_digits", module)
    info = replace(DATASETS["digits"], loader=f"tests_poisoned_digits:load_{name}", sha256=task_data.digest(loaded))
    monkeypatch.setitem(DATASETS._records, name, info)


def poison(samples: Samples, ids: torch.Tensor) -> Samples:
    """Wrong labels and noise for pixels where `ids` say."""
    poisoned = torch.isin(samples.ids, ids)
    noise = torch.randint(0, 256, samples.images.shape, generator=task_data.generator(0, "noise"), dtype=torch.uint8)
    return Samples(
        images=torch.where(poisoned[:, None, None, None], noise, samples.images),
        labels=torch.where(poisoned, (samples.labels + 1) % 5, samples.labels),
        ids=samples.ids,
    )


def decided(events: list[StageEvent]) -> list[object]:
    """All that trials decide by: every fact and tensor but those of an operating point on the test split."""
    found: list[object] = []
    for event in events:
        tensors = event.result.read_tensors()
        kept = {
            name: value.tolist() for name, value in tensors.items() if not name.startswith(("test/", "scores/test_"))
        }
        found.append((facts([event])[0][1], kept))
    return found


def test_no_decision_reads_the_test_split(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def trial(name: str) -> TrialConfig:
        return short_trial(METHODS[0] | {"stop_early": True}, data={"name": name})

    from tailor.methods.recipe import Recipe

    splits = task_data.splits(Recipe(trial("digits")).task)
    register_digits("same_digits", lambda samples: samples, monkeypatch)
    register_digits("test_poisoned", lambda samples: poison(samples, splits.test.ids), monkeypatch)
    register_digits("validation_poisoned", lambda samples: poison(samples, splits.validation.ids), monkeypatch)
    runs = {
        name: run(trial(name), Cache(tmp_path / name))
        for name in ("same_digits", "test_poisoned", "validation_poisoned")
    }
    assert decided(runs["test_poisoned"]) == decided(runs["same_digits"])
    assert decided(runs["validation_poisoned"]) != decided(runs["same_digits"])  # the poison works where it is read
    poisoned = runs["test_poisoned"][-1].result.read_tensors()["test/label"]
    assert not torch.equal(poisoned, runs["same_digits"][-1].result.read_tensors()["test/label"])


def test_only_the_operating_point_names_the_test_split() -> None:
    """Read from the code: `.test` and "test" stand in the measurement alone."""
    import ast

    import tailor

    folder = Path(tailor.__file__).parent
    found = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            attribute = isinstance(node, ast.Attribute) and node.attr == "test"
            text = isinstance(node, ast.Constant) and node.value == "test"
            if attribute or text:
                found.add(path.relative_to(folder).as_posix())
    card = {"deploy/card.py", "__main__.py"}  # what was measured, written beside a sub-model that is saved
    splits = {name for name in found if name.startswith("prepare/")} | {"data/prepared.py"}  # preparation cuts them
    splits |= {"facts/pool.py"}  # or the trial; this counts their images
    # Cut, moved to the device, and measured:
    measurement = {"data/task_data.py", "stage_execution/base.py", "stage_execution/tuning.py"}
    assert found - card - splits == measurement
