"""Folders that jobs share or leave behind."""
