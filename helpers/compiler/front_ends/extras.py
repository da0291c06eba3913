"""Where another language's compiler is installed: in this environment, or in a folder that pip filled with --target."""

from __future__ import annotations

import importlib.metadata
import sys
from dataclasses import dataclass
from pathlib import Path

from helpers.compiler.toolchain import ToolchainMissing

__all__ = ["CUTE", "CUTILE", "FLASH_ATTENTION", "FrontEnd", "Installed", "find_front_end"]


@dataclass(frozen=True)
class FrontEnd:
    """A language: its name, the extra of ours that installs it, its distribution, and others that it cannot do without.

    `folders` are those beside its modules that its own .pth file adds to the path, which Python reads in site-packages
    alone and not in a folder of `pip install --target`.
    """

    name: str
    extra: str
    distribution: str
    needs: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()


CUTE = FrontEnd(
    "CuTe DSL", "cute", "nvidia-cutlass-dsl", ("nvidia-cutlass-dsl-libs-core",), ("nvidia_cutlass_dsl/dsl_packages",)
)
CUTILE = FrontEnd("cuTile", "cutile", "cuda-tile", ("nvidia-cuda-tileiras",))
# Written in CuTe DSL, by others.
FLASH_ATTENTION = FrontEnd("CuTe DSL", "cute", "flash-attn-4", (CUTE.distribution, *CUTE.needs), CUTE.folders)


@dataclass(frozen=True)
class Installed:
    """A front end that is here: what PYTHONPATH needs for it, and the releases of it and of what it needs."""

    front_end: FrontEnd
    path: tuple[Path, ...]
    releases: dict[str, str]

    @property
    def version(self) -> str:
        """The release of the front end itself."""
        return self.releases[self.front_end.distribution]


def find_front_end(front_end: FrontEnd, packages: Path | None = None) -> Installed:
    """The front end as it is installed, in this environment or in the folder `packages`.

    Raises ToolchainMissing, with the command that installs it, where one of its distributions is not there.
    """
    folders = sys.path if packages is None else [str(packages)]
    releases, path = {}, []
    for name in (front_end.distribution, *front_end.needs):
        found = next(iter(importlib.metadata.distributions(name=name, path=folders)), None)
        if found is None:
            raise ToolchainMissing(
                f"{front_end.name} is not {'installed' if packages is None else f'in {packages}'}: there is no {name}; "
                f"pip install 'register-cliff[{front_end.extra}]' brings it"
            )
        releases[name] = found.version
        place = Path(str(found.locate_file("")))
        path += [place, *(place / folder for folder in front_end.folders if (place / folder).is_dir())]
    return Installed(front_end, tuple(dict.fromkeys(path)), releases)
