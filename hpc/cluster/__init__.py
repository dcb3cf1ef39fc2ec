"""A Ray cluster made of SLURM jobs: its head, its workers, and how many."""
