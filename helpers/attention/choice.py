"""From the words a person types (`256`, `fp8`, `128x64`, `3.5.1`) to compile requests for the extend kernel."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from helpers.attention.shapes import AttentionShape
from helpers.attention.spec import CHOICES, Ingredients, build_spec
from helpers.attention.tiles import AMD_LAUNCH, amd_tile, parse_tile
from helpers.compiler.compile import DEFAULT_TIMEOUT_S, CompileRequest
from helpers.compiler.toolchain import BUNDLED, INCIDENT_TRITON, Toolchain
from helpers.errors import UserError
from helpers.hardware import CAP, AmdArch, get_target

MAX_MATRIX = 20_000
COMMAND = "register-cliff compile"
# What a field is called on the command line, where it is not called what it is here.
_FLAGS = {"num_q_heads": "heads", "num_kv_heads": "kv-heads", "timeout_s": "time-limit"}


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One configuration of the extend kernel in words; every default is the incident's (see INCIDENT in spec.py)."""

    arch: str = "sm_100a"
    head_dim: int = 256
    v_head_dim: int | None = None
    q_dtype: str = "bf16"
    kv_dtype: str = "fp8_e4m3"
    window: int | None = 1024
    tile: str = "hopper"
    num_warps: int | None = None
    num_stages: int | None = None
    maxnreg: int | None = None
    num_q_heads: int = 32
    num_kv_heads: int = 16
    logit_cap: float = 0.0
    mask: bool = False
    sinks: bool = False
    causal: bool = True
    triton: str = INCIDENT_TRITON
    ptxas: str = BUNDLED
    ptxas_for_codegen: bool = False
    ptxas_flags: tuple[str, ...] = ()
    tile_skip: str = "branch"
    accumulate: str = "separate"
    kv_operands: str = "as_stored"
    q_cast: str = "in_tile"
    v_scale: str = "applied"
    timeout_s: float = DEFAULT_TIMEOUT_S

    def request(self) -> CompileRequest:
        """The compile request of this configuration; raises UserError for anything that cannot be."""
        arch = get_target(self.arch)
        shape = AttentionShape(
            num_q_heads=self.num_q_heads,
            num_kv_heads=self.num_kv_heads,
            head_dim=self.head_dim,
            v_head_dim=self.v_head_dim,
            q_dtype=self.q_dtype,
            kv_dtype=self.kv_dtype,
            model_window=self.window,
            causal=self.causal,
            logit_cap=self.logit_cap,
            custom_mask=self.mask,
            sinks=self.sinks,
        )
        if isinstance(arch, AmdArch):
            # A tile by name is one of NVIDIA's tables, but for `auto`; its warps there are not AMD's.
            by_table = amd_tile(arch.name, self.head_dim, triton=self.triton)
            named = parse_tile(self.tile, capability=90, head_dim=self.head_dim)
            tile = by_table if self.tile == "auto" else replace(named, num_warps=by_table.num_warps)
        else:
            tile = parse_tile(self.tile, capability=arch.capability, head_dim=self.head_dim)
        tile = replace(
            tile,
            num_warps=tile.num_warps if self.num_warps is None else self.num_warps,
            num_stages=tile.num_stages if self.num_stages is None else self.num_stages,
        )
        if self.maxnreg is not None and isinstance(arch, AmdArch):
            raise UserError(f"maxnreg is an option of ptxas, which makes nothing for {arch.name}: leave it away")
        if self.maxnreg is not None and not 16 <= self.maxnreg <= CAP:
            raise UserError(f"maxnreg {self.maxnreg} must be from 16 to {CAP}")
        if not 0 < self.timeout_s <= 86_400:
            raise UserError(f"timeout {self.timeout_s} must be a number of seconds from 0 to 86400")
        ingredients = Ingredients(**{name: getattr(self, name) for name in CHOICES})
        launch = AMD_LAUNCH if isinstance(arch, AmdArch) else {}
        return CompileRequest(
            spec=build_spec(shape, tile, ingredients, maxnreg=self.maxnreg, launch=launch),
            arch=arch.name,
            toolchain=Toolchain(self.triton, self.ptxas, self.ptxas_for_codegen),
            ptxas_flags=self.ptxas_flags,
            timeout_s=self.timeout_s,
        )

    def command(self) -> str:
        """The command line that compiles this configuration again."""
        return " ".join([COMMAND, *self.command_words().values()])

    def command_words(self) -> dict[str, str]:
        """What follows the verb in `command`, by field and in its order; without the fields that need no word."""
        words = {}
        for name, default in vars(Choice()).items():
            value = getattr(self, name)
            if value == default and name not in ("arch", "head_dim", "kv_dtype", "window", "tile", "triton"):
                continue
            flag = _FLAGS.get(name, name).replace("_", "-")
            if name == "ptxas_flags":
                words[name] = " ".join(f"--ptxas-flag={word}" for word in value)
            elif name == "causal":
                words[name] = "--non-causal"
            elif isinstance(value, bool):
                words[name] = f"--{flag}"
            else:
                words[name] = f"--{flag} {'none' if value is None else value}"
        return words


def product(axes: Mapping[str, Sequence[object]], base: Choice | None = None) -> list[Choice]:
    """Every combination of the given fields' values over `base`, the last axis varying fastest; bounded."""
    count = 1
    for values in axes.values():
        count *= max(1, len(values))
    if count > MAX_MATRIX:
        raise UserError(f"this product has {count} configurations; at most {MAX_MATRIX} are compiled in one go")
    names = list(axes)
    return [
        replace(base or Choice(), **dict(zip(names, values, strict=True)))
        for values in itertools.product(*axes.values())
    ]
