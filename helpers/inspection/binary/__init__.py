"""What a compiled binary says: cubin, SASS, its loops, occupancy."""
