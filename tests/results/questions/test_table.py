"""Tables to publish: numbers worked out by hand, marks made by test, three formats, and nothing lost in silence."""

import csv
import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from results.errors import ResultsError
from results.questions.table import Cell, Published, published_page, published_table
from results.statistics.means import mean_interval
from results.store.reader import load
from results.text.formats import TEXTS, latex_escaped
from tests.results.exact_run import Trial, write_run

BEST = (90, 91, 92, 90, 91, 92, 93)
CLOSE = (91, 90, 93, 89, 92, 91, 92)
"""Against BEST: +1 -1 +1 -1 +1 -1 -1."""
FAR = (80, 82, 81, 80, 82, 81, 80)


def trials(**labels: Sequence[int]) -> list[Trial]:
    return [
        Trial(label=label, seed=seed, right=(right,)) for label, of in labels.items() for seed, right in enumerate(of)
    ]


def table(folder: Path, several: Sequence[Trial], **how: object) -> Published:
    with load(write_run(folder, several)) as run:
        return published_table(run, **how)  # type: ignore[arg-type]


def cell(made: Published, name: str, column: int = 0) -> Cell:
    (row,) = [row for row in made.rows if row.name.startswith(name)]
    found = row.cells[column]
    assert isinstance(found, Cell)
    return found


def test_means_intervals_and_marks_by_hand(tmp_path: Path) -> None:
    made = table(tmp_path, trials(best=BEST, close=CLOSE, far=FAR))
    mean = mean_interval([right / 100 for right in BEST])
    found = cell(made, "best").value
    assert found == mean
    assert [cell(made, name).place for name in ("best", "close", "far")] == ["best", "tie", "behind"]
    # As they are and all turned round, far stands out most; it does so once more, and mirrored, against close. The
    # close one's signs sum to 1, and none to less.
    assert cell(made, "far").p == pytest.approx(4 / 2**7)
    assert cell(made, "close").p == 1
    assert cell(made, "close").smallest_p == pytest.approx(2 / 2**7)


def test_the_best_and_its_ties_are_bold_in_both_kinds_of_text(tmp_path: Path) -> None:
    made = table(tmp_path, trials(best=BEST, close=CLOSE, far=FAR))
    for name, bold in (("markdown", "**91.29 ± 1.03 (7)**"), ("latex", r"\textbf{91.29 $\pm$ 1.03 (7)}")):
        lines = {
            line.split(" at ")[0].strip("| "): line for line in TEXTS[name](published_page(made)) if " at 20" in line
        }
        assert bold in lines["best"]
        assert bold[:3] in lines["close"] and "(7) =" in lines["close"]
        assert bold[:3] not in lines["far"]


def test_nothing_is_marked_where_the_seeds_cannot_settle_anything(tmp_path: Path) -> None:
    made = table(tmp_path, trials(best=BEST[:5], far=FAR[:5]))
    assert {cell(made, name).place for name in ("best", "far")} == {"unsettled"}
    assert "**" not in "\n".join(TEXTS["markdown"](published_page(made)))
    assert any("reach p = 0.0625 at best, so no arm can be distinguished" in note for note in made.notes)
    assert any("6 seeds could" in note for note in made.notes)


def test_one_seed_has_numbers_and_says_that_there_is_no_interval(tmp_path: Path) -> None:
    made = table(tmp_path, trials(best=BEST[:1], far=FAR[:1]))
    assert (cell(made, "best").value.mean, cell(made, "best").value.low) == (0.9, None)
    assert any("no interval can be given" in note for note in made.notes)
    assert "90.00 (1)" in "\n".join(TEXTS["markdown"](published_page(made)))


def test_missing_and_failed_trials_are_counted(tmp_path: Path) -> None:
    several = trials(best=BEST, far=FAR[:5])
    several += [
        Trial(label="far", seed=5, right=(), ended="failed"),
        Trial(label="far", seed=6, right=(), ended="missing"),
    ]
    made = table(tmp_path, several)
    assert (cell(made, "far").value.n, cell(made, "far").failed, cell(made, "far").place) == (5, 1, "incomplete")
    assert "(5, 1 failed or NaN)" in "\n".join(TEXTS["markdown"](published_page(made)))
    assert any(note.startswith("failed (1 of 2 rows): ") for note in made.notes)
    assert any(note.startswith("Trials: 14 planned, 12 finished, 1 failed, 1 missing") for note in made.notes)
    assert any(note.startswith("unfinished (1 of 2 rows): ") for note in made.notes)


def test_an_arm_that_lost_a_seed_is_never_the_best(tmp_path: Path) -> None:
    lucky = [Trial(label="lucky", seed=seed, right=(99,)) for seed in range(6)]
    made = table(
        tmp_path, [*trials(best=BEST, far=FAR), *lucky, Trial(label="lucky", seed=6, right=(99,), ended="failed")]
    )
    assert [cell(made, name).place for name in ("best", "far", "lucky")] == ["best", "behind", "incomplete"]
    assert cell(made, "lucky").value.n == 6  # what a trial wrote before it failed is in no mean


def test_a_seed_that_is_not_there_yet_is_left_out_of_all_comparisons(tmp_path: Path) -> None:
    later = Trial(label="far", seed=6, right=(), ended="missing")
    made = table(tmp_path, [*trials(best=BEST, close=CLOSE, far=FAR[:6]), later])
    assert cell(made, "far").p == pytest.approx(4 / 2**6)  # as with seven seeds
    assert {cell(made, name).smallest_p for name in ("close", "far")} == {2 / 2**6}


def test_equal_rows_are_one_in_a_family(tmp_path: Path) -> None:
    """An arm that prunes nothing has the same models at every budget."""
    same = [
        Trial(label=label, seed=seed, right=(right,), asked=(None,), model="shared")
        for label in ("again", "once")
        for seed, right in enumerate(CLOSE)
    ]
    made = table(tmp_path, [*trials(best=BEST), *same])
    assert any("over 7 seeds that all have, 1 comparison with the best can reach" in note for note in made.notes)
    assert cell(made, "again").p == cell(made, "once").p


def test_the_column_of_all_problems_has_the_seed_as_unit(tmp_path: Path) -> None:
    nets = {"net": 0, "other": -5, "third": -1}
    several = [
        Trial(label=label, seed=seed, right=(right + plus,), network=net)
        for net, plus in nets.items()
        for label, of in (("best", BEST), ("far", FAR))
        for seed, right in enumerate(of)
        if (net, label, seed) != ("third", "far", 6)  # not there yet
    ]
    made = table(tmp_path, several)
    assert [column.title for column in made.columns][-1] == "all together"
    found = cell(made, "best", 3).value
    mean = mean_interval([right / 100 - 0.02 for right in BEST])
    assert found.n == 7
    assert (found.mean, found.low, found.high) == pytest.approx((mean.mean, mean.low, mean.high))
    far = cell(made, "far", 3)
    assert (far.place, far.value.n) == ("behind", 6)
    assert (far.p, far.smallest_p) == (2 / 2**6, 2 / 2**6)  # 20 blocks of a network and a seed would give 0.0001
    assert any(note.startswith("all together: ") and "; of arms that all of them have. " in note for note in made.notes)


def test_scores_that_are_no_numbers_are_counted_and_refused_where_there_are_no_others(tmp_path: Path) -> None:
    nan = [Trial(label="a", seed=s, right=(90,), validation=(math.nan,)) for s in range(2)]
    with pytest.raises(ResultsError, match="no validation_score is finite: all 2"):
        table(tmp_path / "all", nan, score="validation_score")
    made = table(tmp_path / "one", [*nan[:1], *trials(a=(80, 81, 82))[1:]], score="validation_score")
    assert (cell(made, "a").value.n, cell(made, "a").failed, "failed" in cell(made, "a").flags) == (2, 1, True)


def test_scores_that_are_not_numbers_are_counted_at_the_budget_that_is_shown(tmp_path: Path) -> None:
    paths = [
        Trial(label=label, seed=seed, right=(80, 70), asked=(0.2, 0.3),
              validation=(math.nan,) * 2 if (label, seed) == ("a", 0) else (0.9, 0.7))
        for label in "ab" for seed in range(3)
    ]  # fmt: skip
    for asked, count in ((0.2, 1), (None, 2)):
        made = table(tmp_path / str(count), paths, asked=asked, score="validation_score")
        cells = [each for row in made.rows for each in row.cells if each is not None]
        assert sum(each.failed for each in cells) == sum("failed" in each.flags for each in cells) == count


def test_what_users_wrote_is_escaped_in_every_format(tmp_path: Path) -> None:
    evil = 'a|b_c & $x$ \\input{x} ~^#% <i> "q", *e*\n[z]'
    made = table(tmp_path, trials(**{evil: BEST, "far": FAR}))
    latex = "\n".join(TEXTS["latex"](published_page(made)))
    assert r"\textbackslash{}input\{x\}" in latex
    assert r"a\textbar{}b\_c \& \$x\$" in latex
    body = latex.split(r"\midrule")[1].split(r"\bottomrule")[0].strip().splitlines()
    assert len(body) == 2  # the line break made no third row
    assert all(line.count(" & ") == 1 and line.endswith(r" \\") for line in body)
    markdown = "\n".join(TEXTS["markdown"](published_page(made))).splitlines()
    assert r"a\|b_c & $x$ \\input{x} \~^#% \<i\>" in markdown[2]
    records = list(csv.DictReader("\n".join(TEXTS["csv"](published_page(made))).splitlines(keepends=True)))
    assert {record["row"] for record in records} >= {f"{evil} at 20% fewer MACs"}


def test_latex_knows_every_sign_that_is_a_command() -> None:
    assert latex_escaped("η² ω² ±") == r"$\eta$$^2$ $\omega$$^2$ $\pm$"
    assert latex_escaped("\\{}$&#_%~^") == (r"\textbackslash{}\{\}\$\&\#\_\%\textasciitilde{}\textasciicircum{}")


def test_the_csv_has_all_digits(tmp_path: Path) -> None:
    made = table(tmp_path, trials(best=BEST, far=FAR))
    records = {record["row"]: record for record in csv.DictReader(TEXTS["csv"](published_page(made)))}
    found = cell(made, "far")
    assert float(records["far at 20% fewer MACs"]["score_low"]) == found.value.low
    assert float(records["far at 20% fewer MACs"]["p_adjusted"]) == found.p
    assert records["best at 20% fewer MACs"]["place"] == "best"


def test_a_path_that_a_rule_ends_has_no_score_before_its_trial_has_finished(tmp_path: Path) -> None:
    by_rule = {"label": "rule", "asked": (None, None)}
    trials = [Trial(seed=seed, right=(90, 70), **by_rule) for seed in (0, 1)]  # type: ignore[arg-type]
    trials.append(Trial(seed=2, right=(90,), ended="missing", **by_rule))  # type: ignore[arg-type]
    with load(write_run(tmp_path, trials)) as run:
        (row,) = published_table(run).rows
    assert [(cell.value.mean, cell.value.n) for cell in row.cells if cell is not None] == [(0.7, 2)]
