"""Folders that jobs share, and folders that killed jobs leave behind."""
