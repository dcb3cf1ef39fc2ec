"""One check of any answer: its tables have the declared columns, and a number is a number in every format."""

import csv
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pandas
import pytest
from pyarrow import parquet

from results.columns import Column, answer_columns, declared
from results.question import AnswerPage
from results.text.formats import TEXTS, parquet_bytes
from results.text.page import Part, Table

NUMBERS = ("int64", "double")
NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")
"""A number as people read it."""
HUNDREDTHS = ("percent", "score", "difference")
"""Scales that show a fraction in per cent; the last two only an accuracy."""


def check_answer(answer: str, parts: Sequence[Part]) -> dict[str, list[dict[str, Any]]]:
    """Check a page in every format; return what JSON says of its tables."""
    said = json.loads("\n".join(TEXTS["json"](parts)))
    assert list(said) == ["tables", "notes"] and all(isinstance(note, str) for note in said["notes"])
    tables: dict[str, list[dict[str, Any]]] = said["tables"]
    assert set(tables) == set(declared()["answers"][answer])
    columns = {name: answer_columns(answer, name) for name in tables}
    for name, records in tables.items():
        for record in records:
            assert list(record) == [column.name for column in columns[name]]
            for column in columns[name]:
                check_value(column, record[column.name])
    check_csv(tables, columns, parts)
    check_parquet(tables, columns, parts, said["notes"])
    check_pandas(tables, columns, parts)
    for part in parts:
        if isinstance(part, Table) and part.name:
            check_shown(part)
    return tables


def check_value(column: Column, value: object) -> None:
    """A value of JSON has the type of its column."""
    if value is None:
        assert column.nullable, column.name
    elif column.type_name in NUMBERS:
        assert isinstance(value, int | float) and not isinstance(value, bool), (column.name, value)
    elif column.type_name == "bool":
        assert isinstance(value, bool), (column.name, value)
    elif column.type_name == "list of string":
        assert isinstance(value, list) and all(isinstance(each, str) for each in value), (column.name, value)
    else:
        assert isinstance(value, str), (column.name, value)
    assert value is None or not column.one_of or value in column.one_of, (column.name, value)


def all_columns(columns: Mapping[str, Sequence[Column]]) -> dict[str, Column]:
    """The columns of one file: those of all tables, each once, the first with the name of the table if several."""
    joined = {"table": Column("table", "string")} if len(columns) > 1 else {}
    for of_table in columns.values():
        for column in of_table:
            joined.setdefault(column.name, column)
            assert joined[column.name].type_name == column.type_name, f"{column.name} has two types"
    return joined


def in_one_file(tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    return [{"table": name, **record} for name, records in tables.items() for record in records]


def check_csv(
    tables: Mapping[str, Sequence[Mapping[str, Any]]], columns: Mapping[str, Sequence[Column]], parts: Sequence[Part]
) -> None:
    rows = list(csv.reader(io.StringIO("\n".join(TEXTS["csv"](parts)))))
    joined = all_columns(columns)
    assert rows[0] == list(joined)
    for cells, record in zip(rows[1:], in_one_file(tables), strict=True):
        for cell, column in zip(cells, joined.values(), strict=True):
            value = record.get(column.name)
            if value is None:
                assert cell in ("", "nan")
            elif column.type_name in NUMBERS:
                assert float(cell) == value


def check_parquet(
    tables: Mapping[str, Sequence[Mapping[str, Any]]],
    columns: Mapping[str, Sequence[Column]],
    parts: Sequence[Part],
    notes: Sequence[str],
) -> None:
    table = parquet.read_table(io.BytesIO(parquet_bytes(parts)))
    joined = all_columns(columns)
    assert {field.name: field.type for field in table.schema} == {name: each.type for name, each in joined.items()}
    assert json.loads(table.schema.metadata[b"notes"]) == notes
    for row, record in zip(table.to_pylist(), in_one_file(tables), strict=True):
        for column in joined.values():
            if column.type_name in (*NUMBERS, "bool", "string"):
                assert equal(row[column.name], record.get(column.name))


def check_pandas(
    tables: Mapping[str, Sequence[Mapping[str, Any]]], columns: Mapping[str, Sequence[Column]], parts: Sequence[Part]
) -> None:
    for name, frame in AnswerPage(tuple(parts)).tables.items():
        assert list(frame.columns) == [column.name for column in columns[name]]
        for column in columns[name]:
            if column.type_name in NUMBERS:
                assert pandas.api.types.is_numeric_dtype(frame[column.name]), column.name
                values = [record[column.name] for record in tables[name]]
                assert all(equal(found, value) for found, value in zip(frame[column.name], values, strict=True))


def equal(found: Any, value: Any) -> bool:
    """Whether two formats say the same; null is not a number in pandas and in JSON."""
    is_missing = found is None or (isinstance(found, float) and math.isnan(found))
    return value is None if is_missing else bool(found == value)


def check_shown(table: Table) -> None:
    """What people see of a number is that number, rounded as its text is."""
    columns = {column.name: column for column in table.columns}
    for record, texts in zip(table.records, table.rows, strict=True):
        for shown, text in zip(table.shown, texts, strict=True):
            name = shown if isinstance(shown, str) else shown.name
            if name not in columns or columns[name].type_name not in NUMBERS or record[name] is None:
                continue
            if columns[name].unit == "s":  # which people read in minutes and hours
                continue
            names = [name, f"{name.removesuffix('low')}high"] if name.endswith("_low") else [name]
            for each, number in zip(names, NUMBER.findall(str(text)), strict=name.endswith("_low")):
                is_in_per_cent = columns[each].scale.partition(":")[0] in HUNDREDTHS and (
                    columns[each].scale.startswith("percent") or record["metric"] == "accuracy"
                )
                decimals = len(number.partition(".")[2])
                expected = record[each] * (100 if is_in_per_cent else 1)
                rounding = 0.5 * 10**-decimals if "e" not in number else 0.01 * abs(expected)
                rounding = max(rounding, 0.5e-2 * abs(expected) if columns[each].scale in ("p", "large") else 0.0)
                assert float(number.replace(",", "")) == pytest.approx(expected, abs=1.001 * rounding), (each, text)
