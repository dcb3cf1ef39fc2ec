"""Fine-tuning in parts equals the whole bit for bit: the parts' stages hold a score, the checkpoint the state."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tailor.common.errors import ConfigError, Paused
from tailor.config.trial import TrialConfig
from tailor.execution.cache import Cache
from tailor.execution.dry_run import Rung, dry_run
from tailor.execution.runner import StageEvent, run_trial
from tailor.parallel.process_group import ProcessGroup, join, leave
from tailor.training import checkpoint
from tests.tailor.execution.test_pause import AskedAt, all_cached, found
from tests.tailor.trials import short_trial
from tests.tailor.two_ranks import on_two_ranks

Run = Callable[..., list[StageEvent]]
# 20 images in batches of 8: three steps in each of four epochs, at rates that depend on how many there are.
SETTINGS: dict[str, Any] = {
    "data": {"train_images": 20, "augmentation": "shift"},
    "optimisation": {"epochs": 4, "head_epochs": 2, "batch_size": 8, "schedule": "cosine", "warm_up_epochs": 1},
    "source": {"epochs": 2, "batch_size": 400},
}
LADDER = (Rung(number=0, epochs=1), Rung(number=1, epochs=3), None)


def trial(method: dict[str, Any], **optimisation: Any) -> TrialConfig:
    return short_trial(method, **SETTINGS | {"optimisation": SETTINGS["optimisation"] | optimisation})


def climb(config: TrialConfig, cache: Cache, ranks: ProcessGroup, folder: Path, pause_at: int | None = None) -> int:
    """Run a trial rung by rung; with `pause_at`, pause it at the n-th question of each attempt. Return the pauses."""
    pauses = 0
    for rung in LADDER:
        kept: dict[str, Any] = {"checkpoint_folder": folder, "checkpoint_every_s": 1e9, "rung": rung}
        while True:
            asked = AskedAt(pause_at) if pause_at else lambda: False
            try:
                list(run_trial(config, cache=cache, ranks=ranks, pause=asked, **kept))
                break
            except Paused:
                pauses += 1
    return pauses


@pytest.mark.parametrize(
    ("method", "optimisation"),
    [
        pytest.param(
            {"name": "transtailor", "steps": 1, "alpha_epochs": 1}, {"ema_decay": 0.9}, marks=pytest.mark.check
        ),
        ({"name": "fine_tune"}, {"optimiser": "adam", "momentum": 0.0}),
    ],
)
def test_parts_equal_the_whole(
    method: dict[str, Any],
    optimisation: dict[str, Any],
    run: Run,
    ranks: ProcessGroup,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tailor.training.checkpoint.AGREE_EVERY_STEPS", 1)
    config = trial(method, **optimisation)
    straight = Cache(tmp_path / "straight")
    expected = found(straight, run(config, straight))
    for pause_at in (None, 4):
        pieces, folder = Cache(tmp_path / f"pieces {pause_at}"), tmp_path / "checkpoints"
        climb(config, pieces, ranks, folder, pause_at)
        assert found(pieces, all_cached(run, config, pieces)) == expected
        assert list(folder.iterdir()) == []
        parts = [pieces.read(dry_run(config, rung=rung).stages[-1].key) for rung in LADDER[:2]]
        assert all(part is not None and part.description.kind == "fine_tune_part" for part in parts)


def test_a_part_continues_the_last_one_and_its_score_is_that_of_the_epoch(
    ranks: ProcessGroup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = trial({"name": "fine_tune"}).model_copy(update={"validate_every": 1})
    seen: list[tuple[int, int]] = []
    real = checkpoint.Checkpoint.restore

    def restored(self: Any, *given: Any) -> Any:
        progress = real(self, *given)
        seen.append((progress.epoch, given[-1]))
        return progress

    monkeypatch.setattr(checkpoint.Checkpoint, "restore", restored)
    cache, scores, events = Cache(tmp_path / "cache"), [], []
    for rung in LADDER:
        events = list(run_trial(config, cache=cache, ranks=ranks, checkpoint_folder=tmp_path / "kept", rung=rung))
        scores.append(events[-1].result.info["validation_score"])
    assert seen[-3:] == [(0, 1), (1, 3), (3, 4)]  # epoch at the start and the end of each part
    (tuned,) = (event.result.info["epochs"] for event in events if event.result.stage.kind == "fine_tune")
    assert [tuned[0]["validation_score"], tuned[2]["validation_score"], tuned[3]["validation_score"]] == scores


def test_a_part_is_ranked_by_the_metric_of_the_trial(ranks: ProcessGroup, tmp_path: Path) -> None:
    config = trial({"name": "fine_tune"}).replace(metric="macro_f1")
    where = {"cache": Cache(tmp_path / "cache"), "ranks": ranks, "checkpoint_folder": tmp_path / "kept"}
    for event in run_trial(config.replace(validate_every=1), rung=LADDER[0], **where):  # type: ignore[arg-type]
        info = event.result.info
    *_, tuned, _point = run_trial(config.replace(validate_every=1), **where)  # type: ignore[arg-type]
    assert (info["metric"], info["validation_score"]) == (
        "macro_f1",
        tuned.result.info["epochs"][0]["validation_macro_f1"],
    )


def test_a_checkpoint_beyond_a_part_is_not_its_state(ranks: ProcessGroup, tmp_path: Path) -> None:
    """The cache is another one than that in which the part was stored: the part is computed from the start."""
    config, folder = trial({"name": "fine_tune"}), tmp_path / "kept"
    infos = []
    for name, rungs in (("one", LADDER[:2]), ("other", LADDER[:1])):
        for rung in rungs:
            cache = Cache(tmp_path / name)
            events = list(run_trial(config, cache=cache, ranks=ranks, checkpoint_folder=folder, rung=rung))
            infos.append(events[-1].result.info)
    assert infos[2] == infos[0] != infos[1]


def test_a_trial_has_the_same_id_at_each_rung_and_other_ladders_the_same_parts() -> None:
    config = trial({"name": "transtailor", "steps": 2})
    runs = [dry_run(config, rung=rung) for rung in (*LADDER, Rung(number=0, point=1))]
    assert len({run.trial_id for run in runs}) == 1
    first, second, whole, point = (run.stages for run in runs)
    assert [stage.kind for stage in first[-1:]] == ["fine_tune_part"]
    assert first[:-1] == second[:-1] == whole[: len(first) - 1] and point == whole[: len(point)]
    assert first[-1].key != second[-1].key
    assert dry_run(config, rung=Rung(number=7, epochs=1)).stages[-1].key == first[-1].key
    assert (first[-1].work * 3, second[-1].work * 4) == (second[-1].work, whole[len(first) - 1].work * 3)


@pytest.mark.parametrize(
    ("method", "rung", "message"),
    [
        ({"name": "fine_tune"}, Rung(number=0, epochs=4), "the fine-tuning has 4, and rungs are before its end"),
        ({"name": "head_only"}, Rung(number=0, epochs=1), "'head_only' has no fine-tuning that can rest"),
        ({"name": "sfp"}, Rung(number=0, epochs=1), "'sfp' has no fine-tuning that can rest"),
        ({"name": "fine_tune"}, Rung(number=0, point=0), "the last point of 'fine_tune' is 0"),
        ({"name": "transtailor", "steps": 2}, Rung(number=0, point=2), "the last point of 'transtailor' is 2"),
        ({"name": "transtailor", "stop_early": True}, Rung(number=0, epochs=1), "stop_early = true ends paths"),
    ],
)
def test_a_rung_that_a_trial_does_not_have_is_refused(method: dict[str, Any], rung: Rung, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        dry_run(trial(method), rung=rung)


def climb_on_two_ranks(folder: Path, text: str) -> None:
    """In a rank: a trial straight, then rung by rung, then rung by rung with pauses."""
    checkpoint.AGREE_EVERY_STEPS = 1
    ranks, config = join("cpu"), TrialConfig.model_validate_json(text)
    list(run_trial(config, cache=Cache(folder / "straight"), ranks=ranks))
    for pause_at in (None, 4):
        pauses = climb(config, Cache(folder / f"pieces {pause_at}"), ranks, folder / "checkpoints", pause_at)
        assert (pauses > 0) == (pause_at is not None)
    leave()


@pytest.mark.check
def test_parts_equal_the_whole_on_two_ranks(run: Run, tmp_path: Path) -> None:
    config = trial({"name": "fine_tune"}, ema_decay=0.9, optimiser="adam", momentum=0.0)
    on_two_ranks(climb_on_two_ranks, tmp_path, config.model_dump_json(), folder=tmp_path)
    straight = Cache(tmp_path / "straight")
    expected = found(straight, all_cached(run, config, straight))
    for pieces in (Cache(tmp_path / "pieces None"), Cache(tmp_path / "pieces 4")):
        assert found(pieces, all_cached(run, config, pieces)) == expected
        assert pieces.read(dry_run(config, rung=LADDER[1]).stages[-1].key) is not None
