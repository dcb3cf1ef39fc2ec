"""The Parquet store of a run: schema, writer, reader."""
