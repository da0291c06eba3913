"""The command `register-cliff`: puts the project's own folder first on the path, then hands over to helpers.

In a checkout that is this file's folder. In a wheel this file is the package register_cliff, with helpers/, kernels/
and data/ inside it (setup.py): nothing called `helpers` or `kernels` lies in site-packages, where it would stand in
front of a program's own. Standard library only, because it also runs where the dependencies are missing.
"""

import os
import sys


def main():
    """Run the command line; the exit code."""
    home = os.path.dirname(os.path.realpath(__file__))
    # First, so that a `helpers` of the folder it is called from, or of PYTHONPATH, is never taken for ours.
    sys.path.insert(0, home)
    from helpers.__main__ import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
