"""What `--plan` says of time, of what seeds can settle and of jobs; and that the forecast agrees with a real run."""

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hpc.cluster.autoscaler import ScalingLimits
from hpc.doctor.names import late_finding, write_verdict
from hpc.sites.site import read_site
from results.arms.cost import cost_of_run
from results.sign_flip import SIGNIFICANCE, pairs_needed, smallest_p
from results.statistics.pairs import holm
from results.store.reader import load
from results.store.writer import Writer
from results.text.formats import markdown_lines
from sweeps.driver.driver import most_slots_on, slots_for
from sweeps.operations.preview import preview
from sweeps.planning.durations import MeasuredStage, durations_in, fit_durations
from sweeps.planning.forecast import Capacity, forecasts, one_machine, timed_trials
from sweeps.planning.plan import Plan, make_plan, select_trials
from sweeps.run.relaunch import start, this_code_digest
from sweeps.run.run_folder import RunFolder
from sweeps.scheduling.timed import schedule
from sweeps.search.run_search import RunSearch
from sweeps.slurm.cluster_run import job_texts
from sweeps.spec.spec import load_spec
from tailor.execution.dry_run import PlannedStage
from tests.sweeps.conftest import Command
from tests.sweeps.fake_plan import families, plan_of
from tests.sweeps.scheduling.test_timed import timed

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


def test_the_plan_of_an_extension_says_what_the_launch_will_do(tmp_path: Path) -> None:
    """It said that launching would be refused, whatever was typed."""
    plan = quick_plan(tmp_path)
    _, lock, _ = start(
        select_trials(plan, [plan.trials[0].trial_id]), tmp_path / "runs", extend=False, update_code=False
    )
    lock.release()
    page = {"runs": tmp_path / "runs", "cache": tmp_path / "cache", "command": None}
    refused, extended = (
        "\n".join(markdown_lines(preview(plan, "serial", **page, extend=extend))) for extend in (False, True)
    )
    assert "launching would be refused" in refused and "type --extend" in refused
    assert "launching would be refused" not in extended
    assert "launching would extend it by 3 trials" in extended


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
    found = fit_durations(stages, ranks=2)
    assert found.seconds(stage_of("tune", 5.0, key="c"), "vgg") == 12.0
    assert found.seconds(stage_of("tune", 5.0), "vgg") == pytest.approx(5 * (1 + 3) / 20)
    assert found.seconds(stage_of("tune", 5.0), "mobilenet") == pytest.approx(5 * (1 + 3 + 12) / 30)
    assert found.seconds(stage_of("calibrate", 5.0), "vgg") == pytest.approx(5 * (1 + 3 + 12 + 4) / 70)
    assert found.seconds(stage_of("prune", 0.0), "vgg") == pytest.approx(0.6)
    assert found.seconds(stage_of("remember", 0.0), "vgg") == 0


def test_what_is_scaled_from_another_network_has_a_range_of_twenty_fold() -> None:
    stages = [measured("a", "tune", 40.0, network="mobilenet"), measured("p", "prune", 0.5, work=0.0)]
    found = fit_durations(stages, ranks=2)
    tuning, other = stage_of("tune", 5.0), stage_of("score", 5.0)
    assert not found.is_scaled(tuning, "mobilenet") and not found.is_scaled(stage_of("prune", 0.0), "resnet")
    assert not found.is_scaled(stage_of("tune", 5.0, key="a"), "resnet")
    assert found.least_s(tuning, "mobilenet") == found.most_s(tuning, "mobilenet") == 20.0
    for stage in (tuning, other):
        assert found.is_scaled(stage, "resnet")
        assert (found.least_s(stage, "resnet"), found.most_s(stage, "resnet")) == pytest.approx((1.0, 400.0))
    both = fit_durations([*stages, measured("b", "tune", 4.0, network="vgg")], ranks=2)
    assert (both.least_s(tuning, "resnet"), both.most_s(tuning, "resnet")) == pytest.approx((1.0, 40.0))
    far = fit_durations([*stages, measured("b", "tune", 1.0, network="vgg")], ranks=2)
    assert (far.least_s(tuning, "resnet"), far.most_s(tuning, "resnet")) == pytest.approx((0.5, 20.0))


def write_measured(run: Path, plan: Plan, but: str = "") -> None:
    """Write a run that has computed all stages of a plan, at one speed, but those of a kind."""
    write_planned(run, plan)
    rows = [
        {"trial_id": trial.trial_id, "stage_key": stage.key, "kind": stage.kind, "order": order, "cached": False,
         "compute_s": 1e-6 * stage.work}
        for trial in plan.trials for order, stage in enumerate(trial.stages) if stage.kind != but
    ]  # fmt: skip
    write_stages(run, rows)


def test_a_plan_says_from_which_network_its_time_is_scaled_and_gives_a_range(tmp_path: Path) -> None:
    plan = quick_plan(tmp_path)
    write_measured(tmp_path / "runs" / "earlier", plan)
    assert (
        "SCALED" not in lines(plan, tmp_path / "runs") and " to " not in lines(plan, tmp_path / "runs").split("ends")[1]
    )
    (tmp_path / "other.toml").write_text(QUICK_SPEC.replace("[trial]", '[trial]\nnetwork = "digits_resnet"'))
    page = lines(make_plan(load_spec(tmp_path / "other.toml")), tmp_path / "runs")
    assert "SCALED by MACs from digits_vgg: digits_resnet; for equal MACs one network may take 20 times" in page
    assert "to measure one trial, type:" in page
    (row,) = (text for text in page.splitlines() if text.startswith("| 1 | "))
    assert " to " in row.split("|")[2] and " to " in row.split("|")[3]


def test_a_probe_measures_what_the_probe_before_has_not(tmp_path: Path) -> None:
    write_measured(tmp_path / "runs" / "earlier", quick_plan(tmp_path))
    other = QUICK_SPEC.replace("[trial]", '[trial]\nnetwork = "digits_resnet"') + '[[variants]]\nmethod.name = "sfp"\n'
    (tmp_path / "other.toml").write_text(other)
    plan = make_plan(load_spec(tmp_path / "other.toml"))
    arms = []
    while probes := re.findall("--only ([0-9a-f]+)", lines(plan, tmp_path / "runs")):
        probe = select_trials(plan, probes)
        arms.append(probe.trials[0].label)
        assert len(arms) == len(set(arms))
        write_measured(tmp_path / "runs" / f"probe {len(arms)}", probe)
    assert sorted(arms) == ["prune l1", "sfp"]


def test_a_plan_scales_no_network_from_itself(tmp_path: Path) -> None:
    """Where a kind of stage is new to a network that was measured."""
    plan = quick_plan(tmp_path)
    write_measured(tmp_path / "runs" / "earlier", plan, but="fine_tune")
    page = lines(plan, tmp_path / "runs")
    assert "assumed as fast as the mean of all others: fine_tune, so the end is a range\n" in page
    assert "SCALED" not in page


def test_the_last_device_counts_and_other_numbers_of_ranks_only_where_there_is_no_other() -> None:
    old = measured("a", "tune", 100.0, device="H200", run="old")
    one, two = measured("b", "tune", 8.0, ranks=1), measured("c", "tune", 6.0)
    assert fit_durations([old, one, two], ranks=2).measured_s == {"c": 6.0}
    assert fit_durations([old, one, two], ranks=1).measured_s == {"b": 8.0}
    assert fit_durations([old, one, two], ranks=4).measured_s == {"b": 2.0, "c": 3.0}
    assert fit_durations([one, old], ranks=2).device == "H200"
    assert fit_durations([old, one, two], ranks=2).runs == ("run",)  # not those whose stages do not count


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
    found = durations_in(tmp_path / "runs", ranks=1)
    assert found is not None
    assert found.runs == ("earlier",)
    assert set(found.measured_s) == {stage.key for stage in trial.stages[1:]}  # the first was computed by another
    tuning = next(stage for stage in trial.stages if stage.kind == "fine_tune")
    assert found.seconds(replace(tuning, key="another"), "digits_vgg") == pytest.approx(2 * tuning.work)
    assert found.kinds_not_measured(plan.trials) == ["train_source"]


def test_stages_whose_work_is_not_known_say_nothing(tmp_path: Path) -> None:
    """As of a run whose data are gone, or that has only loaded its weights: all other stages would take 0 s."""
    run = tmp_path / "runs" / "earlier"
    stage = {"trial_id": "gone", "stage_key": "a", "kind": "fine_tune", "order": 0, "cached": False, "compute_s": 2.0}
    write_stages(run, [stage])
    assert durations_in(tmp_path / "runs", ranks=1) is None
    assert "time      not known: no run below " in lines(quick_plan(tmp_path), tmp_path / "runs")


def test_folders_that_are_no_runs_say_nothing(tmp_path: Path) -> None:
    assert durations_in(tmp_path / "nowhere", ranks=1) is None
    (tmp_path / "runs" / "empty" / "tables" / "stages").mkdir(parents=True)
    assert durations_in(tmp_path / "runs", ranks=1) is None


def test_where_nothing_was_measured_a_probe_of_one_trial_is_offered(tmp_path: Path) -> None:
    plan = quick_plan(tmp_path)
    said = lines(plan, tmp_path / "runs", command=["sweeps/launch.py", "my spec.toml", "--plan"])
    pruned = next(trial for trial in plan.trials if trial.label == "prune l1")  # the most kinds of stages
    assert (
        f"python sweeps/launch.py 'my spec.toml' --only {pruned.trial_id} --name quick_probe_{pruned.trial_id[:6]}"
        in said
    )
    assert "ends after" not in said
    assert "sharing   saves a factor of 2.31 over one script per trial, its source's training included\n" in said
    assert "          (expected by MACs of images, not measured); none of it is cached yet\n" in said
    assert [trial.trial_id for trial in select_trials(plan, [pruned.trial_id]).trials] == [pruned.trial_id]


def test_of_a_search_no_probe_is_offered_because_it_would_be_refused(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text('name = "s"\n[trial]\nmethod.name = "prune"\n[axes]\nseed = [0, 1]\n[search]\n')
    plan = RunSearch(load_spec(tmp_path / "s.toml"), RunFolder(tmp_path / "runs" / "s")).plan
    said = lines(plan, tmp_path / "runs", command=["sweeps/launch.py", "s.toml", "--plan"])
    assert "time      not known" in said and "--only" not in said


@pytest.mark.parametrize(("confirm", "at_once"), [("", 4), ("[confirm]\ntop = 2\nseeds = 6\n", 12)])
def test_a_search_uses_slots_for_its_largest_batch_and_its_plan_says_so(
    confirm: str, at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    (tmp_path / "s.toml").write_text(
        'name = "s"\n[trial]\nmethod.name = "fine_tune"\n[axes]\noptimisation.momentum = { from = 0.1, to = 0.8, '
        f'step = 0.1 }}\n[search]\nsampler = "tpe"\ntrials = 8\nbatch = 4\n{confirm}'
    )
    plan = RunSearch(load_spec(tmp_path / "s.toml"), RunFolder(tmp_path / "runs" / "s")).plan
    assert slots_for(plan, 4, most_slots_on("local", plan.resources)) == at_once
    assert f", {at_once} at a time in " in lines(plan, tmp_path / "runs", "local")


def test_weights_that_a_launch_would_miss_are_named_with_what_to_type(tmp_path: Path) -> None:
    path, weights = tmp_path / "quick.toml", tmp_path / "net.safetensors"
    named = f'source = {{ weights = "{weights}", weights_sha256 = "{64 * "0"}" }}'
    path.write_text(QUICK_SPEC.replace("source.epochs = 2", named))
    said = lines(make_plan(load_spec(path)), tmp_path / "runs")
    assert f"weights   launching would be refused: no weights at {weights}; give source.weights" in said
    weights.write_bytes(b"another file")
    assert "weights   launching would be refused: " in lines(make_plan(load_spec(path)), tmp_path / "runs")
    assert "refused" not in lines(quick_plan(tmp_path), tmp_path / "runs")


def test_jobs_are_printed_as_they_would_be_submitted(tmp_path: Path) -> None:
    site = tmp_path / "mine.toml"
    site.write_text("cpus_per_node = 4\nmemory_gb = 1\nwalltime_min = 60\n")
    plan = quick_plan(tmp_path)
    said = lines(plan, tmp_path / "runs", str(site))
    texts = job_texts(RunFolder(tmp_path / "runs" / "quick"), read_site(site), plan.resources, this_code_digest())
    shown = [line for title, text in texts for line in ("", f"--- {title}", *text.splitlines())]
    assert said.splitlines()[-len(shown) :] == shown
    assert "#SBATCH --mem=1024MB" in said


def test_it_says_what_the_doctor_has_found_about_the_shared_folder(tmp_path: Path) -> None:
    site = tmp_path / "mine.toml"
    site.write_text(f"cpus_per_node = 4\nwalltime_min = 60\nshared_folder = {str(tmp_path)!r}\n")
    assert f" doctor --site {site}" in lines(quick_plan(tmp_path), tmp_path / "runs", str(site))
    write_verdict(tmp_path, late_finding(31.0, None))
    page = lines(quick_plan(tmp_path), tmp_path / "runs", str(site))
    (line,) = [line for line in page.splitlines() if "nocto" in line]
    assert line.startswith("folder ") and "is seen after 31.0 s" in line


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


def test_seeds_of_which_some_arms_have_fewer_are_given_as_a_range(tmp_path: Path) -> None:
    path = tmp_path / "quick.toml"
    own_seeds = QUICK_SPEC.replace("[axes]\nseed = [0, 1]\n", "").replace(
        '"fine_tune"', '"fine_tune"\naxes.seed = [0, 1]'
    )
    path.write_text(f"{own_seeds}axes.seed = [0, 1, 2, 3]\n")
    text = lines(make_plan(load_spec(path)), tmp_path / "runs")
    assert "seeds     2 to 4 of an arm: with 2, a paired comparison can reach p = 0.5 at best" in text


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
    trials = timed(*(f"s{number}:3600" for number in range(12)))
    limits = ScalingLimits(
        max_workers=6, walltime_s=86400, drain_before_s=90, successor_lead_s=60, idle_s=60, start_limit_s=600
    )  # fmt: skip
    capacity = Capacity(limits=limits, units_per_worker=4, unit="GPU", start_s=30)
    found = forecasts(trials, capacity)
    assert [forecast.workers for forecast in found] == [1, 2, 4, 6]
    for forecast, rounds in zip(found, (12, 6, 3, 2), strict=True):
        assert forecast.latest_s == forecast.earliest_s == pytest.approx(30 + 3600 * rounds, abs=1)
        assert forecast.unit_hours == pytest.approx(12 * 4, rel=0.01)
    spanning = replace(capacity, limits=replace(limits, workers_per_slot=2))
    assert [forecast.workers for forecast in forecasts(trials, spanning)] == [2, 4, 6]
    shared = replace(capacity, limits=replace(limits, slots_per_worker=2))
    assert forecasts(trials, shared)[0].latest_s == pytest.approx(30 + 3600 * 6, abs=1)


def test_very_many_trials_are_given_bounds_that_hold_what_a_schedule_says() -> None:
    trials = timed(*(f"root{n // 10}:20 s{n}:{5 + n % 7}" for n in range(3000)))
    capacity = one_machine(4, 1)
    found = forecasts(trials, capacity)
    assert [forecast.workers for forecast in found] == [1, 2, 4]
    assert any(forecast.earliest_s < forecast.latest_s for forecast in found)
    for forecast in found:
        makespan_s, _ = schedule(trials, forecast.workers, 0.0)
        assert forecast.earliest_s <= makespan_s <= forecast.latest_s


def test_without_sharing_every_trial_takes_all_of_its_stages() -> None:
    plan = plan_of(families(2, 4))
    found = fit_durations([measured("x", "fake", 10.0, work=1.0)], ranks=1)
    shared = timed_trials(plan, found.seconds, lambda _: False, lambda _: False)
    alone = timed_trials(replace(plan, private_cache=True), found.seconds, lambda _: False, lambda _: True)
    work_s = [schedule(trials, 1, 0.0)[0] for trials in (shared, alone)]
    assert work_s[1] / work_s[0] == pytest.approx(8 * 3 / (2 + 4 + 8))


@pytest.mark.check
def test_the_scheduled_makespan_of_a_real_serial_run_is_the_sum_of_what_its_stages_took(
    tmp_path: Path, trained: RunFolder, launch: Command
) -> None:
    spec = tmp_path / "trained.toml"
    plan = make_plan(load_spec(spec))
    with load(trained.path) as run:
        (row,) = run.rows("SELECT sum(compute_s) AS seconds FROM stages WHERE NOT cached")
        (span,) = run.rows("SELECT epoch(max(ended_at) - min(started_at)) AS seconds FROM trials")
        cost, _ = cost_of_run(run)
    durations = durations_in(tmp_path / "runs", ranks=1)
    assert durations is not None
    left = timed_trials(plan, durations.seconds, lambda _: False, lambda _: False)
    makespan_s, _ = schedule(left, 1, 0.0)
    assert makespan_s == pytest.approx(row["seconds"], rel=1e-9)
    assert makespan_s <= span["seconds"]
    again = launch(spec, "--site", "serial", "--plan", "--name", "again", "--cache", "empty")
    assert f"time      from {len(durations.measured_s)} stages that trained measured on cpu" in again.stdout
    assert "| slots | ends after |" in again.stdout
    (scripts, *others) = cost.baselines.leading_first()
    apart = f"one script per trial, its source's training included: {scripts.separate / 3600:.3g}\n"
    assert (
        f"bill      {makespan_s / 3600:.3g} rank-hours for all trials, what is cached included; {apart}" in again.stdout
    )
    assert f"sharing   saves a factor of {scripts.factor_text} over one script per trial, its source's" in again.stdout
    assert "          (expected by the seconds of measured stages); none of it is cached yet\n" in again.stdout
    for baseline in (scripts, *others):
        assert f"| {baseline.name} | {baseline.factor_text} |\n" in again.stdout
