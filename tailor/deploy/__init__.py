"""Sub-models for use outside of trials: the card, and the export."""
