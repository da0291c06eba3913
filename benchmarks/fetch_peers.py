"""Fetch what the benchmark compares with into `.peers/` (git-ignored), small enough to carry to a GPU machine.

    python benchmarks/fetch_peers.py [--into .peers] [--only sglang,fa3,fa4] [--python 3.12]

Goes through whatever index your pip is set up with. From each wheel only what is run stays: of sglang the files of its
extend attention, of vllm the FlashAttention-3 library, as .xz, of flash-attn-4 and what it needs (102 MB of wheels, for
the Python given) the modules, as one .tar.xz of 70 MB. The vllm wheel is about 260 MB and is deleted after. Nothing
fetched is part of this project; what is already there is not fetched again. Exit code 0 when all is there.
"""

from __future__ import annotations

import argparse
import lzma
import os
import re
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from helpers.attention.peers import FA3_LIBRARY, FA3_MAX_BYTES, FA4_ARCHIVE
from helpers.compiler.bring.from_wheel import download as download_wheel
from helpers.compiler.bring.wheels import copy_member, find_definition, import_closure, member_source
from helpers.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
SGLANG_VERSIONS = ("0.5.10", "")  # the incident's, and the newest
VLLM = "vllm==0.22.1"
FA3_MEMBER = f"vllm/vllm_flash_attn/{FA3_LIBRARY}"
# Without the package that only names the others, and without the profiler and the stubs for other systems in them.
FA4 = (
    "flash-attn-4==4.0.0b36", "quack-kernels==0.6.5", "apache-tvm-ffi==0.1.11", "torch-c-dlpack-ext==0.1.5",
    "einops==0.8.2", "nvidia-cutlass-dsl-libs-base==4.8.1", "nvidia-cutlass-dsl-libs-core==4.8.1",
    "nvidia-cutlass-dsl-libs-cu13==4.8.1",
)  # fmt: skip
FA4_LEFT_OUT = re.compile(r"/iket/|/stubs/|\.a$")
PARTS = ("sglang", "fa3", "fa4")


def main(argv: list[str] | None = None) -> int:
    """Fetch the parts asked for; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--into", type=Path, default=ROOT / ".peers", help="folder to fill (default .peers)")
    parser.add_argument("--only", default=",".join(PARTS), help="sglang, fa3, fa4, comma-separated")
    parser.add_argument("--python", help="version that FlashAttention-4 is for (default: this interpreter's)")
    parser.add_argument("--wheels", type=Path, help="folder of wheels already downloaded, looked into first")
    options = parser.parse_args(argv)
    parts = options.only.split(",")
    if unknown := set(parts) - set(PARTS):
        print(f"error: unknown part {', '.join(sorted(unknown))}: choose from {', '.join(PARTS)}", file=sys.stderr)
        return 2
    options.into.mkdir(parents=True, exist_ok=True)
    failed = 0
    for part in parts:
        try:
            if part == "sglang":
                for version in SGLANG_VERSIONS:
                    fetch_sglang(version, options.into, options.wheels)
            elif part == "fa3":
                fetch_fa3(options.into, options.wheels)
            else:
                fetch_fa4(options.into, options.wheels, python=options.python)
        except UserError as exc:
            print(f"error: {exc}", file=sys.stderr)
            failed = 1
    for path in sorted(options.into.iterdir()):
        print(f"{path.stat().st_size:>12,}  {path.name}")
    return failed


def fetch_sglang(version: str, into: Path, wheels: Path | None = None) -> Path:
    """A zip of the files that this release's extend attention needs; an empty version means the newest."""
    known = into / f"sglang-{version}-extend.zip"
    if version and known.is_file():
        return known
    with tempfile.TemporaryDirectory() as folder:
        wheel = download(f"sglang=={version}" if version else "sglang", Path(folder), wheels)
        target = into / f"sglang-{wheel.name.split('-')[1]}-extend.zip"
        trim(wheel, target)
    return target


def trim(wheel: Path, target: Path) -> Path:
    """`target`: a zip of extend_attention.py and the files of its folder that it imports, at their own paths."""
    member = find_definition(wheel, "extend_attention.py", "extend_attention_fwd")
    part = target.with_suffix(".part")
    with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as out:
        for name in import_closure(wheel, member):
            out.writestr(name, member_source(wheel, name))
    os.replace(part, target)
    return target


def fetch_fa3(into: Path, wheels: Path | None = None) -> Path:
    """The FlashAttention-3 library of the vllm wheel, as .xz; a minute and a half of compressing."""
    target = into / f"{FA3_LIBRARY}.xz"
    if target.is_file():
        return target
    with tempfile.TemporaryDirectory() as folder:
        wheel = download(VLLM, Path(folder), wheels)
        library = copy_member(wheel, FA3_MEMBER, Path(folder) / FA3_LIBRARY, max_bytes=FA3_MAX_BYTES)
        part = target.with_suffix(".part")
        with library.open("rb") as source, lzma.open(part, "wb", preset=6) as out:
            while chunk := source.read(2**22):
                out.write(chunk)
        os.replace(part, target)
    return target


def fetch_fa4(into: Path, wheels: Path | None = None, *, python: str | None = None) -> Path:
    """FlashAttention-4's modules and those it needs, as one .tar.xz; a minute or two of compressing."""
    target = into / FA4_ARCHIVE
    if target.is_file():
        return target
    part = target.with_suffix(".part")
    with tempfile.TemporaryDirectory() as folder, tarfile.open(part, "w:xz", preset=6) as out:
        for number, requirement in enumerate(FA4):
            (place := Path(folder) / str(number)).mkdir()
            wheel = download(requirement, place, wheels, python=python)
            with zipfile.ZipFile(wheel) as source:
                for member in source.infolist():
                    if member.is_dir() or FA4_LEFT_OUT.search(member.filename):
                        continue
                    info = tarfile.TarInfo(member.filename)
                    info.size = member.file_size
                    with source.open(member) as content:
                        out.addfile(info, content)
    os.replace(part, target)
    return target


def download(requirement: str, folder: Path, wheels: Path | None = None, *, python: str | None = None) -> Path:
    """The wheel of `requirement` without its dependencies, from `wheels` or through pip; raises UserError."""
    name, _, version = requirement.partition("==")
    if wheels is not None:
        name = name.replace("-", "_")
        # Numeric parts compare as numbers; a version with letters in it counts as older.
        found = [w for w in wheels.glob(f"{name}-*.whl") if not version or w.name.split("-")[1] == version]
        if found:
            return max(found, key=lambda w: [int(x) if x.isdecimal() else -1 for x in w.name.split("-")[1].split(".")])
    return download_wheel(requirement, folder, python=python)


if __name__ == "__main__":
    raise SystemExit(main())
