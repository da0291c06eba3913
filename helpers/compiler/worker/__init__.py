"""The processes that load kernels and generate code, one Triton each."""
