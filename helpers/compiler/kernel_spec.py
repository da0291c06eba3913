"""KernelSpec: everything Triton needs to compile one kernel ahead of time, as plain data with JSON both ways."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from helpers.compiler.ptxas_flags import checked_flags
from helpers.compiler.source import HashedSource, hashed_source, source_closure
from helpers.compiler.trust import check_kernel
from helpers.errors import UserError
from helpers.files import MAX_TEXT_BYTES, STDIN, read_text_bounded

Scalar = bool | int | float | str | None
# Launch options that make Triton read a file.
_OPTIONS_OF_FILES = ("ir_override", "extern_libs")
MAX_LABEL = 300


def _is_scalars(value: object) -> bool:
    return isinstance(value, tuple) and all(isinstance(v, Scalar) for v in value)


@dataclass(frozen=True)
class KernelRef:
    """A `@triton.jit` function `name` in the Python file `path`; `import_root` goes on the worker's sys.path.

    With `stub_imports`, what the file imports and this machine lacks is replaced by stand-ins, and of a large package
    only its device code is loaded: for kernels cut out of an engine that is not installed.
    """

    path: str
    name: str
    import_root: str | None = None
    stub_imports: bool = False

    def __post_init__(self) -> None:
        for what, value in (("path", self.path), ("name", self.name), ("import_root", self.import_root or ".")):
            if not isinstance(value, str) or not value or "\0" in value:
                raise UserError(f"kernel {what} {str(value)[:80]!r} is not a {'name' if what == 'name' else 'path'}")
        if not isinstance(self.stub_imports, bool):
            raise UserError(f"kernel stub_imports {str(self.stub_imports)[:80]!r} must be true or false")

    @property
    def root(self) -> Path:
        """The folder its imports are resolved from: `import_root`, else the file's own."""
        return Path(self.import_root) if self.import_root else Path(self.path).parent

    def source_hash(self) -> str:
        """sha256 over the file and every local module it imports, so that an edited helper misses the cache."""
        return self.hashed_source().sha256

    def hashed_source(self) -> HashedSource:
        """The same with the hash of each file, all from one reading."""
        return hashed_source(Path(self.path), self.root, kernels_only=self.stub_imports)

    def source_files(self) -> list[Path]:
        """The file and every local module whose code becomes part of the kernel."""
        return source_closure(Path(self.path), self.root, kernels_only=self.stub_imports)

    def for_worker(self, source: HashedSource | None = None) -> dict[str, Any]:
        """What a worker process is told of the kernel; raises UserError when its source cannot be read.

        It loads the files whose hashes are in `source` (by default: as they are now) and no others under their names.
        """
        source = source or self.hashed_source()
        return {
            "path": str(Path(self.path).resolve()),
            "name": self.name,
            "import_root": str(self.root.resolve()),
            "source_hash": source.sha256,
            "files": list(source.files),
            "sha256": source.files,
        }


@dataclass(frozen=True)
class KernelSpec:
    """One specialisation of one kernel.

    `signature` gives every parameter in order: a Triton type (`*bf16`, `i32`, `fp32`) or `constexpr`;
    `constexprs` the value of each of the latter; `divisible_by_16` the pointers and integers Triton may assume
    aligned; `options` what a launch passes beside the arguments (num_warps, num_stages, maxnreg, …).
    Equal content means equal `content_key()`, wherever the file lies on disk.
    """

    kernel: KernelRef
    signature: tuple[tuple[str, str], ...]
    constexprs: tuple[tuple[str, Scalar], ...]
    divisible_by_16: tuple[str, ...]
    options: tuple[tuple[str, Any], ...] = ()
    label: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        self._check_values()
        names = [name for name, _ in self.signature]
        if len(set(names)) != len(names):
            raise UserError(f"signature of {self.kernel.name} names a parameter twice: {', '.join(names)}")
        constexpr_names = {name for name, kind in self.signature if kind == "constexpr"}
        given = {name for name, _ in self.constexprs}
        if constexpr_names != given:
            raise UserError(
                f"{self.kernel.name}: constexpr parameters are {', '.join(sorted(constexpr_names)) or 'none'}, "
                f"values were given for {', '.join(sorted(given)) or 'none'}; each needs exactly one value"
            )
        stray = set(self.divisible_by_16) - set(names) | set(self.divisible_by_16) & constexpr_names
        if stray:
            raise UserError(
                f"{self.kernel.name}: divisible_by_16 names {', '.join(sorted(stray))}, not a runtime parameter"
            )

    def _check_values(self) -> None:
        """Raise UserError for what cannot be hashed, sorted or sent to a worker."""
        for what, pairs in (("constexpr", self.constexprs), ("option", self.options)):
            for name, value in pairs:
                if not isinstance(value, Scalar) and not (what == "option" and _is_scalars(value)):
                    raise UserError(f"{self.kernel.name}: {what} {name} is {str(value)[:40]!r}, not a plain value")
            if len({name for name, _ in pairs}) != len(pairs):
                raise UserError(f"{self.kernel.name}: {what} values name a parameter twice")
        for name in _OPTIONS_OF_FILES:
            if self.option.get(name):
                raise UserError(f"{self.kernel.name}: option {name} makes Triton read a file, which no spec may")
        if isinstance(flags := self.option.get("ptx_options"), str):
            checked_flags([flags], f"{self.kernel.name}: in option ptx_options,")
        warps = self.option.get("num_warps", 4)
        if type(warps) is not int or not 1 <= warps <= 32:
            raise UserError(f"{self.kernel.name}: num_warps {str(warps)[:40]!r} must be a whole number from 1 to 32")

    @property
    def option(self) -> dict[str, Any]:
        """The launch options as a dictionary."""
        return dict(self.options)

    @property
    def num_warps(self) -> int:
        """Warps per CTA (Triton's default, 4, when the options do not say)."""
        return int(self.option.get("num_warps", 4))

    def with_constexprs(self, **values: Scalar) -> KernelSpec:
        """This spec with some constexprs replaced; raises UserError for a name the kernel does not have."""
        current = dict(self.constexprs)
        for name in values:
            if name not in current:
                raise UserError(f"{self.kernel.name} has no constexpr {name!r}; it has {', '.join(current)}")
        return replace(self, constexprs=tuple({**current, **values}.items()))

    def with_options(self, **values: Any) -> KernelSpec:
        """This spec with some launch options replaced; a value of None removes the option."""
        merged = {**self.option, **values}
        return replace(self, options=tuple((k, v) for k, v in merged.items() if v is not None))

    def content_key(self, source_hash: str | None = None) -> str:
        """sha256 of kernel source (with its imports) and specialisation; independent of file locations.

        `source_hash` is the kernel's, where it is known already.
        """
        # JSON tells True, 1 and 1.0 apart, which as constexprs are three things; Python's == does not.
        body: dict[str, Any] = {
            "source": source_hash or self.kernel.source_hash(),
            "name": self.kernel.name,
            "signature": self.signature,
            "constexprs": sorted(self.constexprs),
            "divisible_by_16": sorted(self.divisible_by_16),
            "options": sorted(self.options),
        }
        if self.kernel.stub_imports:
            body["stub_imports"] = True
        return hashlib.sha256(json.dumps(body, sort_keys=True, default=str).encode()).hexdigest()

    def to_json(self) -> str:
        """The spec as JSON text, readable by `from_json`."""
        return json.dumps(asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> KernelSpec:
        """The spec in `text`; raises UserError naming what is missing or malformed."""
        try:
            raw = json.loads(text)
            return cls(
                kernel=KernelRef(**raw["kernel"]),
                signature=tuple((str(n), str(t)) for n, t in raw["signature"]),
                constexprs=tuple((str(n), v) for n, v in raw["constexprs"]),
                divisible_by_16=tuple(str(n) for n in raw["divisible_by_16"]),
                options=tuple((str(n), tuple(v) if isinstance(v, list) else v) for n, v in raw.get("options", ())),
                label=_one_line(str(raw.get("label", ""))),
            )
        except UserError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as exc:
            raise UserError(
                f"not a KernelSpec: {type(exc).__name__}: {exc}. Expected JSON with kernel (path, name), signature, "
                "constexprs, divisible_by_16 and options, as written by KernelSpec.to_json()"
            ) from exc


def _one_line(label: str) -> str:
    """A label as tables can show it: one line, bounded, whole characters."""
    return " ".join(label.encode(errors="replace").decode().split())[:MAX_LABEL]


# Constexprs that cut the work into pieces. BLOCK_DMODEL and the like are extents of the problem.
TILE_NAME = re.compile(r"(?:BLOCK|TILE)(?:_?SIZE)?_?(?:[MNKXYZ]|Q|KV|[0-9])?(?:_SIZE)?", re.ASCII | re.IGNORECASE)


def label_of(name: str, constexprs: Mapping[str, Scalar], options: Mapping[str, Any]) -> str:
    """`matmul 128x64x32 w8 s3`: a name for tables that tells the tiles and launches of one kernel apart.

    A tile of one side is `BLOCK=128`; warps and stages are there where the options say them. What else tells two specs
    apart, `tell_apart` adds.
    """
    tile = {n: v for n, v in constexprs.items() if TILE_NAME.fullmatch(n) and type(v) is int}
    words = [name, "x".join(map(str, tile.values())) if len(tile) > 1 else _pairs(tile)]
    words += [f"{sign}{options[n]}" for n, sign in (("num_warps", "w"), ("num_stages", "s")) if n in options]
    return " ".join(word for word in words if word)


def tell_apart(specs: Sequence[KernelSpec]) -> list[KernelSpec]:
    """The specs, those of one label with what differs between them added: `matmul GROUP=8` and `matmul GROUP=4`.

    Specs that differ in nothing but their source keep one label.
    """
    by_label: dict[str, list[KernelSpec]] = {}
    for spec in specs:
        by_label.setdefault(spec.label, []).append(spec)
    found = []
    for spec in specs:
        alike = [_traits(other) for other in by_label[spec.label]]
        differing = {n: v for n, v in _traits(spec).items() if any(o.get(n, _ABSENT) != v for o in alike)}
        name = spec.label or spec.kernel.name
        found.append(replace(spec, label=f"{name} {_pairs(differing)}") if differing else spec)
    return found


_ABSENT = object()


def _traits(spec: KernelSpec) -> dict[str, Any]:
    """What a spec is, by name: its kernel, its parameters' types or values, its options."""
    # JSON tells True, 1 and 1.0 apart, as compiles do.
    values = {name: json.dumps(value) for name, value in spec.constexprs}
    types = {
        name: values.get(name, kind + (":16" if name in spec.divisible_by_16 else "")) for name, kind in spec.signature
    }
    return {"kernel": spec.kernel.name, **types, **{name: json.dumps(value) for name, value in spec.options}}


def _pairs(values: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in values.items())


def read_specs(paths: Sequence[Path]) -> list[KernelSpec]:
    """The specs in JSON files, each one spec or a list of them; a spec without a label is known by its file's name.

    A relative kernel path is relative to the file that names it. Raises UserError for what cannot be read, and for a
    kernel outside the spec's own folder that the user has not trusted (helpers.compiler.trust).
    """
    specs = []
    for path in paths:
        specs += _specs_in(path)
    return specs


def _specs_in(path: Path) -> list[KernelSpec]:
    try:
        raw = json.loads(read_text_bounded(path, MAX_TEXT_BYTES, "the spec file", errors="strict"))
    except UserError:
        raise
    except (ValueError, RecursionError) as exc:
        raise UserError(f"{path} holds no spec (a KernelSpec in JSON): {exc}") from exc
    items = raw if isinstance(raw, list) else [raw]
    # What comes through a pipe lies nowhere: its kernel may lie below the folder that the user works in.
    folder = Path() if path == STDIN or not path.is_file() else path.parent
    found = []
    for number, item in enumerate(items, start=1):
        spec = KernelSpec.from_json(json.dumps(item))
        name = path.stem if len(items) == 1 else f"{path.stem} {number}"
        kernel = spec.kernel
        if not Path(kernel.path).is_absolute():
            kernel = replace(kernel, path=str(folder / kernel.path))
        if kernel.import_root and not Path(kernel.import_root).is_absolute():
            kernel = replace(kernel, import_root=str(folder / kernel.import_root))
        check_kernel(kernel.path, kernel.import_root, spec_folder=folder, named_by=f"the spec {path}")
        found.append(replace(spec, kernel=kernel, label=spec.label or name))
    return found
