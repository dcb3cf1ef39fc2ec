"""Arms: which trials of a plan are one, by what they are called; in plans, and in every output of their run."""

import html
import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import results
from results.questions.front_figure import POINTS_WITH_COSTS
from results.store.reader import load
from results.store.writer import Writer
from sweeps.errors import SpecError
from sweeps.planning.arms import ArmTrial, arms_of
from sweeps.planning.plan import Plan, PlannedTrial, make_plan, select_trials
from sweeps.run.relaunch import start
from sweeps.run.run_folder import RunFolder
from sweeps.spec.spec import load_spec
from tests.commands import transtailor_command
from tests.sweeps.conftest import Command, WriteSpec, created_run

RATES = """
name = "rates"
[axes]
seed = [0, 1, 2]
optimisation.learning_rate = [0.001, 0.005, 0.01]
[[variants]]
method = { name = "prune", criterion = "l1" }
[[variants]]
method.name = "fine_tune"
"""
ARMS = [f"{label}, learning_rate = {rate}" for label in ("fine_tune", "prune l1") for rate in (0.001, 0.005, 0.01)]
MEANS = dict(zip(ARMS, (50, 70, 60, 40, 75, 65), strict=True))
"""Of each arm, how many of 100 test images seed 1 names rightly; seed 0 one less, seed 2 one more."""


def trial(label: str = "a", points: Mapping[float | None, str] | None = None, **settings: Any) -> ArmTrial:
    """A trial in one problem."""
    return ArmTrial(
        problem=("n", "d", 1), label=label, settings=settings, points={0.2: "m"} if points is None else points
    )


def test_seeds_and_what_is_tied_to_them_repeat_an_arm() -> None:
    drawn = [trial(seed=seed, source={"seed": seed}, data={"split_seed": 7 - seed}) for seed in (0, 1)]
    assert arms_of(drawn).names == ("a", "a")


def test_budgets_are_points_of_one_arm_only_if_they_lead_to_one_model_each() -> None:
    def at(*budgets: float, method: str = "") -> ArmTrial:
        return trial(
            points={one: f"{method}{one}" for one in budgets}, method={"budgets": list(budgets), "way": method}
        )

    assert set(arms_of([at(0.0, 0.1), at(0.0, 0.2), at(0.0, 0.1, 0.2)]).names) == {"a"}
    twice = [trial(points={0.1: f"{steps} steps", 0.2 * steps: "x"}, method={"steps": steps}) for steps in (1, 2)]
    assert arms_of(twice).names == ("a, steps = 1", "a, steps = 2")  # two models at one budget
    both = [at(0.1, method="x"), at(0.2, method="y")]  # differ in something else, too
    assert len(set(arms_of(both).names)) == 2
    by_rule = [trial(points={None: str(share)}, method={"share": share}) for share in (0.5, 0.9)]
    assert arms_of(by_rule).names == ("a, share = 0.5", "a, share = 0.9")
    silent = [trial(method={"stop_early": early}) for early in (True, False)]  # the same stages in a plan, not when run
    assert len(set(arms_of(silent).names)) == 2


def test_two_settings_that_lead_to_one_budget_in_two_ways_are_arms() -> None:
    crossed = [
        trial(points={round(steps * share, 9): f"{steps} x {share}"}, method={"steps": steps, "share": share})
        for steps, share in ((1, 0.1), (1, 0.2), (2, 0.1), (2, 0.2))
    ]
    assert len(set(arms_of(crossed).names)) == 4


def test_values_of_tuning_are_no_arms() -> None:
    tuned = [
        ArmTrial(problem=("n", "d", 1), label="a", settings={"optimisation": {"rate": rate}}, tuning={key: rate})
        for rate in (1, 2) for key in ("optimisation.rate",)
    ]  # fmt: skip
    assert arms_of(tuned).names == ("a", "a")


def planned(write_spec: WriteSpec, text: str = RATES) -> Plan:
    return make_plan(load_spec(write_spec(text)))


def test_an_axis_over_a_setting_makes_an_arm_of_each_value(write_spec: WriteSpec) -> None:
    plan = planned(write_spec)
    assert sorted({one.arm for one in plan.trials}) == ARMS and len(plan.trials) == 18
    first = plan.trials[0]
    assert select_trials(plan, [first.trial_id]).trials[0].arm == first.arm  # of the whole plan, also where it is alone


def test_one_label_of_two_methods_is_refused(write_spec: WriteSpec) -> None:
    text = RATES.replace('method.name = "fine_tune"', 'method.name = "fine_tune"\nlabel = "prune l1"')
    with pytest.raises(
        SpecError, match=r"\[\[variants\]\] 1 and \[\[variants\]\] 2 have the label 'prune l1', and"
    ) as told:
        planned(write_spec, text)
    assert 'label = "prune l1 fine_tune"' in str(told.value)
    same = RATES.replace(
        'method.name = "fine_tune"', 'label = "prune l1"\nmethod = { name = "prune", criterion = "l2" }'
    )
    names = {one.arm for one in planned(write_spec, same).trials}
    assert "prune l1, criterion = l2, learning_rate = 0.01" in names and len(names) == 6


def write_results(run: RunFolder, trials: tuple[PlannedTrial, ...]) -> None:
    """Results of all trials: one point each, and predictions of 100 test images."""
    now = datetime.now(UTC)
    rows: dict[str, list[dict[str, Any]]] = {"trials": [], "stages": [], "operating_points": [], "predictions": []}
    for one in trials:
        of, stage = {"trial_id": one.trial_id, "code_digest": "c"}, one.points[-1]
        budget = stage.asked_removed_macs_fraction
        right = MEANS[one.arm] + one.settings.seed - 1
        times = {"started_at": now, "ended_at": now, "seconds": 1.0, "error": None}
        rows["trials"].append(of | times | {"status": "finished", "attempts": 1})
        rows["stages"].append(of | {
            "stage_key": stage.key, "kind": "operating_point", "kind_version": 1, "order": 0, "parents": [],
            "cached": False, "compute_s": 1.0, "device": "cpu", "ranks": 1, "torch_version": "2", "stored_bytes": 1,
            "tensors_sha256": "0" * 64,
        })  # fmt: skip
        rows["operating_points"].append(of | {
            "sweep": "rates", "point": 0, "label": one.label, "arm": one.arm, "method": one.settings.method,
            "network": one.settings.network, "dataset": one.settings.dataset, "train_images": one.train_images,
            "seed": one.settings.seed, "stage_key": stage.key, "model_key": stage.parents[0], "protocol": "validation",
            "asked_removed_macs_fraction": budget, "removed_macs_fraction": budget, "macs": 100, "original_macs": 100,
            "params": 10, "trained_epochs": 1, "trained_macs": 1.0, "metric": "accuracy", "validation_images": 100,
            "validation_score": right / 100, "deciding_score": right / 100, "validation_loss": 1.0,
        })  # fmt: skip
        rows["predictions"] += [
            of | {"point": 0, "split": "test", "image_id": image, "label": 1, "prediction": int(image < right),
                  "probability": 0.9} for image in range(100)
        ]  # fmt: skip
    for table, several in rows.items():
        Writer(run.tables).write(table, several)


@pytest.fixture
def finished(write_spec: WriteSpec, tmp_path: Path) -> RunFolder:
    """The run of three rates and three seeds."""
    plan = planned(write_spec)
    run = created_run(plan, tmp_path / "runs")
    write_results(run, plan.trials)
    return run


def said(command: Callable[..., Any], *words: object, folder: Path) -> str:
    done = command(*words, folder=folder)
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


def test_every_output_names_the_same_arms(finished: RunFolder, launch: Command, tmp_path: Path) -> None:
    run = "runs/rates"
    plan = launch("spec.toml", "--plan", "--site", "serial").stdout
    table = said(transtailor_command, "table", run, folder=tmp_path)
    compared = said(transtailor_command, "compare", run, "--against", ARMS[1], folder=tmp_path)
    status = said(transtailor_command, "status", run, folder=tmp_path)
    report = Path(said(transtailor_command, "report", run, folder=tmp_path).strip())
    page = html.unescape((tmp_path / report).read_text())
    for arm in ARMS:
        assert all(arm in text for text in (plan, table, compared, status))
        assert f'data-arm="{arm}"' in page
        row = next(line for line in table.splitlines() if line.strip("| *=").startswith(arm))
        assert f"{MEANS[arm]:.2f} ± " in row and "(3)" in row
    best = said(transtailor_command, "best", run, folder=tmp_path)
    assert "(prune l1, learning_rate = 0.005, seed 2)" in best
    assert "3 of each arm" in plan  # seeds
    with load(finished.path) as rows:
        assert sorted({row["arm"] for row in rows.rows(POINTS_WITH_COSTS)}) == ARMS


def test_a_label_names_an_arm_only_where_it_has_one(finished: RunFolder, tmp_path: Path) -> None:
    refused = transtailor_command("compare", finished.path, "--against", "prune l1", folder=tmp_path)
    assert refused.returncode == 2
    assert "'prune l1' is the label of 3 arms" in refused.stderr and all(arm in refused.stderr for arm in ARMS[3:])
    wrong = transtailor_command(
        "compare", finished.path, "--against", "prune l1, learning_rate = 0.05", folder=tmp_path
    )
    assert wrong.returncode == 2 and "did you mean" in wrong.stderr


def test_who_averages_over_an_axis_says_so_and_the_output_names_it(finished: RunFolder, tmp_path: Path) -> None:
    over = ("--over", "optimisation.learning_rate")
    table = said(transtailor_command, "table", finished.path, *over, folder=tmp_path)
    assert "Averaged over optimisation.learning_rate (0.001, 0.005, 0.01)" in table
    assert not any(arm in table for arm in ARMS)
    mean = sum(MEANS[arm] for arm in ARMS[3:]) / 3
    assert re.search(rf"prune l1 .*{mean:.2f} ± 2\.48 \(3\)", table)  # of three seeds: 59, 60, 61
    records = json.loads(
        said(
            transtailor_command,
            "compare",
            finished.path,
            "--against",
            "fine_tune",
            *over,
            "--format",
            "json",
            folder=tmp_path,
        )
    )
    assert "prune l1" in json.dumps(records)
    page = said(transtailor_command, "report", finished.path, *over, folder=tmp_path).strip()
    text = html.unescape(Path(page).read_text())
    assert 'data-arm="prune l1"' in text and "Averaged over optimisation.learning_rate" in text
    opened = results.load(finished.path)
    compared = opened.compare("fine_tune", over=["optimisation.learning_rate"])
    assert [*compared["arm"]] == ["prune l1"] and compared["difference"][0] == pytest.approx(0.0)
    assert sorted(set(opened.planned["arm"])) == ARMS  # as they were
    wrong = transtailor_command("table", finished.path, "--over", "optimisation.momentum", folder=tmp_path)
    assert wrong.returncode == 2 and "valid: optimisation.learning_rate" in wrong.stderr


def test_an_extension_that_needs_other_names_says_so_and_all_rows_have_them(
    write_spec: WriteSpec, tmp_path: Path
) -> None:
    one = make_plan(load_spec(write_spec(RATES.replace("[0.001, 0.005, 0.01]", "[0.005]"))))
    assert {trial.arm for trial in one.trials} == {"prune l1", "fine_tune"}
    run = created_run(one, tmp_path / "runs")
    named = {trial.trial_id: trial.arm for trial in one.trials}
    assert named
    more = planned(write_spec)
    write_results(run, tuple(trial for trial in more.trials if trial.trial_id in named))
    with load(run.path) as rows:
        assert {row["arm"] for row in rows.rows("FROM operating_points")} == set(named.values())  # as planned
    _, lock, what = start(more, tmp_path / "runs", extend=True, update_code=False)
    lock.release()
    assert (
        what.startswith("extended by 12 trials")
        and "the arm 'prune l1' is now 'prune l1, learning_rate = 0.005'" in what
    )
    with load(run.path) as rows:
        for table in ("planned", "operating_points", "measured_points"):
            for row in rows.rows(f"SELECT trial_id, arm FROM {table}"):
                assert row["arm"] == next(trial.arm for trial in more.trials if trial.trial_id == row["trial_id"])
        assert sorted({row["arm"] for row in rows.rows("FROM planned")}) == ARMS
    _, lock, what = start(more, tmp_path / "runs", extend=False, update_code=False)
    lock.release()
    assert what == "resumed"


def test_arms_of_a_search_do_not_change_with_its_proposals(write_spec: WriteSpec, tmp_path: Path) -> None:
    from sweeps.search.run_search import RunSearch

    text = RATES.replace("seed = [0, 1, 2]", "seed = [0]") + "[search]\ntrials = 4\nbatch = 4\n"
    search = RunSearch(load_spec(write_spec(text)), RunFolder(tmp_path / "runs" / "rates"))
    assert {one.arm for one in search.plan.trials} <= {"prune l1", "fine_tune"}
