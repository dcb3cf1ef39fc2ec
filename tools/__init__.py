"""What writes tables that are committed: for contributors; no user runs it and no room imports it."""
