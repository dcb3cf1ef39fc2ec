"""What sections of the report are made of."""
