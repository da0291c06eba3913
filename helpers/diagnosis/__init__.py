"""What does my log say: the failure, what helps, what does not, where to report."""
