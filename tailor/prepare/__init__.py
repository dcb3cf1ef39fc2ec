"""Image folders as data sets: prepared once, then read by trainings as memory maps. See docs/data.md."""
