"""Going on from a text: a TTGIR, an LLIR or a PTX that something else made becomes a code generation of one release.

The text is adjusted so that the release reads it (helpers.compiler.adjust), and what was changed is told. The result
is kept in the cache like every other and is assembled like every other.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from helpers.compiler import cache
from helpers.compiler.adjust import adjusted
from helpers.compiler.assembly import assemble
from helpers.compiler.codegen import Generated, answer_of, generated_of, kept_answer
from helpers.compiler.run_ptxas import DEFAULT_FLAGS
from helpers.compiler.toolchain import Tool, ToolchainMissing
from helpers.compiler.wheel_facts import wheel_facts
from helpers.compiler.worker.pool import TEXT_SCRIPT, WORKER_SCRIPT, Environment
from helpers.errors import UserError
from helpers.hardware import GpuArch
from helpers.inspection.crash import mlir
from helpers.inspection.ptx import scan

TEXT_STAGES = ("ttgir", "llir")
_PTX_READ = re.compile(r"Unsupported \.version ([\d.]+); current version is '([\d.]+)'")
_UNKNOWN_INTRINSIC = re.compile(r"\.extern\s+\.func\b[^;{}]{0,200}?\b(llvm\.[\w.]*\w)\s*(?:\(|;)")
_CANNOT_READ = re.compile(r"failed to parse IR|Parse MLIR file failed")


@dataclass(frozen=True)
class GoneOn:
    """What a release made of a text: its stages, what was changed in the text first, options it does not have.

    `unreadable` is the release's own complaint where it could not read the text; then there are no stages.
    """

    generated: Generated
    adjustments: tuple[str, ...] = ()
    unreadable: str = ""


@lru_cache(maxsize=1)
def _read_by() -> str:
    """sha256 over the code that turns an adjusted text into what is cached."""
    digest = hashlib.sha256()
    for file in (WORKER_SCRIPT, TEXT_SCRIPT, Path(scan.__file__), Path(mlir.__file__)):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def text_key(text: str, stage: str, arch: GpuArch, triton: str, options: Sequence[tuple[str, Any]],
             environment: Environment = ()) -> str:  # fmt: skip
    """The name of a text's going on in the cache: all that its result depends on. `text` is the adjusted one."""
    return cache.content_key(
        text=hashlib.sha256(text.encode()).hexdigest(), stage=stage, capability=arch.capability, triton=triton,
        options=sorted(options), environment=environment, by=_read_by(),
    )  # fmt: skip


def go_on(
    text: str,
    stage: str,
    arch: GpuArch,
    triton: Tool,
    *,
    options: Sequence[tuple[str, Any]] = (),
    environment: Environment = (),
    timeout_s: float,
) -> GoneOn:
    """The stages that a release makes of the `text` of a stage (`ttgir` or `llir`), from the cache where they are.

    `options` are the launch options that the text was made with. A text that cannot be read is a result. Raises
    UserError for another stage and ToolchainMissing for a Triton that does not start.
    """
    if stage not in TEXT_STAGES:
        raise UserError(f"nothing goes on from {stage!r}: choose {' or '.join(TEXT_STAGES)}")
    text, changes = adjusted(text, stage, wheel_facts(triton))
    key = text_key(text, stage, arch, triton.version, options, environment)

    def make() -> tuple[dict, dict[str, bytes], bool]:
        request = {"begin": stage, "text": text, "capability": arch.capability, "options": dict(options)}
        answer, keep = answer_of(request, triton, timeout_s, texts=True, environment=environment)
        # LLVM ends the process over a text that it cannot read: that is a fact about the text, and is kept.
        keep = keep or bool(_CANNOT_READ.search(str(answer.get("log", ""))))
        return kept_answer(answer, triton, keep)

    entry, cached = cache.get_or_make("texts", key, make)
    generated = generated_of(entry, cached, spec_key=key)
    dropped = tuple(f"launch option `{name}` left out" for name in entry.get("dropped_options", ()))
    return GoneOn(generated, (*changes, *dropped), _complaint(generated))


def _complaint(generated: Generated) -> str:
    """Why the text could not be read; nothing where it was."""
    if not generated.failed:
        # An intrinsic that LLVM does not know becomes a call to a function of that name, which is nowhere.
        ptx = Path(generated.path("ptx") or "").read_text()
        unknown = sorted(set(_UNKNOWN_INTRINSIC.findall(ptx)))
        return f"this LLVM does not know the intrinsic {', '.join(unknown)}" if unknown else ""
    if generated.stage == "machine":
        return ""
    said = generated.front_end.headline() if generated.front_end else ""
    if generated.stage == "read" or _CANNOT_READ.search(f"{said} {generated.error}"):
        return " ".join((said or generated.error).split())[-300:]
    return ""


# --- PTX -------------------------------------------------------------------------------------------------------


def ptx_as_generated(ptx: str, *, gpu_name: str, flags: Sequence[str] = DEFAULT_FLAGS) -> Generated:
    """A PTX of whatever origin as a code generation that has nothing else, ready to be assembled under `flags`."""
    digest = hashlib.sha256(ptx.encode()).hexdigest()
    meta = {
        "stage": "done", "seconds": {"total": 0.0}, "stages": {"ptx": ptx},
        "ptxas_flags": [*(f for f in flags if not f.startswith("--gpu-name")), f"--gpu-name={gpu_name}"],
    }  # fmt: skip
    key = cache.content_key(ptx=digest, flags=meta["ptxas_flags"], by=_read_by())
    nobody = Tool(Path(), "")
    entry, cached = cache.get_or_make("texts", key, lambda: kept_answer(dict(meta), nobody, True))
    return generated_of(entry, cached, spec_key=digest)


def readable_by(generated: Generated, ptxas: Tool, *, timeout_s: float) -> tuple[Generated, tuple[str, ...]]:
    """(the PTX with its `.version` lowered where this ptxas is too old for it, what was changed).

    A ptxas says which version it reads. Where it then takes the PTX for malformed, the PTX has what only the later
    version has: it is left as it is.
    """
    try:
        first = assemble(generated, ptxas, timeout_s=timeout_s)
    except ToolchainMissing:
        return generated, ()
    if first.status != "unsupported_ptx_version":
        return generated, ()
    found = _PTX_READ.search(Path(first.log_path).read_text())
    path = generated.path("ptx")
    if found is None or path is None:
        return generated, ()
    text = re.sub(rf"^\.version {re.escape(found.group(1))}", f".version {found.group(2)}", Path(path).read_text(),
                  count=1, flags=re.MULTILINE)  # fmt: skip
    gpu_name = next((f.partition("=")[2] for f in generated.ptxas_flags if f.startswith("--gpu-name=")), "")
    lowered = ptx_as_generated(text, gpu_name=gpu_name, flags=generated.ptxas_flags)
    keep = {"triton_version", "kernel_name", "num_warps", "smem_bytes", "tmem_columns", "ptxas_program"}
    lowered = replace(lowered, **{name: getattr(generated, name) for name in keep})
    if assemble(lowered, ptxas, timeout_s=timeout_s).status == "ptxas_error":
        return generated, ()
    return lowered, (f".version {found.group(1)} lowered to {found.group(2)}",)
