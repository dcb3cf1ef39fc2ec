"""The commands of this room that are no question about a whole run, one in each file."""
