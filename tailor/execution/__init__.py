"""Running a trial: its stages planned, read from the cache or computed."""
