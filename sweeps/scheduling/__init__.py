"""Which trial next, and when the last one ends."""
