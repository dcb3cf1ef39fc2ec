"""Image folders as data sets: prepared once, then read by training as memory maps. See docs/data.md."""
