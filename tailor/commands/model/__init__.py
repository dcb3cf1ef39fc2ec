"""Saved sub-models."""
