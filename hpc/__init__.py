"""TransTailor sweeps, where trials run: on processes and Ray clusters; knows nothing of training or tables."""
