"""TransTailor sweeps, which trials, in which order: specs, plans, the driver, and the command line."""
