"""A query reads the run's files and no others, and writes none: tried with what DuckDB can do from a SELECT."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from results.errors import ResultsError
from results.store.reader import load
from results.store.writer import Writer

Row = Callable[..., dict[str, Any]]


@pytest.fixture
def run(tmp_path: Path, trial_row: Row) -> Path:
    """A run with one row in a folder with an awkward name, beside a file that is none of its own."""
    Writer(tmp_path / "a [b]'s *run" / "tables").write("trials", [trial_row()])
    pq.write_table(pa.table({"secret": [1]}), tmp_path / "beside.parquet")
    return tmp_path / "a [b]'s *run"


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM '{beside}/beside.parquet'",
        "SELECT * FROM read_text('{beside}/beside.parquet')",
        "SELECT * FROM glob('{beside}/*')",
        "SELECT * FROM enable_logging(storage := 'file', storage_path := '{beside}/log')",
        "SELECT * FROM enable_profiling(save_location := '{beside}/profile.json')",
        "SELECT * FROM local_table",
        "SELECT content FROM read_text('{run}/tables/trials/../../../beside.parquet')",
        "SELECT content FROM read_text('{run}/tables/trials/link')",
        "SELECT * FROM glob('{run}/tables/trials/linked/*')",
        "SELECT content FROM read_text('file://{beside}/beside.parquet')",
        "SELECT content FROM read_text(['{run}/tables/trials/*.parquet', '{beside}/beside.parquet'])",
        "SELECT * FROM query('SELECT content FROM read_text(''{beside}/beside.parquet'')')",
        "SELECT * FROM query('COPY (SELECT 1) TO ''{beside}/out''')",
        "SELECT * FROM json_execute_serialized_sql(json_serialize_sql('FROM read_text(''{beside}/beside.parquet'')'))",
        "SELECT * FROM parquet_metadata('{beside}/beside.parquet')",
        "SELECT * FROM enable_logging('QueryLog')",
        "SELECT * FROM disable_profiling()",
        "SELECT * FROM duckdb_secrets()",
        "SELECT * FROM arrow_scan_dumb(1, 1, 1)",
        "WITH gone AS (DELETE FROM trials RETURNING *) SELECT * FROM gone",
        "SELECT * FROM sqlite_scan('{beside}/x.db', 'x')",
    ],
)
def test_a_select_that_reads_or_writes_other_files_is_refused(sql: str, run: Path) -> None:
    local_table = pa.table({"secret": [1]})  # a variable of the process that asks
    (run / "tables" / "trials" / "link").symlink_to(run.parent / "beside.parquet")
    (run / "tables" / "trials" / "linked").symlink_to(run.parent)
    before = sorted(run.parent.rglob("*"))
    with load(run) as tables:
        assert tables.rows("SELECT count(*) AS n FROM trials") == [{"n": 1}]
        with pytest.raises(ResultsError, match="the query failed"):
            tables.rows(sql.format(beside=run.parent, run=str(run).replace("'", "''")))
    assert sorted(run.parent.rglob("*")) == before
    assert local_table.num_rows == 1


def test_a_long_query_prints_no_bar_into_its_answer(run: Path) -> None:
    with load(run) as tables:
        assert tables.rows("SELECT current_setting('enable_progress_bar') AS bar") == [{"bar": False}]


def test_what_memory_does_not_hold_is_not_written_to_the_working_folder(run: Path) -> None:
    with load(run) as tables:
        assert tables.rows("SELECT current_setting('temp_directory') AS place") == [{"place": ""}]
