"""The exceptions that are a sentence for the reader: the input was wrong, or the machine failed us."""

import errno

OUT_OF_ROOM = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.EFBIG}
)
"""Numbers of an OSError that tell of a machine without room: disk, memory, processes, open files."""


class UserError(ValueError):
    """Raised with a full sentence: what was given, what is possible, what to do. Exit code 2 on the command line."""


class MachineError(UserError):
    """Raised with a full sentence where the machine failed us and nothing is wrong with the input. Exit code 3."""


def cannot_read(what: str, exc: Exception, end: str = "") -> UserError:
    """The error for something that could not be read: the machine's where it has no room, the input's otherwise."""
    said = f"cannot read {what}: {getattr(exc, 'strerror', None) or exc}"
    if isinstance(exc, OSError) and exc.errno in OUT_OF_ROOM:
        return MachineError(f"the machine failed: {said}; make room (disk, memory, open files), then try again")
    return UserError(f"{said}{end}")
