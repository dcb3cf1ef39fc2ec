"""A trial on its ranks: events in, rows out."""
