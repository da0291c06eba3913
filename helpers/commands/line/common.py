"""What is compiled: a SPEC, or a configuration of the extend kernel spelled out in options; for all verbs."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import rich_click as click

from helpers.attention.choice import MAX_MATRIX, Choice, product
from helpers.attention.spec import CHOICES
from helpers.commands.line.given import GIVEN_SPEC, built_paths, captured_with, spec_path, spec_paths
from helpers.commands.line.grammar import (
    ARGUMENTS,
    EXTEND_KERNEL,
    GIVEN,
    OWN,
    TOOLCHAIN,
    Values,
    one,
    shared,
    shown,
    typed_only,
)
from helpers.commands.line.output import note
from helpers.compiler.compile import CompileRequest
from helpers.compiler.toolchain import BUNDLED, ENVIRONMENT, INCIDENT_TRITON, Toolchain, environment_triton
from helpers.errors import UserError
from helpers.hardware import get_arch

# --- the extend kernel in options ------------------------------------------------------------------------------

# What the options that spell out a configuration mean; `audit` has some of them too.
CHOICE_HELP = {
    "head_dim": "query/key head dimension",
    "v_head_dim": "value head dimension, if another",
    "q_dtype": "dtype of the queries: bf16 or fp16",
    "kv_dtype": "dtype of the KV cache: bf16, fp16, fp8_e4m3, fp8_e5m2",
    "window": "the model's sliding window in tokens (the kernel gets one less), or none",
    "tile": "BLOCK_MxBLOCK_N, or auto, hopper, sm100 (from the tile tables)",
    "num_warps": "warps per CTA",
    "num_stages": "software pipelining depth",
    "maxnreg": "cap on registers per thread, written into the PTX",
    "num_q_heads": "query heads",
    "num_kv_heads": "KV heads",
    "logit_cap": "soft cap on logits, 0 for none",
}
_INGREDIENT_HELP = {name: f"ingredient: {' | '.join(values)}" for name, values in CHOICES.items()}
_FLAG_HELP = {"mask": "a custom mask", "sinks": "attention sinks", "non_causal": "no causal mask"}
_FLAGS = {"num_q_heads": "--heads", "num_kv_heads": "--kv-heads"}
_KINDS = {"head_dim": int, "v_head_dim": int, "window": int, "num_warps": int, "num_stages": int, "maxnreg": int,
          "num_q_heads": int, "num_kv_heads": int, "logit_cap": float}  # fmt: skip
_NULLABLE = ("v_head_dim", "window", "num_warps", "num_stages", "maxnreg")
# Where None stands for something: what that is.
_DEFAULT_WORDS = {"num_warps": "(as the engine's launcher)", "num_stages": "(as the tile tables)",
                  "v_head_dim": "(the same)", "maxnreg": "none"}  # fmt: skip
_TOOLCHAIN = ("arch", "triton", "ptxas")
# What is about the toolchain, not about the extend kernel.
_OF_ANY_KERNEL = (*_TOOLCHAIN, "ptxas_for_codegen", "ptxas_flags", "timeout_s")

DEFAULT_ARCH = "sm_100a"
ARCH_DEFAULT = f"(the chip that SPEC was captured on, else {DEFAULT_ARCH})"
TRITON_OF_SPEC = "(the environment's own)"
TRITON_DEFAULT = f"({INCIDENT_TRITON} for the incident, the environment's own for a SPEC)"


def value_option(name: str, *, many: bool, default: object, panel: str):
    """The option for one field of a configuration, `[default: …]` as given; its value is a list, None if not typed."""
    flag = _FLAGS.get(name, "--" + name.replace("_", "-"))
    kind = Values(_KINDS.get(name, str), allow_none=name in _NULLABLE, many=many)
    words = CHOICE_HELP.get(name) or _INGREDIENT_HELP[name]
    return click.option(flag, name, type=kind, metavar="VALUE" + (",…" if many else ""), help=words, panel=panel,
                        callback=typed_only, **shown(default))  # fmt: skip


def choice_options(many: bool, *, amd: bool = False):
    """Options for every field of Choice, the toolchain's in a group of their own; with `many`, several values each.

    With `amd`, the chip may be one of AMD's.
    """

    def decorate(command):
        defaults = {**vars(Choice()), **_DEFAULT_WORDS}
        for name, words in reversed(_FLAG_HELP.items()):
            flag = "--" + name.replace("_", "-")
            command = click.option(flag, name, is_flag=True, help=words, panel=EXTEND_KERNEL)(command)
        for name in reversed([*CHOICE_HELP, *CHOICES]):
            command = value_option(name, many=many, default=defaults[name], panel=EXTEND_KERNEL)(command)
        several = _TOOLCHAIN if many else ()
        command = shared("time_limit")(command)
        command = click.option("--ptxas-for-codegen", is_flag=True, panel=TOOLCHAIN,
                               help="the named ptxas also sets the PTX .version")(command)  # fmt: skip
        return shared("arch", "triton", "ptxas", "ptxas_flags", many=several, amd=amd, arch=ARCH_DEFAULT,
                      triton=TRITON_DEFAULT, ptxas="bundled")(command)  # fmt: skip

    return decorate


def choices_of(options: dict) -> list[Choice]:
    """The configurations the options spell out."""
    fixed = {name: options[name] for name in ("mask", "sinks", "ptxas_for_codegen", "timeout_s")}
    base = Choice(**fixed, causal=not options["non_causal"], ptxas_flags=tuple(options["ptxas_flags"]))
    names = (*_TOOLCHAIN, *CHOICE_HELP, *CHOICES)
    return product({name: options[name] for name in names if options[name] is not None}, base)


# --- SPEC ------------------------------------------------------------------------------------------------------


def spec_argument(command):
    """The optional argument SPEC (also as `--spec SPEC`): a file with one KernelSpec in JSON, or a folder of one."""

    @functools.wraps(command)
    def with_spec(*args, spec: Path | None, spec_option: Path | None, **options):
        if spec is not None and spec_option is not None:
            raise UserError(f"two specs are given, {spec} and {spec_option}: one is compiled at a time")
        given = spec or spec_option
        return command(*args, spec=None if given is None else spec_path(given), **options)

    with_spec = shared("trust_root")(with_spec)
    option = click.option("--spec", "spec_option", type=GIVEN, metavar="SPEC", help="the same as the argument",
                          panel=OWN)  # fmt: skip
    return click.argument("spec", required=False, type=GIVEN, metavar="[SPEC]", help=GIVEN_SPEC,
                          panel=ARGUMENTS)(option(with_spec))  # fmt: skip


def specs_argument(*, required: bool = False, or_built: bool = False):
    """The arguments SPEC… (also as `--spec SPEC`, repeatable): files with KernelSpecs in JSON, or folders of them.

    With `or_built` they may be what is built already instead; the verb has them as `built`, and no specs.
    """

    def decorate(command):
        @functools.wraps(command)
        def with_specs(*args, specs: tuple[Path, ...], spec_option: tuple[Path, ...], **options):
            given = (*specs, *spec_option)
            if required and not given:
                raise UserError("no SPEC is given: name the specs (JSON files, or a folder of them) to compile")
            if or_built:
                options["built"] = built = built_paths(given)
                return command(*args, specs=[] if built else spec_paths(given), **options)
            return command(*args, specs=spec_paths(given), **options)

        with_specs = shared("trust_root")(with_specs)
        option = click.option("--spec", "spec_option", type=GIVEN, multiple=True, metavar="SPEC", panel=OWN,
                              help="the same as the argument")  # fmt: skip
        metavar = "SPEC..." if required else "[SPEC]..."
        words = f"{GIVEN_SPEC}; or what is built: libraries, cubins, wheels, folders" if or_built else GIVEN_SPEC
        return click.argument("specs", nargs=-1, type=GIVEN, metavar=metavar, help=words,
                              panel=ARGUMENTS)(option(with_specs))  # fmt: skip

    return decorate


def request_of(spec: Path | None, options: dict) -> CompileRequest:
    """The compile that SPEC or, without it, the options ask for; raises UserError for several, and for both at once.

    With SPEC, options of the extend kernel (`--head-dim` …) are refused: they would change nothing.
    """
    requests = requests_of([spec] if spec is not None else [], options)
    if len(requests) != 1:
        raise UserError(f"{spec} holds {len(requests)} specs; this takes one at a time")
    return requests[0]


def requests_of(specs: Sequence[Path], options: dict) -> list[CompileRequest]:
    """The compiles that SPEC… or, without them, the options ask for: each spec under every arch and toolchain given."""
    if not specs:
        return [choice.request() for choice in choices_of(options)]
    from helpers.compiler.kernel_spec import read_specs

    refuse_choice(specs[0], options)
    requests = []
    for path in specs:
        read = read_specs([path])  # what is no spec is said before what was assumed for it
        choices = choices_of({**options, **assumed_for(path, options)})
        requests += [replace(choice.request(), spec=spec) for spec in read for choice in choices]
        if len(requests) > MAX_MATRIX:
            raise UserError(f"the specs under these toolchains are more than {MAX_MATRIX} compiles")
    return requests


def refuse_choice(given: Path, options: dict) -> None:
    """Raise UserError for an option of the extend kernel beside a file that says what is compiled."""
    plain = (None, False, ())
    names = [name for name in (*_FLAG_HELP, *CHOICE_HELP, *CHOICES) if options.get(name) not in plain]
    if names:
        flag = _FLAGS.get(names[0], "--" + names[0].replace("_", "-"))
        raise UserError(f"{flag} is an option of the extend kernel, and {given} says what is compiled: leave one away")


def assumed_for(spec: Path, options: dict) -> dict:
    """`arch` and `triton`, as lists, for a spec where the options do not say them; a note says what and why."""
    about = captured_with(spec)
    assumed, words = {}, []
    if not options.get("arch"):
        there = _arch_or_none(about.get("arch"))
        assumed["arch"] = [there or DEFAULT_ARCH]
        why = (
            "the chip it was captured on" if there else "the incident's chip, because neither --arch nor the spec says"
        )
        words.append(f"compiled for {assumed['arch'][0]} ({why})")
    if not options.get("triton"):
        here = environment_triton()
        # By its number, so that other releases can be told from it; a build of one's own has no plain number.
        plain = here is not None and re.fullmatch(r"\d+\.\d+\.\d+", here.version)
        assumed["triton"] = [here.version if plain else ENVIRONMENT if here else INCIDENT_TRITON]
        words.append(f"with Triton {here.version} (the environment's own)" if here
                     else f"with Triton {INCIDENT_TRITON} (there is none in the environment)")  # fmt: skip
        then = about.get("triton_version")
        if here and isinstance(then, str) and then != here.version:
            words.append(f"it was captured with Triton {then[:40]}: --triton {then[:40]} takes that one")
    if words:
        note(f"{spec.name}: {', '.join(words)}")
    return assumed


def toolchain_of(options: dict) -> tuple[str, Toolchain]:
    """(arch, toolchain) that the options name; sm_100a, Triton 3.5.1 and its own ptxas where they do not."""
    chain = Toolchain(one(options.get("triton")) or INCIDENT_TRITON, one(options.get("ptxas")) or BUNDLED)
    return one(options.get("arch")) or DEFAULT_ARCH, chain


def _arch_or_none(name: object) -> str | None:
    try:
        return get_arch(str(name)).name if name else None
    except UserError:
        return None


# Ends of a compile that another tile, launch or release can change.
WORTH_TRYING = ("register_exhausted", "out_of_shared_memory", "out_of_tensor_memory", "trapped", "ptxas_error",
                "ptxas_signal", "unsupported_ptx_version")  # fmt: skip
