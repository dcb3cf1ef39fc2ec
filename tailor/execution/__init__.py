"""Running a trial: its stages walked, read from the cache or computed."""
