"""The state of a model between stages, and what it costs: MACs, parameters, latency."""
