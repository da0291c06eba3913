"""What `--version` prints."""

from __future__ import annotations

import importlib.metadata
import re

from helpers.files import ROOT


def project_version() -> str:
    """The version of the checkout this runs from, else of what is installed; `unknown` where neither says."""
    pins = ROOT / "pyproject.toml"
    if pins.is_file() and (found := re.search(r'^version = "([^"]+)"', pins.read_text(errors="replace"), re.MULTILINE)):
        return found[1]
    try:
        return importlib.metadata.version("register-cliff")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def version_text() -> str:
    """One line: the version, and the folder it runs from (which of several installations answers)."""
    return f"register-cliff {project_version()}, from {ROOT}"
