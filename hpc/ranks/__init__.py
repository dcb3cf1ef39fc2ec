"""Rank groups: their interface, as processes, as Ray actors."""
