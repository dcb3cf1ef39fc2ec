"""Every arm against one of them, as Markdown: the numbers are those of the comparison, the rows those asked for."""

import math
import re
from pathlib import Path
from typing import Any

import pytest

from results.arms.findings import findings_of
from results.errors import ResultsError
from results.questions.anytime import anytime_page
from results.questions.compare import section, versus_arm_page
from results.questions.front import front_page
from results.questions.table import published_table
from results.report.page import page_of
from results.statistics.means import mean_interval
from results.statistics.power import detectable_effect, pairs_for
from results.store.reader import load
from results.text.formats import answer_of, markdown_lines
from results.text.page import Table
from tests.changed_rows import change_rows
from tests.results.exact_run import Trial, write_run

LABELS = (("transtailor", "transtailor"), ("rival | one", "prune"), ("fine_tune", "fine_tune"))


def lines(run: Path, label: str, asked: float | None) -> list[str]:
    with load(run) as opened:
        return list(markdown_lines(versus_arm_page(opened, label, asked)))


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.replace("\\|", "/").strip("|").split("|")]


def test_differences_are_paired_by_seed(tmp_path: Path, synthetic: Any) -> None:
    run = synthetic(labels=LABELS, seeds=range(6)).write(tmp_path / "run")
    found = lines(run, "fine_tune", 0.0)
    with load(run) as opened:
        tests = opened.rows("SELECT label, seed, asked_removed_macs_fraction AS asked, test_score FROM measured_points")
    score = {(row["label"], row["seed"], row["asked"]): row["test_score"] for row in tests}
    expected = sum(score["transtailor", s, 0.0] - score["fine_tune", s, 0.0] for s in range(6)) / 6
    (row,) = [cells(line) for line in found if line.startswith("| 0.0 ") and "transtailor" in line]
    assert float(row[4]) == pytest.approx(100 * expected, abs=0.006)
    mean = sum(score["transtailor", s, 0.0] for s in range(6)) / 6
    assert float(row[3]) == pytest.approx(100 * mean, abs=0.006)


def test_a_budget_shows_its_arms_and_what_prunes_nothing(tmp_path: Path, synthetic: Any) -> None:
    run = synthetic(labels=LABELS).write(tmp_path / "run")
    rows = [cells(line)[:3] for line in lines(run, "transtailor", 0.2) if line.startswith("| ")]
    shown = [row for row in rows if row[0] not in ("budget %", "---")]
    assert {row[0] for row in shown} == {"0.0", "20.0"}
    assert ["20.0", "20.6", "rival / one"] in shown  # a sign that Markdown would take for a column
    assert [row[2] for row in shown if row[0] == "0.0"] == ["fine_tune"]  # the others' paths begin there, too
    assert not any(row[2] == "transtailor" for row in shown)  # not against itself
    against_tuning = [cells(line)[2] for line in lines(run, "fine_tune", 0.2) if line.startswith("| 20.0")]
    assert sorted(against_tuning) == ["rival / one", "transtailor"]  # what prunes nothing can be the base, too
    assert len(lines(run, "transtailor", None)) > len(lines(run, "transtailor", 0.2))


def test_an_arm_that_is_only_planned_is_not_called_unknown(tmp_path: Path) -> None:
    of_head = {"head_arm": "head_only", "ended": "missing", "right": ()}
    trials = [Trial(label=label, seed=0, right=(90,)) for label in ("TT", "full, proposal 1")]
    trials.append(Trial(label="full", seed=0, **of_head))  # type: ignore[arg-type]
    run = write_run(tmp_path, trials)
    for name in ("full", "head_only"):
        with pytest.raises(
            ResultsError, match=rf"'{name}' is planned, and has no [a-z ]*.valid: TT, 'fu.*1'.; .*status .*{run}"
        ):
            lines(run, name, None)


def test_every_row_says_what_its_pairs_can_reach_and_what_holms_correction_leaves(tmp_path: Path) -> None:
    arms = {"base": [90] * 6, "better": range(91, 97), "worse": range(80, 86), "level": [89, 91] * 3}
    several = [Trial(label=label, seed=seed, right=(of[seed],)) for label, of in arms.items() for seed in range(6)]
    several.append(Trial(label="lost", seed=0, right=(), ended="failed"))
    found = lines(write_run(tmp_path, several), "base", 0.2)
    head, *rows = (dict(enumerate(cells(line))) for line in found if line.startswith("| ") and "---" not in line)
    columns = {name: place for place, name in head.items()}
    by_label = {row[columns["arm"]]: row for row in rows}
    assert by_label["better"][columns["p"]] == by_label["better"][columns["smallest p"]] == "0.0312"
    assert by_label["better"][columns["p (Holm)"]] == "0.0938"  # three times as large
    assert (by_label["better"][columns["ahead %"]], by_label["level"][columns["ahead %"]]) == ("100", "50")
    text = "\n".join(found)
    assert "Trials: 25 planned, 24 finished, 1 failed, 0 missing." in text
    assert "None finished of lost, net on digits (50 training images)." in text


def table(found: list[str]) -> dict[str, dict[str, str]]:
    """The rows of the first table by the name of their arm, each by the names of the columns."""
    head, _, *rest = (cells(line) for line in found if line.startswith("| "))
    rows = [dict(zip(head, row, strict=True)) for row in rest if len(row) == len(head)]
    return {row["arm"]: row for row in rows}


def test_an_arm_is_compared_with_fine_tuning_that_has_trained_for_as_long(tmp_path: Path) -> None:
    arms = {"tuned": ("fine_tune", 10, 90), "tuned long": ("fine_tune", 30, 92), "tuned longest": ("fine_tune", 60, 93)}
    arms |= {"short": ("prune", 10, 91), "long": ("prune", 25, 91), "too long": ("prune", 90, 91)}
    trials = [
        Trial(label=label, method=method, seed=seed, right=(right + seed % 2,), epochs=epochs)
        for label, (method, epochs, right) in arms.items()
        for seed in range(6)
    ]
    found = lines(write_run(tmp_path, trials), "tuned", 0.2)
    rows = table(found)
    assert {arm: row["against"] for arm, row in rows.items()} == {
        "tuned long": "tuned", "tuned longest": "tuned", "short": "tuned", "long": "tuned long", "too long": "tuned",
    }  # fmt: skip
    assert rows["long"]["difference"] == "-1.00"
    assert rows["too long"]["verdict"] == "better"
    with load(tmp_path) as run:
        marked = ": 4 arms trained for fewer epochs than the best."
        assert any(note.endswith(marked) for note in published_table(run, asked=0.2).notes)
    assert {arm for arm, row in rows.items() if "longer" in row["flags"]} == {
        "tuned long", "tuned longest", "too long",
    }  # fmt: skip
    assert "\n- longer (3 of 5 rows): " in "\n".join(found)
    named = table(lines(tmp_path, "long", 0.2))["tuned"]
    assert (named["difference"], named["against"]) == ("-1.00", "long")
    others = table(lines(tmp_path, "short", 0.2))  # not fine-tuning: it stays what all others are compared with
    assert {row["against"] for row in others.values()} == {"short"}
    assert "longer" in others["long"]["flags"]


def test_arms_that_have_nothing_to_be_compared_with_are_named(tmp_path: Path) -> None:
    """Those of another number of training images are of another problem; they were left out without a word."""
    trials = [Trial(label=label, seed=seed, right=(90,)) for label in ("base", "other") for seed in range(2)]
    few = [Trial(label=label, seed=0, right=(80,), train_images=20) for label in ("few", "fewer")]
    run = write_run(tmp_path, [*trials, *few])
    said = "Not compared: few; fewer of net on digits (20 training images), where no score of base is shown."
    with load(run) as opened:
        anytime = markdown_lines(anytime_page(opened, "base", None))
        assert all(f"- {said}" in page for page in (lines(run, "base", None), [*anytime]))
    tuned = [Trial(label="tuned", seed=seed, right=(85,), method="fine_tune") for seed in range(2)]
    with load(write_run(tmp_path / "tuned", [*trials, *few, *tuned])) as opened:
        drawn = section(findings_of(opened))
    assert drawn is not None and drawn.text.endswith(said.replace("base", "full fine-tuning"))


def test_rows_of_the_same_models_are_one_comparison(tmp_path: Path) -> None:
    arms = {"base": [90] * 6, "better": range(91, 97), "twin": range(91, 97), "worse": range(80, 86)}
    trials = [
        Trial(label=label, seed=seed, right=(of[seed],), model=f"{'better' if label == 'twin' else label} {seed}")
        for label, of in arms.items()
        for seed in range(6)
    ]
    found = lines(write_run(tmp_path, trials), "base", 0.2)
    rows = table(found)
    assert {rows[arm]["p (Holm)"] for arm in ("better", "twin", "worse")} == {"0.0625"}  # two, not three


def test_seeds_needed_and_detectable_are_those_of_the_differences_and_none_without_spread_or_verdict(
    tmp_path: Path,
) -> None:
    base = (90, 91, 92, 90, 91, 92)
    arms = {"base": base, "arm": (91, 91, 93, 90, 93, 92), "same": base, "lost": (80, 82, 81, 84, 80, 81)}
    trials = [
        Trial(label=label, seed=seed, right=(right,), ended="failed" if (label, seed) == ("lost", 5) else "finished")
        for label, of in arms.items() for seed, right in enumerate(of)
    ]  # fmt: skip
    with load(write_run(tmp_path, trials)) as run:
        records = answer_of(versus_arm_page(run, "base", 0.2)).tables["compare"].records
    planned = {record["arm"]: (record["pairs_needed"], record["detectable_difference"]) for record in records}
    mean = mean_interval([(one - two) / 100 for one, two in zip(arms["arm"], base, strict=True)])
    assert mean.mean is not None and mean.deviation is not None
    assert planned == {
        "arm": (pairs_for(mean.mean / mean.deviation), pytest.approx(detectable_effect(6) * mean.deviation)),
        "same": (None, None), "lost": (None, None),
    }  # fmt: skip


def test_a_row_that_lost_a_seed_and_has_a_verdict_says_what_it_needs(tmp_path: Path) -> None:
    trials = [Trial(label="base", seed=seed, right=(90 + seed % 3,)) for seed in range(12)]
    trials += [
        Trial(label="arm", seed=seed, right=(50 + seed % 2,), ended="failed" if seed == 11 else "finished")
        for seed in range(12)
    ]
    with load(write_run(tmp_path, trials)) as run:
        (row,) = answer_of(versus_arm_page(run, "base", 0.2)).tables["compare"].records
    assert (row["verdict"], row["failed_trials"]) == ("worse", 1)
    assert row["pairs_needed"] is not None and row["detectable_difference"] is not None


def test_networks_are_averaged_within_seeds_before_anything_is_tested(tmp_path: Path) -> None:
    trials = [
        Trial(label=label, seed=seed, network=network, right=(right + seed,))
        for label, right in (("base", 70), ("one", 71), ("two", 73), ("three", 75))
        for network in ("net a", "net b")
        for seed in range(6)
    ]
    found = lines(write_run(tmp_path, trials), "base", 0.2)
    pooled = found[found.index("### All together") :]
    assert "The unit is the seed" in "\n".join(pooled)
    rows = {row["arm"]: row for row in table(pooled).values()}
    assert {(row["seeds"], row["smallest p"], row["p (Holm)"]) for row in rows.values()} == {("6", "0.0312", "0.0938")}


def test_an_arm_that_lost_one_seed_in_four_has_no_verdict(tmp_path: Path) -> None:
    trials = [
        Trial(label=label, seed=seed, network=network, right=(right + seed,))
        for label, right in (("base", 70), ("other", 60), ("lucky", 90))
        for network in ("net a", "net b")
        for seed in range(8)
        if not (label == "lucky" and seed > 5)
    ]
    trials += [Trial(label="lucky", seed=seed, network="net b", right=(95,), ended="failed") for seed in (6, 7)]
    found = lines(write_run(tmp_path, trials), "base", 0.2)
    first = table(found)
    assert first["lucky"]["difference"] == "+20.00"
    assert first["lucky"]["verdict"] == "incomplete, 2 failed or NaN"
    assert (first["other"]["p (Holm)"], first["other"]["verdict"]) == ("0.0156", "worse")
    pooled = found[found.index("### All together") :]
    assert table(pooled)["lucky"]["verdict"] == "incomplete, 2 failed or NaN"
    assert "failed" in table(pooled)["lucky"]["flags"] and "failed" not in table(pooled)["other"]["flags"]


def test_no_table_mixes_two_controls(tmp_path: Path) -> None:
    """Against the fine-tuning that trained for as long the long arm is 0.5 ahead, against the asked one 4 points."""
    arms = {"fine_tune": ("fine_tune", 10, 80), "fine_tune long": ("fine_tune", 30, 84)}
    arms |= {"long": ("prune", 25, 84), "short": ("prune", 10, 81)}
    trials = [
        Trial(label=label, method=method, seed=seed, network=network, right=(right + (label == "long") * seed % 2,),
              epochs=epochs, asked=(0.0 if method == "fine_tune" else 0.2,))
        for label, (method, epochs, right) in arms.items() for network in ("one", "two") for seed in range(6)
    ]  # fmt: skip
    run = write_run(tmp_path, trials)
    found = lines(run, "fine_tune", 0.2)
    pooled = table(found[found.index("### All together") :])
    assert {arm: (row["against"], row["difference"]) for arm, row in pooled.items()} == {
        "fine_tune long": ("fine_tune", "+4.00"), "long": ("fine_tune long", "+0.50"), "short": ("fine_tune", "+1.00"),
    }  # fmt: skip
    with load(run) as opened:
        tables = [part for part in versus_arm_page(opened, "fine_tune", 0.2) if isinstance(part, Table)]
        one_control = [part for part in versus_arm_page(opened, "short", 0.2) if isinstance(part, Table)]
    assert len(tables) == len(one_control) == 3
    for part in tables:  # also in a terminal, which shows the usual columns
        assert "against" in part.usual
    assert not any("against" in part.usual for part in one_control)


def test_arms_of_other_controls_in_each_problem_are_not_averaged(tmp_path: Path) -> None:
    """Only on one network has a fine-tuning trained for as long as the arm."""
    trials = [
        Trial(label=label, method=method, seed=seed, network=network, right=(80,), epochs=epochs)
        for label, method, epochs, networks in (
            ("tuned", "fine_tune", 10, ("one", "two")), ("tuned long", "fine_tune", 30, ("one",)),
            ("arm", "prune", 25, ("one", "two")),
        )
        for network in networks for seed in range(6)
    ]  # fmt: skip
    found = "\n".join(lines(write_run(tmp_path, trials), "tuned", 0.2))
    assert "All together" not in found
    note = "1 arm has other controls on other networks or data sets, and is not averaged over them."
    assert note in found
    both, higher = (80, 70), (70,)  # of the control: two budgets on one network, the larger alone on the other
    trials = [
        Trial(label=label, seed=seed, network=network, right=right, asked=(0.1, 0.2)[-len(right) :])
        for label, network, right in (("tuned", "one", both), ("tuned", "two", higher), ("arm", "one", higher),
                                      ("arm", "two", higher))
        for seed in range(6)
    ]  # fmt: skip
    found = "\n".join(lines(write_run(tmp_path / "budgets", trials), "tuned", None))
    assert "All together" not in found and note in found


@pytest.mark.parametrize(("learned", "flagged"), [(None, {"base", "l1"}), ("l1", {"base"}), ("0", {"base", "l1"})])
def test_a_network_that_names_one_class_only_has_learned_nothing(
    tmp_path: Path, learned: str | None, flagged: set[str]
) -> None:
    """Where a trial names no image rightly, it gives all of them one class."""
    trials = [
        Trial(label=label, method=method, seed=seed, right=(50 if learned in (label, str(seed)) else 0,), asked=(0.0,))
        for label, method in (("base", "fine_tune"), ("l1", "prune")) for seed in range(3)
    ]  # fmt: skip
    with load(write_run(tmp_path, trials)) as run:
        pages = [versus_arm_page(run, "base", None), anytime_page(run, "base", None), front_page(run, "macs")]
        compared, at_any_time, on_front = map(answer_of, pages)
        records = on_front.tables["front"].records
        assert {row["arm"] for row in records if "one class" in row["flags"]} == flagged
        for answer in (compared, at_any_time, on_front):
            assert sum(note.startswith("one class (") for note in answer.notes) == 1
        assert any(note.startswith("one class (") for note in published_table(run).notes)
        assert any(warning.startswith("one class (") for warning in page_of(run).warnings)


def test_at_a_budget_no_arm_by_milliseconds_or_by_a_rule_is_listed_or_counted(tmp_path: Path) -> None:
    arms: dict[str, tuple[float | None, float]] = {"base": (0.0, 0.0), "at 40": (0.4, 0.4), "by ms": (None, 0.25)}
    arms |= {"by a rule": (None, 0.46), "whole": (0.0, 0.0)}
    trials = [
        Trial(label=label, seed=seed, right=(80 + seed,), asked=(asked,), removed=(removed,))
        for label, (asked, removed) in arms.items() for seed in range(6)
    ]  # fmt: skip
    run = write_run(tmp_path, trials)
    found = lines(run, "base", 0.4)
    assert set(table(found)) == {"at 40", "whole"}
    assert set(table(lines(run, "base", None))) == {"at 40", "by ms", "by a rule", "whole"}


def test_intervals_at_any_time_give_no_verdict_where_the_other_comparison_gives_none(tmp_path: Path) -> None:
    base = [Trial(label="base", seed=seed, right=(50 + seed % 3, 40), asked=(0.0, 0.4)) for seed in range(12)]
    tuned = [
        Trial(label="tuned", seed=seed, right=(90 + tried,), config={"x": tried}, tuning_order=tried)
        for seed in range(12) for tried in (0, 1)
    ]  # fmt: skip
    failed = Trial(label="base", seed=12, right=(), asked=(0.0, 0.4), ended="failed")

    def verdicts(name: str, trials: list[Trial]) -> list[set[tuple[str, str, int]]]:
        with load(write_run(tmp_path / name, trials)) as run:
            pages = [[*page(run, "base", None)] for page in (versus_arm_page, anytime_page)]
        tables = [next(part for part in page if isinstance(part, Table) and part.records) for page in pages]
        return [{(row["arm"], row["verdict"], row["failed_trials"]) for row in table.records} for table in tables]

    of_all, at_any_time = verdicts("whole", [*base, *tuned])
    assert of_all == at_any_time == {("tuned", "not equally tuned", 0), ("base", "worse", 0)}
    of_all, at_any_time = verdicts("failed", [*base, *tuned, failed])
    assert of_all == {("tuned", "incomplete", 1), ("base", "worse", 1)}  # the seed failed in both
    assert at_any_time == {("tuned", "incomplete", 1), ("base", "incomplete", 1)}


def test_an_arm_whose_scores_at_a_budget_are_all_no_numbers_is_not_left_out_silently(tmp_path: Path) -> None:
    trials = [
        Trial(label=label, seed=seed, dataset=dataset, right=(80, 70), asked=(0.0, 0.2), metric="macro_f1")
        for label in ("base", "lost", "other") for dataset in ("birds", "dogs") for seed in range(2)
    ]  # fmt: skip
    run = write_run(tmp_path, trials)
    with load(run) as opened:
        rows = opened.rows("""SELECT test_scores.* EXCLUDE (written_at) FROM test_scores JOIN planned USING (trial_id)
            WHERE label = 'lost' AND point = 1""")
    change_rows(run, "test_scores", [{**row, "test_macro_f1": math.inf} for row in rows])
    with load(run) as opened:
        assert "lost" not in [row.arm for row in published_table(opened, asked=0.2).rows]  # it does prune
        for page in (versus_arm_page(opened, "base", 0.2), anytime_page(opened, "base", 0.2)):
            text = "\n".join(markdown_lines(page))
            assert re.search("Not shown, .*: lost at 20% fewer MACs, net on birds .*; lost at 20% .* dogs", text)
            assert "| lost |" not in text
