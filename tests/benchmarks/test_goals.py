"""What tables say of goals, on made-up numbers."""

from pathlib import Path

import pytest

from benchmarks import empty_trial, planning, utilisation
from benchmarks.empty_trial import OURS, Contender, Run, measure
from benchmarks.idle_rank import FILE
from benchmarks.process import Taken
from benchmarks.record import table_of
from benchmarks.sharing import StageRow, Totals, lower_bound_s
from sweeps.planning.plan import make_plan
from sweeps.spec.spec import load_spec


def test_what_all_trials_wait_for_is_not_divided_among_slots() -> None:
    """A common stage of 4 s, then four of 5 s: on two slots 4 + 20 / 2; one of 11 s alone is a longer chain."""
    stages = {"source": StageRow(4.0, ())} | {str(n): StageRow(5.0, ("source",)) for n in range(4)}
    assert lower_bound_s(Totals(stages), {"source"}, 2) == 14
    assert lower_bound_s(Totals(stages), set(), 2) == 12
    assert lower_bound_s(Totals(stages | {"long": StageRow(11.0, ("source",))}), {"source"}, 9) == 15


def test_the_rate_of_trials_is_that_of_the_last_two_thirds() -> None:
    run = Run(ends_s=(10.0, 12.0, 20.0, 21.0, 22.0, 23.0), wall_s=20.0)
    assert run.per_trial_s == 1.0
    assert run.outside_s == 7.0


def test_trials_that_are_lost_are_told() -> None:
    with pytest.raises(RuntimeError, match="forgets: 0 trials began and 0 ended, expected 3"):
        measure(Contender(name="forgets", run=_forget, trials=3, quick_trials=3), 3, 2)


def _forget(_trials: int, _slots: int, folder: Path) -> float:
    (folder / FILE).touch()
    return 0.0


@pytest.mark.parametrize(("gap_s", "said"), [(2.1, "1.05: met"), (2.4, "1.20: missed")])
def test_an_empty_trial_is_held_against_stock_tune(gap_s: float, said: str) -> None:
    def run(gap: float) -> Run:
        return Run(ends_s=tuple(gap * place for place in range(6)), wall_s=99.0)

    runs = {OURS: [run(gap_s)], empty_trial.TUNE: [run(2.0)], "another": [run(5.0)]}
    rows = [empty_trial.row(name, runs[name], 2, runs) for name in runs]
    assert [row["verdict"] for row in rows] == [said, None, None]
    assert table_of("An empty trial", rows, empty_trial.NOTES).columns == tuple(rows[0])


def test_each_lost_worker_costs_rank_seconds() -> None:
    assert utilisation.lost_row(280.0, 14)[1:] == (20.0, 20.0, "met")
    assert utilisation.lost_row(476.0, 14)[1:] == (34.0, 20.0, "missed")
    assert utilisation.lost_row(5.0, 0)[1:] == (None, 20.0, None)


@pytest.mark.parametrize(
    ("spans", "seconds"),
    [
        ({}, 0.0),
        ({"whole": (12.0, 15.0)}, 3.0),
        ({"began before": (5.0, 12.0), "ended after": (18.0, 30.0)}, 4.0),
        ({"before": (1.0, 9.0), "after": (21.0, 22.0)}, 0.0),
        ({"all": (0.0, 100.0)}, 10.0),
    ],
)
def test_what_lies_between_two_moments(spans: dict[str, tuple[float, float]], seconds: float) -> None:
    assert utilisation.overlap(spans, 10.0, 20.0) == seconds


def test_planning_is_held_against_processor_time() -> None:
    small, large = planning.ASKED
    busy = Taken(wall_s=99.0, cpu_s=2.8, peak_gb=0.5)
    assert [planning.row(asked, [busy])["verdict"] for asked in (small, large)] == ["met", "met"]
    assert planning.row(small, [Taken(wall_s=1.0, cpu_s=2.9, peak_gb=0.1)])["verdict"] == "missed"
    assert planning.row(large, [Taken(wall_s=1.0, cpu_s=2.9, peak_gb=0.51)])["verdict"] == "missed"
    assert planning.AGAIN.goal_s == 3.5 and large.goal_s == 25


def test_a_seed_of_the_planned_sweep_has_as_many_trials_as_is_said(tmp_path: Path) -> None:
    asked = planning.Asked(what="--plan", trials=2 * planning.TRIALS_PER_SEED, runs=1, goal_s=1.0)
    plan = make_plan(load_spec(planning.write_spec(asked, tmp_path)))
    assert len(plan.trials) == asked.trials
