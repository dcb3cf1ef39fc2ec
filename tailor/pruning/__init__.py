"""Which filters can go, how much of each layer goes, and their removal."""
