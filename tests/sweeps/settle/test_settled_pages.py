"""What commands and the report say of a run with [settle], and of runs to which seeds were added by hand."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from results.arms.findings import findings_of
from results.arms.flags import Facts
from results.arms.looks import look_row, recorded_looks
from results.errors import ResultsError
from results.questions import compare, settled
from results.questions.anytime import anytime_page
from results.questions.costs import bill
from results.questions.table import published_table
from results.report.page import page_of
from results.statistics.sequential import anytime_interval
from results.store.completeness import is_over
from results.store.reader import Run, load
from results.store.writer import Writer
from results.text.formats import answer_of, markdown_lines
from sweeps.planning.plan import make_plan
from sweeps.run.relaunch import start
from sweeps.run.run_folder import RunFolder
from sweeps.spec.spec import spec_of
from tests.results.exact_run import Trial, write_run
from tests.sweeps.settle.made_scores import begin, scores, settle, settled_spec

EFFECTS = {"head_only": -20.0, "transtailor": 12.0, "prune l1": 0.3}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run that has settled its comparisons."""
    spec = settled_spec()
    folder = begin(spec, tmp_path_factory.mktemp("settled"))
    settle(spec, folder, scores(EFFECTS))
    return folder


def text_of(page: object) -> str:
    return "\n".join(markdown_lines(page))  # type: ignore[arg-type]


def compared(tables: Run, asked: float) -> Sequence[Mapping[str, Any]]:
    """What programs get of the comparison with fine-tuning."""
    return answer_of(compare.compare.answer(tables, "fine_tune", asked)).tables["compare"].records


def test_compare_shows_the_verdicts_of_the_looks_only(run: RunFolder) -> None:
    with load(run.path) as tables:
        text = text_of(compare.compare.answer(tables, "fine_tune", 0.2))
    rows = {line.split("|")[2].strip(): line for line in text.splitlines() if line.startswith("| ")}
    assert "| 10 |" in rows["transtailor"] and "| better |" in rows["transtailor"]
    assert "\n- longer (1 of " in text
    assert "\n- Trials: " in text
    assert "| worse |" in rows["head_only"] and "| no difference that matters |" in rows["prune l1"]
    assert "5 comparisons with one alpha = 0.05" in text and "(30% saved)" not in text  # without those at 40%
    assert " p " not in text.splitlines()[4]


def test_another_control_is_refused_because_its_tests_would_err(run: RunFolder) -> None:
    with load(run.path) as tables:
        with pytest.raises(ResultsError, match="no tested arm is called 'fine-tune'; did you mean 'fine_tune'"):
            text_of(compare.compare.answer(tables, "fine-tune"))
        with pytest.raises(ResultsError, match="--against 'fine_tune', or --anytime"):
            text_of(compare.compare.answer(tables, "head_only"))
        with pytest.raises(ResultsError, match="budgets: 0.2, 0.4"):
            text_of(compare.compare.answer(tables, "fine_tune", 0.3))


def test_where_all_trials_of_the_control_have_failed_the_looks_say_so(tmp_path: Path) -> None:
    spec = settled_spec()
    folder = begin(spec, tmp_path)
    settle(spec, folder, scores(EFFECTS, failing=[("fine_tune", seed) for seed in range(20)]))
    with load(folder.path) as tables:
        assert "incomplete, 10 failed or NaN" in text_of(compare.compare.answer(tables, "fine_tune"))
        assert {(row["verdict"], row["against_score"]) for row in compared(tables, 0.2)} == {("incomplete", None)}


@pytest.mark.check
def test_all_numbers_of_a_row_are_against_the_arm_that_it_names(tmp_path: Path) -> None:
    """Also where the run has fine-tuning that trained as long as the arm, which no look read."""
    longer = {"label": "fine_tune long", "method": {"name": "fine_tune"}, "optimisation": {"epochs": 300}}
    spec = settled_spec([longer])
    folder = begin(spec, tmp_path)
    settle(spec, folder, scores(EFFECTS | {"fine_tune long": 15.0}))
    with load(folder.path) as tables:
        records = {
            record["arm"]: record for record in compared(tables, 0.2) if record["asked_removed_macs_fraction"] != 0.1
        }
        looks = {key[1]: look for key, look in settled.settled_verdicts(tables).items() if key[2] != 0.4}
        control = {
            row["arm"]: row["score"]
            for row in tables.rows("SELECT arm, avg(test_score) AS score FROM measured_points GROUP BY arm")
        }["fine_tune"]
    assert records["transtailor"]["trained_longer"]
    for arm, record in records.items():
        pairs = list(zip(looks[arm].scores or (), looks[arm].against_scores or (), strict=True))
        wins, losses = sum(own > other + 1e-9 for own, other in pairs), sum(own < other - 1e-9 for own, other in pairs)
        assert (record["against"], record["against_score"]) == ("fine_tune", pytest.approx(control))
        assert (record["wins"], record["losses"], record["ties"]) == (wins, losses, len(pairs) - wins - losses)
        assert record["pairs"] == len(pairs) and record["ahead_fraction"] == pytest.approx(
            (wins + record["ties"] / 2) / len(pairs)
        )


def test_the_table_marks_no_best_and_has_the_verdicts(run: RunFolder) -> None:
    with load(run.path) as tables:
        table = published_table(tables, asked=0.2)
    cells = {row.name: row.cells[0] for row in table.rows}
    assert {cell.place for cell in cells.values() if cell is not None} == {"looked at"}
    assert not any("max-T" in note for note in table.notes)


def test_the_report_has_the_path_of_each_interval_and_no_other_verdict(run: RunFolder) -> None:
    with load(run.path) as tables:
        page = page_of(tables)
        findings = findings_of(tables)
        chart = settled.chart(findings, findings.problems[0])
        assert bill(tables).endswith(" for each of 5 settled verdicts.")
    assert page.verdict.startswith("5 comparisons with fine_tune: 2 better, 1 worse, 2 no difference that matters.")
    names = [section.name for section in page.sections]
    assert "settled" in names and not {"named", "against"} & set(names)
    words = {(record["arm"], record["verdict"]) for block in page.arms for record in block.table.records}
    assert ("head_only", "worse") in words and ("prune l1", "no difference that matters") in words
    assert chart is not None
    drawn = chart.to_dict()
    scales = [panel["layer"][1]["encoding"]["color"]["scale"] for panel in drawn["concat"]]
    assert len(scales) == 3 and all(scale == scales[0] for scale in scales)  # else Vega takes one panel's for all
    assert {*scales[0]["domain"]} == {"head_only", "transtailor", "prune l1"}
    paths = drawn["datasets"]["paths"]
    assert len(paths) == 1 + 2 + 6  # of head_only, transtailor and prune l1
    for path in paths:
        crossed = abs(path["mean"]) > abs(path["boundary"])
        assert crossed == (path["verdict"] in ("better", "worse")) and path["low"] < path["mean"] < path["high"]


def test_a_run_without_looks_has_no_such_section(tmp_path: Path) -> None:
    write_run(tmp_path / "r", [Trial(label="a", seed=seed, right=(80,)) for seed in range(6)])
    with load(tmp_path / "r") as tables:
        assert settled.section(findings_of(tables)) is None


def test_before_the_first_look_nothing_is_compared_and_the_sweep_is_not_over(tmp_path: Path) -> None:
    spec = settled_spec()
    folder = begin(spec, tmp_path)
    from sweeps.settle.run_settle import RunSettle
    from tests.sweeps.settle.made_scores import end_trials

    end_trials(folder, RunSettle(spec, folder).plan.trials, scores(EFFECTS))
    with load(folder.path) as tables:
        with pytest.raises(ResultsError, match="no look yet: .*type: .*status"):
            text_of(compare.compare.answer(tables, "fine_tune"))
        assert not is_over(tables)


def test_intervals_at_any_time_are_those_of_the_differences(tmp_path: Path) -> None:
    right = {"base": [80, 82, 81, 79, 83, 80, 81, 82, 80, 81], "arm": [88, 91, 87, 90, 92, 88, 90, 89, 90, 91]}
    trials = [Trial(label=label, seed=seed, right=(of[seed],)) for label, of in right.items() for seed in range(10)]
    write_run(tmp_path / "r", trials)
    with load(tmp_path / "r") as tables:
        text = text_of(anytime_page(tables, "base", 0.2))
        few = text_of(compare.compare.answer(tables, "base", 0.2, anytime=True))
    low, high = anytime_interval(
        [(a - b) / 100 for a, b in zip(right["arm"], right["base"], strict=True)], 0.05, 25, 0.01
    )
    assert f"| {100 * low:+.2f} … {100 * high:+.2f} |" in text and "| better |" in text
    assert few == text


def test_few_seeds_have_no_interval_at_any_time(tmp_path: Path) -> None:
    write_run(tmp_path / "r", [Trial(label=label, seed=seed, right=(80,)) for label in "ab" for seed in range(9)])
    with load(tmp_path / "r") as tables:
        assert "10 seeds or more are needed" in text_of(anytime_page(tables, "b", 0.2))


def grid(seeds: list[int], **more: object) -> object:
    axes = {"seed": seeds}
    variants = [{"method": {"name": "fine_tune"}}, {"method": {"name": "head_only"}}]
    return make_plan(spec_of({"name": "grid", "axes": axes | more, "variants": variants}, "grid.toml"))


def test_launches_say_how_often_seeds_were_added(tmp_path: Path) -> None:
    for seeds in ([0, 1, 2], [0, 1, 2, 3], [0, 1, 2, 3], [0, 1, 2, 3, 4, 5]):
        _, lock, _ = start(grid(seeds), tmp_path, extend=True, update_code=False)  # type: ignore[arg-type]
        lock.release()
    history = json.loads((tmp_path / "grid" / "provenance.json").read_text())["history"]
    assert [launch.get("more_seeds", {}).get("fine_tune") for launch in history] == [None, [3], None, [4, 5]]
    with load(tmp_path / "grid") as tables:
        assert Facts(tables).seed_additions == {"fine_tune": 2, "head_only": 2}


def test_additions_follow_an_arm_to_its_new_name(tmp_path: Path) -> None:
    rates = {"optimisation.learning_rate": [0.005]}
    two_rates = {"optimisation.learning_rate": [0.005, 0.001]}
    for seeds, axes in (([0, 1], rates), ([0, 1, 2], rates), ([0, 1, 2], two_rates), ([0, 1, 2, 3], two_rates)):
        _, lock, _ = start(grid(seeds, **axes), tmp_path, extend=True, update_code=False)  # type: ignore[arg-type]
        lock.release()
    with load(tmp_path / "grid") as tables:
        additions = Facts(tables).seed_additions
    assert additions["fine_tune, learning_rate = 0.005"] == 2
    assert additions["fine_tune, learning_rate = 0.001"] == 1


def test_a_panel_says_where_a_rule_decided_what_is_removed(run: RunFolder, tmp_path: Path) -> None:
    with load(run.path) as tables:
        looks = recorded_looks(tables)
    of_a_rule = [replace(look, comparison=replace(look.comparison, asked=None)) for look in looks[:1]]
    Writer(tmp_path / "r" / "tables").write("looks", [look_row(look) | {"code_digest": "c"} for look in of_a_rule])
    with load(tmp_path / "r") as tables:
        chart = settled.chart(findings_of(tables), looks[0].comparison.problem)
    assert chart is not None and [panel["title"] for panel in chart.to_dict()["concat"]] == ["decided by a rule"]
    by_rule = replace(looks[0], comparison=replace(looks[0].comparison, arm="by rule", asked=None))
    rows = [look_row(look) | {"code_digest": "c"} for look in (*looks, by_rule)]
    problem = {"network": "digits_vgg", "train_images": 200}
    trial = Trial(label="by rule", seed=0, right=(50,), asked=(None,), removed=(0.3,), **problem)
    write_run(tmp_path / "all", [trial])
    Writer(tmp_path / "all" / "tables").write("looks", rows)
    with load(tmp_path / "all") as tables:
        text = text_of(compare.compare.answer(tables, "fine_tune", 0.2))
    assert "| by rule |" not in text and "- Not shown, as without a point at 20.0% fewer MACs: by rule (not" in text


def test_several_runs_have_verdicts_of_their_own(run: RunFolder, tmp_path: Path) -> None:
    spec = settled_spec(matters=0.001)
    other = begin(spec.model_copy(update={"name": "other"}), tmp_path)
    settle(spec.model_copy(update={"name": "other"}), other, scores({}))
    with load([run.path, other.path]) as tables:
        with pytest.raises(ResultsError, match="name one run at a time"):
            text_of(compare.compare.answer(tables, "fine_tune"))
        page = page_of(tables)
    assert page.verdict.startswith("Several of these runs have [settle]")
    assert {row[6] for block in page.arms for row in block.table.rows} == {"–"}
