"""The tables of docs/results/README.md are rows of its evidence; a changed digit is found, and no sentence has one."""

import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tools import evidence_page, findings

README = findings.PAGE.read_text()
RESULT = re.compile(r"(?<![\w.])[+−-]?\d+\.\d+|\d+ of \d+|\d+ ?(?:%|ms|MB|s)(?!\w)")
"""A number that looks like a result: decimals, counts, shares, times."""
SETTINGS = ('"At 20%" means 20% fewer MACs', "95% t interval", "[at 40%]")


def test_the_tables_are_those_of_the_evidence() -> None:
    for page, (tables, evidence) in findings.TABLES.items():
        assert findings.with_tables(page.read_text(), tables, evidence) == page.read_text()


def test_each_section_with_a_table_is_made() -> None:
    with_table = [part.partition("\n")[0] for part in README.split("\n## ")[1:] if "\n|" in part]
    assert with_table == [*findings.FINDINGS]


def test_a_changed_digit_is_found_and_written_anew() -> None:
    row = next(line for line in README.splitlines() if line.startswith("| `transtailor` at 40%"))
    forged = README.replace(row, row.replace("0", "1", 1))
    assert forged != README
    assert findings.with_tables(forged) == README


def test_no_sentence_has_a_number_that_no_table_makes() -> None:
    sentences = " ".join(line for line in README.splitlines() if not line.startswith("|"))
    for text in SETTINGS:
        assert text in sentences
        sentences = sentences.replace(text, "")
    assert RESULT.findall(sentences) == []
    assert RESULT.search("ahead in 9 of 10 seeds") and RESULT.search("by 0.32") and RESULT.search("takes 23 s")


def test_an_arm_of_the_digits_says_for_how_many_epochs_it_was_tuned() -> None:
    rows = [row for tables, _ in findings.TABLES.values() for table in tables.values() for row in table.rows]
    points = pq.read_table(evidence_page.EVIDENCE / "methods_on_digits" / "measured_points.parquet").to_pandas()
    epochs = points.trained_epochs - points[points.label == "head_only"].trained_epochs.max()
    of_digits = [row for row in rows if row.page.startswith("methods_on_digits/")]
    for row in of_digits:
        arm, asked = row.where["arm"], (0.2 if row.page.endswith("at_20") else 0.4)
        its = epochs[(points.label == arm) & points.asked_removed_macs_fraction.isin([0.0, asked])].max()
        assert f"{its:.0f} epochs" in row.what.partition(", against")[0], row.what
    assert len(of_digits) == 12


def test_it_is_one_short_page() -> None:
    assert README.count("\n") <= 182


def test_a_row_is_found_by_its_texts_and_its_heading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence_page, "EVIDENCE", tmp_path)
    table = "| arm | score |\n| --- | ---: |\n| a \\| b | 1.0 |\n| c | 2.0 |\n"
    (tmp_path / "page.md").write_text(f"# Title\n\n{table}\n### Other\n\n{table}\n- a note\n")
    assert evidence_page.row_of("page", {"arm": "c"}, "Other") == {"arm": "c", "score": "2.0"}
    assert [table.heading for table in evidence_page.tables_of("page")] == ["", "Other"]
    with pytest.raises(ValueError, match="has 2 rows with"):
        evidence_page.row_of("page", {"arm": "c"})
    with pytest.raises(ValueError, match="has 0 rows with"):
        evidence_page.row_of("page", {"arm": "d"}, "Other")


def test_a_page_without_a_heading_or_a_table_is_refused() -> None:
    question = next(iter(findings.FINDINGS))
    with pytest.raises(ValueError, match="no heading"):
        findings.with_tables(README.replace(question, "Another?"))
    with pytest.raises(ValueError, match="no table below"):
        findings.with_tables("\n## ".join(["# Title", *(f"{title}\n\nNo." for title in findings.FINDINGS)]))
