"""What Inductor writes: kernels that stand in strings of its output code, and the signature beside each kernel.

`TORCH_LOGS=output_code` and the cache's wrapper files hold `async_compile.triton('name', '''source''')`. A kernel's own
file in the cache has `triton_meta={'signature': {…}, 'configs': [{(0,): [['tt.divisibility', 16]]}]}` in a decorator.
Nothing is run: both are read from the syntax tree.
"""

from __future__ import annotations

import ast
import hashlib
from pathlib import Path

from helpers.files import writable_cache_root, write_text_atomically


def kernels_in_strings(tree: ast.Module) -> dict[str, str]:
    """Name -> source of every kernel that a module hands to `….triton(name, source)` as two strings."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "triton":
            texts = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
            if len(texts) >= 2 and texts[0].isidentifier() and "triton" in texts[1]:
                found[texts[0]] = texts[1]
    return found


def written_out(name: str, source: str) -> Path:
    """A file in the cache folder that holds the source of a kernel, the same file for the same text."""
    digest = hashlib.sha256(source.encode(errors="replace")).hexdigest()
    path = writable_cache_root() / "inductor" / digest[:16] / f"{name[:80]}.py"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text_atomically(path, source)
    return path


def signature_beside(function: ast.FunctionDef) -> dict[str, object]:
    """The items of a signature that Inductor's `triton_meta` gives for a kernel; {} where it gives none.

    Types as a signature spells them (`*bf16:16`), values of `constants`; a constexpr that the launch chooses (XBLOCK)
    is not among them.
    """
    meta = _keyword(function, "triton_meta")
    if not isinstance(meta, ast.Dict):
        return {}
    signature, constants = _literal(meta, "signature"), _literal(meta, "constants")
    configs = _literal(meta, "configs")
    if not isinstance(signature, dict):
        return {}
    aligned = _aligned(configs)
    found: dict[str, object] = {}
    for position, (name, kind) in enumerate(signature.items()):
        if not isinstance(name, str) or not isinstance(kind, str):
            continue
        if kind != "constexpr":
            found[name] = f"{kind}:16" if position in aligned else kind
    if isinstance(constants, dict):
        for key, value in constants.items():
            place = key[0] if isinstance(key, tuple) and len(key) == 1 else None
            names = list(signature)
            name = names[place] if isinstance(place, int) and place < len(names) else key
            if isinstance(name, str) and name in signature and isinstance(value, (bool, int, float, str, type(None))):
                found[name] = value
    return found


def _keyword(function: ast.FunctionDef, name: str) -> ast.expr | None:
    for decorator in function.decorator_list:
        if isinstance(decorator, ast.Call):
            for keyword in decorator.keywords:
                if keyword.arg == name:
                    return keyword.value
    return None


def _literal(dictionary: ast.Dict, key: str) -> object:
    """The plain value of a key; None where it is not plain (`DeviceProperties(…)` stands beside it)."""
    for name, value in zip(dictionary.keys, dictionary.values, strict=True):
        if isinstance(name, ast.Constant) and name.value == key:
            try:
                return ast.literal_eval(value)
            except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
                return None
    return None


def _aligned(configs: object) -> set[int]:
    """The positions that are divisible by 16, of `[{(0,): [['tt.divisibility', 16]], …}]`."""
    first = configs[0] if isinstance(configs, list) and configs else None
    if not isinstance(first, dict):
        return set()
    return {
        key[0]
        for key, value in first.items()
        if isinstance(key, tuple)
        and len(key) == 1
        and isinstance(key[0], int)
        and ["tt.divisibility", 16] in list(value)
    }
