"""The commands of this room, one in each file."""
