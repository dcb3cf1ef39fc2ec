"""A sweep that chooses: settings are proposed batch by batch, from the scores of the batches before."""
