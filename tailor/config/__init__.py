"""A trial's configuration: its settings by subject, the trial itself, and messages for mistakes. Without torch."""
