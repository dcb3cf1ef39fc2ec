"""What tables say of goals, on made-up numbers."""

from pathlib import Path

import pytest

from benchmarks import empty_trial, footprint, planning, scheduling, startup, utilisation
from benchmarks.process import Taken
from benchmarks.record import table_of
from benchmarks.schedulers import OURS, Run
from benchmarks.sharing import StageRow, Totals, lower_bound_s
from benchmarks.startup import Seconds
from sweeps.planning.plan import make_plan
from sweeps.spec.spec import load_spec


def test_what_all_trials_wait_for_is_not_divided_among_slots() -> None:
    """A common stage of 4 s, then four of 5 s: on two slots 4 + 20 / 2; one of 11 s alone is a longer chain."""
    stages = {"source": StageRow(4.0, ())} | {str(n): StageRow(5.0, ("source",)) for n in range(4)}
    assert lower_bound_s(Totals(stages), {"source"}, 2) == 14
    assert lower_bound_s(Totals(stages), set(), 2) == 12
    assert lower_bound_s(Totals(stages | {"long": StageRow(11.0, ("source",))}), {"source"}, 9) == 15


@pytest.mark.parametrize(("ours", "said"), [(0.022, "1.10: met"), (0.039, "1.95: missed")])
def test_our_overhead_is_held_against_that_of_tune(ours: float, said: str) -> None:
    rows = [
        scheduling._row("w", name, 2, 1, (1.0,), overhead_fraction=overhead)
        for name, overhead in ((OURS, ours), (scheduling.TUNE, 0.02), ("another", 9.0))
    ]
    judged = scheduling.judge(rows)
    assert [row["verdict"] for row in judged] == [said, None, None]
    assert judged[1:] == rows[1:]
    unjudged = {name: judged[0][name] for name in judged[0] if name not in ("goal", "verdict")}
    assert unjudged == {name: rows[0][name] for name in unjudged} and [*judged[0]] == [*rows[0]]
    trials = {one.name: (one.trials, one.quick_trials) for one in scheduling.contenders(1000)}
    assert trials[OURS] == trials[scheduling.TUNE] == (1000, 20), "as many trials as ours"


def test_new_ranks_have_a_second() -> None:
    moments = [(0.0, "death", "a"), (0.5, "begin", "a"), (1.0, "first_step", "a"), (2.0, "death", "b")]
    for step_s, verdict in ((3.0, "met"), (3.1, "missed")):
        _, steps_again = scheduling.death_rows([*moments, (2.5, "begin", "b"), (step_s, "first_step", "b")])
        assert steps_again["verdict"] == verdict


@pytest.mark.parametrize(("gap_s", "said"), [(2.1, "1.05: met"), (2.4, "1.20: missed")])
def test_an_empty_trial_is_held_against_stock_tune(gap_s: float, said: str) -> None:
    def run(gap: float) -> Run:
        return Run(begins_s=(0.0,) * 6, ends_s=tuple(gap * place for place in range(6)), wall_s=99.0)

    runs = {OURS: [run(gap_s)], empty_trial.TUNE: [run(2.0)], "another": [run(5.0)]}
    rows = [empty_trial.row(name, runs[name], 2, runs) for name in runs]
    assert [row["verdict"] for row in rows] == [said, None, None]
    assert table_of("An empty trial", rows, empty_trial.NOTES).columns == tuple(rows[0])


def test_private_memory_of_a_rank_has_a_limit() -> None:
    kinds = (footprint.DRIVER, footprint.SLOT, footprint.RANK, footprint.WARM)
    for median_mb, said in ((100, "met"), (101, "missed")):
        sizes = {kind: [500_000_000] for kind in kinds} | {footprint.PRIVATE: [median_mb * 10**6] * 2 + [10**9]}
        rows = {row[0]: row for row in footprint.memory_rows(footprint.Seen(process_bytes=sizes, ray_bytes=[1]))}
        assert rows[footprint.PRIVATE][2:] == (median_mb, 1000, 100, said)
        assert {row[-1] for name, row in rows.items() if name != footprint.PRIVATE} == {None}


def test_a_launch_is_held_against_the_one_whose_ranks_are_not_forked() -> None:
    for launch_s, said in ((6.9, "met"), (7.1, "missed")):
        walls = {asked.what: 0.3 for asked in startup.ASKED} | {startup.FIRST_STEP: launch_s, startup.UNFORKED: 10.0}
        found = {what: [Seconds(wall_s=wall_s, cpu_s=0.1)] for what, wall_s in walls.items()}
        rows = {row["what"]: (row["goal_s"], row["verdict"]) for row in startup.table_rows(found)}
        assert rows[startup.FIRST_STEP] == (pytest.approx(7.0), said)
        assert rows[startup.UNFORKED] == (None, None) and rows["--help"] == (0.5, "met")


def test_each_lost_worker_costs_rank_seconds() -> None:
    assert utilisation.lost_row(280.0, 14)[1:] == (20.0, 20.0, "met")
    assert utilisation.lost_row(476.0, 14)[1:] == (34.0, 20.0, "missed")
    assert utilisation.lost_row(5.0, 0)[1:] == (None, 20.0, None)


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
