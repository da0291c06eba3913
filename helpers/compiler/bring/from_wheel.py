"""Kernels straight out of a PyPI wheel or sdist: fetched, its Python files kept, nothing installed and nothing built.

A wheel is fetched by pip, through the user's own set-up (index, proxy, cache). pip would run the code of an sdist to
learn its name; where a release has no wheel, its archive is taken from the same index as a file. What stays is a folder
in the user's cache; a kernel's file is run only by a compile, in a worker process.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from helpers.compiler import machine
from helpers.compiler.bring.from_file import spec_from_file
from helpers.compiler.bring.sdists import download_sdist, is_sdist, read_sdist
from helpers.compiler.bring.wheels import MAX_SOURCE_BYTES, read_members, safe_members
from helpers.compiler.kernel_spec import KernelSpec
from helpers.compiler.source import DEVICE_CODE
from helpers.errors import MachineError, UserError
from helpers.files import cache_roots, discard_folder, read_ordinary, refuse_special, staged_folder, writable_cache_root
from helpers.processes import end_with_parent, scratch_folder

MAX_MEMBERS, MAX_TOTAL_BYTES = 20_000, 400_000_000
DOWNLOAD_TIMEOUT_S = 1800.0
_REQUIREMENT = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,80})(?:==([0-9][0-9A-Za-z.+!]{0,40}))?")
# pip matches each of these exactly.
_PLATFORMS = ("manylinux_2_39", "manylinux_2_35", "manylinux_2_34", "manylinux_2_31", "manylinux_2_28",
              "manylinux_2_17", "manylinux2014")  # fmt: skip


def spec_from_wheel(
    wheel: str | Path,
    member: str,
    signature: str | Sequence[object] | Mapping[str, object] = "",
    *,
    constexprs: Mapping[str, object] | None = None,
    options: Mapping[str, object] | None = None,
    label: str = "",
) -> KernelSpec:
    """The KernelSpec of a kernel in a wheel: `"sglang==0.5.10"`, `"sglang/…/extend_attention.py:_fwd_kernel"`.

    `wheel` is a requirement (the newest release without `==`) or a wheel, zip or sdist on this machine; the rest is as
    for `spec_from_file`. Raises UserError, naming the kernels' files there are, and when pip cannot fetch it.
    """
    path, separator, kernel = member.rpartition(":")
    if not separator or not path or not kernel:
        raise UserError(
            f"{member[:120]!r} names no kernel: write FILE:KERNEL, such as pkg/ops/attention.py:_fwd_kernel"
        )
    folder = fetch_wheel(wheel)
    file = folder / _inside(path, folder)
    name = f"{folder.name} {file.stem}:{kernel}"
    return spec_from_file(
        file, kernel, signature, constexprs=constexprs, options=options, import_root=folder, label=label, name=name
    )


def _inside(path: str, folder: Path) -> str:
    """The member's path below the folder; raises UserError with the likeliest names."""
    texts = {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*.py")}
    known = [name for name, text in texts.items() if any(word in text for word in DEVICE_CODE)]
    wanted = PurePosixPath(path).as_posix().removeprefix("./")
    found = [name for name in known if name == wanted] or [name for name in known if name.endswith(f"/{wanted}")]
    if len(found) == 1:
        return found[0]
    close = found or [name for name in known if PurePosixPath(name).name == PurePosixPath(wanted).name]
    close = close or [name for name in known if DEVICE_CODE[0] in texts[name]]
    what = "is several files" if len(found) > 1 else "holds no device code, or is not there"
    raise UserError(f"{path[:120]!r} {what} in {folder.name}; files with kernels: {', '.join(sorted(close)[:12])}")


def fetch_wheel(wheel: str | Path) -> Path:
    """The folder with a wheel's device code, fetched and unpacked unless it is in the cache; raises UserError."""
    local = Path(wheel)
    if local.suffix in (".whl", ".zip") or is_sdist(local.name):
        try:
            refuse_special(local.stat(), f"the archive {local}", pipes=False)
        except (OSError, ValueError) as exc:
            if isinstance(exc, UserError):
                raise
            said = getattr(exc, "strerror", None) or exc
            raise UserError(f"there is no file {str(local)[:300]} ({said})") from exc
        return unpack(local, requirement=local.name, from_index=False)
    found = _REQUIREMENT.fullmatch(str(wheel).strip())
    if found is None:
        raise UserError(
            f"cannot read {str(wheel)[:80]!r}: give NAME==VERSION, NAME, or the path of a .whl or .tar.gz file"
        )
    name, version = found.groups()
    if version:
        for root in cache_roots():
            known = _wheels_folder(root) / f"{_normal(name)}-{version}"
            if is_whole(known):
                return known
    with scratch_folder("wheel") as scratch:
        try:
            archive = download(found.group(0), scratch)
        except MachineError:
            raise
        except UserError:
            sdist = download_sdist(name, version, scratch) if version else None
            if sdist is None:
                raise
            archive = sdist
        return unpack(archive, requirement=found.group(0), from_index=True)


def _wheels_folder(root: Path | None = None) -> Path:
    # Not "wheels", where earlier releases kept the files with device code alone.
    return (root or writable_cache_root()) / "packages"


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "_", name).lower()


def download(requirement: str, folder: Path, *, python: str | None = None) -> Path:
    """The wheel of a requirement, without its dependencies, through pip into `folder`; raises UserError.

    `python` is the version it is for (`3.12`); left out, this interpreter's.
    """
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-input",
        "--only-binary=:all:", "--implementation", "cp", "--dest", str(folder),
        "--python-version", python or f"{sys.version_info.major}.{sys.version_info.minor}",
    ]  # fmt: skip
    for platform in _PLATFORMS:
        command += ["--platform", f"{platform}_x86_64"]
    try:
        # pip that is ended leaves what it has unpacked: among files of ours, where it goes with them.
        with scratch_folder("pip") as scratch:
            done = subprocess.run(
                [*command, requirement], capture_output=True, text=True, timeout=DOWNLOAD_TIMEOUT_S, check=False,
                env={**os.environ, "TMPDIR": str(scratch)}, preexec_fn=end_with_parent(),
            )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as exc:
        kind = MachineError if isinstance(exc, OSError) and machine.from_machine(exc) else UserError
        raise kind(f"pip download {requirement} did not finish: {exc}") from None
    got = sorted(folder.glob("*.whl"))
    if done.returncode and (machine.ended(done.returncode) or machine.no_room(folder)):
        raise MachineError(machine.sentence(f"pip download {requirement} ended with exit code {done.returncode}"))
    if done.returncode or len(got) != 1:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UserError(
            f"pip download {requirement} failed: {last[:300]}; download the wheel yourself and give its path instead"
        )
    return got[0]


def unpack(archive: Path, *, requirement: str, from_index: bool) -> Path:
    """The folder in the cache that holds the archive's Python files; raises UserError.

    With it lies `wheel.json`: the archive's name and sha256, and the sha256 of each file. Members are bounded in number
    and size. What the index gave is known by its release; a file of the user's is known by its content alone, so that
    it never answers for the release of its name.
    """
    digest = _sha256(archive)
    words = archive.name.removesuffix(archive.suffix).split("-")
    # A wheel's own name says what it is; any other file is known by its content.
    name = f"{_normal(words[0])}-{words[1]}" if archive.suffix == ".whl" and len(words) >= 5 else ""
    if is_sdist(archive.name):
        stem, _, version = archive.name.removesuffix(".tar.gz").rpartition("-")
        name = f"{_normal(stem)}-{version}" if stem and re.fullmatch(r"[0-9][0-9A-Za-z.+!]{0,40}", version) else ""
    name = (name or f"{re.sub(r'[^A-Za-z0-9_.]', '_', archive.stem)}-{digest[:12]}")[-100:]
    folder = _wheels_folder() / name if from_index else _wheels_folder() / "files" / digest[:16] / name
    if is_whole(folder, digest):
        return folder
    sources = python_files(archive)
    kept = {member: hashlib.sha256(content).hexdigest() for member, content in sorted(sources.items())}
    about = {"requirement": requirement, "file": archive.name, "sha256": digest, "kept": kept}
    if folder.is_dir():  # damaged, or of another archive
        discard_folder(folder)
    with staged_folder(folder) as scratch:
        for member, content in sources.items():
            target = scratch / member
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        (scratch / "wheel.json").write_text(json.dumps(about, indent=1))
    if not is_whole(folder, digest):
        raise MachineError(f"the damaged folder {folder} cannot be replaced; remove it by hand, then try again")
    return folder


def is_whole(folder: Path, digest: str | None = None) -> bool:
    """Whether a folder holds what `unpack` put into it and no other Python; of the archive with this sha256, if given.

    A folder that says less, as earlier releases of this project wrote it, is not believed.
    """
    try:
        about = json.loads(read_ordinary(folder / "wheel.json", MAX_SOURCE_BYTES, "the list of a wheel's files"))
        kept = about["kept"]
        if digest not in (None, about["sha256"]) or not isinstance(kept, dict):
            return False
        there = {str(file.relative_to(folder)): file for file in folder.rglob("*.py")}
        return there.keys() == kept.keys() and all(
            hashlib.sha256(read_ordinary(file, MAX_SOURCE_BYTES, "a wheel's file")).hexdigest() == kept[member]
            for member, file in there.items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False


def python_files(archive: Path) -> dict[str, bytes]:
    """The Python members of a wheel, zip or sdist; raises UserError when none of them holds device code.

    Those with device code become part of a kernel; the others are there for what a tuning list imports.
    """
    if is_sdist(archive.name):
        contents = read_sdist(archive, max_members=MAX_MEMBERS, max_bytes=MAX_SOURCE_BYTES, max_total=MAX_TOTAL_BYTES)
    else:
        names = [name for name in safe_members(archive) if name.endswith(".py")]
        if len(names) > MAX_MEMBERS:
            raise UserError(f"{archive.name} holds {len(names)} Python files; at most {MAX_MEMBERS} are read")
        contents = read_members(archive, names, max_bytes=MAX_SOURCE_BYTES, max_total=MAX_TOTAL_BYTES)
    names_of_folders = {str(folder) for name in contents for folder in PurePosixPath(name).parents}
    if both := sorted(names_of_folders & contents.keys()):
        raise UserError(f"{archive.name} holds {both[0][:80]!r} as a file and as a folder: nothing to trust")
    if not any(word in content for content in contents.values() for word in DEVICE_CODE):
        raise UserError(f"{archive.name} holds no Triton kernel")
    return contents


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
