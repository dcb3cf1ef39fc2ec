"""The benchmarks run and write their tables; what they compare is compared rightly. How fast is not tested here."""

import csv
import re
import runpy
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import simulated_days
from benchmarks.all import GROUPS
from benchmarks.equality import Point, compare
from benchmarks.record import Measured, in_turns, parser_of, table_of, write
from benchmarks.sharing import UNSTEADY, WALL, baselines_of_scripts, measured_rows, sharing_of
from results.sharing import ONE_SCRIPT, Baseline
from results.store.reader import load
from results.store.writer import Writer
from tests.benchmarks.looks import BENCHMARKS
from tests.results.questions.test_costs import STAGE

ROOT = BENCHMARKS.parent
SCRIPTS = [path for path in sorted(BENCHMARKS.glob("*.py")) if "__main__" in path.read_text()]


def point(key: str, trial: str = "a") -> Point:
    return Point(
        stage_key=key,
        trial_id=trial,
        validation_score=0.5,
        validation_loss=1.25,
        macs=1000,
        test_predictions=("7:1", "8:0"),
    )


def test_make_repeats_all() -> None:
    called = re.findall(r"benchmarks/(\w+\.py)", "\n".join([(ROOT / "Makefile").read_text(), *GROUPS.values()]))
    assert set(called) == {script.name for script in SCRIPTS}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_each_script_says_what_it_takes(
    script: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [str(script), "--help"])
    monkeypatch.setattr(sys, "path", [str(script.parent), *sys.path])  # as Python does; the script changes it
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(script), run_name="__main__")
    assert end.value.code == 0
    assert f"usage: {script.name}" in capsys.readouterr().out


def test_equal_points_are_equal_wherever_they_were_reached() -> None:
    found = compare([point("x"), point("y")], [point("x"), point("x", "b"), point("y", "c")])
    assert found.is_equal
    assert (found.points, found.pairs) == (2, 3)


@pytest.mark.parametrize(
    "change",
    [
        {"validation_score": 0.25},
        {"validation_loss": 1.25 + 2**-40},
        {"macs": 1001},
        {"test_predictions": ("7:1", "8:1")},
    ],
)
def test_any_difference_in_any_of_the_trials_is_found(change: dict[str, object]) -> None:
    other = [point("x"), replace(point("x", "b"), **change), point("y")]  # type: ignore[arg-type]
    found = compare([point("x"), point("y")], other)
    assert found.different == ("x",)
    assert not found.is_equal
    assert found.largest_loss_difference == abs(other[1].validation_loss - 1.25)


def test_missing_points_and_nothing_at_all_are_not_equal() -> None:
    assert compare([point("x"), point("y")], [point("x"), point("z")]).missing == ("y", "z")
    assert not compare([point("x"), point("y")], [point("x")]).is_equal
    assert not compare([], []).is_equal


def test_scripts_count_all_they_computed_and_with_the_source_given_all_but_its_training(tmp_path: Path) -> None:
    def row(trial: str, key: str, kind: str, seconds: float) -> dict[str, object]:
        return STAGE | {"trial_id": trial, "stage_key": key, "kind": kind, "compute_s": seconds, "parents": []}

    rows = [
        row("a", "source", "train_source", 8.0), row("a", "tune", "fine_tune", 0.5),
        row("b", "source", "train_source", 9.0), row("b", "tune", "fine_tune", 0.25),
    ]  # fmt: skip
    Writer(tmp_path / "tables").write("stages", rows)
    with load(tmp_path) as separate:
        shared = sharing_of(separate).baselines
        scripts, given = baselines_of_scripts(separate, [shared, shared])
    assert (scripts.separate, given.separate) == (8.0 + 0.5 + 9.0 + 0.25, 0.5 + 0.25)
    assert (scripts.shared, given.shared) == (shared.one_script.shared, shared.source_given.shared)
    Writer(tmp_path / "tables").write("stages", [rows[0] | {"trial_id": "c", "cached": True}])
    with load(tmp_path) as mixed, pytest.raises(ValueError, match="run it with --no-sharing"):
        baselines_of_scripts(mixed, [shared])


@pytest.mark.parametrize(("pace", "factors"), [(1.1, [3.0, 2.0]), (1.8, [None, 2.0]), (0.5, [None, 2.0])])
def test_times_by_the_clock_are_left_out_where_the_machine_did_not_keep_its_pace(
    pace: float, factors: list[float | None]
) -> None:
    clock, processor = (Baseline(name=ONE_SCRIPT, separate=separate, shared=1.0) for separate in (3.0, 2.0))
    rows, reference = measured_rows([(WALL, clock)], processor, pace, {WALL: 2.76})
    assert [row[4] for row in rows] == factors
    assert [row[5] for row in rows] == [">= 2.76: met" if factors[0] else UNSTEADY, ""]
    assert reference == {ONE_SCRIPT: 2.0}


def test_a_table_is_written_whole_for_people_and_for_programs(tmp_path: Path) -> None:
    measured = Measured(title="T", columns=("what", "ratio"), rows=(("a", 1 / 3), ("b", None)), notes=("left out: c",))
    markdown, table = write(measured, tmp_path / "new" / "v1.0")
    assert (markdown.name, table.name) == ("v1.0.md", "v1.0.csv")
    assert "| a    | 0.3333 |" in markdown.read_text()
    assert "- left out: c" in markdown.read_text()
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert float(rows[0]["ratio"]) == 1 / 3
    assert rows[1]["ratio"] == ""
    assert {"date", "command", "cpu", "cores", "python", "torch", "ray"} <= rows[0].keys()
    with pytest.raises(ValueError, match="1 cells for 2 columns"):
        Measured(title="T", columns=("what", "ratio"), rows=(("a",),), notes=())


def test_rows_by_name_become_a_table_and_a_row_with_other_columns_is_refused() -> None:
    table = table_of("T", [{"what": "a", "s": 1.0}, {"what": "b", "s": None}], ["a note"])
    assert (table.columns, table.rows, table.notes) == (("what", "s"), (("a", 1.0), ("b", None)), ("a note",))
    with pytest.raises(ValueError, match=r"a row has the columns \('s', 'what'\) and the first one \('what', 's'\)"):
        table_of("T", [{"what": "a", "s": 1.0}, {"s": 1.0, "what": "a"}], [])


def test_sides_take_turns() -> None:
    assert list(in_turns("ab", 3)) == ["a", "b", "b", "a", "a", "b"]


def test_each_benchmark_has_the_common_options(tmp_path: Path) -> None:
    given = parser_of("A text.", "t", quick="less").parse_args(["--quick", "--out", str(tmp_path / "t")])
    assert (given.quick, given.out) == (True, tmp_path / "t")
    assert parser_of("A text.", "t").parse_args([]).out == ROOT / "docs" / "results" / "evidence" / "t"
    assert parser_of("A text.", None).parse_args([]).out is None


def test_the_record_of_simulated_days_is_read_by_its_columns(tmp_path: Path) -> None:
    days_file = tmp_path / "days_seeds.csv"
    days_file.write_text("processor_s,broken,first_seed,disturbances,days\n2.5,1,40,7,20\n")
    (line,) = simulated_days._seeds(tmp_path / "days")
    assert line == simulated_days.Line(first_seed=40, days=20, broken=1, disturbances=7, processor_s=2.5)
    assert simulated_days._next_seed(tmp_path / "days") == 60
