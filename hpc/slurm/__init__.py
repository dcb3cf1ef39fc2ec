"""SLURM's commands, the text of jobs, and a first site file."""
