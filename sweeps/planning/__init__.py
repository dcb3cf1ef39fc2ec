"""Spec -> plan: trials, shared stages, expected times."""
