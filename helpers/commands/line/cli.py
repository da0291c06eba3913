"""The command line: `register-cliff …`, a thin skin over the functions the notebooks call."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import os
import signal
import sys
import warnings
from pathlib import Path

import rich_click as click

from helpers.commands import VERBS
from helpers.commands.line.grammar import HELP_NAMES, WithExamples
from helpers.commands.line.output import drop_stdout, of_the_machine, say, unprinted, warn
from helpers.errors import MachineError, UserError
from helpers.processes import Stop, stoppable


class _Group(WithExamples, click.RichGroup):
    """The verbs of helpers.commands in their groups, each module loaded when its verb is asked for."""

    examples = ("register-cliff diagnose crash.log", "register-cliff compile --arch B200")

    def __init__(self, *args, **kwargs) -> None:
        panels = [click.RichCommandPanel(name, commands=[v for v, entry in VERBS.items() if entry.group == name])
                  for name in dict.fromkeys(entry.group for entry in VERBS.values())]  # fmt: skip
        super().__init__(*args, **{**kwargs, "panels": panels})
        self._listing = False

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        entry = VERBS.get(name)
        if entry is None:
            return None
        if self._listing:  # sixteen modules would be loaded for sixteen lines
            return click.RichCommand(name, short_help=entry.line, help=entry.line)
        return getattr(importlib.import_module(entry.home), f"{name}_command")

    def resolve_command(self, ctx: click.Context, args: list[str]):
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            raise _unknown_verb(args[0])
        return super().resolve_command(ctx, args)

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        self._listing = True
        try:
            super().format_help(ctx, formatter)
        finally:
            self._listing = False


def _unknown_verb(word: str) -> UserError:
    """The error for a first word that is no verb: it may be a verb misspelt, or the thing itself."""
    if near := difflib.get_close_matches(word, VERBS, n=1, cutoff=0.5):
        return UserError(f"there is no verb {word[:40]!r}; did you mean {near[0]!r}?")
    if os.path.exists(word):
        from helpers.commands.line.given import recognise, refused

        return refused(recognise(Path(word)))
    return UserError(f"there is no verb {word[:40]!r}; register-cliff --help lists them")


def _print_version(ctx: click.Context, _param: click.Parameter, asked: bool) -> None:
    if asked and not ctx.resilient_parsing:
        from helpers.commands.line.version import version_text

        say(version_text())
        ctx.exit()


@click.group(cls=_Group, context_settings=HELP_NAMES)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version,
              help="print the version, and the folder that it runs from")  # fmt: skip
def cli() -> None:
    """Look inside Triton kernels that die in ptxas, on a machine with or without a GPU.

    `register-cliff VERB --help` has the options of a verb, and an example.
    """


def run(argv: list[str] | None = None) -> int:
    """Run the command line; exit code 0 when it did its job, 2 on bad input, 3 where the machine failed us.

    With 2 and 3 goes one line on stderr.
    """
    if "stdout" in _open_what_is_closed():
        warn("note: stdout is closed, so that the result is printed nowhere")
    unprinted()  # of an earlier run in this process
    with stoppable() as stop:
        code = _run(argv, stop)
    if said := unprinted():
        warn(f"error: {said}")
    # A verb that says something with its exit code (gate's 1) says it also where nobody could read why.
    return code or (3 if said else 0)


def _open_what_is_closed() -> set[str]:
    """The standard streams that the caller has closed (`>&-`); they lead nowhere now.

    Otherwise the next file that is opened gets the number of one, and what is printed goes there.
    """
    closed = set()
    for number, name, how in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is not None:
            continue
        closed.add(name)
        with contextlib.suppress(OSError):
            try:
                os.fstat(number)
            except OSError:
                nowhere = os.open(os.devnull, os.O_RDWR)
                if nowhere != number:
                    os.dup2(nowhere, number)
                    os.close(nowhere)
            setattr(sys, name, open(number, how, closefd=False))
    return closed


def _run(argv: list[str] | None, stop: Stop) -> int:
    # A warning is a sentence for the reader, not a place in our source.
    warnings.showwarning = lambda message, *_rest, **_more: warn(f"warning: {message}")
    try:
        code = cli.main(args=argv, prog_name="register-cliff", standalone_mode=False)
        _flush()
        return code if isinstance(code, int) else 0
    except BaseException as exc:
        # After a signal all else follows from it: a library that was being imported makes an ImportError of it.
        if stop.number or isinstance(exc, (KeyboardInterrupt, click.Abort)):
            return _ended_by(stop.number or signal.SIGINT)
        return _failed(exc)


def _ended_by(number: int) -> int:
    by = "interrupted" if number == signal.SIGINT else f"stopped by {signal.Signals(number).name}"
    warn(f"{by}; what was finished is in the cache")
    return 128 + number


def _failed(exc: BaseException) -> int:
    """Say on stderr what is wrong, and return the exit code; what no sentence is known for is raised again."""
    match exc:
        case click.exceptions.NoArgsIsHelpError():
            say(exc.format_message())
            return 2
        case click.ClickException():
            warn(f"error: {' '.join(exc.format_message().split())}")
            return 2
        case UserError():
            warn(f"error: {' '.join(str(exc).split())}")
            return 3 if isinstance(exc, MachineError) else 2
        case BrokenPipeError() | SystemExit():
            drop_stdout()  # `… --help | head` has seen enough (click turns that into an exit of its own)
            return 0
        case OSError() | MemoryError() | RuntimeError():
            if words := of_the_machine(exc):
                warn(f"error: {words}")
                return 3
    raise exc


def _flush() -> None:
    """Write what Python still holds back; a reader who has left is no failure of the verb."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except (OSError, ValueError):
        drop_stdout()
