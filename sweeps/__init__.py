"""TransTailor: which trials of a sweep run, and in which order. Specs, plans, the driver, and the commands."""
