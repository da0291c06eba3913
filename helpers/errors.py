"""The one exception that means: the input was wrong, and this sentence says what to do about it."""


class UserError(ValueError):
    """Raised with a full sentence: what was given, what is possible, what to do. Exit code 2 on the command line."""
