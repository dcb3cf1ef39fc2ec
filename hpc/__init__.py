"""TransTailor sweeps, where trials run: on processes and Ray clusters; independent of training and tables."""
