"""Readers of Parquet that know nothing of this program; imported where they read, since they start threads."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa

Reader = Callable[[Path, Sequence[str]], pa.Table]
"""Takes the folder of a table of a run, and names of columns."""
NAMES = ("pandas", "pyarrow", "polars", "polars *", "duckdb *", "duckdb **")


def plain_readers() -> Mapping[str, Reader]:
    """Each reader by its name."""
    import duckdb
    import pandas as pd
    import polars as pl
    from pyarrow.dataset import dataset

    connection = duckdb.connect()
    connection.execute("SET enable_progress_bar = false")  # it goes to stdout after 2 s

    def duck(pattern: str) -> Reader:
        return lambda folder, columns: connection.sql(
            f"SELECT {', '.join(columns)} FROM '{pattern.format(run=folder.parents[1], table=folder.name)}'"
        ).to_arrow_table()

    def polars(pattern: str) -> Reader:
        return lambda folder, columns: pl.scan_parquet(folder / pattern).select(columns).collect().to_arrow()

    return {
        "pandas": lambda folder, columns: pa.Table.from_pandas(pd.read_parquet(folder, columns=list(columns))),
        "pyarrow": lambda folder, columns: dataset(folder).to_table(list(columns)),
        "polars": polars(""),
        "polars *": polars("*.parquet"),
        "duckdb *": duck("{run}/tables/{table}/*.parquet"),
        "duckdb **": duck("{run}/**/{table}/*.parquet"),
    }
