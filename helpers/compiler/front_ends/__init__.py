"""Compilers of other languages: found where they are installed, run in processes of their own, their binaries read."""
