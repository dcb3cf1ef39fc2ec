"""What programs get of `status`, `runs`, `plan` and `compare` of a settled run: numbers, the same keys for all data."""

import json
import os
import tempfile
from pathlib import Path

import pytest

from results.loaded_run import load as open_run
from results.questions.compare import compare
from results.questions.settled import settled_verdicts
from results.store.reader import load
from sweeps.driver.display import RunningTrial, SweepProgress
from sweeps.driver.ledger import Counts
from sweeps.driver.progress_file import Seen
from sweeps.operations.preview import preview
from sweeps.operations.runs import runs_page
from sweeps.operations.status import status
from sweeps.planning.plan import Plan, make_plan
from sweeps.run.run_folder import RunFolder
from sweeps.run.run_lock import RunLock
from sweeps.spec.spec import load_spec
from tests.results.answers import check_answer
from tests.sweeps.conftest import WriteEnds, WriteSpec
from tests.sweeps.operations.test_preview import write_planned, write_stages
from tests.sweeps.operations.test_status import write_point, write_running
from tests.sweeps.settle.made_scores import begin, scores, settle, settled_spec
from transtailor.__main__ import main

NOBODY = 65534


def progress(plan: Plan, left_s: tuple[float, float | None] | None) -> SweepProgress:
    """Half of the work is done, and the third trial runs."""
    trial = plan.trials[2]
    running = RunningTrial(
        trial_id=trial.trial_id, arm=trial.arm, network="digits_vgg", dataset="digits", seed=trial.settings.seed,
        node="n1", stage="tune 2/3", words="epoch 3/5",
    )  # fmt: skip
    counts = Counts(finished=1, failed=1, running=1, waiting=3)
    return SweepProgress(
        sweep="small", counts=counts, work_done=1.0, work_left=1.0, elapsed_s=9.0, left_s=left_s,
        running=(running,),
    )  # fmt: skip


def test_status_says_state_counts_and_time_left_as_numbers(run: RunFolder, plan: Plan, write_ends: WriteEnds) -> None:
    idle = check_answer("status", list(status(run)))
    assert idle["running"] == idle["best"] == idle["failed"] == []
    write_ends(run, [plan.trials[0].trial_id])
    write_ends(run, [plan.trials[1].trial_id], "failed", "loss is not finite")
    write_running(run, plan.trials[2])
    write_point(run, plan.trials[0], 0.5, 0.0)
    with RunLock(run.lock) as lock:
        not_reported = check_answer("status", list(status(run)))["running"]
        lock.tell(Seen(progress=progress(plan, (90.0, 240.0)), notes=(), noted=0).to_json())
        tables = check_answer("status", list(status(run)))
    ((of_run,), (of_trial,), (failed,)) = (tables[name] for name in ("status", "running", "failed"))
    names = ("state", "trials", "finished", "failed", "running", "waiting", "resting", "stopped")
    assert [of_run[name] for name in names] == ["running", 6, 1, 1, 1, 3, 0, 0]
    assert [of_run[name] for name in ("done_fraction", "left_least_s", "left_most_s")] == [0.5, 90.0, 240.0]
    assert (of_trial["seed"], of_trial["stage"], of_trial["progress"]) == (0, "tune 2/3", "epoch 3/5")
    assert of_trial["running_s"] >= 5 * 3600 and not_reported[0]["stage"] is None
    assert (failed["trial_id"], failed["error"]) == (plan.trials[1].trial_id, "loss is not finite")
    (stopped,) = check_answer("status", list(status(run)))["status"]
    assert (stopped["state"], stopped["done_fraction"], stopped["left_least_s"]) == ("interrupted", None, None)


def test_runs_have_their_state_and_one_that_cannot_be_read_says_why(run: RunFolder) -> None:
    assert check_answer("runs", list(runs_page(run.path.parent)))["runs"][0]["state"] == "interrupted"
    broken = run.path.parent / "broken"
    broken.mkdir()
    (broken / "plan.json").write_text("{")
    found = {record["run"]: record for record in check_answer("runs", list(runs_page(run.path.parent)))["runs"]}
    assert found["broken"]["state"] is None and "broken" in found["broken"]["problem"]
    empty = run.path.parent / "empty"
    empty.mkdir()
    assert check_answer("runs", list(runs_page(empty))) == {"runs": []}
    assert [record["run"] for record in check_answer("runs", list(runs_page(run.path)))["runs"]] == [run.name]


def test_a_plan_has_its_trials_arms_savings_and_hours(tmp_path: Path, write_spec: WriteSpec) -> None:
    plan = make_plan(load_spec(write_spec()))
    folders = {"runs": tmp_path / "runs", "cache": tmp_path / "cache"}
    before = check_answer("plan", list(preview(plan, "serial", **folders, command=None)))
    assert [record["trial_id"] for record in before["trials"]] == [trial.trial_id for trial in plan.trials]
    assert before["times"] == [] and before["sharing"][0]["factor"] > 1
    write_planned(tmp_path / "runs" / "earlier", plan)
    rows = [
        {"trial_id": trial.trial_id, "stage_key": stage.key, "kind": stage.kind, "order": order, "cached": False,
         "compute_s": 3600.0}
        for trial in plan.trials for order, stage in enumerate(trial.stages)
    ]  # fmt: skip
    write_stages(tmp_path / "runs" / "earlier", rows)
    (serial,) = check_answer("plan", list(preview(plan, "serial", **folders, command=None)))["times"]
    distinct = {stage.key for trial in plan.trials for stage in trial.stages}
    assert (serial["workers"], serial["end_least_s"], serial["end_most_s"]) == (1, *[3600.0 * len(distinct)] * 2)


def test_a_settled_run_is_compared_in_the_same_columns_as_others(tmp_path: Path) -> None:
    spec = settled_spec()
    run = begin(spec, tmp_path)
    settle(spec, run, scores({"head_only": -20.0, "transtailor": 12.0, "prune l1": 0.3}))
    with load(run.path) as tables:
        looks = settled_verdicts(tables)
        parts = list(compare.answer(tables, "fine_tune"))
        compared = check_answer("compare", parts)["compare"]
        at_any_time = list(compare.answer(tables, "fine_tune", anytime=True))
        check_answer("compare --anytime", at_any_time)
    assert len(compared) == len(looks)
    by_arm = {(record["arm"], record["asked_removed_macs_fraction"]): record for record in compared}
    for (_, arm, asked), look in looks.items():
        record = by_arm[arm, asked]
        assert [record[name] for name in ("pairs", "difference", "p", "verdict")] == [
            look.seeds, look.mean, look.p, look.verdict,
        ]  # fmt: skip
        assert record["p_holm"] is None
    frame = open_run(run.path).compare("fine_tune")
    assert json.loads(frame.to_json(orient="records"))[0].keys() == compared[0].keys()


def test_a_run_that_nobody_may_read_does_not_hide_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    was = os.geteuid()
    with tempfile.TemporaryDirectory() as made:  # others than root cannot enter pytest's own
        runs = Path(made)
        runs.chmod(0o777)
        for name in ("broken", "of_another_user"):
            (runs / name).mkdir()
            (runs / name / "plan.json").write_text("{")
        (runs / "of_another_user").chmod(0)
        try:
            if was == 0:
                os.seteuid(NOBODY)
            found = {record["run"]: record for record in check_answer("runs", list(runs_page(runs)))["runs"]}
            assert main(["status", str(runs / "of_another_user")]) == 2
        finally:
            os.seteuid(was)
            (runs / "of_another_user").chmod(0o700)
    assert set(found) == {"broken", "of_another_user"}
    plan = f"{runs}/of_another_user/plan.json"
    said = f"{plan}: Permission denied; ask its owner for the right; to see who that is, type: namei -l {plan}"
    assert found["of_another_user"]["problem"] == said and capsys.readouterr().err == f"error: {said}\n"
