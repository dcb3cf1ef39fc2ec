"""A table to publish: its contents, and its text."""
