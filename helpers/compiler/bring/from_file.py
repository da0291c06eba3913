"""Specs from a Python file: the kernel's parameters are read, types and values matched to them, nothing is run here."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.compiler import machine
from helpers.compiler.bring.inductor import kernels_in_strings, written_out
from helpers.compiler.bring.signature import given_items, kernel_source, specialise
from helpers.compiler.kernel_spec import KernelRef, KernelSpec, Scalar, label_of
from helpers.compiler.source import guess_import_root, parse_source
from helpers.compiler.toolchain import ENVIRONMENT, ToolchainMissing, resolve_triton
from helpers.compiler.trust import remember_kernel
from helpers.compiler.worker.pool import POOL, WorkerDied, WorkerTimeout, WorkerUnusable
from helpers.errors import MachineError, UserError
from helpers.hardware import get_arch


def spec_from_file(
    path: str | Path,
    kernel: str,
    signature: str | Sequence[object] | Mapping[str, object] = "",
    *,
    constexprs: Mapping[str, object] | None = None,
    options: Mapping[str, object] | None = None,
    import_root: str | Path | None = None,
    label: str = "",
    name: str = "",
) -> KernelSpec:
    """The KernelSpec of `kernel` in a Python file, under a signature such as `"*bf16:16, i32:16, fp32, 128, 64"`.

    The file is read here and run only by a compile, in a worker process, where imports that are missing are replaced by
    stand-ins. `options` are the launch's (num_warps …). A kernel under `triton.autotune` takes what its configurations
    set from the first of them, unless it is given. What Inductor writes is taken as it is: a kernel in a string of its
    output code, a signature in `triton_meta`. The label defaults to `name` (the file's and the kernel's) with its
    tile, warps and stages. Raises UserError that lists the kernel's parameters.
    """
    file = Path(path)
    if not file.is_file():
        raise UserError(f"there is no file {file}")
    known_as = f"{file.stem}:{kernel}"
    if import_root is None and (source_text := kernels_in_strings(parse_source(file)).get(kernel)):
        # Inductor's output code: the kernel gets a file of its own.
        file = written_out(kernel, source_text)
    root = Path(import_root) if import_root is not None else guess_import_root(file)
    if not file.resolve().is_relative_to(root.resolve()):
        raise UserError(f"{file} does not lie below the import root {root}")
    reference = KernelRef(str(file.resolve()), kernel, str(root.resolve()), stub_imports=True)
    # The user named this file: a spec of it may lie in any folder.
    remember_kernel(reference.path, reference.import_root)
    source = kernel_source(file, kernel)
    values, chosen = dict(constexprs or {}), dict(options or {})
    unknown = ""
    if source.autotuned:
        given = given_items(source, signature)
        try:
            first = _first_configuration(reference)
        except ListNotKnown as exc:
            unknown = str(exc)
        else:
            values = {name: v for name, v in first.values.items() if name not in given} | values
            chosen = first.options | chosen
    try:
        parts = specialise(source, signature, values)
    except UserError as exc:
        raise (UserError(f"{exc}. Also, {unknown}") if unknown else exc) from None
    return KernelSpec(
        kernel=reference,
        signature=parts.signature,
        constexprs=parts.constexprs,
        divisible_by_16=parts.divisible_by_16,
        options=tuple(chosen.items()),
        label=label or label_of(name or known_as, dict(parts.constexprs), chosen),
    )


def _first_configuration(kernel: KernelRef) -> Configuration:
    """The first configuration of an autotuned kernel, if it is the same on every kind of chip; else ListNotKnown."""
    try:
        return configurations(kernel, ENVIRONMENT)[0]
    except ListNotKnown as exc:
        firsts = [configurations(kernel, ENVIRONMENT, arch=arch)[0] for arch in _KINDS_OF_CHIP]
        if any(first != firsts[0] for first in firsts):
            raise exc
        return firsts[0]


LOAD_TIMEOUT_S = 120.0
# One of each kind that lists tell apart.
_KINDS_OF_CHIP = ("sm_80", "sm_90a", "sm_100a", "sm_120a")


MAX_CONFIGURATIONS = 2_000


@dataclass(frozen=True)
class Configuration:
    """One `triton.Config`: the constexprs it sets, the launch options, and Triton's own text of it."""

    values: dict[str, Scalar]
    options: dict[str, Any]
    text: str


class ListNotKnown(UserError):
    """Raised where an autotuner's list depends on what cannot be known here; the sentence says on what."""


def configurations(kernel: KernelRef, triton: str, *, arch: str | None = None) -> list[Configuration]:
    """The configurations of the autotuner around a kernel, read by loading its file in a worker process.

    The project's own modules are loaded for real as far as they load, and the GPU they may ask for is an `arch`, where
    one is named. Raises ListNotKnown where a stand-in had a hand in the list, UserError when the file does not load, or
    no autotuner is there, and ToolchainMissing.
    """
    chip = None
    if arch is not None:
        known = get_arch(arch)
        # "H100 / H200": lists ask for a part of the name. "RTX 50" is a family's.
        names = [part for part in known.product.split(" / ") if not re.fullmatch(r"RTX [0-9]0", part)]
        chip = {
            "capability": known.capability,
            "max_shared_mem": known.smem_per_block_max_bytes,
            "name": f"NVIDIA {names[0]}" if names else "",
        }
    tool = resolve_triton(triton)
    try:
        with POOL.borrow(tool, foreign=True) as worker:
            answer = worker.ask({"describe": kernel.for_worker(), "chip": chip}, LOAD_TIMEOUT_S)
    except (WorkerDied, WorkerTimeout, WorkerUnusable, OSError, MemoryError) as exc:
        if machine.from_machine(exc):
            by = exc.signal_name if isinstance(exc, WorkerDied) else None
            raise MachineError(machine.killed_sentence(by) if by else machine.sentence(str(exc))) from exc
        if isinstance(exc, WorkerUnusable):
            raise ToolchainMissing(f"Triton {tool.version} does not start with this Python: {exc}") from exc
        if not isinstance(exc, WorkerDied | WorkerTimeout):
            raise
        raise UserError(f"{kernel.path} does not load: {exc}") from exc
    if changed := answer.get("changed"):
        raise MachineError(f"{changed} was saved again while it was read; run the same command again")
    if machine.raised(answer.get("raised", ())):
        raise MachineError(machine.sentence(str(answer.get("error") or "a module could not be loaded")))
    if "error" in answer:
        raise UserError(f"{kernel.path} does not load: {answer['error'][:400]}")
    if answer.get("doubt"):
        raise ListNotKnown(
            f"the configurations of {kernel.name} are not known: the list depends on {answer['doubt']}. What the "
            "project's own modules say is read where --import-root names the folder they are imported from, what other "
            "packages say where they are installed; `capture` records what a run really chose"
        )
    found = [Configuration(*item) for item in answer["configurations"]]
    if not found:
        raise UserError(f"{kernel.name} in {kernel.path} is under no triton.autotune: it has one configuration")
    if len(found) > MAX_CONFIGURATIONS:
        raise UserError(f"{kernel.name} has {len(found)} configurations; at most {MAX_CONFIGURATIONS} are compiled")
    return found
