"""tools.golden finds planted differences between two runs, and accepts those that are listed, for their rows alone."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tools.golden import DELIBERATE
from tools.golden_compare import (
    MISSING,
    WHOLE,
    Deliberate,
    GoldenDifference,
    LaunchTables,
    compare_launches,
    compare_same_tree,
    judge,
    read_deliberate,
    read_launch,
)
from tools.golden_launch import typed_words
from tools.golden_parts import ANSWERS, PARTS

Content = dict[str, Any]


FOLDER = "/folder of the launch"


def content() -> Content:
    """Two trials with two points each, and an answer."""
    trials = [("a1", 0), ("b2", 1)]
    common = {"code_digest": "x", "written_at": 1.0}
    return {
        "planned": [
            {"trial_id": id_, "label": "l1", "seed": seed, "stage_keys": [f"key {seed}"],
             "config_json": json.dumps({"seed": seed, "method": {"name": "prune"}, "root": f"{FOLDER}/a"}), **common}
            for id_, seed in trials
        ],
        "operating_points": [
            {"trial_id": id_, "point": point, "macs": 100 - point, "validation_score": (seed + point) / 4, **common}
            for id_, seed in trials for point in (0, 1)
        ],
        "answers": {"best": {"code": 0, "tables": {"best": [{"arm": "l1", "trial_id": "b2", "macs": 99, "p": None}]}}},
    }  # fmt: skip


def written(folder: Path, of: Content) -> LaunchTables:
    folder = folder / "demo" / "serial"
    for name, rows in json.loads(json.dumps(of).replace(FOLDER, str(folder))).items():
        if name != "answers":
            (folder / "tables" / name).mkdir(parents=True)
            pq.write_table(pa.Table.from_pylist(rows), folder / "tables" / name / "1.parquet")
    pq.write_table(pa.Table.from_pylist(of["operating_points"]), folder / "points.parquet")
    (folder / "answers.json").write_text(json.dumps(of["answers"]))
    return read_launch(folder, folder / "answers.json")


def found(tmp_path: Path, change: Callable[[Content], object], **renamed: str) -> dict[tuple[str, str], int]:
    changed = content()
    change(changed)
    differences = compare_launches(written(tmp_path / "base", content()), written(tmp_path / "tree", changed), renamed)
    return {(of.where, of.column): of.rows for of in differences}


def test_equal_runs_differ_in_nothing_whatever_the_order_of_rows(tmp_path: Path) -> None:
    def change(of: Content) -> None:
        of["operating_points"].reverse()
        of["planned"].reverse()
        for row in of["operating_points"]:
            row["written_at"] = 2.0

    assert found(tmp_path, change) == {}


def test_a_value_is_found(tmp_path: Path) -> None:
    def change(of: Content) -> None:
        of["operating_points"][2]["validation_score"] += 1e-16 + 1e-12

    column = "validation_score"
    assert found(tmp_path, change) == {("operating_points", column): 1, ("points", column): 1}


def test_a_missing_row_is_found(tmp_path: Path) -> None:
    differences = found(tmp_path, lambda of: of["operating_points"].pop(1))
    assert differences == {("operating_points", MISSING): 1, ("points", MISSING): 1}


def test_another_id_is_found_once_and_its_rows_are_still_compared(tmp_path: Path) -> None:
    def change(of: Content) -> None:
        of["answers"]["best"]["tables"]["best"][0]["trial_id"] = "c3"
        for row in of["planned"] + of["operating_points"]:
            if row["trial_id"] == "b2":
                row["trial_id"] = "c3"
        of["operating_points"][3]["macs"] = 7

    assert found(tmp_path, change) == {
        ("planned", "trial_id"): 1, ("operating_points", "macs"): 1, ("points", "macs"): 1,
    }  # fmt: skip


def test_a_type_is_found(tmp_path: Path) -> None:
    def change(of: Content) -> None:
        of["answers"]["best"]["tables"]["best"][0]["macs"] = 99.0
        for row in of["operating_points"]:
            row["macs"] = float(row["macs"])

    assert found(tmp_path, change) == {
        ("operating_points", "macs"): 4, ("points", "macs"): 4, ("best: best", "macs"): 1,
    }  # fmt: skip


def test_a_column_of_a_list_and_a_setting_are_values(tmp_path: Path) -> None:
    def change(of: Content) -> None:
        of["planned"][0]["stage_keys"] = ["key 0", "key 9"]
        of["planned"][1]["config_json"] = of["planned"][1]["config_json"].replace('"prune"', '"prune", "steps": 1')

    assert found(tmp_path, change) == {("planned", "stage_keys"): 1, ("planned", "settings.method.steps"): 2}


def test_a_setting_that_one_method_lost_is_no_other_trial(tmp_path: Path) -> None:
    base, tree = content(), content()
    for of in (base, tree):
        of["planned"][1]["config_json"] = of["planned"][1]["config_json"].replace("prune", "gbn")
        for row in of["planned"]:
            row["config_json"] = row["config_json"].replace('"name"', '"steps": 1, "name"')
    tree["planned"][1]["config_json"] = tree["planned"][1]["config_json"].replace('"steps": 1, ', "")
    differences = compare_launches(written(tmp_path / "base", base), written(tmp_path / "tree", tree), {})
    assert [(of.where, of.column, of.rows) for of in differences] == [("planned", "settings.method.steps", 1)]


def test_an_answer_that_went_or_fails_is_found(tmp_path: Path) -> None:
    def change(of: Content) -> None:
        of["answers"]["best"] = {"code": 2, "tables": {}}

    assert found(tmp_path, change) == {("best: best", WHOLE): 1, ("best: exit code", "code"): 1}


def test_what_was_renamed_is_compared_under_its_new_name(tmp_path: Path) -> None:
    def change(of: Content) -> None:
        for row in of["planned"]:
            row["config_json"] = row["config_json"].replace("method", "how")
        rows = of.pop("operating_points")
        of["models"] = [{"n" if key == "macs" else key: value for key, value in row.items()} for row in rows]
        of["models"][0]["n"] = 7
        of["operating_points"] = rows

    renamed = {
        "settings.method.name": "settings.how.name", "operating_points": "models", "operating_points.macs": "models.n",
    }  # fmt: skip
    differences = found(tmp_path, change, **renamed)
    assert differences == {("operating_points", "n"): 1, ("operating_points", WHOLE): 4}  # both are there


def test_an_answer_that_moved_into_another_one_is_compared_there(tmp_path: Path) -> None:
    base, tree = content(), content()
    base["answers"]["power"] = {"code": 0, "tables": {"power": [{"arm": "l1", "pairs_needed": 7}]}}
    tree["answers"]["best"]["tables"]["best"][0]["pairs_needed"] = 7
    renamed = {"power: power": "best: best", "power: exit code": "best: exit code"}
    of_base = written(tmp_path / "base", base)
    assert compare_launches(of_base, written(tmp_path / "tree", tree), renamed) == []
    tree["answers"]["best"]["tables"]["best"][0]["pairs_needed"] = 8
    (only,) = compare_launches(of_base, written(tmp_path / "other", tree), renamed)
    assert (only.where, only.column, only.rows) == ("power: power", "pairs_needed", 1)


def test_another_launch_of_a_tree_may_differ_in_attempts_alone(tmp_path: Path) -> None:
    serial, killed = content(), content()
    for of, number in ((serial, 1), (killed, 2)):
        of["attempts"] = [{"trial_id": "a1", "attempt": place} for place in range(number)]
        of["trials"] = [{"trial_id": "a1", "attempts": number, "status": "finished"}]
    sides = written(tmp_path / "serial", serial), written(tmp_path / "killed", killed)
    assert compare_same_tree(*sides, "killed") == []
    killed["trials"][0]["status"] = "failed"
    (again,) = compare_same_tree(sides[0], written(tmp_path / "again", killed), "killed")
    assert (again.where, again.column, again.rows) == ("killed: trials", "status", 1)


LISTED = Deliberate("best: best", "params", 3, "an issue's sentence")


@pytest.mark.parametrize(
    ("rows", "all_parts", "is_good"),
    [((1, 2), True, True), ((1, 1), True, False), ((2, 2), True, False), ((1,), False, True), ((4,), False, False)],
)
def test_a_listed_difference_is_accepted_for_its_rows(rows: tuple[int, ...], all_parts: bool, is_good: bool) -> None:
    differences = {f"part {part}": [GoldenDifference("best: best", "params", n, "")] for part, n in enumerate(rows)}
    lines, good = judge(differences, [LISTED], all_parts=all_parts)
    assert good is is_good
    assert any(line.startswith("part 0: best: best, params") for line in lines) is not is_good


def test_a_listed_difference_that_is_not_there_is_said_and_another_column_is_not_accepted() -> None:
    lines, good = judge({"demo": [GoldenDifference("best: best", "macs", 3, "")]}, [LISTED], all_parts=True)
    assert not good and len(lines) == 2
    lines, good = judge({"demo": []}, [LISTED], all_parts=True)
    assert good and "best: best, params" in lines[0]


def test_the_parts_ask_what_there_is_and_the_file_of_deliberate_differences_is_read() -> None:
    assert {name for part in PARTS for name in part.asked} == set(ANSWERS)
    for part in PARTS:
        assert all(word for name in part.asked for word in typed_words(name, part, of_tree=True)), part.name
    assert all(line.rows and line.asked_by for line in read_deliberate(DELIBERATE))
