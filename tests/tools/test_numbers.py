"""The numbers in the prose of docs/results are those of the committed points; one changed digit is found."""

import re
from pathlib import Path

import pandas
import pytest

from tests.results.conftest import Synthetic
from tools import compared_pages, keep_run, numbers

README = numbers.RESULTS / "README.md"
PAGES = sorted(numbers.RESULTS.rglob("*.md"))
NOT_COMPUTED = {
    "README": {
        "0.25 at best": "what three pairs can reach, by counting",
        "0.8, it is": "a setting",
        "0.125 That is": "an option",
        "nine of ten": "a rerun whose points were not kept",
    },
    "beta_default": {
        "0.5 points": "the rule of the plan",
        "0.779); it": "of a trial that was seen before the plan, and is not used",
    },
    "heads_on_digits": {
        "0.05; with": "the level of the plan",
        "0.2`": "an option",
        "0.3`": "an option",
        "five of the twelve": "a budget, in heads",
    },
    "photographs_study": {
        "0.05; with": "the level of the plan",
        "0.0015. Beside": "what 12 pairs can reach, by counting",
        **dict.fromkeys(
            ["+8.49 [", "6.13, ", "10.85], ", "+0.51 [", "−0.39, ", "1.42] and", "−0.15 [", "−0.89, ", "0.59]: by"],
            "the points of the first run were lost",
        ),
    },
}
"""Page -> number with the words behind it -> why no call is beside it."""
ONES = "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve"
A_NUMBER = re.compile(rf"(?<![\w.])[+−]?\d+\.\d+|(?<![\w.#])\d+ of (?:the )?\d+|\b(?:{ONES}) of (?:the )?(?:{ONES})\b")


@pytest.mark.parametrize("page", compared_pages.PAGES, ids=lambda page: page.path)
def test_the_tables_are_those_of_the_points(page: compared_pages.Compared) -> None:
    assert page.text() == (numbers.RESULTS / page.path).with_suffix(".md").read_text()


def test_an_arm_without_points_at_a_seed_counts_as_failed() -> None:
    with compared_pages.kept_run("transtailor_ablation/measured_points") as run:
        (row,) = run.rows("SELECT count(*) AS failed, any_value(trial_id) AS one FROM trials WHERE status = 'failed'")
    assert row["failed"] == 5 and "beta sqrt" in row["one"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_numbers_are_those_of_the_points(page: Path) -> None:
    assert list(numbers.differences(page.read_text())) == []


@pytest.mark.parametrize("page", NOT_COMPUTED)
def test_every_decimal_and_count_about_scores_is_computed(page: str) -> None:
    text = (numbers.RESULTS / page).with_suffix(".md").read_text().partition("## Speed and scale")[0]
    words, reasons = " ".join(numbers.NUMBER.sub("#", text).split()), NOT_COMPUTED[page]
    found = [words[one.start() :] for one in A_NUMBER.finditer(words)]
    assert [rest[:40] for rest in found if not rest.startswith(tuple(reasons))] == []
    assert [start for start in reasons if not any(rest.startswith(start) for rest in found)] == []


def test_one_changed_digit_is_found_and_written_anew() -> None:
    text = README.read_text()
    forged = text.replace("-->−1.41<!--", "-->−1.40<!--", 1)
    ((call, written, computed),) = numbers.differences(forged)
    assert call.startswith("difference(") and (written, computed) == ("−1.40", "−1.41")
    assert numbers.renew(forged) == text


@pytest.mark.parametrize("call", ["open('x')", "difference", "__import__('os').system('true')", "mean(open('x'), 'a')"])
def test_only_calls_of_its_functions_are_made(call: str) -> None:
    with pytest.raises(ValueError, match="expected a call|malformed node"):
        numbers.compute(call)


@pytest.fixture
def four(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    rows = [("a", 0, 0.2, 0.9), ("a", 1, 0.2, 0.8), ("a", 0, 0.4, 0.5), ("b", 0, 0.0, 0.7), ("b", 1, 0.0, 0.7)]
    frame = pandas.DataFrame(rows, columns=["label", "seed", "asked_removed_macs_fraction", "test_score"])
    frame.to_parquet(tmp_path / "four.parquet")
    monkeypatch.setattr(numbers, "RESULTS", tmp_path)
    return "four"


def test_differences_are_paired_by_seed(four: str) -> None:
    assert numbers.difference(four, "a", "b", at=0.2) == "+15.00"
    assert numbers.difference(four, "b", "a", against_at=0.2, digits=1) == "−15.0"
    assert numbers.difference(four, "b", "a", against_at=0.2, sign=False) == "15.00"
    assert numbers.p(four, "a", "b", at=0.2) == "0.5"
    assert numbers.mean(four, "a", at=0.2) == "85.0"
    assert numbers.ahead(four, "a", "b", at=0.2) == "2 of 2"
    assert numbers.query(four, "SELECT count(*) FROM points") == "5"
    assert numbers.interval(four, "a", "b", at=0.2, digits=0) == "[−49, +79]"  # t of one degree of freedom: 12.7 x 5
    with pytest.raises(ValueError, match="3 points of 'a' for 2 seeds"):
        numbers.mean(four, "a")


def test_runs_are_kept_and_added(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, seeds in (("one", (0, 1)), ("two", (1, 2))):
        Synthetic(seeds=seeds).write(tmp_path / name)
    to = tmp_path / "kept" / "points.parquet"
    assert keep_run.main([str(tmp_path / "one"), "--to", str(to)]) == 0
    first = pandas.read_parquet(to)
    assert keep_run.main([str(tmp_path / "two"), "--to", str(to), "--add"]) == 0
    both = pandas.read_parquet(to)
    assert set(both["seed"]) == {0, 1, 2} and len(both) > len(first)
    assert not both.duplicated(["trial_id", "point"]).any()
    assert keep_run.main([str(tmp_path / "three"), "--to", str(to)]) == 2
    assert "three" in capsys.readouterr().err
