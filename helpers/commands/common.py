"""What the verbs share: options that spell out configurations, JSON or text, a progress bar, checks of output files."""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path

import click

from helpers.attention.choice import MAX_MATRIX, Choice, product
from helpers.attention.spec import CHOICES
from helpers.compiler.compile import CompileRequest, compile_matrix
from helpers.compiler.report import CompileReport
from helpers.errors import UserError


class _Values(click.ParamType):
    """Comma-separated values of one kind; `none` where nothing is a value."""

    name = "value[,value…]"

    def __init__(self, kind: type, *, allow_none: bool = False, many: bool = True) -> None:
        self.kind, self.allow_none, self.many = kind, allow_none, many

    def convert(self, value, param, ctx):
        if isinstance(value, (list, type(None))):
            return value
        words = [w.strip() for w in str(value).split(",")]
        if not self.many and len(words) != 1:
            self.fail(f"{value!r}: one value is expected here; `matrix` takes several", param, ctx)
        return [self._one(word, param, ctx) for word in words]

    def _one(self, word, param, ctx):
        if self.allow_none and word.lower() in ("none", "off"):
            return None
        try:
            if self.kind is int and len(word) > 12:
                raise ValueError
            return self.kind(word)
        except ValueError:
            kind = {int: "a whole number", float: "a number"}.get(self.kind, "a value")
            self.fail(f"{word[:40]!r} is not {kind}{' or none' if self.allow_none else ''}", param, ctx)


_HELP = {
    "arch": "sm_80, sm_86, sm_89, sm_90a, sm_100a, sm_103a, sm_120a or sm_121a",
    "head_dim": "query/key head dimension",
    "v_head_dim": "value head dimension, if another",
    "q_dtype": "bf16 or fp16",
    "kv_dtype": "dtype of the KV cache: bf16, fp16, fp8_e4m3, fp8_e5m2",
    "window": "the model's sliding window in tokens (the kernel gets one less), or none",
    "tile": "BLOCK_MxBLOCK_N, or auto, hopper, sm100 (from the tile tables)",
    "num_warps": "warps per CTA (default: as the engine's launcher)",
    "num_stages": "software pipelining depth (default 1)",
    "maxnreg": "cap on registers per thread, written into the PTX",
    "num_q_heads": "query heads",
    "num_kv_heads": "KV heads",
    "logit_cap": "soft cap on logits, 0 for none",
    "triton": "Triton version, or `environment`",
    "ptxas": "ptxas version, or `bundled` (the one that Triton itself would use)",
}
_FLAGS = {"num_q_heads": "--heads", "num_kv_heads": "--kv-heads"}
_KINDS = {"head_dim": int, "v_head_dim": int, "window": int, "num_warps": int, "num_stages": int, "maxnreg": int,
          "num_q_heads": int, "num_kv_heads": int, "logit_cap": float}  # fmt: skip
_NULLABLE = ("v_head_dim", "window", "num_warps", "num_stages", "maxnreg")


def choice_options(many: bool):
    """Options for every field of Choice; with `many`, each takes several values."""

    def decorate(command):
        defaults = vars(Choice())
        for name in reversed([*_HELP, *CHOICES]):
            help_text = _HELP.get(name) or f"ingredient: {' | '.join(CHOICES[name])}"
            kind = _Values(_KINDS.get(name, str), allow_none=name in _NULLABLE, many=many)
            flag = _FLAGS.get(name, "--" + name.replace("_", "-"))
            command = click.option(flag, name, type=kind, default=None, metavar="VALUE" + (",…" if many else ""),
                                   help=f"{help_text} [{defaults[name]}]")(command)  # fmt: skip
        for name, help_text in (("mask", "custom mask"), ("sinks", "attention sinks"),
                                ("ptxas_for_codegen", "the named ptxas also sets the PTX .version")):  # fmt: skip
            command = click.option("--" + name.replace("_", "-"), name, is_flag=True, help=help_text)(command)
        command = click.option("--non-causal", is_flag=True, help="no causal mask")(command)
        command = click.option("--ptxas-flag", "ptxas_flags", multiple=True, metavar="FLAG",
                               help="one more flag for ptxas, for example -O1 (repeatable)")(command)  # fmt: skip
        return click.option("--timeout", "timeout_s", type=float, default=300.0, show_default=True,
                            help="seconds each stage of one compile may take")(command)  # fmt: skip

    return decorate


def choices_of(options: dict) -> list[Choice]:
    """The configurations the options spell out."""
    fixed = {name: options[name] for name in ("mask", "sinks", "ptxas_for_codegen", "timeout_s")}
    base = Choice(**fixed, causal=not options["non_causal"], ptxas_flags=tuple(options["ptxas_flags"]))
    axes = {name: options[name] for name in (*_HELP, *CHOICES) if options[name] is not None}
    return product(axes, base)


_SPEC_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


def spec_argument(command):
    """The optional argument SPEC (also as `--spec SPEC`): a file with one KernelSpec in JSON."""

    @functools.wraps(command)
    def with_spec(*args, spec: Path | None, spec_option: Path | None, **options):
        if spec is not None and spec_option is not None:
            raise UserError(f"two specs are given, {spec} and {spec_option}: one is compiled at a time")
        return command(*args, spec=spec or spec_option, **options)

    option = click.option("--spec", "spec_option", type=_SPEC_FILE, metavar="SPEC", help="the same as the argument")
    return click.argument("spec", required=False, type=_SPEC_FILE, metavar="[SPEC]")(option(with_spec))


def specs_argument(command):
    """The optional arguments SPEC… (also as `--spec SPEC`, repeatable): files with KernelSpecs in JSON."""

    @functools.wraps(command)
    def with_specs(*args, specs: tuple[Path, ...], spec_options: tuple[Path, ...], **options):
        return command(*args, specs=(*specs, *spec_options), **options)

    option = click.option("--spec", "spec_options", type=_SPEC_FILE, multiple=True, metavar="SPEC",
                          help="the same as an argument SPEC (repeatable)")  # fmt: skip
    return click.argument("specs", nargs=-1, type=_SPEC_FILE, metavar="[SPEC]...")(option(with_specs))


# What `choice_options` offers that is about the toolchain, not about the extend kernel.
_OF_ANY_KERNEL = ("arch", "triton", "ptxas", "ptxas_for_codegen", "ptxas_flags", "timeout_s")


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

    defaults = {"mask": False, "sinks": False, "non_causal": False}
    given = [n for n, v in options.items() if n not in _OF_ANY_KERNEL and v is not None and v != defaults.get(n)]
    if given:
        flag = _FLAGS.get(given[0], "--" + given[0].replace("_", "-"))
        raise UserError(
            f"{flag} is an option of the extend kernel, and {specs[0]} says what is compiled: leave one away"
        )
    read, choices = read_specs(specs), choices_of(options)
    if len(read) * len(choices) > MAX_MATRIX:
        raise UserError(f"{len(read)} specs under {len(choices)} toolchains are more than {MAX_MATRIX} compiles")
    return [replace(choice.request(), spec=spec) for spec in read for choice in choices]


def echo_json(value) -> None:
    click.echo(json.dumps(value, indent=2))


def show_result(result: dict, as_json: bool, as_text: Callable[[dict], str]) -> None:
    """Print a verb's result as JSON or as the text made of it."""
    if as_json:
        echo_json(result)
    else:
        click.echo(as_text(result))


class Verb(click.Command):
    """A command that knows -h by itself: click remembers the help option of whichever parent asked first, or none."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **{**kwargs, "context_settings": HELP_NAMES})


HELP_NAMES = {"help_option_names": ["-h", "--help"]}


def check_writable(path: Path) -> None:
    """Raise UserError unless a file can be made beside `path`."""
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent):
            pass
    except (OSError, ValueError) as exc:
        raise UserError(
            f"cannot write {path}: {getattr(exc, 'strerror', None) or exc}; name a file in a writable folder"
        ) from exc


def run_with_progress(
    requests: list[CompileRequest], *, quiet: bool = False, executor: Executor | None = None
) -> list[CompileReport]:
    """`compile_matrix` with a progress bar on stderr."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=quiet, transient=False) as bar:
        task = bar.add_task("compiling", total=len(requests))
        return compile_matrix(requests, executor=executor, progress=lambda _done, _total, _report: bar.advance(task))
