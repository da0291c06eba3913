"""Toolchains: which Triton generates the PTX and which ptxas assembles it; found, installed side by side, listed.

Triton wheels go into one folder each (`pip install --no-deps --target`), ptxas comes out of NVIDIA's own
`nvidia-cuda-nvcc` wheels, through whatever index the user's pip is set up with. Nothing here needs a GPU.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from helpers.compiler import machine
from helpers.errors import MachineError, UserError
from helpers.files import cache_root, discard_folder, staged_folder
from helpers.processes import end_with_parent, scratch_folder

INCIDENT_TRITON = "3.5.1"
INCIDENT_PTXAS = "12.8.93"
KNOWN_TRITONS = ("3.4.0", "3.5.0", "3.5.1", "3.6.0", "3.7.0", "3.7.1", "3.8.0", "3.9.0")
KNOWN_PTXAS = (
    "12.8.61", "12.8.93", "12.9.41", "12.9.86",
    "13.0.48", "13.0.88", "13.1.80", "13.1.115", "13.2.51", "13.2.78", "13.2.86", "13.3.33", "13.3.73",
    "13.4.59", "13.4.92", "13.5.37",
)  # fmt: skip
ENVIRONMENT = "environment"
BUNDLED = "bundled"
NVIDIA_PROGRAMS = Path("triton") / "backends" / "nvidia" / "bin"
VERSION_TIMEOUT_S = 30.0
_VERSION = re.compile(r"[0-9]{1,4}\.[0-9]{1,4}\.[0-9]{1,4}")


@dataclass(frozen=True)
class Toolchain:
    """A Triton release and the ptxas release that assembles its PTX.

    `triton` is a version or `environment` (the one `import triton` finds here). `ptxas` is a version or `bundled`:
    the one that Triton itself would use for the arch at hand. With `ptxas_for_codegen` the ptxas also sets the
    PTX `.version` Triton generates, as it does when a user overrides it; otherwise identical PTX is re-assembled.
    """

    triton: str = INCIDENT_TRITON
    ptxas: str = BUNDLED
    ptxas_for_codegen: bool = False

    def __post_init__(self) -> None:
        for what, value, word in (("triton", self.triton, ENVIRONMENT), ("ptxas", self.ptxas, BUNDLED)):
            if value != word and not (isinstance(value, str) and _VERSION.fullmatch(value)):
                raise UserError(
                    f"{what} version {str(value)[:80]!r} is not of the form 3.5.1; give a version or {word!r}"
                )
        if self.ptxas_for_codegen and self.ptxas == BUNDLED:
            raise UserError("ptxas_for_codegen needs a ptxas version, for example ptxas='13.1.80'")

    def resolve(self) -> Tools:
        """The programs on this machine that this asks for; raises ToolchainMissing."""
        return Tools(resolve_triton(self.triton), None if self.ptxas == BUNDLED else resolve_ptxas(self.ptxas))


@dataclass(frozen=True)
class Tool:
    """A program (or, of a Triton, the folder that goes on sys.path) and the release it said it is."""

    path: Path
    version: str

    def program(self, name: str) -> Path:
        """Of a Triton: one of NVIDIA's programs that came with it (ptxas, ptxas-blackwell, nvdisasm); may not exist."""
        return self.path / NVIDIA_PROGRAMS / name


@dataclass(frozen=True)
class Tools:
    """A toolchain found: looked for once, carried along, not asked again. `ptxas` is None for the bundled one."""

    triton: Tool
    ptxas: Tool | None = None

    def assembler(self, bundled: str = "ptxas") -> Tool:
        """The ptxas that was named, else Triton's own program `bundled`: Triton says which one it would use."""
        return self.ptxas or ptxas_tool(self.triton.program(bundled))


class ToolchainMissing(UserError):
    """Raised when a Triton or ptxas is not on this machine; the sentence names the command that fetches it."""


def _install_hint(what: str) -> str:
    return f"fetch it with: register-cliff toolchains install {what}"


def toolchains_root() -> Path:
    """The folder that holds the installed Tritons and ptxas releases; may not exist yet."""
    return cache_root() / "toolchains"


def _python_tag() -> str:
    # A Triton wheel holds one extension module per CPython, so 3.11's cannot serve 3.12.
    return f"cp{sys.version_info.major}{sys.version_info.minor}"


def triton_folder(version: str) -> Path:
    """Where Triton `version` for this Python lives, or would live."""
    return toolchains_root() / f"triton-{version}-{_python_tag()}"


def ptxas_folder(version: str) -> Path:
    """Where ptxas `version` lives, or would live."""
    return toolchains_root() / f"ptxas-{version}"


@lru_cache(maxsize=1)
def environment_triton() -> Tool | None:
    """The Triton that `import triton` finds (its site folder), found without importing it; None if absent."""
    spec = importlib.util.find_spec("triton")
    if spec is None or not spec.origin:
        return None
    site = Path(spec.origin).parents[1]
    try:
        return Tool(site, importlib.metadata.version("triton"))
    except importlib.metadata.PackageNotFoundError:
        return None


def resolve_triton(version: str) -> Tool:
    """The Triton of a version or `environment`, its path the folder for sys.path; raises ToolchainMissing."""
    here = environment_triton()
    if version == ENVIRONMENT:
        if here is None:
            raise ToolchainMissing(
                f"no Triton in this Python environment; name an installed one, or {_install_hint(INCIDENT_TRITON)}"
            )
        return here
    folder = triton_folder(version)
    if (folder / "triton" / "__init__.py").is_file():
        return Tool(folder, version)
    if here is not None and here.version == version:
        return here
    installed = ", ".join(installed_tritons()) or "none"
    raise ToolchainMissing(f"Triton {version} is not installed (installed: {installed}); {_install_hint(version)}")


@lru_cache(maxsize=256)
def _ptxas_version(path: str, _mtime_ns: int) -> str:
    run = subprocess.run(
        [path, "--version"], capture_output=True, stdin=subprocess.DEVNULL, timeout=VERSION_TIMEOUT_S, check=True
    )
    out = run.stdout[:10_000].decode(errors="replace")
    found = re.search(r"\bV([0-9]{1,4}\.[0-9]{1,4}\.[0-9]{1,4})\b", out)
    if found is None:
        raise ToolchainMissing(f"the program at {path} is no ptxas: --version answers {out[:200]!r}")
    return found.group(1)


def ptxas_tool(path: Path) -> Tool:
    """The ptxas at `path` with its release (`12.8.93`), asked of the program itself.

    Raises ToolchainMissing, and MachineError where there was no room to ask it.
    """
    try:
        return Tool(path, _ptxas_version(str(path), path.stat().st_mtime_ns))
    except (OSError, subprocess.SubprocessError) as exc:
        # What hangs or cannot be loaded may do so for good.
        if machine.from_machine(exc) and (isinstance(exc, OSError) or getattr(exc, "returncode", 0) < 0):
            raise MachineError(machine.sentence(f"cannot run the ptxas at {path}: {exc}")) from exc
        raise ToolchainMissing(f"cannot run the ptxas at {path}: {exc}") from exc


def resolve_ptxas(version: str) -> Tool:
    """The ptxas of an installed release; raises ToolchainMissing. (`bundled` depends on Triton and arch.)"""
    own = ptxas_folder(version) / "bin" / "ptxas"
    if own.is_file():
        return ptxas_tool(own)
    for tool in _bundled_ptxas():
        if tool.version == version:
            return tool
    raise ToolchainMissing(f"ptxas {version} is not installed; {_install_hint('ptxas==' + version)}")


def _bundled_ptxas() -> Iterator[Tool]:
    """Every ptxas that came with a Triton; one that does not run is passed over and hides no other."""
    for site in _triton_sites():
        for program in sorted((site / NVIDIA_PROGRAMS).glob("ptxas*")):
            with contextlib.suppress(ToolchainMissing):
                yield ptxas_tool(program)


def _triton_sites() -> list[Path]:
    sites = [triton_folder(v) for v in installed_tritons(include_environment=False)]
    here = environment_triton()
    return sites + ([here.path] if here else [])


def installed_tritons(*, include_environment: bool = True) -> list[str]:
    """Versions of Triton ready to use with this Python, oldest first."""
    suffix = f"-{_python_tag()}"
    found = {
        p.name.removeprefix("triton-").removesuffix(suffix)
        for p in toolchains_root().glob(f"triton-*{suffix}")
        if (p / "triton" / "__init__.py").is_file()
    }
    found = {version for version in found if _VERSION.fullmatch(version)}
    here = environment_triton() if include_environment else None
    if here:
        found.add(here.version)
    return sorted(found, key=version_key)


def installed_ptxas() -> dict[str, Path]:
    """Every ptxas on hand, version to program: own downloads and those that came with a Triton."""
    found: dict[str, Path] = {}
    for tool in _bundled_ptxas():
        found.setdefault(tool.version, tool.path)
    for folder in toolchains_root().glob("ptxas-*"):
        program = folder / "bin" / "ptxas"
        if program.is_file() and _VERSION.fullmatch(release := folder.name.removeprefix("ptxas-")):
            found[release] = program
    return dict(sorted(found.items(), key=lambda item: version_key(item[0])))


def version_key(version: str) -> tuple[int, ...]:
    """A sort key that puts 3.10.0 after 3.9.0."""
    return tuple(int(n) for n in re.findall(r"\d+", version)[:4])


def parse_request(text: str) -> tuple[str, str]:
    """('triton' | 'ptxas', version) for `3.5.1`, `triton==3.5.1`, `ptxas==13.1.80` or `12.9.86`; raises UserError."""
    found = re.fullmatch(r"(?:(triton|ptxas)(?:==|-))?([0-9]{1,4}\.[0-9]{1,4}\.[0-9]{1,4})", text.strip())
    if found is None:
        raise UserError(
            f"cannot read {text[:80]!r}: give a Triton version such as 3.5.1 or a ptxas such as ptxas==12.9.86"
        )
    kind, version = found.groups()
    # Bare versions: Triton is at 3.x, CUDA's ptxas at 12.x and 13.x, and the two will not meet soon.
    return kind or ("triton" if version_key(version)[0] < 10 else "ptxas"), version


def _pip_install(requirement: str, target: Path, *, quiet: bool) -> None:
    # An argument list and a fixed requirement form: nothing a user types reaches a shell.
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--only-binary=:all:", "--no-compile"]
    command += ["--disable-pip-version-check", "--no-warn-script-location", "--target", str(target)]
    command += ["--quiet"] if quiet else ["--progress-bar", "on"]
    # pip that is ended leaves what it has unpacked: among files of ours, where it goes with them.
    with scratch_folder("pip") as scratch:
        environment = {**os.environ, "TMPDIR": str(scratch)}
        done = subprocess.run([*command, requirement], check=False, env=environment, preexec_fn=end_with_parent())
    if done.returncode != 0 and (machine.ended(done.returncode) or machine.no_room(target) or machine.no_room()):
        raise MachineError(
            f"pip could not fetch {requirement} (exit code {done.returncode}, its own words are above): the machine "
            f"has no room for it; {machine.WHAT_TO_DO.partition(';')[0]}"
        )
    if done.returncode != 0:
        raise ToolchainMissing(
            f"pip could not fetch {requirement} (exit code {done.returncode}, its own words are above). "
            "Without a network only what is installed works: register-cliff toolchains lists it"
        )


def install(request: str, *, quiet: bool = False) -> Path:
    """Fetch one toolchain part through pip into the cache, atomically; returns its folder, at once if it is there.

    Raises UserError for a malformed request and ToolchainMissing when pip cannot fetch it.
    """
    kind, version = parse_request(request)
    folder = triton_folder(version) if kind == "triton" else ptxas_folder(version)
    if is_installed(kind, version):
        return folder
    try:
        if folder.is_dir():  # half of one, made by something else: it would only be in the way
            discard_folder(folder)
        with staged_folder(folder) as scratch:
            if kind == "triton":
                _pip_install(f"triton=={version}", scratch, quiet=quiet)
                if not (scratch / "triton" / "__init__.py").is_file():
                    raise ToolchainMissing(f"the wheel triton=={version} holds no package called triton")
            else:
                package = "nvidia-cuda-nvcc-cu12" if version_key(version)[0] == 12 else "nvidia-cuda-nvcc"
                unpacked = scratch / "wheel"
                _pip_install(f"{package}=={version}", unpacked, quiet=quiet)
                programs = list(unpacked.glob("nvidia/**/bin/ptxas"))
                if not programs:
                    raise ToolchainMissing(f"the wheel {package}=={version} holds no ptxas")
                (scratch / "bin").mkdir()
                shutil.move(programs[0], scratch / "bin" / "ptxas")
                (scratch / "bin" / "ptxas").chmod(0o755)
                shutil.rmtree(unpacked)
            for program in (scratch / NVIDIA_PROGRAMS).glob("*"):
                program.chmod(0o755)
    except OSError as exc:
        kind_of_error = MachineError if machine.from_machine(exc) else UserError
        raise kind_of_error(
            f"cannot write the toolchain folder {folder.parent}: {exc.strerror or exc}; "
            "set REGISTER_CLIFF_CACHE to a writable folder with room"
        ) from exc
    return folder


def is_installed(kind: str, version: str) -> bool:
    """Whether `install` would have nothing to do for this ('triton' | 'ptxas', version)."""
    if kind == "triton":
        return (triton_folder(version) / "triton" / "__init__.py").is_file()
    return (ptxas_folder(version) / "bin" / "ptxas").is_file()
