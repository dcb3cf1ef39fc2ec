"""Readers of Parquet that know nothing of this program; imported where they read, since they start threads."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa

Reader = Callable[[Path, Sequence[str]], pa.Table]
"""Takes a folder and names of columns."""


def plain_readers() -> Mapping[str, Reader]:
    """Each reader by its name."""
    import duckdb
    import pandas as pd
    import polars as pl
    from pyarrow.dataset import dataset

    def duck(pattern: str) -> Reader:
        return lambda folder, columns: duckdb.sql(
            f"SELECT {', '.join(columns)} FROM '{folder}/{pattern}'"
        ).to_arrow_table()

    return {
        "pandas": lambda folder, columns: pa.Table.from_pandas(pd.read_parquet(folder, columns=list(columns))),
        "pyarrow": lambda folder, columns: dataset(folder).to_table(list(columns)),
        "polars": lambda folder, columns: pl.scan_parquet(folder).select(columns).collect().to_arrow(),
        "duckdb *": duck("*.parquet"),
        "duckdb **": duck("**/*.parquet"),
    }
