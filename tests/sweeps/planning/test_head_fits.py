"""The head's fit with which a path begins is `head_only`, under this name in every answer; and one control a table."""

import html
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from results.arms.fronts import fronts_of
from results.best import best_points
from results.questions import compare, front
from results.questions.compare import versus_arm_page
from results.questions.table import published_table
from results.report.page import write_report
from results.store.reader import Run, load
from results.text.formats import answer_of, markdown_lines
from sweeps.operations.status import status
from sweeps.planning.plan import PlannedTrial, make_plan
from sweeps.run.run_folder import RunFolder
from sweeps.spec.spec import spec_of
from tests.plain_readers import plain_readers
from tests.sweeps.settle.made_scores import create, end_trials

HEAD = {"method": {"name": "head_only"}}
LONG = {"label": "fine_tune long", "method": {"name": "fine_tune"}, "optimisation": {"epochs": 90}}
VARIANTS: list[dict[str, Any]] = [
    {"label": "TransTailor", "method": {"name": "transtailor", "steps": 2}},
    {"label": "fine-tuning", "method": {"name": "fine_tune"}},
    {"method": {"name": "gbn", "steps": 1}},
]
RIGHT = {"TransTailor": 60, "fine-tuning": 50, "gbn": 40, "head_only": 73, "the head": 73, "fine_tune long": 45}
SEEDS = range(4)


def plan_of(*more: dict[str, Any], **axes: Any) -> Any:
    grid = {"seed": list(SEEDS), "network": ["digits_resnet"]} | axes
    return make_plan(spec_of({"name": "made", "axes": grid, "variants": [*VARIANTS, *more]}, "made.toml"))


def made(folder: Path, *more: dict[str, Any]) -> RunFolder:
    """A run of a spec with these variants more, whose heads name 73 images rightly, and fine-tuning but 50."""
    plan = plan_of(*more)
    run = create(plan, folder)
    end_trials(run, plan.trials, right)
    return run


def right(trial: PlannedTrial, asked: float | None) -> int:
    """How many of 100 images a trial names rightly: one more at odd seeds, fewer the more is removed."""
    of_arm = 73 if is_head(trial.arm, asked) else RIGHT[trial.arm] - round(20 * (asked or 0.0))
    return of_arm + trial.settings.seed % 2


def is_head(arm: str, asked: float | None) -> bool:
    return not asked and not arm.startswith("fine")


def rows_of(run: RunFolder) -> dict[str, Mapping[str, Any]]:
    table = answer_of(status(run)).tables["best"]
    return {row["arm"]: row for row in table.records}


def answers(run: RunFolder) -> dict[str, dict[str, float]]:
    """What each question calls the arm that prunes nothing and tunes nothing, and its score."""
    with load(run.path) as tables:
        said = {
            "front": {str(point.arm): point.score for point in fronts_of(tables, "macs")[problem_of(tables)]},
            "compare": {row["arm"]: row["score"] for row in records(tables) if not row["removed_macs_fraction"]},
            "best": {best_points(tables)[0]["arm"]: best_points(tables)[0]["test_score"]},
            "points": {
                row["arm"]: row["score"]
                for row in tables.rows(
                    "SELECT arm, avg(test_score) AS score FROM points WHERE removed_macs_fraction = 0 AND is_compared"
                    " GROUP BY ALL"
                )
            },
        }
    said["status"] = {arm: row["validation_score"] - 0.01 * (row["seed"] % 2) for arm, row in rows_of(run).items()}
    return said


def problem_of(tables: Run) -> Any:
    (problem,) = fronts_of(tables, "macs")
    return problem


def records(tables: Run, against: str = "fine-tuning", at: float | None = None) -> Sequence[Mapping[str, Any]]:
    return answer_of(versus_arm_page(tables, against, at)).tables["compare"].records


@pytest.mark.parametrize(
    "more", [pytest.param((), marks=pytest.mark.check), (HEAD,)], ids=["without head_only", "with head_only"]
)
def test_every_answer_calls_the_heads_fit_head_only_and_has_the_same_numbers(
    tmp_path: Path, more: Iterable[dict[str, Any]]
) -> None:
    run = made(tmp_path, *more)
    said = answers(run)
    for question, arms in said.items():
        assert "head_only" in arms, (question, arms)
        assert arms["head_only"] == pytest.approx(0.735 if question not in ("best", "status") else 0.74, abs=0.011)
        assert not any("0%" in name.replace("10%", "").replace("20%", "") for name in arms), question
    with load(run.path) as tables:
        (head,) = [row for row in records(tables) if row["arm"] == "head_only"]
        assert (head["pairs"], head["difference"]) == (4, pytest.approx(0.23))  # one point a seed, not one of each path
        (paths,) = tables.rows("SELECT count(*) AS n FROM compared_points WHERE arm = 'head_only'")
        assert paths["n"] == 4
    status_rows = rows_of(run)
    assert (status_rows["head_only"]["of_points"], status_rows["TransTailor"]["of_points"]) == (4, 8)
    report = html.unescape(write_report(run.path).read_text())
    assert "head_only" in report and "head fit" not in report and "TransTailor at 0%" not in report


def test_a_head_fit_has_the_name_that_the_spec_gives_it(tmp_path: Path) -> None:
    plan = plan_of(HEAD | {"label": "the head"})
    assert {(trial.arm, trial.head_arm) for trial in plan.trials} == {
        ("TransTailor", "the head"), ("gbn", "the head"), ("fine-tuning", None), ("the head", None),
    }  # fmt: skip
    run = made(tmp_path, HEAD | {"label": "the head"})
    with load(run.path) as tables:
        assert tables.rows("SELECT DISTINCT label, method FROM operating_points WHERE arm = 'the head'") == [
            {"label": "the head", "method": "head_only"}
        ]
        assert not tables.rows("FROM operating_points WHERE arm = 'head_only'")


def test_the_files_name_a_head_fit_as_every_answer_does(trained_once: Path) -> None:
    """Who reads them without this program takes no head for a pruned network."""
    run = trained_once / "runs" / "trained"
    columns = ["trial_id", "point", "arm", "label", "method"]
    with load(run) as tables:
        ours = tables.rows(f"SELECT {', '.join(columns)} FROM operating_points ORDER BY ALL")
    assert [row["arm"] for row in ours].count("head_only") == 2 and len(ours) == 3
    for reader in plain_readers().values():
        rows = reader(run / "tables" / "operating_points", columns).to_pylist()
        assert sorted(rows, key=lambda row: (row["trial_id"], row["point"])) == ours


def test_heads_that_differ_are_arms_of_their_own() -> None:
    other = HEAD | {"optimisation": {"head_epochs": 3}}
    assert {trial.head_arm for trial in plan_of(other).trials} == {None, "head_only, head_epochs = 40"}
    other = {"label": "head_only", "method": {"name": "fine_tune"}, "optimisation": {"epochs": 7}}
    assert {trial.head_arm for trial in plan_of(other).trials} == {None, "head_only of a path"}
    heads = {trial.head_arm for trial in plan_of(**{"optimisation.head_epochs": [3, 5]}).trials}
    assert heads == {None, "head_only, head_epochs = 3", "head_only, head_epochs = 5"}
    assert {trial.head_arm for trial in plan_of(**{"optimisation.epochs": [3, 5]}).trials} == {None, "head_only"}


def test_a_broken_baseline_is_named_by_validation_wherever_it_is_the_baseline(tmp_path: Path) -> None:
    run = made(tmp_path, LONG)
    with load(run.path) as tables:
        pages = {
            "compare": "\n".join(markdown_lines(compare.versus_arm_page(tables, "fine-tuning", None))),
            "front": "\n".join(markdown_lines(front.front_page(tables, "macs"))),
            "table": "\n".join(published_table(tables).notes),
        }
        of_gbn = answer_of(compare.versus_arm_page(tables, "gbn", None)).tables["compare"].records
        assert {row["arm"] for row in of_gbn if "below head" in row["flags"]} == {"fine-tuning", "fine_tune long"}
    pages["status"] = "\n".join(markdown_lines(status(run)))
    pages["report"] = html.unescape(write_report(run.path).read_text())
    assert all("ended below the fit of its own head" in text for text in pages.values())
    assert "fine-tuning, digits_resnet on digits" in pages["status"]
