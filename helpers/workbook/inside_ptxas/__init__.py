"""Notebook 02: inside ptxas."""
