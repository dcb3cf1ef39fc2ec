"""What a trial does: load, score, prune, fine-tune, evaluate; knows nothing of Ray, SLURM or tables."""
