"""The subcommands of `python -m tailor`: their arguments and what they print."""
