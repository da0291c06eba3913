"""`python -m helpers`: the command line, or one sentence where this Python lacks what it needs."""

from __future__ import annotations

import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
OLDEST = (3, 11)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; its exit code, or 2 where a dependency is missing (with what to activate on stderr)."""
    if sys.version_info < OLDEST:
        return _refuse(f"it is Python {sys.version.split()[0]}, and 3.11, 3.12 or 3.13 is needed")
    try:
        from helpers.commands.line.cli import run

        return run(argv)
    except KeyboardInterrupt:  # before the command line could take it
        sys.stderr.write("interrupted\n")
        return 130
    except ModuleNotFoundError as exc:
        if (exc.name or "").partition(".")[0] in ("", "helpers", "kernels"):
            raise
        return _refuse(f"it has no module {exc.name!r}")


def _refuse(why: str) -> int:
    sys.stderr.write(f"error: this Python ({sys.executable}) cannot run Register Cliff: {why}. {what_to_do(ROOT)}\n")
    return 2


def what_to_do(root: str) -> str:
    """One sentence: how to get an environment that has everything, for a project that lies in `root`."""
    activate = os.path.join(root, ".venv", "bin", "activate")
    if os.path.isfile(activate):
        return f"Activate the project's environment: . {activate}"
    if os.path.isfile(os.path.join(root, "Makefile")):
        return f"Make the environment once (cd {root} && make venv), then activate it: . {activate}"
    return "Install the wheel again without --no-deps, or activate the environment that it was installed into"


if __name__ == "__main__":
    sys.exit(main())
