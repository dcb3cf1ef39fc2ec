"""The subcommands of `python -m results`."""
