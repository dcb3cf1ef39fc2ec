"""A sweep as its author writes it, and the trials that it expands to."""
