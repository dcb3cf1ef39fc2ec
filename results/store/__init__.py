"""The Parquet store of a run: schema, writers, readers."""
