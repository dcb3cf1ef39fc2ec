"""Slots and ranks: run trials stage by stage, and write their rows."""
