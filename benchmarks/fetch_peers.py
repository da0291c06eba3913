"""Fetch what the benchmark compares with into `.peers/` (git-ignored), small enough to carry to a GPU machine.

    python benchmarks/fetch_peers.py [--into .peers] [--only sglang,fa3]

Goes through whatever index your pip is set up with. From each wheel only what is run stays: of sglang the files of its
extend attention, of vllm the FlashAttention-3 library, as .xz. The vllm wheel is about 260 MB and is deleted after.
Nothing fetched is part of this project; what is already there is not fetched again. Exit code 0 when all is there.
"""

from __future__ import annotations

import argparse
import lzma
import os
import sys
import tempfile
import zipfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from helpers.attention.peers import FA3_LIBRARY, FA3_MAX_BYTES
from helpers.compiler.bring.from_wheel import download as download_wheel
from helpers.compiler.bring.wheels import copy_member, find_definition, import_closure, member_source
from helpers.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
SGLANG_VERSIONS = ("0.5.10", "")  # the incident's, and the newest
VLLM = "vllm==0.22.1"
FA3_MEMBER = f"vllm/vllm_flash_attn/{FA3_LIBRARY}"
PARTS = ("sglang", "fa3")


def main(argv: list[str] | None = None) -> int:
    """Fetch the parts asked for; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--into", type=Path, default=ROOT / ".peers", help="folder to fill (default .peers)")
    parser.add_argument("--only", default=",".join(PARTS), help="sglang, fa3 or both, comma-separated")
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
            else:
                fetch_fa3(options.into, options.wheels)
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


def download(requirement: str, folder: Path, wheels: Path | None = None) -> Path:
    """The wheel of `requirement` without its dependencies, from `wheels` or through pip; raises UserError."""
    name, _, version = requirement.partition("==")
    if wheels is not None:
        # Numeric parts compare as numbers; a version with letters in it counts as older.
        found = [w for w in wheels.glob(f"{name}-*.whl") if not version or w.name.split("-")[1] == version]
        if found:
            return max(found, key=lambda w: [int(x) if x.isdecimal() else -1 for x in w.name.split("-")[1].split(".")])
    return download_wheel(requirement, folder)


if __name__ == "__main__":
    raise SystemExit(main())
