"""The folder of a run: created, locked, read and launched again."""
