"""Notebook 06: the root cause."""
