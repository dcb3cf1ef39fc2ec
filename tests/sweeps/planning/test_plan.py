"""Plans: ids, what is shared, what it costs, and the same sweep without sharing."""

from collections.abc import Iterable
from pathlib import Path

import pytest
import safetensors.torch

from results.sharing import EACH_POINT_ALONE, ONE_SCRIPT, SOURCE_GIVEN, SOURCE_KIND
from sweeps.errors import SpecError
from sweeps.planning.cost import cost_of
from sweeps.planning.plan import (
    PlannedTrial,
    make_plan,
    no_sharing,
    refuse_missing_files,
    refuse_unfit_networks,
    select_trials,
)
from sweeps.spec.json_settings import JsonSettings
from sweeps.spec.spec import EMBEDDED_SPEC, load_spec
from tailor.common.errors import ConfigError
from tailor.config.parsing import parse_trial
from tailor.execution.dry_run import PlannedStage, dry_run
from tailor.facts.networks import NETWORKS
from tailor.facts.weights import sha256_of
from tailor.networks import building
from tailor.stages import TrainSource
from tests.sweeps.conftest import WriteSpec
from tests.tailor.execution.users_networks import SOURCE

ROOT = Path(__file__).parents[3]


def stage(key: str, work: float, *parents: str, point: int | None = None) -> PlannedStage:
    """A stage made by hand."""
    return PlannedStage(
        key=key, kind=key, version=1, parents=parents, work=work, stored_bytes=10, point=point
    )  # fmt: skip


def test_cost_by_hand() -> None:
    source, head = stage("train_source", 8.0), stage("head", 4.0, "train_source")
    first = stage("first", 0.5, "head", point=0)
    tune, second = stage("tune", 2.0, "head"), stage("second", 0.25, "tune", point=1)
    other, third = stage("other", 1.0, "head"), stage("third", 0.125, "other", point=0)
    settings = JsonSettings({"network": "digits_vgg"})
    trials = [
        PlannedTrial(
            trial_id="a", label="path", arm="path", settings=settings, stages=(source, head, first, tune, second)
        ),
        PlannedTrial(trial_id="b", label="other", arm="other", settings=settings, stages=(source, head, other, third)),
        PlannedTrial(trial_id="c", label="again", arm="again", settings=settings, stages=(source, head, first)),
    ]
    cost = cost_of(trials, {"train_source", "first"}.__contains__)
    assert (cost.stages_asked, cost.stages_distinct, cost.stages_cached) == (12, 7, 2)
    shared = 8 + 4 + 0.5 + 2 + 0.25 + 1 + 0.125
    assert cost.work_shared == shared
    assert [(each.name, each.separate, each.shared) for each in cost.baselines.leading_first()] == [
        (ONE_SCRIPT, 14.75 + 13.125 + 12.5, shared),
        (SOURCE_GIVEN, 6.75 + 5.125 + 4.5, shared - 8),
        (EACH_POINT_ALONE, (8 + 4 + 0.5) + (8 + 4 + 2 + 0.25) + (8 + 4 + 1 + 0.125), shared),
    ]
    assert cost.work_left == cost.work_shared - 8 - 0.5
    assert (cost.stored_bytes, cost.new_bytes) == (70, 50)
    in_seconds = cost_of(trials, {"train_source", "first"}.__contains__, lambda _, name: 2.0 * (name == "digits_vgg"))
    assert (in_seconds.work_shared, in_seconds.work_left) == (14.0, 10.0)
    assert [each.factor for each in in_seconds.baselines.leading_first()] == [12 / 7, 9 / 6, (3 + 4 + 4) / 7]


def test_trials_without_an_operating_point_yet_have_no_factor_over_points_alone() -> None:
    """As the first trials of a search with halving, which rest after some epochs."""
    trial = PlannedTrial(
        trial_id="a", label="a", arm="a", settings=JsonSettings({"network": "digits_vgg"}), stages=(stage("tune", 2.0),)
    )
    assert [each.factor_text for each in cost_of([trial], set().__contains__).baselines.leading_first()] == [
        "1.00",
        "–",
    ]


def sums(work_of_trials: Iterable[dict[str, float]]) -> tuple[float, float]:
    """Slow and obvious: each trial's own stages, and the union of all."""
    own = 0.0
    union: dict[str, float] = {}
    for work in work_of_trials:
        own += sum(work.values())
        union |= work
    return own, sum(union.values())


def alone(point: PlannedStage, trial: PlannedTrial) -> dict[str, float]:
    """The work of an operating point from the start: of all that its parents lead to."""
    stages = {stage.key: stage for stage in trial.stages}
    work = {point.key: point.work}
    for parent in point.parents:
        work |= alone(stages[parent], trial)
    return work


@pytest.mark.parametrize(
    ("spec", "scripts", "given", "points"),
    [
        ("benchmarks/paper_like.toml", "3.00", "1.43", "9.99"),
        ("sweeps/specs/methods_on_digits.toml", "2.61", "1.49", "4.96"),
        ("sweeps/specs/transtailor_ablation.toml", "1.82", "1.28", "5.00"),
    ],
)
def test_each_baseline_is_what_a_slow_sum_over_the_trials_says(
    spec: str, scripts: str, given: str, points: str
) -> None:
    trials = make_plan(load_spec(ROOT / spec)).trials
    found = cost_of(trials, lambda _: False).baselines
    each = [{stage.key: stage.work for stage in trial.stages} for trial in trials]
    assert (found.one_script.separate, found.one_script.shared) == pytest.approx(sums(each), rel=1e-12)
    each = [{stage.key: stage.work for stage in trial.stages if stage.kind != "train_source"} for trial in trials]
    assert (found.source_given.separate, found.source_given.shared) == pytest.approx(sums(each), rel=1e-12)
    from_start = {point.key: alone(point, trial) for trial in trials for point in trial.points}
    assert found.each_point_alone.separate == pytest.approx(sums(from_start.values())[0], rel=1e-12)
    assert [baseline.factor_text for baseline in found.leading_first()] == [scripts, given, points]


def test_where_no_source_is_trained_scripts_have_it_given(write_spec: WriteSpec) -> None:
    assert TrainSource.kind == SOURCE_KIND
    text = f'''name = "given"
trial.source = {{ weights = "net.safetensors", weights_sha256 = "{64 * "0"}" }}
axes.seed = [0, 1]
[[variants]]
method.name = "fine_tune"
[[variants]]
method = {{ name = "prune", steps = 2, asked_removed_macs_fraction = 0.4 }}
'''
    found = cost_of(make_plan(load_spec(write_spec(text))).trials, lambda _: False).baselines.leading_first()
    assert [baseline.name for baseline in found] == [SOURCE_GIVEN, EACH_POINT_ALONE]


def test_a_planned_trial_is_its_configuration_and_its_walk() -> None:
    plan = make_plan(load_spec(EMBEDDED_SPEC))
    for trial in plan.trials[:: len(plan.trials) // 6]:
        walked = dry_run(parse_trial(trial.settings.values, "plan"))
        assert (walked.trial_id, walked.stages) == (trial.trial_id, trial.stages)


def test_trials_that_differ_only_in_what_no_stage_reads_are_warned_of(write_spec: WriteSpec) -> None:
    text = """
name = "unread"
[axes]
seed = [0, 1]
optimisation.learning_rate = [0.01, 0.02, 0.03]
[[variants]]
method.name = "pac_net"
[[variants]]
method.name = "fine_tune"
[[variants]]
axes.method.stop_early = [false, true]
method = { name = "transtailor", steps = 2 }
"""
    (said,) = make_plan(load_spec(write_spec(text))).warnings
    assert said.startswith("pac_net: 4 trials will have the same results as an earlier one, because no stage reads ")
    assert "in which they differ: optimisation.learning_rate; they would be shown as several results" in said
    same = 'method = { name = "head_only" }\n[[variants]]\nlabel = "two"\noptimisation.epochs = 7\nmethod'
    (said,) = make_plan(load_spec(write_spec(f'name = "twins"\n[[variants]]\n{same}.name = "head_only"\n'))).warnings
    assert said.startswith("head_only and two: 1 trial will have the same results as an earlier one")
    assert "in which they differ: optimisation.epochs; " in said
    tuned = (
        'name = "tuned"\n[tuning]\noptimisation.learning_rate = [0.01, 0.02]\n[[variants]]\nmethod.name = "head_only"\n'
    )
    assert make_plan(load_spec(write_spec(tuned))).warnings == ()  # of each seed, one result is shown


def test_a_set_that_no_trial_reads_is_warned_of(write_spec: WriteSpec) -> None:
    variants = (
        '[[variants]]\nmethod.name = "head_only"\n[[variants]]\nmethod.name = "fine_tune"\noptimisation.epochs = 4\n'
    )
    path = write_spec(f'name = "set"\n{variants}')
    (said,) = make_plan(load_spec(path, ["trial.optimisation.epochs=12"])).warnings
    assert said.startswith(
        "--set trial.optimisation.epochs=12 changes no result: head_only does not read optimisation.ep"
    )
    for read in ("trial.optimisation.head_epochs=12", "trial.seed=3", "trial.optimisation.learning_rate=0.01"):
        assert make_plan(load_spec(path, [read])).warnings == ()


def test_the_embedded_sweep_shares_stages() -> None:
    plan = make_plan(load_spec(EMBEDDED_SPEC))
    cost = cost_of(plan.trials, lambda _: False)
    assert cost.stages_distinct < cost.stages_asked
    assert cost.baselines.one_script.factor == pytest.approx(2.78, abs=0.005)


def test_weights_are_looked_at_with_each_method_that_reads_them(write_spec: WriteSpec, tmp_path: Path) -> None:
    """The first trial brings a head of its own, the second keeps that of the weights, which is another task's."""
    safetensors.torch.save_file(building.build("digits_vgg", 7, seed=0).state_dict(), tmp_path / "net.safetensors")
    source = {"weights": str(tmp_path / "net.safetensors"), "weights_sha256": sha256_of(tmp_path / "net.safetensors")}
    text = "\n".join(
        [
            'name = "heads"',
            *(f'trial.source.{key} = "{value}"' for key, value in source.items()),
            *(f'[[variants]]\nmethod.name = "{method}"' for method in ("head_only", "pac_net")),
        ]
    )
    plan = make_plan(load_spec(write_spec(text)))
    with pytest.raises(ConfigError, match="head has 7 outputs while the source task of digits has 5 classes"):
        refuse_missing_files(plan)
    refuse_missing_files(select_trials(plan, [t.trial_id for t in plan.trials if t.label == "head_only"]))


def test_a_users_network_is_tried_before_a_launch(write_spec: WriteSpec, tmp_path: Path) -> None:
    """With two ranks, a parameter that no output depends on would stop the training in torch."""
    (tmp_path / "nets.py").write_text(SOURCE)
    text = "\n".join(
        [
            'name = "nets"\nimports = ["nets.py"]\nresources.ranks = 2\ntrial.method.name = "fine_tune"',
            *(f'[[variants]]\nnetwork = "{network}"' for network in ("plain", "unused")),
        ]
    )
    before = set(NETWORKS)
    try:
        plan = make_plan(load_spec(write_spec(text)))
        with pytest.raises(ConfigError, match="network 'unused': no output depends on 9.spare.weight, 9.spare.bias"):
            refuse_unfit_networks(plan)
        refuse_unfit_networks(select_trials(plan, [plan.trials[0].trial_id]))
    finally:
        for name in set(NETWORKS) - before:
            NETWORKS.remove(name)


def test_trials_are_selected_by_their_first_digits(write_spec: WriteSpec) -> None:
    plan = make_plan(load_spec(write_spec()))
    one = plan.trials[1]
    assert select_trials(plan, [one.trial_id[:12]]).trials == (one,)
    with pytest.raises(SpecError, match=r"trials of \w+ begin with ''; type more digits"):
        select_trials(plan, [""])
    with pytest.raises(SpecError, match=rf"has no trial 'zzz'; it has {plan.trials[0].trial_id} \(\w+.*\), "):
        select_trials(plan, ["zzz"])


def test_resources_are_in_no_id(write_spec: WriteSpec) -> None:
    path = write_spec()
    one = make_plan(load_spec(path))
    two = make_plan(load_spec(path, ["resources.ranks=2", "resources.threads_per_rank=4"], name="other"))
    assert [trial.trial_id for trial in one.trials] == [trial.trial_id for trial in two.trials]


def test_without_sharing_the_trials_are_the_same() -> None:
    plan = make_plan(load_spec(EMBEDDED_SPEC, ["axes.seed=[0]", "axes.network=['digits_vgg']"]))
    separate = no_sharing(plan)
    assert (separate.name, separate.private_cache, separate.trials) == ("demo_no_sharing", True, plan.trials)


def test_two_metrics_on_one_data_set_are_refused(write_spec: WriteSpec) -> None:
    path = write_spec("""
name = "two"
trial.method.name = "fine_tune"
axes.metric = ["accuracy", "macro_f1"]
""")
    with pytest.raises(SpecError, match=r'digits have the metrics accuracy and macro_f1.*metric = "macro_f1"'):
        make_plan(load_spec(path))


def test_a_plan_of_thousands_of_trials_is_linear_work() -> None:
    """Thousands of trials are planned with each distinct stage counted once, not each pair of trials compared."""
    spec = load_spec(EMBEDDED_SPEC, [f"axes.seed={list(range(180))}"])
    plan = make_plan(spec)
    asked: list[str] = []
    cost = cost_of(plan.trials, lambda key: bool(asked.append(key)))
    assert len(plan.trials) == 180 * 10
    assert len(asked) == len(set(asked)) == cost.stages_distinct
