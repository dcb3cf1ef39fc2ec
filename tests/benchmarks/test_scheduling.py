"""What the benchmark of scheduling stands on: who waits how long, counted from moments that trials note themselves."""

from collections import Counter
from pathlib import Path

import pytest

from benchmarks.idle_rank import FILE, add_moment, read_moments
from benchmarks.schedulers import Contender, Run, measure, run_submitit
from benchmarks.scheduling import (
    TRIAL_S,
    contenders,
    death_rows,
    delays,
    overhead_fraction,
    run_warm,
    waiting_row,
    warm_rows,
)

TWO_SLOTS = Run(begins_s=(0.0, 0.5, 1.25, 2.0, 3.0), ends_s=(1.0, 1.5, 2.25, 3.0, 4.0), wall_s=9.0)


def test_the_rate_of_trials_is_that_of_the_last_two_thirds() -> None:
    run = Run(begins_s=(0.0,) * 6, ends_s=(10.0, 12.0, 20.0, 21.0, 22.0, 23.0), wall_s=20.0)
    assert run.per_trial_s == 1.0
    assert run.outside_s == 7.0


def test_a_trial_waited_from_when_its_slot_was_free() -> None:
    assert TWO_SLOTS.gaps_s(2) == (0.25, 0.5, 0.75)
    assert TWO_SLOTS.span_s == 4.0
    with pytest.raises(RuntimeError, match="more than 1 trials ran at once"):
        TWO_SLOTS.gaps_s(1)


def test_overhead_is_counted_from_the_trials_alone_one_after_the_other_in_each_slot() -> None:
    assert TRIAL_S == 1.0
    assert overhead_fraction(TWO_SLOTS, TWO_SLOTS.span_s, 2) == pytest.approx(4 / 3 - 1)
    assert overhead_fraction(TWO_SLOTS, TWO_SLOTS.wall_s, 1) == pytest.approx(9 / 5 - 1)


def test_what_follows_is_counted_once_and_from_the_last_time(tmp_path: Path) -> None:
    moments = [
        (1.0, "begin", "a"), (2.0, "end", "a"), (2.25, "begin", "b"), (2.5, "first_step", "b"), (2.75, "death", "b"),
        (3.0, "death", "b"), (3.5, "begin", "b"), (4.5, "first_step", "b"), (5.0, "end", "b"),
    ]  # fmt: skip
    assert delays(moments, "end", "begin") == [0.25]
    assert delays(moments, "end", "first_step") == [0.5]
    assert delays(moments, "death", "first_step") == [1.5]
    assert delays(moments, "death", "other") == []
    for _, what, of in moments:
        add_moment(tmp_path, what, of)
    found = read_moments(tmp_path)
    assert [moment[1:] for moment in found] == [moment[1:] for moment in moments]
    assert sorted(found) == found


def test_one_that_is_not_installed_is_named_and_not_run() -> None:
    def never(*_: object) -> float:
        raise AssertionError("it is not installed")

    row = waiting_row(Contender(name="other", run=never, trials=3, quick_trials=3, package="no_such_package"), 3, 2)
    known = {"what": "between trials of 1 s", "scheduler": "other", "slots": 2, "ranks": 1, "times": 0}
    known |= {"verdict": "not installed"}
    assert row == dict.fromkeys(row) | known


def test_trials_of_another_scheduler_are_measured_in_a_process_of_their_own() -> None:
    (submitit,) = [one for one in contenders(4) if one.run is run_submitit]
    run = measure(submitit, 3, 2, seconds=1.0)
    took_s = [end - begin for begin, end in zip(run.begins_s, run.ends_s, strict=True)]
    assert all(1.0 <= one_s <= run.wall_s for one_s in took_s)
    (gap,) = run.gaps_s(2)
    assert 0 < gap < run.wall_s


def test_trials_that_are_lost_are_told() -> None:
    with pytest.raises(RuntimeError, match="forgets: 0 trials began and 0 ended, expected 3"):
        measure(Contender(name="forgets", run=_forget, trials=3, quick_trials=3), 3, 2)


def _forget(_trials: int, _slots: int, _seconds: float, folder: Path) -> float:
    (folder / FILE).touch()
    return 0.0


@pytest.mark.long
def test_real_trials_note_their_first_steps_and_the_deaths_of_their_ranks(tmp_path: Path) -> None:
    for target, trials in (("WarmRank", 2), ("DyingRank", 1)):
        (tmp_path / target).mkdir()
        moments = run_warm(target, trials, tmp_path / target, site="serial")
        deaths = trials if target == "DyingRank" else 0
        expected = Counter(begin=trials + deaths, first_step=trials + deaths, end=trials, death=deaths)
        assert Counter(what for _, what, _ in moments) == expected
        rows = [*(death_rows if deaths else warm_rows)(moments)]
        assert [row["times"] for row in rows] == [deaths or trials - 1] * 2
        assert rows[0]["median_s"] < rows[1]["median_s"]  # type: ignore[operator]  # it begins before it steps
