"""Device code. Every module here imports with Triton alone: no torch, no `helpers`."""
