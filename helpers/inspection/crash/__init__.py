"""What a pasted log says: its failures, the tools that wrote it, the release of Triton."""
