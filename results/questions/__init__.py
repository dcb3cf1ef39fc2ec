"""Questions about a whole run, one in each file."""
