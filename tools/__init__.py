"""Generators of committed tables: for contributors; users do not run them and no room imports them."""
