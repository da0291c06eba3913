"""Signatures as people type them: a kernel's parameters read from its source, types and values matched to them.

Nothing is run: the source is parsed. `*bf16:16` is a pointer to bf16 aligned to 16 bytes, `i32:16` an integer that is
divisible by 16, `fp32` a float; anything else is a value, given to a constexpr as it is and to another parameter as a
launch would be specialised on it.
"""

from __future__ import annotations

import ast
import fnmatch
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from helpers.compiler.bring.inductor import kernels_in_strings, signature_beside
from helpers.compiler.kernel_spec import Scalar
from helpers.compiler.source import parse_source
from helpers.errors import UserError

_ALIASES = {
    "f16": "fp16", "f32": "fp32", "f64": "fp64", "float16": "fp16", "float32": "fp32", "float64": "fp64",
    "bfloat16": "bf16", "fp8_e4m3": "fp8e4nv", "fp8_e5m2": "fp8e5", "float8e4nv": "fp8e4nv", "float8e5": "fp8e5",
    "int8": "i8", "int16": "i16", "int32": "i32", "int64": "i64", "uint8": "u8", "uint16": "u16", "uint32": "u32",
    "uint64": "u64", "int1": "i1", "bool": "i1",
}  # fmt: skip
_TYPES = ("i1", "i8", "i16", "i32", "i64", "u1", "u8", "u16", "u32", "u64", "fp16", "bf16", "fp32", "fp64",
          "fp8e4nv", "fp8e5", "fp8e4b15", "fp8e4b8", "fp8e5b16")  # fmt: skip
MAX_SIGNATURE_CHARS = 20_000
_NAMED = re.compile(r"\s*([A-Za-z_*?][\w*?]*)\s*=\s*(.*)", re.DOTALL)
_HOW = (
    "Types are such as *bf16, *fp8e4nv:16, i32, i32:16 (divisible by 16), fp32; constexprs get values; items are "
    "separated by commas, in the kernel's order or as name=item, where stride_* names many; None is an argument that "
    "is left out (dht=None)"
)


@dataclass(frozen=True)
class Parameter:
    """One parameter of a kernel: whether it is a constexpr, the type its annotation fixes, its default if literal."""

    name: str
    constexpr: bool
    annotated: str | None = None
    has_default: bool = False
    default: Scalar = None
    specialised: bool = True

    def __str__(self) -> str:
        default = f" = {self.default!r}" if self.has_default else ""
        return f"{self.name} (constexpr){default}" if self.constexpr else f"{self.name}{default}"


@dataclass(frozen=True)
class KernelSource:
    """What the source says of one kernel: its parameters in order, and whether an autotuner chooses some of them.

    `beside` are items of a signature that stand in the source itself, as Inductor writes them.
    """

    name: str
    parameters: tuple[Parameter, ...]
    autotuned: bool
    beside: Mapping[str, object] = field(default_factory=dict)

    def listing(self) -> str:
        """The parameters in words."""
        return ", ".join(str(parameter) for parameter in self.parameters)


def kernel_source(path: Path, name: str) -> KernelSource:
    """The parameters of kernel `name` in the file; raises UserError listing the kernels there are."""
    tree = parse_source(path)
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    kernels = [f for f in functions if _is_kernel(f)]
    node = next((f for f in reversed(kernels) if f.name == name), None)
    if node is None:
        there = ", ".join(sorted({*(f.name for f in kernels), *kernels_in_strings(tree)})) or "none"
        why = "is no @triton.jit function" if any(f.name == name for f in functions) else "is not defined"
        raise UserError(f"{name[:80]!r} {why} in {path}; kernels there: {there}")
    decorators = [_name_of(d) for d in node.decorator_list]
    skipped = _do_not_specialize(node)
    positional = [*node.args.posonlyargs, *node.args.args]
    defaults = [None] * (len(positional) - len(node.args.defaults)) + list(node.args.defaults)
    pairs = [*zip(positional, defaults, strict=True), *zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)]
    parameters = tuple(_parameter(arg, default, i, skipped) for i, (arg, default) in enumerate(pairs))
    autotuned = any(d.endswith("autotune") for d in decorators)
    return KernelSource(name, parameters, autotuned, signature_beside(node))


def kernel_names(path: Path) -> list[str]:
    """The names of the @triton.jit functions in a Python file, sorted; raises UserError for one that is no Python."""
    nodes = ast.walk(parse_source(path))
    return sorted({node.name for node in nodes if isinstance(node, ast.FunctionDef) and _is_kernel(node)})


def _is_kernel(function: ast.FunctionDef) -> bool:
    return any("jit" in _name_of(decorator).split(".") for decorator in function.decorator_list)


def _name_of(decorator: ast.expr) -> str:
    return ast.unparse(decorator.func if isinstance(decorator, ast.Call) else decorator)


def _do_not_specialize(node: ast.FunctionDef) -> set[object]:
    """Names and positions in the `do_not_specialize…` lists of the jit decorator, as far as they are literal."""
    found: set[object] = set()
    for call in (d for d in node.decorator_list if isinstance(d, ast.Call)):
        for keyword in call.keywords:
            if (keyword.arg or "").startswith("do_not_specialize"):
                try:
                    found.update(ast.literal_eval(keyword.value))
                except (ValueError, TypeError):
                    continue
    return found


def _parameter(arg: ast.arg, default: ast.expr | None, position: int, skipped: set[object]) -> Parameter:
    annotation = ast.unparse(arg.annotation) if arg.annotation is not None else ""
    constexpr = "constexpr" in annotation
    kind = _ALIASES.get(annotation.rpartition(".")[2].strip("'\""))
    value, literal = None, False
    if default is not None:
        try:
            value = ast.literal_eval(default)
            literal = isinstance(value, Scalar)
        except (ValueError, TypeError):
            literal = False
    return Parameter(
        arg.arg, constexpr, None if constexpr else kind, literal, value if literal else None,
        arg.arg not in skipped and position not in skipped,
    )  # fmt: skip


@dataclass(frozen=True)
class Specialised:
    """The three parts of a KernelSpec that a signature decides."""

    signature: tuple[tuple[str, str], ...]
    constexprs: tuple[tuple[str, Scalar], ...]
    divisible_by_16: tuple[str, ...]


def specialise(
    kernel: KernelSource, signature: str | Sequence[object] | Mapping[str, object], constexprs: Mapping[str, object]
) -> Specialised:
    """Types and values for every parameter of the kernel; defaults of the source fill what is left out.

    Raises UserError that lists the parameters, and what is missing, unknown or misread.
    """
    given = given_items(kernel, signature)
    for name, value in constexprs.items():
        given[_known(kernel, name)] = value
    names = {parameter.name for parameter in kernel.parameters}
    given = {name: item for name, item in kernel.beside.items() if name in names} | given
    decided = {p.name: _decide(p, given[p.name]) for p in kernel.parameters if p.name in given}
    missing = [p for p in kernel.parameters if p.name not in given and not p.has_default]
    if missing:
        raise UserError(
            f"{kernel.name} still needs {', '.join(str(p) for p in missing)}. "
            f"Its parameters: {kernel.listing()}. {_HOW}"
        )
    kinds: list[tuple[str, str]] = []
    values: list[tuple[str, Scalar]] = []
    divisible: list[str] = []
    for parameter in kernel.parameters:
        kind, value, aligned = decided.get(parameter.name) or _decide(parameter, parameter.default)
        kinds.append((parameter.name, kind))
        if kind == "constexpr":
            values.append((parameter.name, value))
        elif aligned:
            divisible.append(parameter.name)
    return Specialised(tuple(kinds), tuple(values), tuple(divisible))


def given_items(kernel: KernelSource, signature: str | Sequence[object] | Mapping[str, object]) -> dict[str, object]:
    """The items of a signature by parameter name, patterns spread out; raises UserError for a name it has not."""
    placed, named = _sorted_items(kernel, signature)
    if len(placed) > len(kernel.parameters):
        raise UserError(
            f"the signature has {len(placed)} items, {kernel.name} {len(kernel.parameters)} parameters: "
            f"{kernel.listing()}"
        )
    given = {p.name: item for p, item in zip(kernel.parameters, placed, strict=False)}
    for pattern, item in sorted(named.items(), key=lambda pair: _is_pattern(pair[0])):
        for name in _matches(kernel, pattern):
            if name in given and not _is_pattern(pattern):
                raise UserError(f"the signature gives {name} twice: by its place and by its name")
            given.setdefault(name, item)
    return given


def _sorted_items(
    kernel: KernelSource, signature: str | Sequence[object] | Mapping[str, object]
) -> tuple[list[object], dict[str, object]]:
    """(items by place, items by name); a name=item at the name's own place counts as placed."""
    if isinstance(signature, Mapping):
        return [], dict(signature)
    placed: list[object] = []
    named: dict[str, object] = {}
    for word in _split(signature) if isinstance(signature, str) else signature:
        found = _NAMED.fullmatch(word) if isinstance(word, str) else None
        next_name = kernel.parameters[len(placed)].name if len(placed) < len(kernel.parameters) else None
        if found is None and named:
            raise UserError(f"{str(word)[:80]!r} stands after a name=item: items without a name come first. {_HOW}")
        if found is None:
            placed.append(word)
        elif found.group(1) == next_name and not named:
            placed.append(found.group(2))
        elif found.group(1) in named:
            raise UserError(f"the signature gives {found.group(1)} twice")
        else:
            named[found.group(1)] = found.group(2)
    return placed, named


def _is_pattern(name: str) -> bool:
    return "*" in name or "?" in name


def _matches(kernel: KernelSource, pattern: str) -> list[str]:
    if not _is_pattern(pattern):
        return [_known(kernel, pattern)]
    found = [p.name for p in kernel.parameters if fnmatch.fnmatchcase(p.name, pattern)]
    if not found:
        raise UserError(f"no parameter of {kernel.name} is like {pattern[:80]!r}; it has {kernel.listing()}")
    return found


def _known(kernel: KernelSource, name: str) -> str:
    if name not in {p.name for p in kernel.parameters}:
        raise UserError(f"{kernel.name} has no parameter {name[:80]!r}; it has {kernel.listing()}")
    return name


def _split(text: str) -> list[str]:
    """The items of a signature: commas inside quotes and brackets do not count."""
    if len(text) > MAX_SIGNATURE_CHARS:
        raise UserError(f"the signature has {len(text)} characters; at most {MAX_SIGNATURE_CHARS} are read")
    items, start, depth, quote = [], 0, 0, ""
    for at, char in enumerate(text):
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char in "[(<":
            depth += 1
        elif char in "])>":
            depth -= 1
        elif char == "," and depth <= 0:
            items.append(text[start:at])
            start = at + 1
    items = [item.strip() for item in [*items, text[start:]]]
    if items[-1] == "":
        items.pop()
    if "" in items:
        raise UserError(f"item {items.index('') + 1} of the signature is empty. {_HOW}")
    return items


def _decide(parameter: Parameter, item: object) -> tuple[str, Scalar, bool]:
    """(type or `constexpr`, value of a constexpr, whether divisible by 16) of one parameter."""
    word = item.strip() if isinstance(item, str) else None
    typed = _type(word) if word is not None else None
    if parameter.constexpr:
        if typed:
            raise UserError(f"{parameter.name} is a tl.constexpr: give it a value, not the type {word}")
        return "constexpr", _value(parameter, item), False
    if typed:
        kind, hint = typed
        if hint == "1":
            return "constexpr", 1, False
        return kind, None, hint == "16"
    value = _value(parameter, item)
    if value is None:
        return "constexpr", None, False
    if isinstance(value, str):
        raise UserError(f"{parameter.name} cannot be {value[:60]!r}: give a type. {_HOW}")
    if isinstance(value, float):
        return parameter.annotated or "fp32", None, False
    if isinstance(value, bool):
        return parameter.annotated or "u1", None, False
    if value == 1 and parameter.annotated is None and parameter.specialised:
        return "constexpr", 1, False
    wide = "i32" if -(2**31) <= value < 2**31 else "i64" if -(2**63) <= value < 2**63 else "u64"
    return parameter.annotated or wide, None, value % 16 == 0 and parameter.specialised


def _type(word: str) -> tuple[str, str] | None:
    """(Triton type, hint) of an item that is a type; None for a value. Raises UserError for what looks like a type."""
    body, _, hint = word.partition(":")
    body, hint = body.strip(), hint.strip()
    if body.startswith("tensordesc<"):
        return (word, "")
    stars = len(body) - len(body.lstrip("*"))
    name = body[stars:].strip()
    constant = name.removeprefix("k") if stars and name.startswith("k") else name
    known = _ALIASES.get(constant, constant)
    if known not in _TYPES:
        if stars or hint in ("1", "16"):
            raise UserError(f"{word[:80]!r} is no type that Triton has. {_HOW}")
        return None
    if hint not in ("", "1", "16"):
        raise UserError(f"{word[:80]!r}: after the colon stands 16 (divisible by 16) or 1 (always 1). {_HOW}")
    if hint == "1" and (stars or not known.startswith(("i", "u"))):
        raise UserError(f"{word[:80]!r}: only an integer can always be 1")
    return "*" * stars + ("k" if constant != name else "") + known, hint


def _value(parameter: Parameter, item: object) -> Scalar:
    if not isinstance(item, str):
        if isinstance(item, Scalar):
            return item
        raise UserError(f"{parameter.name} is {str(item)[:60]!r}, not a plain value")
    word = item.strip()
    if re.fullmatch(r"tl\.[a-z]\w*", word):
        return word
    try:
        with warnings.catch_warnings():  # of a backslash in quotes
            warnings.simplefilter("ignore")
            value = ast.literal_eval(word)
        if isinstance(value, Scalar):
            return value
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        pass
    if parameter.constexpr and re.fullmatch(r"[\w.+-]+", word):
        return {"true": True, "false": False, "none": None}.get(word, word)  # text without its quotes
    raise UserError(f"cannot read {word[:80]!r}, given for {parameter.name}. {_HOW}")
