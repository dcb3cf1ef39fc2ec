"""One page in every format: for a screen, for a note, for a paper, for programs."""

import csv
import io
import json
import math
import sys
from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import Any

import pytest
from pyarrow import parquet

from results.columns import Column, columns_from
from results.command_output import Output, write
from results.errors import ResultsError
from results.text.formats import LEAST_WIDTH, TEXTS, one_line, parquet_bytes, terminal_lines
from results.text.page import Heading, Note, Part, Shown, Strong, Table, limit_rows

COLUMNS = (Column("arm", "string"), Column("score", "double"), Column("it_says", "string", heading="it says"))
ROWS = [("a long label | of *words*", 0.123456789, "open"), ("b", math.nan, None), ("网络", 3, Strong("best"))]


def as_it_is(name: str) -> Shown:
    """A column whose values are shown as they are."""
    return Shown(name, text=itemgetter(name))


def table_of(rows: Sequence[Sequence[Any]], columns: Sequence[Column] = COLUMNS, **facts: Any) -> Table:
    """A table whose values are shown as they are."""
    records = [dict(zip((column.name for column in columns), row, strict=True)) for row in rows]
    shown = [as_it_is(column.name) for column in columns]
    return Table(**{"name": "first", "columns": columns, "records": records, "shown": shown} | facts)


def page() -> Iterator[Part]:
    yield Heading("problem_one")
    yield table_of(ROWS, usual=("it_says", "arm"))
    yield Note("A sentence that is long enough to be broken on a narrow screen.")


def test_a_screen_shows_the_usual_columns_in_their_order_and_says_what_it_leaves_out() -> None:
    assert list(terminal_lines(page(), 44)) == [
        "problem_one",
        "it says  arm",
        "──────────────────────────────────",
        "open     a long label | of *words*",
        "         b",
        "best *   网络",
        "- A sentence that is long enough to be",
        "  broken on a narrow screen.",
        "* the best of its column, or a tie with it",
        "not shown: score; all columns: --wide",
    ]


def test_a_narrow_screen_breaks_headings_before_it_cuts_texts_and_cuts_these_in_their_middle() -> None:
    columns = (Column("arm", "string"), Column("difference in accuracy", "double"), Column("n", "int64"))
    table = table_of([("prune l1, rate = 0.1", 0.25, 6), ("prune l1, rate = 0.2", 0.5, 6)], columns)
    assert list(terminal_lines([table], 50))[0] == "arm                   difference in accuracy  n"
    assert list(terminal_lines([table], 35)) == [
        "                      difference",
        "                              in",
        "arm                     accuracy  n",
        "───────────────────────────────────",
        "prune l1, rate = 0.1        0.25  6",
        "prune l1, rate = 0.2         0.5  6",
    ]
    assert list(terminal_lines([table], 31))[-2:] == [
        "prune l…te = 0.1        0.25  6",
        "prune l…te = 0.2         0.5  6",
    ]


@pytest.mark.parametrize("width", [10, 20, 30, 31, 40, 200])
def test_no_line_of_a_table_is_wider_than_the_screen(width: int) -> None:
    columns = (Column("name", "string"), Column("n", "int64"), Column("text", "string"))
    wide = [table_of([("x" * 50, 1000, "y" * 50), ("网" * 30, 2, "")], columns)]
    lines = list(terminal_lines(wide, width))
    table = [line for line in lines if not line.startswith("not shown")]
    assert max(len(line) + sum(line.count(sign) for sign in "网") for line in table) <= max(width, LEAST_WIDTH)
    assert any("…" in line for line in table) == (width < 112)
    assert not any("…" in line for line in terminal_lines(wide, width, wide=True))


def test_what_could_move_the_cursor_is_written_as_its_code() -> None:
    assert [one_line(value) for value in ("a\nb", "\x1b[31m", None, 1 / 3, 10**12)] == [
        "a\\nb", "\\x1b[31m", "", "0.333333", "1000000000000",
    ]  # fmt: skip
    text = "\n".join(terminal_lines([Heading("\x1b[2J"), Note("\x1b[2J"), "\x1b[2J"], 80))
    assert "\x1b" not in text


def test_markdown_and_latex_escape_what_users_wrote() -> None:
    markdown = list(TEXTS["markdown"](page()))
    assert markdown[:4] == [
        "### problem_one",
        "| arm | score | it says |",
        "| --- | ---: | --- |",
        r"| a long label \| of \*words\* | 0.123456789 | open |",
    ]
    assert markdown[5].endswith("**best** |")
    latex = list(TEXTS["latex"](page()))
    assert latex[:3] == ["% problem_one", r"\begin{tabular}{lrl}", r"\toprule"]
    assert r"a long label \textbar{} of *words* & 0.123456789 & open \\" in latex


def test_programs_get_every_row_of_every_table_with_all_digits() -> None:
    second = (Column("arm", "string"), Column("p", "double", nullable=True))
    two = [*page(), Note("Read with care.", "problem_one"), table_of([("c", 0.5), ("d", None)], second, name="second")]
    found = json.loads("\n".join(TEXTS["json"](two)))
    assert list(found) == ["tables", "notes"]
    sentence = "A sentence that is long enough to be broken on a narrow screen."
    assert found["notes"] == [sentence, "problem_one: Read with care."]
    assert found["tables"]["first"][0] == {"arm": ROWS[0][0], "score": 0.123456789, "it_says": "open"}
    assert found["tables"]["first"][1]["score"] is None  # JSON has no NaN
    assert found["tables"]["second"] == [{"arm": "c", "p": 0.5}, {"arm": "d", "p": None}]
    rows = list(csv.DictReader("\n".join(TEXTS["csv"](two)).splitlines()))
    assert [(row["table"], row["p"]) for row in rows] == [("first", "")] * 3 + [("second", "0.5"), ("second", "")]
    table = parquet.read_table(io.BytesIO(parquet_bytes(two)))
    assert table.column_names == ["table", "arm", "score", "it_says", "p"]
    assert table.column("score").to_pylist()[0] == 0.123456789 and table.num_rows == 5
    assert json.loads(table.schema.metadata[b"notes"]) == found["notes"]


def test_the_records_of_one_name_are_one_table_and_what_is_for_people_only_is_none() -> None:
    parts = [table_of(ROWS[:1]), table_of(ROWS[1:]), table_of(ROWS, name="")]
    assert [len(rows) for rows in json.loads("\n".join(TEXTS["json"](parts)))["tables"].values()] == [3]
    for_programs = [table_of(ROWS, shown=())]
    assert list(TEXTS["markdown"](for_programs)) == list(TEXTS["latex"](for_programs)) == []
    assert list(terminal_lines(for_programs, 80)) == []
    assert next(TEXTS["csv"](for_programs)) == "arm,score,it_says"  # one table needs no column that names it


def test_a_table_without_rows_has_its_columns_and_their_types() -> None:
    empty = [table_of([])]
    assert list(TEXTS["csv"](empty)) == ["arm,score,it_says"]
    assert json.loads("\n".join(TEXTS["json"](empty))) == {"tables": {"first": []}, "notes": []}
    table = parquet.read_table(io.BytesIO(parquet_bytes(empty)))
    assert [str(field.type) for field in table.schema] == ["string", "double", "string"] and table.num_rows == 0


def test_a_column_is_shown_by_its_scale_and_a_heading_has_the_unit_of_the_scores() -> None:
    columns = columns_from(["metric", "score", "difference", "p", "wins", "trained_longer"])
    records = [
        {"metric": "accuracy", "score": 0.8512, "difference": -0.01, "p": 0.03125, "wins": 5, "trained_longer": True},
        {"metric": "accuracy", "score": None, "difference": None, "p": None, "wins": 0, "trained_longer": False},
    ]
    table = Table(columns=columns, records=records, shown=(Shown("score", "test {mark}"), "difference", "p", "wins"))
    assert table.headings == ["test %", "difference", "p", "wins"]
    assert table.rows == [["85.12", "-1.00", "0.0312", "5"], ["–", "–", "–", "0"]]
    in_r_squared = Table(columns=columns, records=[records[0] | {"metric": "r_squared"}], shown=table.shown)
    assert (in_r_squared.headings[0], in_r_squared.rows[0][0]) == ("test R²", "0.8512")


def test_a_limit_says_what_it_leaves_out() -> None:
    lines = list(terminal_lines(limit_rows(page(), 2), 80))
    assert "... 1 more rows of 3" in lines and not any("网络" in line for line in lines)
    assert len(json.loads("\n".join(TEXTS["json"](limit_rows(page(), 2))))["tables"]["first"]) == 2


def test_the_format_is_the_screens_on_a_screen_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert next(write(page(), Output())) == "### problem_one"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert next(write(page(), Output())) == "problem_one"
    assert next(write(page(), Output(format="markdown"))) == "### problem_one"
    with pytest.raises(ResultsError, match=r"add > FILE\.parquet"):
        list(write(page(), Output(format="parquet")))
    with pytest.raises(ResultsError, match="type one such as --limit 20"):
        list(write(page(), Output(limit=0)))


def test_parquet_goes_to_the_standard_output(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    assert list(write(page(), Output(format="parquet"))) == []
    assert parquet.read_table(io.BytesIO(capsysbinary.readouterr().out)).num_rows == 3


def test_a_text_that_a_spreadsheet_would_compute_is_marked_as_text() -> None:
    columns = (Column("arm", "string"), Column("difference", "string"))
    table = table_of([("=1+2", "+1.5"), ("-a", -2.0)], columns)
    assert list(TEXTS["csv"]([table])) == ["arm,difference", "'=1+2,+1.5", "'-a,-2.0"]
