"""A sub-model taken home: its card, and its export."""
