"""From rows to arms that are compared: seeds, budgets, pairs, costs."""
