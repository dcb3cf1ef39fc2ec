"""The tables: complete, described, and found by name."""

import pyarrow as pa
import pytest

from results.columns import Column
from results.store.schema import SCHEMA_VERSION, TABLES, TableSchema, arrow_schema, table_named

KEYS = {
    "planned": ("trial_id",),
    "trials": ("trial_id",),
    "attempts": ("trial_id", "attempt"),
    "stages": ("trial_id", "stage_key"),
    "epochs": ("trial_id", "stage_key", "epoch"),
    "layers": ("trial_id", "point", "layer"),
    "kept_filters": ("trial_id", "point", "layer"),
    "operating_points": ("trial_id", "point"),
    "predictions": ("trial_id", "point", "split", "image_id"),
    "test_scores": ("trial_id", "point"),
    "estimates": ("trial_id", "point", "split", "sample_id"),
    "timings": ("model_key", "device_name", "runtime", "precision", "memory_format", "batch", "threads", "versions"),
    "proposals": ("number",),
    "looks": ("look", "comparison"),
    "rungs": ("trial_id", "rung"),
    "events": ("driver", "number"),
    "printed": ("paper", "place", "label", "network", "dataset", "asked_removed_macs_fraction", "against", "claim"),
    "classes": ("dataset", "label"),
}


def test_the_tables_and_their_keys_are_the_agreed_ones() -> None:
    assert {name: table.key for name, table in TABLES.items()} == KEYS


@pytest.mark.parametrize("table", TABLES.values(), ids=list(TABLES))
def test_every_table_says_what_wrote_it_and_when_and_describes_each_column(table: TableSchema) -> None:
    schema = arrow_schema(table)
    assert schema.names[-2:] == ["code_digest", "written_at"]
    assert schema.metadata == {b"table": table.name.encode(), b"schema_version": str(SCHEMA_VERSION).encode()}
    for column, field in zip(table.columns, schema, strict=True):
        assert column.meaning
        assert field.metadata == {b"unit": column.unit.encode(), b"meaning": column.meaning.encode()}
        assert field.nullable == column.nullable
        if column.name.endswith("_fraction"):
            assert (column.unit, column.type) == ("fraction", pa.float64())
    nullable = [column.name for column in table.columns if column.name in table.key and column.nullable]
    assert nullable == (["asked_removed_macs_fraction", "against", "claim"] if table.name == "printed" else [])


def test_operating_points_have_no_test_column_so_that_nothing_that_decides_can_read_one() -> None:
    assert not [column.name for column in TABLES["operating_points"].columns if "test" in column.name]


def test_a_miss_names_the_nearest_table() -> None:
    with pytest.raises(ValueError, match=r"no table 'operating_point': did you mean 'operating_points'\? .*planned"):
        table_named("operating_point")


def test_tables_cannot_be_changed_or_contradict_themselves() -> None:
    with pytest.raises(TypeError):
        TABLES["new"] = TABLES["trials"]  # type: ignore[index]
    column = Column("a", "string", "", "something")
    with pytest.raises(ValueError, match="twice"):
        TableSchema("t", ("a",), (column, column))
    with pytest.raises(ValueError, match=r"\['b'\]"):
        TableSchema("t", ("b",), (column,))


OTHER_NAMES = {
    "tuning_order": "trial.tuning.order",
    "stage_key": "file.key", "model_key": "stage.parents.0", "kind_version": "stage.version",
    "stored_bytes": "file.tensors_bytes", "sample_id": "tensors.image_id", "target": "tensors.label",
    "estimate": "tensors.prediction",
}  # fmt: skip
"""Columns that have another name than the value at their source, which does not say what it is without its record."""


def test_a_value_has_the_name_of_its_column_all_the_way() -> None:
    for table in TABLES.values():
        for column in table.columns:
            if column.source:
                is_named_so = column.source.rpartition(".")[2] == column.name
                assert is_named_so or OTHER_NAMES[column.name] == column.source, (table.name, column.name)
