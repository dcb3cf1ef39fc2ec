"""What `--plan` says of time, of what seeds can settle and of jobs; and that the forecast agrees with a real run."""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hpc.doctor.names import late_finding, write_verdict
from hpc.sites.site import read_site
from results.sign_flip import SIGNIFICANCE, pairs_needed, smallest_p
from results.statistics.pairs import holm
from results.store.reader import load
from results.store.writer import Writer
from results.text.formats import markdown_lines
from sweeps.driver.driver import most_slots_on, slots_for
from sweeps.operations.preview import preview
from sweeps.planning.devices import spec_on_site
from sweeps.planning.hours import Capacity, MeasuredStage, durations_in, fit_durations, forecasts, seconds_left
from sweeps.planning.plan import Plan, make_plan
from sweeps.run.run_folder import RunFolder
from sweeps.search.run_search import RunSearch
from sweeps.spec.resources import Resources
from sweeps.spec.spec import load_spec
from tailor.execution.dry_run import PlannedStage
from tests.sweeps.conftest import Command
from tests.sweeps.fake_plan import families, plan_of

QUICK_SPEC = """
name = "quick"
[trial]
source.epochs = 2
optimisation = { epochs = 2, head_epochs = 2 }
[axes]
seed = [0, 1]
[[variants]]
method.name = "fine_tune"
[[variants]]
method = { name = "prune", criterion = "l1" }
"""


def stage_of(kind: str, work: float, key: str = "new") -> PlannedStage:
    return PlannedStage(key=key, kind=kind, version=1, parents=(), work=work, stored_bytes=0, point=None)


def measured(key: str, kind: str, seconds: float, **changes: Any) -> MeasuredStage:
    facts: dict[str, Any] = {"run": "run", "network": "vgg", "work": 10.0, "device": "cpu", "ranks": 2} | changes
    return MeasuredStage(key=key, kind=kind, seconds=seconds, **facts)


def quick_plan(folder: Path) -> Plan:
    path = folder / "quick.toml"
    path.write_text(QUICK_SPEC)
    return make_plan(load_spec(path))


def lines(plan: Plan, runs: Path, site: str = "serial", command: Sequence[str] = ("sweeps/launch.py",)) -> str:
    return "\n".join(markdown_lines(preview(plan, site, runs=runs, cache=runs / "no_cache", command=command)))


def test_a_stage_takes_what_the_same_took_or_its_kind_and_network_or_its_kind_or_all() -> None:
    stages = [
        measured("a", "tune", 1.0),
        measured("b", "tune", 3.0),
        measured("c", "tune", 12.0, network="resnet"),
        measured("d", "score", 4.0, work=40.0),
        measured("e", "prune", 0.5, work=0.0),
        measured("f", "prune", 0.7, work=0.0),
        measured("g", "tune", 99.0, network=None, work=None),
    ]
    found = fit_durations(stages)
    assert found.seconds(stage_of("tune", 5.0, key="c"), "vgg") == 12.0
    assert found.seconds(stage_of("tune", 5.0), "vgg") == pytest.approx(5 * (1 + 3) / 20)
    assert found.seconds(stage_of("tune", 5.0), "mobilenet") == pytest.approx(5 * (1 + 3 + 12) / 30)
    assert found.seconds(stage_of("calibrate", 5.0), "vgg") == pytest.approx(5 * (1 + 3 + 12 + 4) / 70)
    assert found.seconds(stage_of("prune", 0.0), "vgg") == pytest.approx(0.6)
    assert found.seconds(stage_of("remember", 0.0), "vgg") == 0


def test_what_is_scaled_from_another_network_has_a_range_of_twenty_fold() -> None:
    stages = [measured("a", "tune", 40.0, network="mobilenet"), measured("p", "prune", 0.5, work=0.0)]
    found = fit_durations(stages)
    tuning, other = stage_of("tune", 5.0), stage_of("score", 5.0)
    for stage, network, known_s in ((stage_of("tune", 5.0, key="a"), "resnet", 40.0), (tuning, "mobilenet", 20.0),
                                    (stage_of("prune", 0.0), "resnet", 0.5)):  # fmt: skip
        assert found.range_s(stage, network) == (known_s, known_s)
    for stage in (tuning, other):
        assert found.range_s(stage, "resnet") == pytest.approx((1.0, 400.0))


def write_measured(run: Path, plan: Plan, **columns: Any) -> None:
    """Write a run that has computed all stages of a plan, at one speed."""
    write_planned(run, plan)
    rows = [
        {"trial_id": trial.trial_id, "stage_key": stage.key, "kind": stage.kind, "order": order, "cached": False,
         "compute_s": 1e-6 * stage.work} | columns
        for trial in plan.trials for order, stage in enumerate(trial.stages)
    ]  # fmt: skip
    write_stages(run, rows)


@pytest.mark.parametrize(
    ("resources", "seconds", "device"),
    [
        ({}, 8.0, "cpu"), ({"ranks": 2}, 6.0, "cpu"), ({"ranks": 4}, None, ""), ({"gpus_per_rank": 1}, 2.0, "H200"),
        ({"ranks": 2, "gpus_per_rank": 1}, None, ""), ({"threads_per_rank": 4}, 1.0, "cpu"),
        ({"gpus_per_rank": 1, "threads_per_rank": 4}, 2.0, "H200"), ({"ranks": 2, "threads_per_rank": 4}, None, ""),
    ],
)  # fmt: skip
def test_only_stages_on_the_plans_device_with_its_ranks_and_threads_count(
    resources: dict[str, Any], seconds: float | None, device: str, tmp_path: Path
) -> None:
    plan = quick_plan(tmp_path)
    tuning = next(stage for stage in plan.trials[0].stages if stage.kind == "fine_tune")
    other_card, card = {"device": "A100", "compute_s": 3.0}, {"device": "H200", "compute_s": 2.0}
    for row in (other_card, card, {"compute_s": 8.0}, {"ranks": 2, "compute_s": 6.0}, {"compute_s": 1.0}):
        run = tmp_path / "runs" / f"of {row['compute_s']} s"
        write_measured(run, plan, **row)
        threads = 4 if row["compute_s"] == 1.0 else 1
        (run / "plan.json").write_text(json.dumps({"resources": {"threads_per_rank": threads}}))
        os.utime(run / "tables" / "stages", (8.0 - row["compute_s"],) * 2)
    durations = durations_in(tmp_path / "runs", Resources(**resources))
    if durations is None:
        assert seconds is None
    else:
        assert (durations.measured_s[tuning.key], durations.device) == (seconds, device)
        assert durations.runs == (f"of {seconds} s",)  # not those whose stages do not count


@pytest.mark.parametrize("precisions", [["bf16"], ["float32", "bf16"]])
def test_a_plan_takes_no_seconds_of_another_precision(precisions: list[str], tmp_path: Path) -> None:
    """On a CPU without bf16, a training took seven times as long as the plan said."""
    write_measured(tmp_path / "runs" / "earlier", quick_plan(tmp_path))
    plan = make_plan(load_spec(tmp_path / "quick.toml", [f"axes.optimisation.precision={precisions}"]))
    assert "time      not known: no run below " in lines(plan, tmp_path / "runs")


@pytest.mark.parametrize("ranks", [1, 4])
def test_a_plan_with_gpus_takes_no_seconds_of_a_cpu(ranks: int, tmp_path: Path) -> None:
    """It called them GPU-hours: 58 times the most that it says without any run."""
    site = tmp_path / "mine.toml"
    site.write_text("cpus_per_node = 4\nwalltime_min = 60\ngpus_per_node = 4\n")
    write_measured(tmp_path / "runs" / "earlier", quick_plan(tmp_path))
    (tmp_path / "quick.toml").write_text(f"{QUICK_SPEC}[resources]\nranks = {ranks}\n")
    plan = make_plan(spec_on_site(load_spec(tmp_path / "quick.toml"), read_site(site)))
    after, without = (lines(plan, tmp_path / runs, str(site)) for runs in ("runs", "none"))
    hours, hours_without = ([row for row in page.splitlines() if row.startswith("| ")] for page in (after, without))
    assert hours == hours_without
    assert "measured on cpu" not in after


def write_stages(run: Path, rows: Iterable[dict[str, Any]]) -> None:
    same = {"kind_version": 1, "parents": [], "device": "cpu", "ranks": 1, "torch_version": "2", "stored_bytes": 1}
    same["tensors_sha256"] = "0" * 64
    Writer(run / "tables").write("stages", [same | {"code_digest": "0" * 64} | row for row in rows])


def write_planned(run: Path, plan: Plan) -> None:
    from sweeps.run.planned_rows import write_planned as write

    write(Writer(run / "tables"), plan, plan.trials, "0" * 64)


def test_runs_are_read_with_their_trials_planned_work(tmp_path: Path) -> None:
    plan = quick_plan(tmp_path)
    run = tmp_path / "runs" / "earlier"
    write_planned(run, plan)
    trial = plan.trials[0]
    write_stages(
        run,
        [
            {"trial_id": trial.trial_id, "stage_key": stage.key, "kind": stage.kind, "order": order,
             "cached": order == 0, "compute_s": 2.0 * stage.work}
            for order, stage in enumerate(trial.stages)
        ],
    )  # fmt: skip
    (run / "tables" / "stages" / "damaged.parquet").write_bytes(b"PAR1 no more")
    found = durations_in(tmp_path / "runs", Resources())
    assert found is not None
    assert found.runs == ("earlier",)
    assert set(found.measured_s) == {stage.key for stage in trial.stages[1:]}  # the first was computed by another
    tuning = next(stage for stage in trial.stages if stage.kind == "fine_tune")
    assert found.seconds(replace(tuning, key="another"), "digits_vgg") == pytest.approx(2 * tuning.work)


def test_stages_whose_work_is_not_known_say_nothing(tmp_path: Path) -> None:
    """As of a run whose data are gone, or that has only loaded its weights: all other stages would take 0 s."""
    run = tmp_path / "runs" / "earlier"
    stage = {"trial_id": "gone", "stage_key": "a", "kind": "fine_tune", "order": 0, "cached": False, "compute_s": 2.0}
    write_stages(run, [stage])
    assert durations_in(tmp_path / "runs", Resources()) is None
    assert "time      not known: no run below " in lines(quick_plan(tmp_path), tmp_path / "runs")


def test_folders_that_are_no_runs_say_nothing(tmp_path: Path) -> None:
    assert durations_in(tmp_path / "nowhere", Resources()) is None
    (tmp_path / "runs" / "empty" / "tables" / "stages").mkdir(parents=True)
    assert durations_in(tmp_path / "runs", Resources()) is None


@pytest.mark.parametrize(("confirm", "at_once"), [("", 4), ("[confirm]\ntop = 2\nseeds = 6\n", 12)])
def test_a_search_uses_slots_for_its_largest_batch(
    confirm: str, at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    (tmp_path / "s.toml").write_text(
        'name = "s"\n[trial]\nmethod.name = "fine_tune"\n[axes]\noptimisation.momentum = [0.1, 0.2, 0.3, 0.4, 0.5, '
        f'0.6, 0.7, 0.8]\n[search]\nsampler = "tpe"\ntrials = 8\nbatch = 4\n{confirm}'
    )
    plan = RunSearch(load_spec(tmp_path / "s.toml"), RunFolder(tmp_path / "runs" / "s")).plan
    assert slots_for(plan, 4, most_slots_on("local", plan.resources)) == at_once


def test_what_the_doctor_has_found_is_not_said_of_runs_on_another_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "mine.toml"
    site.write_text("cpus_per_node = 4\nwalltime_min = 60\n")
    write_verdict(tmp_path, late_finding(31.0, None))
    monkeypatch.chdir(tmp_path)
    assert "is seen after 31.0 s" in lines(quick_plan(tmp_path), tmp_path / "runs", str(site))
    page = lines(quick_plan(tmp_path), Path("/proc/none/runs"), str(site))
    assert "31.0 s" not in page and f" doctor --site {site} --folder /proc\n" in page


@pytest.mark.parametrize(
    ("seeds", "said"), [(2, "p = 0.5 at best; p < 0.05 needs 6 seeds"), (10, "p = 0.00195 at best")]
)
def test_what_the_seeds_can_settle_is_what_the_report_will_test(seeds: int, said: str, tmp_path: Path) -> None:
    path = tmp_path / "quick.toml"
    path.write_text(QUICK_SPEC.replace("[0, 1]", str(list(range(seeds)))))
    text = lines(make_plan(load_spec(path)), tmp_path / "runs")
    assert f"seeds     {seeds} of each arm: a paired comparison can reach {said}\n" in text
    assert f"{smallest_p(seeds):.3g}" in said


@pytest.mark.parametrize("seeds", [6, 7, 8])
def test_a_family_needs_more_seeds_than_a_pair_and_counts_each_row_of_compare(seeds: int, tmp_path: Path) -> None:
    """Arms at each budget: TransTailor at two, l1 and the heads, which no trial of the spec measures alone."""
    transtailor = '[[variants]]\nmethod = { name = "transtailor", steps = 2, alpha_epochs = 1 }\n'
    spec = QUICK_SPEC.replace("[0, 1]", str(list(range(seeds)))) + transtailor
    (tmp_path / "quick.toml").write_text(spec)
    text = lines(make_plan(load_spec(tmp_path / "quick.toml")), tmp_path / "runs")
    corrected = max(p for p in holm([smallest_p(seeds)] * 4) if p is not None)
    needed = pairs_needed(SIGNIFICANCE / 4)
    more = "" if corrected <= SIGNIFICANCE else f"; p < 0.05 needs {needed} seeds"
    assert needed == 8
    assert (
        f"a paired comparison can reach p = {smallest_p(seeds):.3g} at best, and p = {corrected:.3g} as one of 4 in"
        f" compare (Holm){more}\n"
    ) in text


def test_one_row_for_each_number_of_nodes() -> None:
    """Twelve trials of an hour: at the earliest they share evenly, at the latest one is begun at the end of that."""
    capacity = Capacity(max_workers=6, units_per_worker=4, unit="GPU", start_s=30)
    rows = list(forecasts(12 * 3600.0, 3600.0, capacity))
    assert [forecast.workers for forecast in rows] == [1, 2, 4, 6]
    for forecast, rounds, more_s in zip(rows, (12, 6, 3, 2), (0, 1800, 2700, 3000), strict=True):
        assert forecast.earliest_s == pytest.approx(30 + 3600 * rounds)
        assert forecast.latest_s == pytest.approx(30 + 3600 * rounds + more_s)
        assert forecast.unit_hours == pytest.approx(12 * 4)
    assert {forecast.limited_by for forecast in rows} == {"slots"}
    spanning = replace(capacity, workers_per_slot=2)
    assert [forecast.workers for forecast in forecasts(43200.0, 3600.0, spanning)] == [2, 4, 6]
    shared = replace(capacity, slots_per_worker=2)
    assert next(forecasts(43200.0, 3600.0, shared)).earliest_s == pytest.approx(30 + 3600 * 6)
    chain = list(forecasts(7200.0, 7200.0, capacity))
    assert {forecast.earliest_s for forecast in chain} == {7230.0} and chain[-1].limited_by == "critical path"


def test_without_sharing_every_trial_takes_all_of_its_stages() -> None:
    plan = plan_of(families(2, 4))
    durations = fit_durations([measured("x", "fake", 10.0, work=1.0)])
    shared_s, longest_s = seconds_left(plan, durations.seconds, (), lambda _: False)
    alone_s, longest_alone_s = seconds_left(replace(plan, private_cache=True), durations.seconds, (), lambda _: True)
    assert alone_s / shared_s == pytest.approx(8 * 3 / (2 + 4 + 8))
    assert longest_s == longest_alone_s == pytest.approx(alone_s / 8)


def test_what_is_finished_or_cached_takes_nothing() -> None:
    plan = plan_of(families(2, 4))
    durations = fit_durations([measured("x", "fake", 10.0, work=1.0)])
    first, *others = plan.trials
    work_s, _ = seconds_left(plan, durations.seconds, {trial.trial_id for trial in others}, lambda _: False)
    assert work_s == pytest.approx(10.0 * sum(stage.work for stage in first.stages))
    left_s = seconds_left(
        plan, durations.seconds, {trial.trial_id for trial in others}, {first.stages[0].key}.__contains__
    )
    assert left_s[0] == left_s[1] == pytest.approx(10.0 * sum(stage.work for stage in first.stages[1:]))
    assert seconds_left(plan, durations.seconds, {trial.trial_id for trial in plan.trials}, lambda _: False) == (0, 0)


@pytest.mark.check
def test_the_seconds_left_of_a_real_serial_run_are_the_sum_of_what_its_stages_took(
    tmp_path: Path, trained: RunFolder, launch: Command
) -> None:
    spec = tmp_path / "trained.toml"
    plan = make_plan(load_spec(spec))
    with load(trained.path) as run:
        (row,) = run.rows("SELECT sum(compute_s) AS seconds FROM stages WHERE NOT cached")
        (span,) = run.rows("SELECT epoch(max(ended_at) - min(started_at)) AS seconds FROM trials")
    durations = durations_in(tmp_path / "runs", Resources())
    assert durations is not None
    work_s, _ = seconds_left(plan, durations.seconds, (), lambda _: False)
    assert work_s == pytest.approx(row["seconds"], rel=1e-9)
    assert work_s <= span["seconds"]
    again = launch(spec, "--site", "serial", "--plan", "--name", "again", "--cache", "empty")
    assert f"time      from {len(durations.measured_s)} stages that trained measured on cpu" in again.stdout
    assert "| slots | ends after |" in again.stdout
    assert f"bill      {work_s / 3600:.3g} rank-hours for all trials, what is cached included; " in again.stdout
    assert "          (expected by the seconds of measured stages); none of it is cached yet\n" in again.stdout
