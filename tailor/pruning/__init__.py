"""Which filters can be removed, how many of each layer, and their removal."""
