"""A report that reproduces itself: one zip to attach to an issue."""
