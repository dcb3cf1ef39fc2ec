"""What a sweep with [settle] decides, and which trials it adds, on runs with made-up scores."""

from pathlib import Path
from typing import Any

import pytest

from results.arms.looks import RecordedLook, look_row, recorded_looks
from results.statistics.sequential import Design, look_at
from results.store.reader import load
from results.store.schema import TABLES
from results.store.writer import Writer
from sweeps.errors import SpecError
from sweeps.run.run_folder import RunFolder, open_run
from sweeps.settle.costs import seed_lines
from sweeps.settle.family import planned_comparisons
from sweeps.settle.run_settle import RunSettle, whole_plan
from sweeps.spec.spec import Spec, spec_of
from tests.results.exact_run import START
from tests.sweeps.settle.made_scores import begin, end_trials, scores, settle, settled_spec

EFFECTS = {"head_only": -20.0, "transtailor": 12.0, "prune l1": 0.3}
ARMS = ("fine_tune", "head_only", "prune l1", "transtailor")


def settled(folder: Path, spec: Spec | None = None, **made: Any) -> tuple[RunFolder, list[RecordedLook]]:
    spec = spec or settled_spec()
    run = begin(spec, folder)
    settle(spec, run, scores(made.pop("effects", EFFECTS), **made))
    with load(run.path) as tables:
        return run, recorded_looks(tables)


def seeds_of(run: RunFolder) -> dict[str, int]:
    """How many seeds each arm has."""
    with load(run.path) as tables:
        rows = tables.rows("SELECT arm, count(DISTINCT seed) AS n, max(seed) AS last FROM planned GROUP BY arm")
    assert all(row["last"] == row["n"] - 1 for row in rows)
    return {row["arm"]: row["n"] for row in rows}


def verdicts(looks: list[RecordedLook]) -> dict[tuple[str, float | None], list[tuple[int, str]]]:
    found: dict[tuple[str, float | None], list[tuple[int, str]]] = {}
    for look in looks:
        found.setdefault((look.comparison.arm, look.comparison.asked), []).append((look.seeds, look.verdict))
    return found


def test_settled_arms_get_no_more_seeds_and_the_control_goes_on_while_one_is_open(tmp_path: Path) -> None:
    run, looks = settled(tmp_path)
    assert verdicts(looks) == {
        ("head_only", 0.0): [(10, "worse")],
        ("transtailor", 0.2): [(10, "better")],
        ("transtailor", 0.4): [(10, "better")],
        ("prune l1", 0.2): [(10, "open"), (14, "open"), (20, "no difference that matters")],
        ("prune l1", 0.4): [(10, "open"), (14, "open"), (20, "no difference that matters")],
    }
    assert seeds_of(run) == {"fine_tune": 20, "head_only": 10, "transtailor": 10, "prune l1": 20}
    assert {look.family for look in looks} == {5}


def test_a_budget_that_is_settled_gets_no_more_trials_of_its_own(tmp_path: Path) -> None:
    right = scores({})
    run = begin(settled_spec(), tmp_path)
    settle(settled_spec(), run, lambda trial, asked: 99 if asked == 0.4 else right(trial, asked))
    with load(run.path) as tables:
        rows = tables.rows(
            "SELECT config_json ->> '$.method.asked_removed_macs_fraction' AS asked, count(*) AS n FROM planned "
            "WHERE arm = 'prune l1' GROUP BY ALL ORDER BY ALL"
        )
    assert rows == [{"asked": "0.2", "n": 20}, {"asked": "0.4", "n": 10}]
    assert seeds_of(run)["transtailor"] == 20  # whose trials reach both budgets


def test_looks_are_those_of_all_seeds_at_once(tmp_path: Path) -> None:
    """Seeds that are added look by look give what `look_at` says of all of them."""
    spec = settled_spec()
    right = scores({"prune l1": 4.0, "head_only": -9.0, "transtailor": 1.0}, deviation=4.0)
    run = begin(spec, tmp_path)
    settle(spec, run, right)
    assert spec.settle is not None
    plan = whole_plan(spec)
    by_id = {trial.trial_id: trial for trial in plan.trials}
    differences: dict[tuple[str, float | None], list[float]] = {}
    for planned in planned_comparisons(plan, spec.settle, ""):
        of = planned.comparison
        for seed in range(20):
            (own,), (control,) = planned.trials[seed], planned.control_trials[seed]
            counts = right(by_id[own], of.asked), right(by_id[control], of.against_asked)
            differences.setdefault((of.arm, of.asked), []).append(counts[0] / 100 - counts[1] / 100)  # type: ignore[operator]
    expected = look_at(differences, Design((10, 14, 20), 0.05, 0.05, 5), image=0.01)
    with load(run.path) as tables:
        found = verdicts(recorded_looks(tables))
    assert found == {name: [(look.seeds, look.verdict) for look in several] for name, several in expected.items()}
    assert len({verdict for several in found.values() for _, verdict in several}) > 2


def test_an_arm_that_fails_before_the_first_look_is_in_no_family(tmp_path: Path) -> None:
    run, looks = settled(tmp_path, failing=[("head_only", 3)])
    assert verdicts(looks)["head_only", 0.0] == [(10, "incomplete")]
    assert {look.family for look in looks} == {4}
    (incomplete,) = [look for look in looks if look.verdict == "incomplete"]
    assert len(incomplete.failed) == 1 and incomplete.mean is None
    assert seeds_of(run)["head_only"] == 10


@pytest.mark.check
def test_an_arm_that_fails_later_keeps_its_place_in_the_family(tmp_path: Path) -> None:
    run, looks = settled(tmp_path, failing=[("prune l1", 12)])
    assert verdicts(looks)["prune l1", 0.2] == [(10, "open"), (14, "incomplete")]
    assert {look.family for look in looks} == {5}
    assert seeds_of(run) == {"fine_tune": 14, "head_only": 10, "transtailor": 10, "prune l1": 14}


def test_nothing_is_compared_if_the_control_fails(tmp_path: Path) -> None:
    run, looks = settled(tmp_path, failing=[("fine_tune", 0)])
    assert {look.verdict for look in looks} == {"incomplete"}
    assert set(seeds_of(run).values()) == {10}


@pytest.mark.check
def test_what_is_open_after_the_last_look_stays_open(tmp_path: Path) -> None:
    run, looks = settled(tmp_path, settled_spec(matters=0.001), effects={})
    assert {look.verdict for look in looks if look.look == 2} == {"open"}
    assert {look.ended for look in looks if look.look == 2} == {"all 20 seeds have run"}
    producer = RunSettle(settled_spec(matters=0.001), run)
    assert producer.has_ended() and producer.more({}, ()) == ()


@pytest.mark.check
def test_no_seeds_are_added_when_the_time_is_over(tmp_path: Path) -> None:
    spec = settled_spec(hours=1e-9)
    run = begin(spec, tmp_path)
    attempt = {
        "trial_id": "x", "attempt": 1, "driver": "d", "status": "finished", "started_at": None, "code_digest": "c",
    }  # fmt: skip
    row: dict[str, Any] = {}
    for column in TABLES["attempts"].columns:
        if not column.nullable and column.name != "written_at":
            row[column.name] = {"string": "x", "int64": 1, "double": 1.0, "bool": False}.get(str(column.type), START)
    row |= attempt | {"started_at": START, "ended_at": START.replace(hour=13)}
    Writer(run.tables).write("attempts", [row])
    settle(spec, run, scores({}))
    with load(run.path) as tables:
        looks = recorded_looks(tables)
    assert {look.look for look in looks} == {0}
    assert {look.ended for look in looks if look.is_open} == {"hours = 1e-09 were reached"}
    assert RunSettle(spec, run).has_ended()


@pytest.mark.check
def test_a_launch_that_was_killed_after_a_decision_is_completed(tmp_path: Path) -> None:
    """Rows of the look are there, the trials that follow are not planned."""
    spec = settled_spec()
    run, other = begin(spec, tmp_path / "a"), begin(spec, tmp_path / "b")
    right = scores(EFFECTS)
    for folder in (run, other):
        end_trials(folder, RunSettle(spec, folder).plan.trials, right)
    producer = RunSettle(spec, run)
    producer.save(Writer(run.tables))
    whole = producer.more({}, ())
    record = open_run(other)
    with load(run.path) as tables:
        looks = [look for look in recorded_looks(tables) if look.look == 0]
    Writer(other.tables).write("looks", [look_row(look) | {"code_digest": record.code_digest} for look in looks])
    again = RunSettle(spec, other)
    new = {trial.trial_id for trial in again.plan.trials} - set(record.trials)
    assert new == {trial.trial_id for trial in whole}
    again.save(Writer(other.tables))
    assert set(open_run(other).trials) == set(open_run(run).trials)


def test_a_look_says_which_scores_it_read(tmp_path: Path) -> None:
    """Also of seeds that were looked at before; of an arm with failed trials, none."""
    run, looks = settled(tmp_path, failing=[("head_only", 3)])
    right = scores(EFFECTS)
    by_id = {trial.trial_id: trial for trial in whole_plan(settled_spec()).trials}
    spec = settled_spec()
    assert spec.settle is not None
    planned = planned_comparisons(whole_plan(spec), spec.settle, "")
    for look in looks:
        if look.verdict == "incomplete":
            assert look.scores is None and look.against_scores is None
            continue
        trials = planned[look.number]
        own = [right(by_id[trials.trials[seed][0]], look.comparison.asked) for seed in range(look.seeds)]
        control = [
            right(by_id[trials.control_trials[seed][0]], look.comparison.against_asked) for seed in range(look.seeds)
        ]
        assert look.scores == pytest.approx([count / 100 for count in own if count is not None])
        assert look.against_scores == pytest.approx([count / 100 for count in control if count is not None])
    assert {look.seeds for look in looks} == {10, 14, 20}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"search": {"sampler": "random", "trials": 2}}, "search first, then settle"),
        ({"tuning": {"optimisation.epochs": [1, 2]}}, r"\[tuning\] chooses the best setting"),
        ({"axes": {"seed": [0, 1]}}, r"\[axes\] seed: \[settle\] gives the seeds, 0 to 19.*of a spec that is extended"),
        ({"trial": {"seed": 3}}, r"\[trial\] seed"),
        ({"settle": {"against": "x"}}, r"matters"),
        ({"settle": {"against": "x", "matters": 1}}, "matters.* less than 1"),  # a point is 0.01
        ({"settle": {"against": "x", "matters": 0.1, "looks": [5, 9]}}, "can settle nothing; 6 or more"),
        ({"settle": {"against": "x", "matters": 0.1, "gpu_hours": 2.0}}, "trials use no GPU"),
    ],
)
def test_a_spec_that_cannot_be_settled_is_refused(changes: dict[str, Any], words: str) -> None:
    table = {"against": "fine_tune", "matters": 0.05, "looks": [10, 14, 20]}
    base = {"name": "x", "settle": table, "variants": [{"method": {"name": "fine_tune"}}]}
    with pytest.raises(SpecError, match=words):
        spec_of(base | changes, "made.toml").check_gpu_hours()


@pytest.mark.parametrize(
    ("settle_changes", "words"),
    [
        ({"against": "fine_tun"}, "no arm is called 'fine_tun'"),
        ({"at": [0.2, 0.3, 0.45]}, "no arm reaches 0.45"),
        ({"at": []}, "is compared nowhere, because it reaches"),
        ({"looks": [60_000]}, "at most 100,000; shorten settle.looks"),
    ],
)
def test_comparisons_that_cannot_be_made_are_refused(
    tmp_path: Path, settle_changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(SpecError, match=words):
        RunSettle(settled_spec(**settle_changes), RunFolder(tmp_path / "r"))


def test_excluded_seeds_are_refused(tmp_path: Path) -> None:
    spec = settled_spec().model_copy(update={"exclude": [{"seed": 4, "method": {"name": "head_only"}}]})
    with pytest.raises(SpecError, match="has no trials with seed 4"):
        RunSettle(spec, RunFolder(tmp_path / "r"))


def test_another_spec_does_not_continue_the_run(tmp_path: Path) -> None:
    run = begin(settled_spec(), tmp_path)
    RunSettle(settled_spec(), run)
    for changes in ({"matters": 0.02}, {"looks": [10, 14, 20, 30]}, {"at": [0.2]}):
        with pytest.raises(SpecError, match=r"\[settle\] is not that of .* for a new run"):
            RunSettle(settled_spec(**changes), run)


def test_the_plan_says_how_many_trials_run_at_least_and_at_most() -> None:
    lines = list(seed_lines(settled_spec(), lambda _stage, _network: 1.0, None))
    assert "5 comparisons with fine_tune, looked at after 10, 14, 20 seeds" in lines[0]
    assert "50 trials at least, 100 at most" in lines[1]  # five trials of each seed
    early = settled_spec(looks=[6, 8, 14])  # with 8 seeds no p of five comparisons is small enough
    lines = list(seed_lines(early, lambda _stage, _network: 1.0, None))
    assert lines[2:4] == [
        "          fewer than 14 seeds cannot settle any of them",
        "          70 trials at least, 70 at most; above is what runs first",
    ]
    too_few = seed_lines(settled_spec(looks=[6, 7]), lambda _stage, _network: 1.0, None)
    assert "no look can settle any of them: give looks more seeds" in "".join(too_few)
    few = settled_spec(looks=[10, 17])
    lines = list(seed_lines(few, lambda _stage, _network: 1.0, None))
    assert "no difference that matters: never found here, as it takes 18 seeds or more" in lines[1]


def test_a_control_that_prunes_is_compared_at_the_same_budget() -> None:
    spec = settled_spec(against="prune l1")
    assert spec.settle is not None
    comparisons = planned_comparisons(whole_plan(spec), spec.settle, "")
    pairs = {(of.comparison.arm, of.comparison.asked): of.comparison.against_asked for of in comparisons}
    assert pairs == {
        ("fine_tune", 0.0): 0.2, ("head_only", 0.0): 0.2, ("transtailor", 0.2): 0.2, ("transtailor", 0.4): 0.4,
    }  # fmt: skip
