"""Notebook 08: every chip's tiles."""
