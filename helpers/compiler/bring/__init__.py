"""Kernels that come from outside: from a file, a wheel, or a program's own launches."""
