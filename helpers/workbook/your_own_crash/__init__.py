"""Notebook 07: your own crash."""
