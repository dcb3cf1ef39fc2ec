"""The folder of a run: made, locked, read and launched again."""
