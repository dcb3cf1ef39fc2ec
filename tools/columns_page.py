"""The page of every table, key and column of a run and of every answer: `python -m tools.columns_page`."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from results.columns import Column, answer_columns, declared
from results.store.schema import COLUMNS_OF_VIEWS, SCHEMA_VERSION, TABLES, TableSchema
from transtailor.files import write_file

DOCUMENT = Path(__file__).parent.parent / "docs" / "columns.md"


def page() -> str:
    """All tables as Markdown: the key, and each column's type, unit and meaning."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield "# Tables and columns"
    yield ""
    yield f"Schema version {SCHEMA_VERSION}. This page is made by `python -m tools.columns_page`."
    yield ""
    yield "No two rows have the same key. A type with `?` may be null. Fractions are in [0, 1]. With several runs each"
    yield "table has a first column `run`, which is part of the key. [How to read them](reading.md)."
    yield ""
    yield "The source of a column is where its value comes from: the planned `trial` with its settings; the `stage`"
    yield "in the cache with its settings and the facts in its `info`, its `file`, its `tensors`, or one `epoch` or"
    yield "`layer` of it; what `transtailor time` measured (`latency`) and in which `circumstance`. A column without a"
    yield "source is computed."
    for table in TABLES.values():
        yield from _table(table)
    yield from _points()
    yield from _measured_points()
    yield from _other_views()
    yield from _answers()


def _points() -> Iterator[str]:
    yield ""
    yield "## points"
    yield ""
    yield "A view, and the file `points.parquet` of a run: a row for each operating point of the finished trials, and"
    yield "for each fit of a head with which another began, with most columns of `operating_points`, those below, and"
    yield "one for each setting of the trial, such as `optimisation_learning_rate`. How to use it:"
    yield "[reading](reading.md#one-tidy-table)."
    yield ""
    yield from _columns(COLUMNS_OF_VIEWS["points"])


def _measured_points() -> Iterator[str]:
    yield ""
    yield "## measured_points"
    yield ""
    yield "A view: `operating_points` with the score on the test split, and the cost of a forward pass. Over several"
    yield "runs it has each trial once, as one of them has it (the view `counted_trials`): one whose search did not"
    yield "propose it, that finished it, and that wrote it last, in this order. `transtailor time RUN` times the"
    yield "models; the view `timed_on` names the circumstance of these times, the one in which most models were timed"
    yield "(the columns of the key of `timings` but for the model, and the number of `models`). The view `latencies`"
    yield "has those of every circumstance, with the whole network's `reference_latency_ms`."
    yield ""
    yield from _columns(COLUMNS_OF_VIEWS["measured_points"])


def _other_views() -> Iterator[str]:
    yield ""
    yield "## compared_points"
    yield ""
    yield "A view: `measured_points` without the points of failed trials, and of those that a search tried, with"
    yield "`is_compared` as in `points`. Every command that computes a mean reads it: a trial may have failed where it"
    yield "would have scored badly, and the best of many settings is too good, so of a search only the trials that"
    yield "confirm are compared. A head's fit with which several paths of a seed begin is there once, with its own arm"
    yield "(`head_arm` of `planned`)."
    yield ""
    yield "## computed_stages, unshared_costs"
    yield ""
    yield "Views of costs. `computed_stages` has each stage once: `stage_key`, `compute_s`, `ranks` and `parents`, with"
    yield "the time of the trial that computed it. `unshared_costs` has what each operating point takes from the start"
    yield "if it shares nothing: `stage_key` of the point, `compute_s`, and `device_hours` of all ranks. For example:"
    yield ""
    yield "```bash"
    yield (
        "transtailor query runs/demo 'SELECT arm, sum(u.device_hours) AS hours FROM compared_points"
        " JOIN unshared_costs AS u USING (stage_key) GROUP BY arm ORDER BY hours DESC'"
    )
    yield "```"


def _answers() -> Iterator[str]:
    yield ""
    yield "## Answers"
    yield ""
    yield "The tables of the commands, as JSON, CSV, Parquet and Python have them: the same columns for every run, null"
    yield "where there is nothing. [How to read them](reading.md#answers-for-programs)."
    for answer, tables in declared()["answers"].items():
        for name, table in tables.items():
            of = "" if name == answer else f": {name}"
            yield ""
            yield f"### {answer}{of}"
            yield ""
            yield f"A row for {table['rows']}."
            yield ""
            yield from _columns(answer_columns(answer, name), sources=False)


def _table(table: TableSchema) -> Iterator[str]:
    yield ""
    yield f"## {table.name}"
    yield ""
    yield "Key: " + ", ".join(f"`{name}`" for name in table.key)
    yield ""
    yield from _columns(table.columns)


def _columns(columns: Iterable[Column], *, sources: bool = True) -> Iterator[str]:
    yield f"| column | type | unit | meaning |{' source |' if sources else ''}"
    yield f"| --- | --- | --- | --- |{' --- |' if sources else ''}"
    for column in columns:
        source = f" `{column.source}` |" if column.source else " |"
        yield f"| `{column.name}` | {_type(column)} | {column.unit} | {_meaning(column)} |{source if sources else ''}"


def _type(column: Column) -> str:
    return column.type_name + ("?" if column.nullable else "")


def _meaning(column: Column) -> str:
    allowed = f" (one of: {', '.join(column.one_of)})" if column.one_of else ""
    return (column.meaning + allowed).replace("|", "\\|")  # which would begin another cell


if __name__ == "__main__":
    write_file(DOCUMENT, page().encode())
