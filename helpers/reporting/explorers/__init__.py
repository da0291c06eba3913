"""Explorers: one a notebook, one look; controls on the left, verdict and figure on the right."""
