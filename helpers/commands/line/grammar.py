"""The grammar of the command line: what an option is called and means, once for all verbs.

`shared` gives a verb options from one table, so that a name has one meaning, one type and one sentence of help. A
default stands in `[default: …]` and nowhere else: a value, or words in parentheses where it depends on the input.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import rich_click as click

from helpers.errors import UserError
from helpers.hardware import get_arch, get_target

DAY_S = 86_400
HELP_NAMES = {"help_option_names": ["-h", "--help"]}

ARGUMENTS, OWN, TOOLCHAIN, OUTPUT = "Arguments", "Options", "Chip and toolchain", "Output"
EXTEND_KERNEL = "The extend kernel, where no SPEC is given"
PANELS = (ARGUMENTS, OWN, TOOLCHAIN, OUTPUT, EXTEND_KERNEL)

# What an option was called once, by its old spelling: the error names the new one.
RENAMED = {
    "--timeout": "--time-limit",
    "--run-timeout": "--time-limit",
    "--minimize": "--minimize-for",
    "--out": "--csv",
}


class WithExamples(click.RichCommand):
    """A command whose help ends with examples, each on a line of its own that can be copied."""

    examples: tuple[str, ...] = ()

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from rich.text import Text

        lines = [f" {'Example:' if i == 0 else '        '} {line}" for i, line in enumerate(self.examples)]
        formatter.write(Text("\n".join(["", *lines, ""])), soft_wrap=True)


class Verb(WithExamples):
    """A command that has examples, knows -h by itself, and names the new spelling of an option that was renamed.

    click remembers the help option of whichever parent asked first, or none, hence the context settings.
    """

    def __init__(self, *args, examples: Sequence[str] = (), **kwargs) -> None:
        self.examples = tuple(examples)
        params = kwargs.get("params") or ()
        used = {getattr(param, "panel", None) or OWN for param in params} | {OUTPUT}
        if any(isinstance(param, click.Argument) for param in params):
            used.add(ARGUMENTS)
        panels = [click.RichOptionPanel(name) for name in PANELS if name in used]
        settings = {**HELP_NAMES, **(kwargs.get("context_settings") or {})}
        super().__init__(*args, **{**kwargs, "context_settings": settings, "panels": panels})

    def invoke(self, ctx: click.Context) -> Any:
        from helpers.files import clear_crumbs  # not for --help

        clear_crumbs()
        return super().invoke(ctx)

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        option = super().get_help_option(ctx)
        if option is not None:
            option.panel = OUTPUT
        return option

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as exc:
            if new := RENAMED.get(exc.option_name):
                raise UserError(f"{exc.option_name} is called {new} now") from exc
            raise


class VerbGroup(Verb, click.RichGroup):
    """A verb with verbs of its own: it lists these and no other."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(self.commands)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        return self.commands.get(name)


class Values(click.ParamType):
    """One value, or several with commas, of one kind, as a list; `none` where nothing is a value."""

    name = "value"

    def __init__(self, kind: Callable[[str], Any], *, allow_none: bool = False, many: bool = True) -> None:
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
        except UserError as exc:
            self.fail(str(exc), param, ctx)
        except ValueError:
            kind = {int: "a whole number", float: "a number"}.get(self.kind, "a value")
            self.fail(f"{word[:40]!r} is not {kind}{' or none' if self.allow_none else ''}", param, ctx)


def chip(word: str) -> str:
    """The name of the arch that a word stands for, such as sm_100a for B200, gfx942 for MI300X; raises UserError."""
    return get_target(word).name


def one(values: list | None) -> Any:
    """The value of an option that takes one; None where it was not given."""
    return values[0] if values else None


class _Seconds(click.ParamType):
    """A number of seconds, more than none and at most a day."""

    name = "seconds"

    def convert(self, value, param, ctx):
        try:
            seconds = float(value)
        except ValueError:
            seconds = float("nan")
        if not 0 < seconds <= DAY_S:  # what is not a number compares with no limit
            self.fail(f"{str(value)[:40]!r} is not a number of seconds, more than 0 and at most {DAY_S}", param, ctx)
        return seconds


FILE = click.Path(dir_okay=False, path_type=Path)
# Not `exists=True`: what is there, and whether this verb reads it, is said by helpers.commands.line.given.
GIVEN = click.Path(allow_dash=True, path_type=Path)
SECONDS = _Seconds()

# name -> (spellings, metavar, type, sentence of help, group); a metavar of several gets `,…`.
_SHARED: dict[str, tuple[tuple[str, ...], str, Any, str, str]] = {
    "arch": (("--arch", "arch"), "CHIP", chip,
             "what to compile for: sm_100a, or a product such as B200, H100, RTX 5090; compile, matrix, gate and audit "
             "also take gfx942 (MI300X) and gfx950 (MI355X)", TOOLCHAIN),
    "triton": (("--triton", "triton"), "VERSION", str,
               "the Triton that makes the PTX: a release, or `environment`", TOOLCHAIN),
    "ptxas": (("--ptxas", "ptxas"), "VERSION", str,
              "the ptxas that assembles it: a release, or `bundled` (the one that Triton itself would use)", TOOLCHAIN),
    "ptxas_flags": (("--ptxas-flag", "ptxas_flags"), "FLAG", None,
                    "one more flag for ptxas, such as -O1 (repeatable)", TOOLCHAIN),
    "trust_root": (("--trust-root", "trust_root"), "FOLDER", click.Path(file_okay=False, path_type=Path),
                   "let a spec have its kernel from this folder too, which is not the spec's own (repeatable)", OWN),
    "time_limit": (("--time-limit", "timeout_s"), "SECONDS", SECONDS,
                   "the most that each stage of one compile, or one run of ptxas, may take", TOOLCHAIN),
    "budget": (("--budget", "budget_s"), "SECONDS", SECONDS,
               "the most that the whole verb may take; what is found by then is the result", OWN),
    "out": (("-o", "--out", "out"), "FILE", FILE, "write the result to this file", OUTPUT),
    "out_folder": (("-o", "--out", "folder"), "FOLDER", click.Path(file_okay=False, path_type=Path),
                   "write the specs, and the kernels' sources, into this folder; several programs may share it",
                   OUTPUT),
    "sass": (("--sass", "sass"), "", None,
             "read the code too: spills by loops, tensor-core path, register split (slow)", OWN),
    "csv": (("--csv", "csv_path"), "FILE", FILE, "write all rows to this CSV file", OUTPUT),
    "force": (("--force", "force"), "", None, "write over a file that is there, which is kept otherwise", OUTPUT),
    "json": (("--json", "as_json"), "", None, "print the result as JSON", OUTPUT),
    "quiet": (("--quiet", "quiet"), "", None, "no progress bar and no notes on stderr", OUTPUT),
}  # fmt: skip
_FLAGS = ("sass", "force", "json", "quiet")
_SEVERAL = ("arch", "triton", "ptxas")
DEFAULT_TIME_LIMIT_S = 300


def shared(*names: str, many: Sequence[str] = (), amd: bool = False, **defaults: Any):
    """Options from the table, in this order; those in `many` take several values. With `amd`, the chip may be AMD's.

    A default is a value, or words in parentheses that say what it depends on: then the verb is given None. Chip, Triton
    and ptxas are lists, and None where they were not typed.
    """

    def decorate(command):
        for name in reversed(names):
            command = _option(name, name in many, defaults.get(name), amd)(command)
        return command

    return decorate


def _option(name: str, many: bool, default: Any, amd: bool):
    spellings, metavar, kind, words, group = _SHARED[name]
    if name in _FLAGS:
        return click.option(*spellings, is_flag=True, help=words, panel=group)
    if name == "ptxas_flags":
        return click.option(*spellings, multiple=True, metavar=metavar, help=words, panel=group, callback=_flags)
    if name == "trust_root":
        return click.option(*spellings, multiple=True, metavar=metavar, type=kind, help=words, panel=group,
                            callback=_trust, expose_value=False, is_eager=True)  # fmt: skip
    if name == "time_limit" and default is None:
        default = DEFAULT_TIME_LIMIT_S
    attributes: dict[str, Any] = {"type": kind, "metavar": metavar, "help": words, "panel": group, **shown(default)}
    if name == "out_folder":
        attributes |= {"default": Path("specs"), "show_default": True}
    if name in _SEVERAL:
        attributes |= {"type": Values(kind, many=many), "metavar": metavar + (",…" if many else ""),
                       "callback": nvidia_s if name == "arch" and not amd else typed_only}  # fmt: skip
    return click.option(*spellings, **attributes)


def _flags(_ctx: click.Context, _param: click.Parameter, flags: Sequence[str]) -> tuple[str, ...]:
    if not flags:
        return ()
    from helpers.compiler.ptxas_flags import checked_flags

    return checked_flags(flags, "--ptxas-flag:")


def _trust(_ctx: click.Context, _param: click.Parameter, folders: Sequence[Path]) -> None:
    """The user's word for folders; also where there is none, because another verb may have run in this process."""
    from helpers.compiler.trust import trust_roots

    trust_roots(folders)


def shown(default: Any) -> dict[str, Any]:
    """The attributes of an option for its default: a value, or words in parentheses, which stand for None."""
    if isinstance(default, str) and default.startswith("("):
        return {"default": None, "show_default": default[1:-1]}
    return {"default": default, "show_default": default not in (None, "")}


def typed_only(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    """The value of an option where it was typed, else None: its default is shown, and whoever asks knows it."""
    return value if ctx.get_parameter_source(param.name) is click.core.ParameterSource.COMMANDLINE else None


def nvidia_s(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    """`typed_only` for the chip of a verb that takes none of AMD's; the sentence is that of whoever knows the chips."""
    typed = typed_only(ctx, param, value)
    for name in typed or ():
        try:
            get_arch(name)
        except UserError as exc:
            raise click.BadParameter(str(exc), ctx, param) from exc
    return typed


def own_option(*spellings: str, **attributes: Any):
    """An option of one verb alone; its default is shown as everywhere."""
    return click.option(*spellings, **{"panel": OWN, **attributes, **shown(attributes.get("default"))})
