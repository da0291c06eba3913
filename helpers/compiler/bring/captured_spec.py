"""What Triton was asked to compile, as the plain data of a KernelSpec; runs inside other people's programs.

Standard library and their own Triton only. What plain data cannot say (a function as a constexpr, a tuple argument) is
named, so that a reader knows why the spec will not compile elsewhere.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from helpers.compiler.source import guess_import_root, source_closure

SCALARS: tuple[type[Any], ...] = (bool, int, float, str, type(None))
# What a launch is given by Triton or by the process it runs in, not by its caller.
_NOT_OPTIONS = {
    "arch", "backend_name", "debug", "deprecated_fp8_dot_operand_dtypes", "extern_libs", "instrumentation_mode",
    "ir_override", "sanitize_overflow", "supported_fp8_dtypes", "warp_size",
}  # fmt: skip
_INSTALLED = ("site-packages", "dist-packages")


def specialisation(src: Any, target: Any, options: Any) -> tuple[dict[str, list], list[str]]:
    """(signature, constexprs, divisible_by_16 and options as in a KernelSpec's JSON, what they cannot say)."""
    names, obstacles = list(src.fn.arg_names), []
    signature = {}
    for name, kind in src.signature.items():
        signature[name] = str(kind)
        if not isinstance(kind, str):
            obstacles.append(f"{name} is a tuple")
    constexprs = {}
    for path, value in src.constants.items():
        name, inside = _parameter(path, names)
        if inside:
            obstacles.append(f"{name} holds a constant inside a tuple")
            continue
        signature[name] = "constexpr"
        try:
            constexprs[name] = plain_value(value)
        except TypeError as exc:
            obstacles.append(f"constexpr {name} is {exc}")
            constexprs[name] = str(value)[:200]
    divisible = []
    for path, attributes in src.attrs.items():
        name, inside = _parameter(path, names)
        for attribute, value in attributes or ():
            if (attribute, value) == ("tt.divisibility", 16) and not inside:
                divisible.append(name)
            elif attribute != "tt.pointer_range":
                obstacles.append(f"{name} has the attribute {attribute}={value}")
    if type(src).__name__ != "ASTSource":
        obstacles.append(f"it is no plain Triton kernel ({type(src).__name__})")
    return {
        "signature": [[name, signature[name]] for name in names if name in signature],
        "constexprs": [[name, value] for name, value in constexprs.items()],
        "divisible_by_16": divisible,
        "options": [[name, value] for name, value in chosen_options(target, options).items()],
    }, obstacles


def source_like(fn: Any, signature: dict, constexprs: dict, attrs: dict) -> Any:
    """What `specialisation` needs to know of a compile that has no ASTSource yet."""
    made = type("ASTSource", (SimpleNamespace,), {})
    return made(fn=fn, signature=signature, constants=constexprs, attrs=attrs)


def _parameter(path: Any, names: list[str]) -> tuple[str, bool]:
    """(parameter, whether the path leads inside it) for the ways Triton's releases name an argument."""
    first, *rest = path if isinstance(path, tuple) else (path,)
    return (names[first] if isinstance(first, int) else str(first)), bool(rest)


def plain_value(value: Any) -> Any:
    """A constexpr as a scalar, Triton's types as "tl.float16"; raises TypeError saying what else it is."""
    if type(value).__name__ == "constexpr":
        value = value.value
    for kind in SCALARS:
        if isinstance(value, kind):
            return value if type(value) is kind else kind(value)  # an enum of integers becomes an integer
    import triton.language as tl

    if isinstance(value, tl.dtype):
        named = [name for name, known in sorted(vars(tl).items()) if type(known) is type(value) and known == value]
        if named:
            return f"tl.{named[0]}"
    raise TypeError(f"a {type(value).__name__}")


def chosen_options(target: Any, options: Any) -> dict[str, Any]:
    """What of the launch options is not the backend's own choice, and always the warps and stages."""
    from triton.compiler.compiler import make_backend

    if isinstance(options, (dict, type(None))):
        options = make_backend(target).parse_options(dict(options or {}))
    given = options._asdict() if hasattr(options, "_asdict") else options.__dict__
    chosen = {}
    for name, usual in make_backend(target).parse_options({}).__dict__.items():
        if name in _NOT_OPTIONS or given.get(name) is None:
            continue
        value, usual = _as_list(given[name]), _as_list(usual)
        if all(isinstance(v, SCALARS) for v in (value if isinstance(value, list) else [value])):
            if value != usual or name in ("num_warps", "num_stages"):
                chosen[name] = value
    return chosen


def _as_list(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def arch_name(target: Any) -> str:
    """`sm_100a` for Triton's target (cuda, 100); other backends by their own words."""
    if target.backend != "cuda":
        return f"{target.backend} {target.arch}"
    return f"sm_{target.arch}{'a' if int(target.arch) >= 90 else ''}"


def kernel_files(path: Path, module: str) -> tuple[Path, dict[str, bytes]]:
    """(import root, the kernel's file and what it needs of its own package, by path below that root).

    Raises UserError when they cannot be read.
    """
    path = path.resolve()
    root = _import_root(path, module)
    installed = any(part in _INSTALLED for part in path.parts)
    files = source_closure(path, root, kernels_only=installed or root != path.parent)
    return root, {str(file.relative_to(root)): file.read_bytes() for file in files}


def _import_root(path: Path, module: str) -> Path:
    """The folder from which Python imported the file as `module`; for a program, its own folder."""
    parts = module.split(".")
    if path.with_suffix("").parts[-len(parts) :] == tuple(parts):
        return path.parents[len(parts) - 1]
    return guess_import_root(path)


def files_hash(files: dict[str, bytes]) -> str:
    """sha256 over names and contents."""
    digest = hashlib.sha256()
    for name, content in sorted(files.items()):
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def file_for(fn: Any) -> str:
    """A file for a kernel that has none (a notebook's cell): its source, and the kernels and constants beside it."""
    parts = ["import triton\nimport triton.language as tl\n"]
    beside = list(fn.fn.__globals__.items())
    for name, value in beside:
        if type(value).__name__ == "constexpr" and isinstance(value.value, SCALARS):
            parts.append(f"{name} = tl.constexpr({value.value!r})\n")
    for value in [*(value for _, value in beside), fn]:
        while type(value).__name__ in ("Autotuner", "Heuristics"):
            value = value.fn
        if type(value).__name__ == "JITFunction" and value.fn.__module__ == fn.fn.__module__:
            parts.append(f"@triton.jit\n{value.src}\n")
    return "\n\n".join(dict.fromkeys(parts))


def ptxas_release(target: Any) -> str | None:
    """What the ptxas says that this Triton would use, None where that cannot be told."""
    nvidia: Any = sys.modules.get("triton.backends.nvidia.compiler")
    for arguments in ((target.arch,), ()):
        try:
            return str(nvidia.get_ptxas(*arguments).version)
        except TypeError:
            continue
        except Exception:  # the same failure is on its way to the program already
            return None
    return None
