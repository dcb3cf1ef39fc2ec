"""A user's own module, pruned by a call from Python instead of a trial."""
