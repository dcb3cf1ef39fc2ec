"""Pausing on request: paused anywhere and gone on with, a trial ends bit for bit as an undisturbed one."""

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tailor.common.errors import Paused
from tailor.config.trial import TrialConfig
from tailor.execution.cache import Cache
from tailor.execution.runner import StageEvent, run_trial
from tailor.parallel.process_group import ProcessGroup, join, leave
from tailor.training import checkpoint
from tailor.training.checkpoint import CHECKSUM_BYTES, Checkpoint, CheckpointAction, Pause, RankSync
from tests.tailor.trials import short_trial
from tests.tailor.two_ranks import on_two_ranks

pytestmark = pytest.mark.usefixtures("other_constants")

Run = Callable[..., list[StageEvent]]
# 20 images in batches of 8: three steps in each of two epochs.
TRANSTAILOR = {"name": "transtailor", "steps": 1, "alpha_epochs": 1}
SETTINGS: dict[str, Any] = {
    "data": {"train_images": 20, "augmentation": "shift"},
    "optimisation": {"epochs": 2, "head_epochs": 2, "batch_size": 8},
    "source": {"epochs": 2, "batch_size": 400},
}
LEGR = {"name": "tuned_legr", "population": 3, "generations": 6}


class AskedAt:
    """Asks for a pause at the n-th time of being asked."""

    def __init__(self, number: int) -> None:
        self.left = number

    def __call__(self) -> bool:
        self.left -= 1
        return self.left <= 0


def found(cache: Cache, events: list[StageEvent]) -> list[object]:
    """Tensors and facts of all stages, without seconds."""
    everything: list[object] = []
    for event in events:
        epochs = [{k: v for k, v in epoch.items() if k != "seconds"} for epoch in event.result.info.get("epochs", [])]
        tensors = cache.read_tensors(event.result.key)
        everything.append((event.result.key, event.result.info | {"epochs": epochs}, tensors))
    return everything


def where(folder: Path) -> str:
    """Where the trial stands that left its checkpoint in `folder`."""
    files = list(folder.glob("*.checkpoint"))
    if not files:
        return "between stages"
    (file,) = files
    content = file.read_bytes()[CHECKSUM_BYTES:]
    metadata = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")]).get("__metadata__")
    if metadata is None:
        return "in a search"
    return "in an epoch" if json.loads(metadata["progress"])["step"] else "between epochs"


def pauses_of(
    config: TrialConfig, cache: Cache, ranks: ProcessGroup, folder: Path, asked: Callable[[], Pause]
) -> list[str]:
    """Run a trial to its end, asked to pause in each attempt; where it paused."""
    places = []
    kept: dict[str, Any] = {"checkpoint_folder": folder, "checkpoint_every_s": 1e9}
    while True:
        try:
            list(run_trial(config, cache=cache, ranks=ranks, pause=asked(), **kept))
        except Paused:
            places.append(where(folder))
            continue
        return places


def test_paused_again_and_again_equals_straight(
    run: Run, ranks: ProcessGroup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the third question of each attempt and later: one comes before a stage, one after its first step."""
    monkeypatch.setattr("tailor.training.checkpoint.AGREE_EVERY_STEPS", 1)
    config = short_trial(TRANSTAILOR, network="digits_resnet", **SETTINGS)
    straight, folder, places = Cache(tmp_path / "straight"), tmp_path / "checkpoints", set()
    expected = found(straight, run(config, straight))
    for n in (3, 4):
        pieces = Cache(tmp_path / str(n))
        places |= set(pauses_of(config, pieces, ranks, folder, lambda n=n: AskedAt(n)))
        assert found(pieces, run(config, pieces)) == expected
        assert list(folder.iterdir()) == []
    assert places == {"in an epoch", "between epochs", "between stages"}


def test_a_paused_search_goes_on(run: Run, ranks: ProcessGroup, tmp_path: Path) -> None:
    config = short_trial({"name": "prune", "asked_removed_macs_fraction": 0.3, "allocation": LEGR}, **SETTINGS)
    straight, pieces = Cache(tmp_path / "straight"), Cache(tmp_path / "pieces")
    events = run(config, straight)
    (search,) = (e.result.stage for e in events if e.result.stage.kind == "learn_ranking")

    def in_the_search() -> Pause:
        asked = AskedAt(3)  # before the stage once, and once after each newborn
        return lambda: pieces.has(search.parents[0]) and not pieces.has(search.key()) and asked()

    places = pauses_of(config, pieces, ranks, tmp_path / "checkpoints", in_the_search)
    assert places == ["in a search"] * 3  # two newborns each
    assert found(pieces, run(config, pieces)) == found(straight, events)


def test_without_a_checkpoint_folder_a_trial_pauses_all_the_same(run: Run, ranks: ProcessGroup, tmp_path: Path) -> None:
    config, cache = short_trial({"name": "fine_tune"}, **SETTINGS), Cache(tmp_path)
    events = run_trial(config, cache=cache, ranks=ranks, pause=AskedAt(2))
    with pytest.raises(Paused):
        next(events)
    assert [event.result.cached for event in run(config, cache)] == [False] * 4


def test_ranks_agree_about_once_a_second(ranks: ProcessGroup, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = [0.0]
    monkeypatch.setattr("tailor.training.checkpoint.time.monotonic", lambda: now_s[0])

    def steps_between(seconds_of_a_step: float, steps: int) -> list[int]:
        rank_sync, at = RankSync(Checkpoint(None, 1e9, ranks)), [0]
        for step in range(1, steps + 1):
            now_s[0] += seconds_of_a_step
            if rank_sync.count_step():
                assert rank_sync.synchronise([0.0] * 3) == ([0.0] * 3, CheckpointAction.CONTINUE)
                at.append(step)
        return [after - before for before, after in zip(at, at[1:], strict=False)]

    assert steps_between(0.0625, 40) == [1, 16, 16]  # the first step tells the pace
    assert steps_between(0.75, 5) == [1, 1, 1, 1, 1]
    assert steps_between(60.0, 2) == [1, 1]
    assert steps_between(2.0**-12, 250) == [1, 100, 100]


def pause_on_two_ranks(folder: Path, text: str) -> None:
    """In a rank: a trial without a pause, then with one at the fourth question and at the fifth."""
    checkpoint.AGREE_EVERY_STEPS = 1
    ranks, config = join("cpu"), TrialConfig.model_validate_json(text)
    list(run_trial(config, cache=Cache(folder / "straight"), ranks=ranks))
    for n in (4, 5):
        cache = Cache(folder / f"pieces {n}")
        # Rank 1 is not asked: calling None would fail.
        asked = partial(AskedAt, n) if ranks.rank == 0 else lambda: None
        places = pauses_of(config, cache, ranks, folder / "checkpoints", asked)  # type: ignore[arg-type]
        if ranks.rank == 0:
            sys.stdout.write("; ".join(["PAUSED", *places]))
    leave()


@pytest.mark.check
def test_two_ranks_pause_together_and_go_on(run: Run, tmp_path: Path) -> None:
    config = short_trial(TRANSTAILOR, network="digits_resnet", **SETTINGS)
    said, _ = on_two_ranks(pause_on_two_ranks, tmp_path, config.model_dump_json(), folder=tmp_path)
    for place in ("in an epoch", "between epochs", "between stages"):
        assert place in said
    of = {name: Cache(tmp_path / name) for name in ("straight", "pieces 4", "pieces 5")}
    expected = found(of["straight"], all_cached(run, config, of["straight"]))
    for n in (4, 5):
        assert found(of[f"pieces {n}"], all_cached(run, config, of[f"pieces {n}"])) == expected


def all_cached(run: Run, config: TrialConfig, cache: Cache) -> list[StageEvent]:
    events = run(config, cache)
    assert all(event.result.cached for event in events)
    return events
