"""Notebook 09: how good the estimate of registers is."""
