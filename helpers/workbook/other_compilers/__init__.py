"""Notebook 10: the same attention by other compilers, on other chips, and a binary of the reader's own."""
