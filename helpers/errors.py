"""The exceptions that are a sentence for the reader: the input was wrong, or the machine failed us."""


class UserError(ValueError):
    """Raised with a full sentence: what was given, what is possible, what to do. Exit code 2 on the command line."""


class MachineError(UserError):
    """Raised with a full sentence where the machine failed us and nothing is wrong with the input. Exit code 3."""
