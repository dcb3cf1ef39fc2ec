"""From the rows of a run to the arms that are compared: seeds, budgets, pairs, costs."""
