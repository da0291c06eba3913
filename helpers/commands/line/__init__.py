"""The command line itself: its grammar, what a verb was given, how it prints, its progress."""
