"""The base of `tailor`: errors, settings, registries, seeds, heartbeat, digests of plugins. Mostly without torch."""
