"""How numbers, tables and settings are written for people."""
