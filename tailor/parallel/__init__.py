"""The ranks of one trial as a process group, and norms over the images of all ranks."""
