"""The operating points of a live report page by page: each page begins behind the key of the one before."""

import json
import threading
from dataclasses import dataclass
from typing import Any, Literal

from results.errors import ResultsError
from results.questions.costs import time_unit
from results.questions.front_figure import POINTS_WITH_COSTS
from results.render.blocks import packed
from results.store.reader import Run
from results.store.views import literal
from results.text.number_format import SCALES
from transtailor.documents import DocumentError, Record

PAGE_ROWS = 200
MOST_ROWS = 10_000
_TEXTS = ("network", "dataset", "arm", "trial_id")
_SIGNS = {
    "=": "abs({} - ?) < 1e-9", "!=": "abs({} - ?) >= 1e-9", ">": "{} - ? > 1e-9", "<": "? - {} > 1e-9",
    ">=": "? - {} < 1e-9", "<=": "{} - ? < 1e-9",
}  # fmt: skip
_FACTORS = " ".join(f"WHEN {literal(metric)} THEN CAST({scale.factor} AS DOUBLE)" for metric, scale in SCALES.items())


@dataclass(frozen=True, kw_only=True)
class PointsQuestion(Record):
    """Which points are asked for. Numbers are as the page shows them.

    Attributes:
        sort: a column; with "-" before it, the largest first.
        texts: each is in one of the columns of texts; `arms`: of these arms, empty for all.
        numbers: column, sign, number.
        problem: network, data set, training images.
        most: rows of the answer; None: `PAGE_ROWS`. No answer has more than `MOST_ROWS`.
        after: what the answer before gave as its `last`; None: from the start, with the number of all points.
    """

    sort: str = "-test_score"
    texts: tuple[str, ...] = ()
    arms: tuple[str, ...] = ()
    numbers: tuple[tuple[str, Literal["=", "!=", "<", ">", "<=", ">="], float], ...] = ()
    problem: tuple[str, str, int | None] | None = None
    most: int | None = None
    after: tuple[float | str | None, str, int] | None = None


class PointPages:
    """Answers questions about a run's points. Columns are those of a list, values are bound: no text becomes SQL."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._asking = threading.Lock()
        more = "run, " if len(run.paths) > 1 else ""
        self._texts: tuple[str, ...] = ("run", *_TEXTS) if more else _TEXTS
        run.connection.execute(
            f"CREATE TEMP TABLE paged_points AS SELECT {more}point.*, CASE metric {_FACTORS} END AS factor,"
            f" lower(concat_ws(chr(10), {', '.join(self._texts)})) AS texts FROM ({POINTS_WITH_COSTS}) AS point"
            f" JOIN (SELECT {more}trial_id, point, metric FROM compared_points) USING (trial_id, point)"
        )
        shown = {name: name for name in ("seed", "macs", "params", "latency_ms")}
        shown |= {name: f"factor * {name}" for name in ("test_score", "validation_score")}
        shown |= {name: f"100 * {name}" for name in ("asked_removed_macs_fraction", "removed_macs_fraction")}
        shown |= {
            "device_hours": f"{time_unit(run)[0]} * device_hours",
            "peak_memory_bytes": "peak_memory_bytes / 2**20",
        }
        self._numbers = {
            name: f"CASE WHEN isfinite({sql}) THEN CAST({sql} AS DOUBLE) END" for name, sql in shown.items()
        }

    def close(self) -> None:
        """Close the run, when no question is being answered."""
        with self._asking:
            self._run.close()

    def answer(self, text: str) -> str:
        """Return one page as JSON: columns, the number of rows, `last`, and for the first page the `count` of all.

        Raises:
            ResultsError: the question is none, or names an unknown column.
        """
        try:
            question = PointsQuestion.from_json(text)
            limit = max(1, min(question.most or PAGE_ROWS, MOST_ROWS))
            is_down = question.sort.startswith("-")
            name = question.sort.removeprefix("-")
            key = name if name in self._texts else self._numbers[name]
            where: list[tuple[str, list[Any]]] = [
                (_SIGNS[sign].format(self._numbers[column]), [value]) for column, sign, value in question.numbers
            ]
        except (DocumentError, KeyError) as error:
            raise ResultsError(f"no question about points: {error}") from error
        where += [("contains(texts, ?)", [part.lower()]) for part in question.texts]
        if question.arms:
            where.append(("arm IN (SELECT unnest(?))", [list(question.arms)]))
        if question.problem:
            same = "(network, dataset) = (?, ?) AND train_images IS NOT DISTINCT FROM ?"
            where.append((same, list(question.problem)))
        with self._asking:
            count = None if question.after else self._asked("count(*) AS count", where)[0]["count"]
            if question.after:
                value, *rest = question.after
                if value is None:
                    where.append((f"({key} IS NULL AND (trial_id, point) > (?, ?))", rest))
                else:
                    equal = f"{key} = ? AND (trial_id, point) > (?, ?)"
                    behind = f"({key} {'<' if is_down else '>'} ? OR {key} IS NULL OR {equal})"
                    where.append((behind, [value, value, *rest]))
            order = f"ORDER BY {key} IS NULL, {key} {'DESC' if is_down else 'ASC'}, trial_id, point LIMIT {limit}"
            rows = self._asked(f"* EXCLUDE (texts), {key} AS key", where, order)
        keys = [row.pop("key") for row in rows]
        columns = [{"name": name, **packed([row[name] for row in rows])} for name in (rows[0] if rows else ())]
        last = [keys[-1], rows[-1]["trial_id"], rows[-1]["point"]] if rows else None
        return json.dumps({"columns": columns, "rows": len(rows), "last": last, "count": count}, allow_nan=False)

    def _asked(self, what: str, where: list[tuple[str, list[Any]]], order: str = "") -> list[dict[str, Any]]:
        conditions = " AND ".join(condition for condition, _ in where) or "true"
        parameters: list[Any] = []
        for _, values in where:
            parameters += values
        return self._run.rows(f"SELECT {what} FROM paged_points WHERE {conditions} {order}", parameters)
