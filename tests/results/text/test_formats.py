"""One page in every format: for a screen, for a note, for a paper, for programs."""

import csv
import io
import json
import math
import sys
from collections.abc import Iterator

import pytest
from pyarrow import parquet

from results.command_output import Output, write
from results.errors import ResultsError
from results.text.formats import LEAST_WIDTH, TEXTS, one_line, parquet_bytes, terminal_lines
from results.text.page import Heading, Note, PageTable, Part, Strong, limit_rows

ROWS = [("a long label | of *words*", 0.123456789, "open"), ("b", math.nan, None), ("网络", 3, Strong("best"))]


def page() -> Iterator[Part]:
    yield Heading("problem_one")
    yield PageTable(columns=("arm", "score", "it says"), rows=ROWS, words=(0, 2), usual=(2, 0))
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


@pytest.mark.parametrize("width", [10, 20, 30, 31, 40, 200])
def test_no_line_of_a_table_is_wider_than_the_screen(width: int) -> None:
    wide = [
        PageTable(columns=("name", "n", "text"), rows=[("x" * 50, 1000, "y" * 50), ("网" * 30, 2, "")], words=(0, 2))
    ]
    lines = list(terminal_lines(wide, width))
    table = [line for line in lines if not line.startswith("not shown")]
    assert max(len(line) + sum(line.count(sign) for sign in "网") for line in table) <= max(width, LEAST_WIDTH)
    assert any("…" in line for line in table) == (width < 112)
    assert not any("…" in line for line in terminal_lines(wide, width, wide=True))


def test_of_columns_with_one_name_none_is_lost() -> None:
    """As of `SELECT * FROM planned JOIN trials USING (trial_id) JOIN attempts USING (trial_id)`."""
    names = ("a", "b", "a", "a", "a (b)", "a")
    table = PageTable(columns=names, rows=[tuple(range(6))])
    (record,) = json.loads("".join(TEXTS["json"]([table])))
    assert record == {"a": 0, "b": 1, "a (b)": 2, "a (a)": 3, "a (b) (a)": 4, "a (a (b))": 5}
    equal = PageTable(columns=("a",) * 4, rows=[tuple(range(4))])
    assert list(TEXTS["csv"]([equal])) == ["a,a (a),a (2),a (3)", "0,1,2,3"]


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
    two = [*page(), Heading("two"), PageTable(columns=("arm", "95%", "p", "95%"), rows=[("c", "1 … 2", 0.5, "3 … 4")])]
    found = json.loads("\n".join(TEXTS["json"](two)))
    assert found[0] == {"table": "problem_one", "arm": ROWS[0][0], "score": 0.123456789, "it says": "open"}
    assert found[1]["score"] is None  # JSON has no NaN
    assert found[3] == {"table": "two", "arm": "c", "95%": "1 … 2", "p": 0.5, "95% (p)": "3 … 4"}
    rows = list(csv.DictReader("\n".join(TEXTS["csv"](two)).splitlines()))
    assert [row["table"] for row in rows] == ["problem_one"] * 3 + ["two"]
    table = parquet.read_table(io.BytesIO(parquet_bytes(two)))
    assert table.column("score").to_pylist()[0] == 0.123456789 and table.num_rows == 4


def test_a_table_without_rows_keeps_its_header() -> None:
    empty = [Heading("one"), PageTable(columns=("trial", "status", "status"), rows=[])]
    assert list(TEXTS["csv"](empty)) == ["table,trial,status,status (status)"]
    assert list(TEXTS["csv"](empty[1:])) == ["trial,status,status (status)"]
    assert json.loads("\n".join(TEXTS["json"](empty))) == []
    table = parquet.read_table(io.BytesIO(parquet_bytes(empty)))
    assert (table.column_names, table.num_rows) == (["table", "trial", "status", "status (status)"], 0)
    both = [*page(), *empty]
    assert next(TEXTS["csv"](both)) == "table,arm,score,it says,trial,status,status (status)"


def test_a_limit_says_what_it_leaves_out() -> None:
    lines = list(terminal_lines(limit_rows(page(), 2), 80))
    assert "... 1 more rows of 3" in lines and not any("网络" in line for line in lines)
    assert len(json.loads("\n".join(TEXTS["json"](limit_rows(page(), 2))))) == 2


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
    table = PageTable(columns=("arm", "difference"), rows=[("=1+2", "+1.5"), ("-a", -2.0)])
    assert list(TEXTS["csv"]([table])) == ["arm,difference", "'=1+2,+1.5", "'-a,-2.0"]
