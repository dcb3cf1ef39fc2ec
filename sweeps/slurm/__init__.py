"""A run on SLURM: its jobs and the commands that they start."""
