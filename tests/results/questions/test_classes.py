"""Two arms class by class, by hand from the predictions."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from results.arms.class_names import class_names
from results.arms.findings import findings_of
from results.arms.selection import select_arms
from results.errors import ResultsError
from results.questions.classes import classes, compared_predictions, section
from results.questions.confusion import confusion_chart, confusion_records
from results.render.blocks import TableBlock
from results.statistics.pairs import compare_pairs, holm
from results.store.reader import Run, load
from results.store.writer import Writer
from results.text.formats import answer_of
from tests.results.exact_run import Trial, write_run


def arms(first: list[list[int]], second: list[list[int]]) -> list[Trial]:
    named = (("first", first), ("second", second))
    return [Trial(label=label, seed=seed, right=(right,)) for label, of in named for seed, right in enumerate(of)]


def answers(run: Run, *arms: str, at: float | None = None) -> dict[str, list[dict[str, Any]]]:
    tables = answer_of(classes.answer(run, *arms, at)).tables
    return {name: [dict(record) for record in table.records] for name, table in tables.items()}


def named_run(folder: Path, names: Sequence[str]) -> Path:
    """A run on the data set "birds", with the names of its classes as a launch writes them."""
    trials = [replace(trial, dataset="birds") for trial in arms([[0, 1, 2]] * 2, [[2, 3]] * 2)]
    run = write_run(folder, trials)
    rows = [{"dataset": "birds", "label": label, "name": name, "code_digest": "c"} for label, name in enumerate(names)]
    Writer(run / "tables").write("classes", rows)
    return run


def test_each_class_is_paired_by_seed_also_where_a_seed_has_several_trials(tmp_path: Path) -> None:
    """Even images are of class 0: of its 50 the first names 10 + 2 s rightly at seed s, the second 5."""
    first = [list(range(0, 2 * (10 + 2 * seed), 2)) for seed in range(7)]
    trials = arms(first, [list(range(0, 10, 2))] * 7)
    again = replace(trials[6], config={"source": {"seed": 1}}, right=([0],))  # 22 and 1 right: 11.5 of 50
    with load(write_run(tmp_path, [*trials, again])) as run:
        zero, one = answers(run, "first", "second")["classes"]
    shares = {seed: (10 + 2 * seed) / 50 for seed in range(6)} | {6: 11.5 / 50}
    paired = compare_pairs(shares, dict.fromkeys(range(7), 0.1))
    difference = paired.difference
    assert (zero["label"], zero["pairs"], zero["verdict"]) == (0, 7, "better")
    assert zero["score"] == pytest.approx(sum(shares.values()) / 7) and zero["against_score"] == pytest.approx(0.1)
    assert zero["difference"] == pytest.approx(difference.mean)
    assert (zero["difference_low"], zero["difference_high"]) == pytest.approx((difference.low, difference.high))
    assert (one["difference"], one["verdict"]) == (0.0, "inconclusive")  # neither names any of class 1
    assert [zero["p_holm"], one["p_holm"]] == holm([paired.p, one["p"]])


def test_no_class_is_called_better_where_trials_failed_or_settings_were_chosen_unequally(tmp_path: Path) -> None:
    plain = arms([list(range(90))] * 6, [list(range(60))] * 6)
    failed = Trial(label="first", seed=9, right=(), ended="failed")
    chosen = [replace(trial, config={"x": n}, tuning_order=n) for trial in plain[:6] for n in (0, 1)]
    for name, trials, verdict in (
        ("plain", plain, "better"), ("failed", [*plain, failed], "incomplete"),
        ("chosen", [*chosen, *plain[6:]], "not equally tuned"),
        ("few", [trial for trial in plain if trial.seed < 4], "inconclusive"),
    ):  # fmt: skip
        with load(write_run(tmp_path / name, trials)) as run:
            records = answers(run, "first", "second")["classes"]
        assert {record["verdict"] for record in records} == {verdict}, name
        assert all((record["p_holm"] is None) == (name in ("failed", "chosen")) for record in records), name


def test_classes_have_their_names_unless_runs_disagree(tmp_path: Path) -> None:
    runs = [named_run(tmp_path / "-".join(names), names) for names in (("auk", "jay"), ("emu", "jay"))]
    with load(runs[0]) as run:
        assert [record["class_name"] for record in answers(run, "first", "second")["classes"]] == ["auk", "jay"]
    with load(runs) as both:
        assert (class_names(both, "birds"), class_names(both, "digits")) == ({}, {})


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    of_pair = [Trial(label="first", seed=0, right=([0],)), Trial(label="second", seed=0, right=([0],))]
    write_run(tmp_path / "pair", of_pair[:1])
    write_run(tmp_path / "pair", of_pair[1:], images=range(50, 150))
    with load(tmp_path / "pair") as run, pytest.raises(ResultsError, match="tested on different images"):
        answers(run, "first", "second")
    elsewhere = [*arms([[0]], [[1]]), Trial(label="third", seed=0, dataset="birds", right=([0],))]
    with load(write_run(tmp_path / "run", elsewhere)) as run:
        for words, at, said in (
            (("first", "secnd"), None, "did you mean 'second'"), (("first", "first"), None, "is given twice"),
            (("first", "second"), 0.9, "at 0.9 of the MACs removed; budgets: 0.2"),
            (("first", "third"), None, "have no problem in common"),
        ):  # fmt: skip
            with pytest.raises(ResultsError, match=said):
                answers(run, *words, at=at)


def test_what_each_class_is_taken_for_by_hand(tmp_path: Path) -> None:
    """Of the 50 images of either class the first arm names two and one rightly, in each of two seeds."""
    with load(named_run(tmp_path, ("auk", "jay"))) as run:
        first, second = sorted(select_arms(run).arms, key=str)
        records = confusion_records(run, first, class_names(run, "birds"))
        chart = confusion_chart(run, [first, second])
        shown = answers(run, "first", "second")["confusion"]
    counted = [(record["class_name"], record["predicted_name"], record["images"]) for record in records]
    assert counted == [("auk", "auk", 4), ("auk", None, 96), ("jay", "jay", 2), ("jay", None, 98)]  # all else is a 9
    assert [record["fraction"] for record in records] == [0.04, 0.96, 0.02, 0.98]
    assert [record for record in shown if record["arm"] == str(first)] == records
    assert chart is not None
    drawn = {(row["arm"], row["true class"], row["predicted class"]) for row in chart.to_dict()["datasets"]["rows"]}
    assert ("first at 20% fewer MACs", "auk", "9") in drawn and len(drawn) == 8


def test_the_section_reads_no_other_rows_than_it_says(tmp_path: Path) -> None:
    base = [Trial(label="fine_tune", method="fine_tune", seed=seed, right=(70,), asked=(0.0,)) for seed in range(4)]
    ours = [Trial(label="prune", seed=seed, right=(80 + seed,)) for seed in range(4)]
    others = [Trial(label="third", seed=seed, right=(60,)) for seed in range(4)]
    with load(write_run(tmp_path / "run", [*base, *ours, *others])) as run:
        found = findings_of(run)
        before = [block.table.records for block in section(found).blocks if isinstance(block, TableBlock)]
        run.hold("predictions", where=compared_predictions(found))
        (held,) = run.rows("SELECT count(DISTINCT trial_id) AS trials FROM predictions")
        after = [block.table.records for block in section(found).blocks if isinstance(block, TableBlock)]
    assert held["trials"] == 8 and len(before) == 1 and before == after
    with load(write_run(tmp_path / "none", [*base, *(replace(one, seed=one.seed + 9) for one in ours)])) as run:
        assert not section(findings_of(run)).blocks
