"""The best of k settings by validation, worked out by hand from rows made here."""

import json
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from results.arms.comparison import Point, compare, points_of
from results.arms.findings import findings_of
from results.questions.table import published_page, published_table
from results.render.blocks import TableBlock
from results.report import write_report
from results.report.overview import tuning_section
from results.store.reader import load
from results.store.writer import Writer
from results.text.formats import markdown_lines
from tests.results.exact_run import Trial, rows_of, write_run

SLOW, FAST = ({"optimisation.learning_rate": rate} for rate in (0.0005, 0.005))
"""The settings of [tuning], in the order of the spec."""


def tried(order: int, validation: float | Sequence[float], **changes: Any) -> Trial:
    """A trial of one of the settings, with the validation score of each of its points."""
    scores = [validation] if isinstance(validation, float) else validation
    facts: dict[str, Any] = {
        "label": "a",
        "seed": 0,
        "right": [50] * len(scores),
        "config": (SLOW, FAST)[order],
    } | changes
    return Trial(**facts, validation=scores, tuning_order=order)


def chosen(folder: Path, *trials: Trial) -> dict[tuple[str, int, Any], Point]:
    with load(write_run(folder, trials)) as run:
        return {(each.arm, each.seed, each.asked): each for each in points_of(run)}


def test_validation_chooses_for_each_arm_seed_and_budget_and_test_does_not(tmp_path: Path) -> None:
    at: dict[str, Any] = {"asked": (0.2, 0.4)}
    found = chosen(
        tmp_path,
        tried(0, [0.6, 0.3], right=[90, 50], **at), tried(1, [0.7, 0.2], right=[10, 50], **at),
        tried(0, 0.8, seed=1), tried(1, 0.7, seed=1), tried(0, 0.1, label="b"), tried(1, 0.4, label="b"),
    )  # fmt: skip
    assert {key: json.loads(each.setting) for key, each in found.items()} == {
        ("a", 0, 0.2): FAST, ("a", 1, 0.2): SLOW, ("a", 0, 0.4): SLOW, ("b", 0, 0.2): FAST,
    }  # fmt: skip
    assert {each.best_of for each in found.values()} == {2}
    assert found["a", 0, 0.2].test == 0.1


def test_equal_scores_go_to_the_first_setting_and_what_is_no_number_never_wins(tmp_path: Path) -> None:
    tie = chosen(tmp_path / "tie", tried(1, 0.5), tried(0, 0.5))
    assert json.loads(tie["a", 0, 0.2].setting) == SLOW
    lost = chosen(tmp_path / "lost", tried(0, math.nan), tried(1, -3.0, metric="r_squared"))
    assert json.loads(lost["a", 0, 0.2].setting) == FAST


def test_the_last_point_of_a_trial_at_a_budget_stands_for_it(tmp_path: Path) -> None:
    found = chosen(tmp_path, tried(0, [0.9, 0.1], asked=(0.2, 0.2)), tried(1, 0.2))
    assert json.loads(found["a", 0, 0.2].setting) == FAST


def test_a_setting_that_failed_was_tried_and_one_that_is_missing_was_not(tmp_path: Path) -> None:
    found = chosen(
        tmp_path, tried(0, 0.5), tried(1, [], ended="failed"), tried(0, 0.5, seed=1),
        tried(1, 0.6, seed=1, ended="missing"),
    )  # fmt: skip
    assert (found["a", 0, 0.2].best_of, found["a", 1, 0.2].best_of) == (2, 1)
    assert json.loads(found["a", 1, 0.2].setting) == SLOW


def test_what_is_not_tuned_stays_as_it_is(tmp_path: Path) -> None:
    found = chosen(tmp_path, *(Trial(label="a", seed=seed, right=(50,)) for seed in range(3)))
    assert {(seed, each.setting, each.best_of) for (_, seed, _), each in found.items()} == {
        (seed, "", 1) for seed in range(3)
    }


def test_how_often_each_setting_was_chosen(tmp_path: Path) -> None:
    """An arm with one setting, such as a head's fit, chose none."""
    scores = ((0, 0, 0.1), (0, 1, 0.2), (1, 0, 0.1), (1, 1, 0.2), (2, 0, 0.3), (2, 1, 0.2))
    write_run(tmp_path, [tried(order, value, seed=seed) for seed, order, value in scores])
    write_run(tmp_path, [tried(0, 0.5, seed=seed, label="head_only") for seed in range(3)])
    with load(tmp_path) as run:
        section = tuning_section(findings_of(run))
    assert section is not None
    (block,) = section.blocks
    assert isinstance(block, TableBlock)
    shown = [[row[name] for name in ("arm", "setting", "seeds", "best_of")] for row in block.table.records]
    assert shown == [
        ["a", "optimisation.learning_rate = 0.0005", 1, [2]], ["a", "optimisation.learning_rate = 0.005", 2, [2]],
    ]  # fmt: skip


def test_arms_with_different_numbers_of_settings_are_not_called_equal(tmp_path: Path) -> None:
    trials = [tried(order, 0.5, label=label, seed=seed) for seed in range(8) for label in "ab" for order in (0, 1)
              if not (label == "b" and order == 1 and seed == 7)]  # fmt: skip
    with load(write_run(tmp_path, trials)) as run:
        arms = {arm.label: arm for arm in findings_of(run).arms}
    assert (set(arms["a"].best_of), set(arms["b"].best_of)) == ({2}, {1, 2})
    assert compare([(arms["a"], arms["b"])]).tuning_budgets_differ


def tuned_run(run: Path, synthetic: Any, fast: Callable[[str, int], float], left_out: tuple[str, int] | None) -> Path:
    """A synthetic run whose trials are the first setting, and a copy of each as the second one."""
    synthetic(seeds=range(6), budgets=(0.0, 0.2), validation=lambda _label, _seed, _point: 0.8, test_images=50).write(
        run
    )
    writer = Writer(run / "tables")
    with load(run) as tables:
        rows = {name: tables.rows(f"SELECT * EXCLUDE (written_at) FROM {name}")
                for name in ("planned", "trials", "operating_points", "predictions")}  # fmt: skip
    arm_of = {row["trial_id"]: (row["arm"], row["seed"]) for row in rows["planned"]}
    for name, several in rows.items():
        tuning = {"tuning_json": json.dumps(SLOW), "tuning_order": 0} if name == "planned" else {}
        writer.write(name, [row | tuning for row in several])
        copies = []
        for row in several:
            label, seed = arm_of[row["trial_id"]]
            if name != "planned" and (label, seed) == left_out:
                continue
            score = {"validation_score": fast(label, seed)} if name == "operating_points" else {}
            tuning = {"tuning_json": json.dumps(FAST), "tuning_order": 1} if name == "planned" else {}
            copies.append(row | {"trial_id": f"{row['trial_id']}-fast"} | score | tuning)
        writer.write(name, copies)
    return run


def text_of(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.replace("</sup>", " ")))


@pytest.mark.check
def test_the_report_says_the_best_of_how_many(tmp_path: Path, synthetic: Any) -> None:
    run = tuned_run(tmp_path, synthetic, lambda label, seed: 0.9 if seed < 2 and label == "fine_tune" else 0.7, None)
    text = text_of(write_report(run).read_text())
    assert "Each arm is shown with the best of 2 settings by validation" in text
    assert "not equal" not in text[: text.index("SQL")]
    assert "fine_tune 0.0 optimisation.learning_rate = 0.0005 4 2" in text
    assert "fine_tune 0.0 optimisation.learning_rate = 0.005 2 2" in text
    assert "transtailor 20.0 optimisation.learning_rate = 0.0005 6 2" in text
    with load(run) as tables:
        found = {(arm.label, arm.asked): arm for arm in findings_of(tables).arms}
    assert found["fine_tune", 0.0].validation.mean == pytest.approx((2 * 0.9 + 4 * 0.8) / 6)
    assert f"{100 * (found['fine_tune', 0.0].validation.mean or 0):.2f}" in text


@pytest.mark.check
def test_the_report_refuses_to_call_unequal_tuning_equal(tmp_path: Path, synthetic: Any) -> None:
    run = tuned_run(tmp_path, synthetic, lambda _label, _seed: 0.7, ("fine_tune", 3))
    text = text_of(write_report(run).read_text())
    assert "best of 1, 2 settings by validation: their tuning budgets are not equal" in text
    assert "not equally tuned" in text
    assert "Inconclusive: the tuning budgets are not equal" in text


def test_a_table_does_not_call_an_unequally_tuned_arm_a_tie(tmp_path: Path) -> None:
    tuned = [
        Trial(label="tuned", seed=seed, right=(90 + seed - 5 * order,), config={"rate": order})
        for seed in range(6)
        for order in (0, 1)
    ]
    rows = rows_of([*tuned, *(Trial(label="plain", seed=seed, right=(50 + seed % 2,)) for seed in range(6))])
    for row in rows["planned"]:
        if row["label"] == "tuned":
            order = json.loads(row["config_json"])["rate"]
            row.update(tuning_json=json.dumps({"rate": order}), tuning_order=order)
    writer = Writer(tmp_path / "tables")
    for table, several in rows.items():
        writer.write(table, several)
    with load(tmp_path) as run:
        text = list(markdown_lines(published_page(published_table(run))))
    (plain,) = [line for line in text if line.startswith("| plain")]
    assert plain.endswith("| 50.50 ± 0.57 (6, not equally tuned) |")
