"""Numbers, tables and settings as text."""
