"""Write the numbers in the prose of docs/results from the committed points: `make numbers`.

    python -m tools.numbers            # rewrite each number by the call before it
    python -m tools.numbers --check    # say which ones differ; exit code 1 if any does

A number in a page is between a call and an end, neither of which is shown:

    better by <!--=difference("methods_on_digits/measured_points", "a", "b", at=0.2)-->+1.81<!--.--> points

The calls are the functions of `CALLS`, with literal arguments. The first argument is a Parquet file of docs/results
without its ending, with the columns of the view `measured_points`.
"""

import argparse
import ast
import csv
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import pandas

from results.questions.compare import versus_arm_page
from results.statistics.means import mean_interval
from results.statistics.pairs import Paired, compare_pairs
from results.text.page import Heading, Note, PageTable, Part
from tools.compared_pages import RESULTS, kept_run
from transtailor.files import write_file
from transtailor.sources import ROOT

NUMBER = re.compile(r"(<!--=(?P<call>.*?)-->)(?P<value>[^<]*)(<!--\.-->)", re.DOTALL)
MINUS = "−"
TOGETHER = "All together"
REMAIN = re.compile(r"Of (?P<settled>\d+) better or worse, (?P<remain>\d+) remain .* these (?P<comparisons>\d+) compar")


def main(arguments: Sequence[str] | None = None) -> int:
    """Rewrite the pages, or check them; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; print the numbers that differ")
    checks = parser.parse_args(arguments).check
    wrong = 0
    for page in sorted(RESULTS.rglob("*.md")):
        text = page.read_text()
        for call, written, computed in differences(text):
            wrong += 1
            print(f"{page.relative_to(ROOT)}: {written} is {computed}, by {call}")
        if not checks and (renewed := renew(text)) != text:
            write_file(page, renewed)
    return int(checks and wrong > 0)


def renew(text: str) -> str:
    """The text with each number computed again."""
    return NUMBER.sub(lambda found: f"{found[1]}{compute(found['call'])}{found[4]}", text)


def differences(text: str) -> Iterator[tuple[str, str, str]]:
    """Call, written and computed number of each that differs."""
    for found in NUMBER.finditer(text):
        if (right := compute(found["call"])) != found["value"]:
            yield " ".join(found["call"].split()), found["value"], right


def compute(call: str) -> str:
    """The number that a call gives, as text.

    Raises:
        ValueError: it is no call of a function of `CALLS` with literal arguments.
    """
    tree = ast.parse(call.strip(), mode="eval").body
    if not isinstance(tree, ast.Call) or not isinstance(tree.func, ast.Name) or tree.func.id not in CALLS:
        raise ValueError(f"{call!r}: expected a call of {', '.join(CALLS)}")
    keywords = {word.arg: ast.literal_eval(word.value) for word in tree.keywords if word.arg is not None}
    return CALLS[tree.func.id](*map(ast.literal_eval, tree.args), **keywords)


def difference(
    points: str,
    arm: str,
    against: str,
    *,
    digits: int = 2,
    sign: bool = True,
    against_at: float | None = None,
    **where: Any,
) -> str:
    """The mean paired difference of two arms in percentage points; without `sign` only its size."""
    found = _pair(points, arm, against, against_at, where).difference.mean
    return _text(100 * (found or 0.0), digits, "+" if sign else "abs")


def interval(
    points: str, arm: str, against: str, *, digits: int = 2, against_at: float | None = None, **where: Any
) -> str:
    """The 95% interval of the same."""
    found = _pair(points, arm, against, against_at, where).difference
    assert found.low is not None and found.high is not None, "one pair has no interval"
    return f"[{_text(100 * found.low, digits, '+')}, {_text(100 * found.high, digits, '+')}]"


def p(points: str, arm: str, against: str, *, against_at: float | None = None, **where: Any) -> str:
    """The p of the exact sign-flip test of the same."""
    return f"{_pair(points, arm, against, against_at, where).p:.2g}"


def ahead(points: str, arm: str, against: str, *, against_at: float | None = None, **where: Any) -> str:
    """In how many of the seeds that both have an arm's score is the higher one: "9 of 10"."""
    found = _pair(points, arm, against, against_at, where)
    return f"{found.wins} of {found.wins + found.losses + found.ties}"


def mean(points: str, arm: str, *, digits: int = 1, scale: float = 100.0, **where: Any) -> str:
    """The mean test score of an arm over its seeds, in per cent."""
    return _text(scale * (mean_interval([*_scores_by_seed(points, arm, where).values()]).mean or 0.0), digits)


def query(points: str, sql: str, *, digits: int = 0) -> str:
    """One number by SQL on the table `points`."""
    with duckdb.connect(":memory:") as connection:
        connection.register("points", _read(points))
        row = connection.execute(sql).fetchone()
    assert row is not None
    return _text(float(row[0]), digits)


def table_cell(table: str, first: str, column: str, *, digits: int = 2) -> str:
    """A number of a table that a command wrote, by the row's first cell and the column's name."""
    with (RESULTS / f"{table}.csv").open(encoding="utf-8") as file:
        (row,) = [row for row in csv.DictReader(file) if next(iter(row.values())) == first]
    return _text(float(row[column]), digits)


def family(points: str, against: str, what: str, *, at: float | None = None, under: str = TOGETHER) -> str:
    """A number of a table of `transtailor compare`: rows that are `settled`, those that `remain`, or `comparisons`."""
    (found,) = [
        match
        for part in _parts_under(points, against, at, under)
        if isinstance(part, Note) and (match := REMAIN.search(part.text))
    ]
    return str(found[what])


def cell(
    points: str, against: str, arm: str, column: str, *, at: float | None = None, under: str = TOGETHER, asked: str = ""
) -> str:
    """A cell of the same table; `arm` "" takes the least number of the column."""
    (table,) = [part for part in _parts_under(points, against, at, under) if isinstance(part, PageTable)]
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    if not arm:
        return min((str(row[column]) for row in rows if row[column] != "–"), key=float)
    (row,) = [row for row in rows if row["arm"] == arm and str(row["asked %"]).startswith(asked)]
    return str(row[column]).replace("-", MINUS)


CALLS: Mapping[str, Callable[..., str]] = {
    f.__name__: f for f in (difference, interval, p, ahead, mean, query, table_cell, family, cell)
}


def _parts_under(points: str, against: str, at: float | None, heading: str) -> Sequence[Part]:
    """What such a page has below a heading that begins with these words."""
    parts = _compare(points, against, at)
    (start,) = [n for n, part in enumerate(parts) if isinstance(part, Heading) and part.text.startswith(heading)]
    ends = [n for n, part in enumerate(parts) if isinstance(part, Heading) and n > start]
    return parts[start : ends[0] if ends else None]


@cache
def _compare(points: str, against: str, at: float | None) -> Sequence[Part]:
    with kept_run(points) as run:
        return [*versus_arm_page(run, against, at)]


def _pair(points: str, arm: str, against: str, against_at: float | None, where: Mapping[str, Any]) -> Paired:
    other = where if against_at is None else {**where, "at": against_at}
    return compare_pairs(_scores_by_seed(points, arm, where), _scores_by_seed(points, against, other))


def _scores_by_seed(points: str, arm: str, where: Mapping[str, Any]) -> dict[int, float]:
    """The test scores of an arm by seed.

    An arm that prunes nothing has no budget, and is taken as it is at each.

    Raises:
        ValueError: it has no points there, or several for a seed.
    """
    rows = _read(points)
    rows = rows[rows["label"] == arm]
    for column, value in where.items():
        if column == "at":
            asked = rows["asked_removed_macs_fraction"]
            rows = rows[(asked - value).abs().lt(1e-9) | (asked.eq(0.0).all() if len(rows) else False)]
        else:
            rows = rows[rows[column] == value]
    if rows.empty or rows["seed"].duplicated().any():
        raise ValueError(
            f"{points}: {len(rows)} points of {arm!r} for {rows['seed'].nunique()} seeds with {dict(where)}"
        )
    return dict(zip(rows["seed"], rows["test_score"], strict=True))


@cache
def _read(points: str) -> pandas.DataFrame:
    return pandas.read_parquet((RESULTS / Path(points)).with_suffix(".parquet"))


def _text(value: float, digits: int, sign: str = "") -> str:
    plain = f"{abs(value):,.{digits}f}"
    if sign == "abs" or float(plain.replace(",", "")) == 0.0:
        return plain
    return (MINUS if value < 0 else "+" if sign == "+" else "") + plain


if __name__ == "__main__":
    sys.exit(main())
