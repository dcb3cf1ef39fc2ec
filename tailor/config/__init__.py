"""A trial's configuration: its settings by subject, the trial itself, and mistakes in words. Without torch."""
