"""[tuning] in a spec: crossed with every arm alike, written into `planned`, and no arm may have fewer settings."""

import json
from pathlib import Path

import pytest

from results.store.reader import load
from sweeps.planning.plan import make_plan
from sweeps.run.relaunch import start
from sweeps.run.run_folder import RunFolder
from sweeps.spec.expand import expand
from sweeps.spec.spec import load_spec
from tailor.execution.dry_run import dry_run
from tests.sweeps.conftest import WriteSpec, created_run

SPEC = """
name = "tuned"
[axes]
seed = [0, 1]
[tuning]
optimisation.learning_rate = [0.0005, 0.005]
optimisation.weight_decay = [0.0, 0.005, 0.05]
[[variants]]
method.name = "fine_tune"
[[variants]]
method.name = "prune"
axes.method.criterion = ["l1", "random"]
"""
SETTINGS = [(rate, decay) for rate in (0.0005, 0.005) for decay in (0.0, 0.005, 0.05)]


def test_every_arm_has_every_setting_in_the_same_order(write_spec: WriteSpec) -> None:
    trials = list(expand(load_spec(write_spec(SPEC))))
    assert len(trials) == 3 * 2 * 6
    arms: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for trial in trials:
        assert trial.tuning is not None
        optimisation = trial.config.optimisation
        values = (optimisation.learning_rate, optimisation.weight_decay)
        assert tuple(trial.tuning.values.values()) == values == SETTINGS[trial.tuning.order]
        arms.setdefault((trial.label, trial.config.seed), []).append(values)
    assert list(arms.values()) == [SETTINGS] * 6


def test_without_tuning_there_is_no_setting(write_spec: WriteSpec) -> None:
    assert [trial.tuning for trial in expand(load_spec(write_spec()))] == [None] * 6


def test_planned_rows_say_which_setting_a_trial_has(write_spec: WriteSpec, tmp_path: Path) -> None:
    plan = make_plan(load_spec(write_spec(SPEC)))
    run = created_run(plan, tmp_path / "runs")
    with load(run.path) as tables:
        rows = {row["trial_id"]: row for row in tables.rows("SELECT * FROM planned")}
    for trial in plan.trials:
        row = rows[trial.trial_id]
        assert json.loads(row["tuning_json"]) == {
            "optimisation.learning_rate": trial.settings.values["optimisation"]["learning_rate"],
            "optimisation.weight_decay": trial.settings.values["optimisation"]["weight_decay"],
        }
        rate, decay = json.loads(row["tuning_json"]).values()
        assert SETTINGS[row["tuning_order"]] == (rate, decay)


def relaunched(
    write_spec: WriteSpec, runs: Path, *assignments: str, text: str = SPEC, extend: bool = False
) -> RunFolder:
    """The run after a launch of the spec with these assignments."""
    plan = make_plan(load_spec(write_spec(text), assignments))
    run, lock, _ = start(plan, runs, extend=extend, update_code=False)
    lock.release()
    return run


def orders(run: RunFolder) -> dict[float, int | None]:
    with load(run.path) as tables:
        rows = tables.rows("SELECT config_json, tuning_order FROM planned")
    return {json.loads(row["config_json"])["optimisation"]["learning_rate"]: row["tuning_order"] for row in rows}


def test_a_setting_put_before_the_others_moves_them_all(write_spec: WriteSpec, tmp_path: Path) -> None:
    fixed = "tuning.optimisation.weight_decay=[0.005]"
    run = relaunched(write_spec, tmp_path / "runs", fixed)
    assert orders(run) == {0.0005: 0, 0.005: 1}
    more = "tuning.optimisation.learning_rate=[0.0001,0.0005,0.005]"
    relaunched(write_spec, tmp_path / "runs", fixed, more, extend=True)
    assert orders(run) == {0.0001: 0, 0.0005: 1, 0.005: 2}


def test_an_axis_made_a_tuned_setting_is_the_same_trials(write_spec: WriteSpec, tmp_path: Path) -> None:
    axis = 'name = "tuned"\n[axes]\noptimisation.learning_rate = [0.0005, 0.005]\n[trial]\nmethod.name = "fine_tune"\n'
    run = relaunched(write_spec, tmp_path / "runs", text=axis)
    assert orders(run) == {0.0005: None, 0.005: None}
    relaunched(write_spec, tmp_path / "runs", text=axis.replace("[axes]", "[tuning]"))
    assert orders(run) == {0.0005: 0, 0.005: 1}


def test_the_resolved_text_and_extends_keep_tuning(write_spec: WriteSpec) -> None:
    spec = load_spec(write_spec(SPEC), ["tuning.optimisation.weight_decay=[0.0]"])
    again = load_spec(write_spec(spec.to_toml(), "again.toml"))
    assert again.tuning == spec.tuning == {
        "optimisation.learning_rate": [0.0005, 0.005], "optimisation.weight_decay": [0.0],
    }  # fmt: skip
    more = 'name = "more"\nextends = "again.toml"\n[tuning]\noptimisation.learning_rate = [0.1]\n'
    assert load_spec(write_spec(more, "more.toml")).tuning["optimisation.learning_rate"] == [0.1]


def test_an_arm_may_be_excluded_whole(write_spec: WriteSpec) -> None:
    trials = list(expand(load_spec(write_spec(SPEC + "[[exclude]]\nmethod.criterion = 'random'\nseed = 1\n"))))
    assert len(trials) == 5 * 6


RATES = """
name = "rates"
[tuning]
rate = [0.01, 0.02]
[[variants]]
method.name = "fine_tune"
[[variants]]
method.name = "head_only"
[[variants]]
method.name = "pac_net"
"""
OWN = {
    "fine_tune": "optimisation.learning_rate",
    "head_only": "optimisation.head_learning_rate",
    "pac_net": "method.calibrate_learning_rate",
}


@pytest.mark.parametrize("table", ["tuning", "axes"])
def test_a_rate_is_the_one_that_the_arm_reads(table: str, write_spec: WriteSpec) -> None:
    """Each arm has the same grid, and each value is other work: it is in the key of a stage."""
    trials = list(expand(load_spec(write_spec(RATES.replace("[tuning]", f"[{table}]")))))
    assert [trial.label for trial in trials] == [label for label in OWN for _ in range(2)]
    last = set()
    for number, trial in enumerate(trials):
        name, key = OWN[trial.label].split(".")
        assert trial.settings.values[name][key] == (0.01, 0.02)[number % 2]
        if table == "tuning":
            assert trial.tuning is not None and trial.tuning.values == {OWN[trial.label]: (0.01, 0.02)[number % 2]}
        last.add(dry_run(trial.config).stages[-1].key)
    assert len(last) == len(trials)
    untouched = trials[2].config.optimisation.learning_rate, trials[4].config.optimisation.head_learning_rate
    assert untouched == (0.0005, 0.005)


def test_the_resolved_text_keeps_a_rate(write_spec: WriteSpec) -> None:
    spec = load_spec(write_spec(RATES))
    again = load_spec(write_spec(spec.to_toml(), "again.toml"))
    assert [trial.config for trial in expand(again)] == [trial.config for trial in expand(spec)]


def test_a_rate_of_a_head_stands_beside_that_of_pac_net(write_spec: WriteSpec) -> None:
    assert len(list(expand(load_spec(write_spec(RATES + "optimisation.head_learning_rate = 0.1\n"))))) == 6
