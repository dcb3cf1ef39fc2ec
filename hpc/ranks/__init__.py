"""Sets of ranks: what they are, as processes, as Ray actors."""
