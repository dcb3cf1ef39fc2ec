"""Which trial next, and the same on a simulated clock."""
