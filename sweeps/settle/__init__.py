"""A sweep that adds seeds: each comparison gets as many as it takes to settle it, decided look by look."""
