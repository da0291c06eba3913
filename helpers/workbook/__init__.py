"""The notebooks: one room a notebook, the explorers, the pages."""
