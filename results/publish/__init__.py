"""A table to publish."""
