"""What came out: the Parquet store, statistics and the report; knows nothing of torch or Ray."""
