"""The best of k settings by validation, worked out by hand from rows made here."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from results.arms.comparison import Point, Setting, arms_of, compare, points_of
from results.arms.problem import Problem
from results.arms.tuning import Count, Tried, best_settings, counts_of, ended_settings, setting_text
from results.questions.table import published_page, published_table
from results.report import write_report
from results.store.reader import load
from results.store.writer import Writer
from results.text.formats import markdown_lines
from tests.results.exact_run import Trial, rows_of

DIGITS = Problem("vgg11", "digits")
SLOW = Setting(0, '{"optimisation.learning_rate": 0.0005}')
FAST = Setting(1, '{"optimisation.learning_rate": 0.005}')


def point(**changes: Any) -> Point:
    facts: dict[str, Any] = {
        "problem": DIGITS, "label": "a", "arm": changes.get("label", "a"), "method": "a", "seed": 0, "point": 0,
        "asked": 0.2, "removed": 0.2, "model_key": "m", "metric": "accuracy", "validation": 0.5,
        "validation_images": 10, "test": 0.5, "test_images": 10, "setting": SLOW,
    } | changes  # fmt: skip
    facts.setdefault("trial_id", f"{facts['label']}-{facts['seed']}-{facts['setting']}")
    return Point(**facts)


def chosen(points: list[Point], ended: dict[Tried, set[Setting]] | None = None) -> dict[tuple[str, int, Any], Point]:
    return {(each.arm, each.seed, each.asked): each for each in best_settings(points, ended or {})}


def test_validation_chooses_for_each_arm_seed_and_budget_and_test_does_not() -> None:
    points = [
        point(setting=SLOW, validation=0.6, test=0.9),
        point(setting=FAST, validation=0.7, test=0.1),
        point(setting=SLOW, seed=1, validation=0.8),
        point(setting=FAST, seed=1, validation=0.7),
        point(setting=SLOW, asked=0.4, validation=0.3),
        point(setting=FAST, asked=0.4, validation=0.2),
        point(setting=SLOW, label="b", validation=0.1),
        point(setting=FAST, label="b", validation=0.4),
    ]
    found = chosen(points)
    assert {key: each.setting for key, each in found.items()} == {
        ("a", 0, 0.2): FAST, ("a", 1, 0.2): SLOW, ("a", 0, 0.4): SLOW, ("b", 0, 0.2): FAST,
    }  # fmt: skip
    assert {each.best_of for each in found.values()} == {2}
    assert found["a", 0, 0.2].test == 0.1


def test_equal_scores_go_to_the_first_setting_and_what_is_no_number_never_wins() -> None:
    tie = [point(setting=FAST, validation=0.5), point(setting=SLOW, validation=0.5)]
    assert chosen(tie)["a", 0, 0.2].setting == SLOW
    lost = [point(setting=SLOW, validation=math.nan), point(setting=FAST, validation=-3.0, metric="r_squared")]
    assert chosen(lost)["a", 0, 0.2].setting == FAST


def test_the_last_point_of_a_trial_at_a_budget_stands_for_it() -> None:
    points = [point(validation=0.9), point(point=1, validation=0.1), point(setting=FAST, validation=0.2)]
    assert chosen(points)["a", 0, 0.2].setting == FAST


def test_a_setting_that_failed_was_tried_and_one_that_is_missing_was_not() -> None:
    ended = {Tried(DIGITS, "a", "a", 0): {SLOW, FAST}}
    found = chosen([point(seed=0), point(seed=1)], ended)
    assert (found["a", 0, 0.2].best_of, found["a", 1, 0.2].best_of) == (2, 1)


def test_what_is_not_tuned_stays_as_it_is() -> None:
    plain = [point(setting=None, seed=seed) for seed in range(3)]
    assert best_settings(plain, {}) == plain
    assert counts_of(plain) == []
    head = best_settings([point(label="head_only", seed=seed) for seed in range(3)], {})  # of one setting's trials
    assert counts_of(head) == []


def test_how_often_each_setting_was_chosen() -> None:
    points = [point(setting=setting, seed=seed, validation=value) for seed, setting, value in (
        (0, SLOW, 0.1), (0, FAST, 0.2), (1, SLOW, 0.1), (1, FAST, 0.2), (2, SLOW, 0.3), (2, FAST, 0.2))]  # fmt: skip
    best = best_settings(points, {})
    assert counts_of(best) == [
        Count(DIGITS, "a", 0.2, SLOW, seeds=1, best_of=frozenset({2})),
        Count(DIGITS, "a", 0.2, FAST, seeds=2, best_of=frozenset({2})),
    ]
    assert setting_text(FAST) == "optimisation.learning_rate = 0.005"


def test_arms_with_different_numbers_of_settings_are_not_called_equal() -> None:
    points = [point(label=label, setting=setting, seed=seed, test=0.5 + (label == "a") / 4 + seed / 1000)
              for seed in range(8) for label in "ab" for setting in (SLOW, FAST)
              if not (label == "b" and setting == FAST and seed == 7)]  # fmt: skip
    arms = {arm.label: arm for arm in arms_of(best_settings(points, {}), {})}
    assert (arms["a"].best_of, arms["b"].best_of) == ({2}, {1, 2})
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
        tuning = {"tuning_json": SLOW.values, "tuning_order": 0} if name == "planned" else {}
        writer.write(name, [row | tuning for row in several])
        copies = []
        for row in several:
            label, seed = arm_of[row["trial_id"]]
            if name != "planned" and (label, seed) == left_out:
                continue
            score = {"validation_score": fast(label, seed)} if name == "operating_points" else {}
            tuning = {"tuning_json": FAST.values, "tuning_order": 1} if name == "planned" else {}
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
        found = {(arm.label, arm.asked): arm for arm in arms_of(best_settings(points_of(tables), {}), {})}
    assert found["fine_tune", 0.0].validation.mean == pytest.approx((2 * 0.9 + 4 * 0.8) / 6)
    assert f"{100 * (found['fine_tune', 0.0].validation.mean or 0):.2f}" in text


@pytest.mark.check
def test_the_report_refuses_to_call_unequal_tuning_equal(tmp_path: Path, synthetic: Any) -> None:
    run = tuned_run(tmp_path, synthetic, lambda _label, _seed: 0.7, ("fine_tune", 3))
    text = text_of(write_report(run).read_text())
    assert "best of 1, 2 settings by validation: their tuning budgets are not equal" in text
    assert "not equally tuned" in text
    assert "Inconclusive: the tuning budgets are not equal" in text
    with load(run) as tables:
        assert len(ended_settings(tables)[Tried(DIGITS, "fine_tune", "fine_tune", 3)]) == 1


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
