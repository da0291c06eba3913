"""What a verb says and writes: the result on stdout, notes on stderr, the next step, files that are never lost."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import rich_click as click

from helpers.commands.line.grammar import EXTEND_KERNEL, TOOLCHAIN
from helpers.errors import UserError

# --- what is said ----------------------------------------------------------------------------------------------


def note(words: str) -> None:
    """A note on stderr, unless --quiet or --json was given."""
    params = _params()
    if not params.get("quiet") and not params.get("as_json"):
        warn(f"note: {words}")


def _params() -> dict:
    context = click.get_current_context(silent=True)
    return context.params if context is not None else {}


def clean(text: str) -> str:
    """A text that a terminal may be given: file names and messages by strangers must not move anybody's cursor."""
    return "".join(
        c if c.isprintable() or c in "\n\t" else " " if c.isspace() else "\N{REPLACEMENT CHARACTER}" for c in text
    )


def warn(text: str) -> None:
    """Print to stderr; a closed stderr is no failure."""
    with contextlib.suppress(OSError, ValueError):
        click.echo(clean(text), err=True)


def say(text: str) -> None:
    """Print a piece of the result. A reader who has left takes nothing from the verb: it ends as it would have."""
    try:
        click.echo(clean(text))
    except BrokenPipeError:
        drop_stdout()
    except OSError as exc:
        drop_stdout()
        raise UserError(f"cannot print the result: {exc.strerror or exc}") from exc


def drop_stdout() -> None:
    """Let stdout lead nowhere from here on: what Python still holds back must not fail at exit."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def echo_json(value) -> None:
    """Print a result as JSON."""
    say(json.dumps(value, indent=2))


def show_result(result: dict, as_json: bool, as_text: Callable[[dict], str], next_step: str | None = None) -> None:
    """Print a verb's result as JSON, or as the text made of it with what to do next."""
    if as_json:
        echo_json(result)
    else:
        say(as_text(result) + (f"\n\nnext: {next_step}" if next_step else ""))


def command_line(verb: str, *words: object) -> str:
    """A command line that a shell takes as it stands."""
    return " ".join(["register-cliff", verb, *(shlex.quote(str(word)) for word in words)])


def same_again(verb: str) -> str:
    """The command line of another verb about the same thing: the same SPEC, chip, toolchain and configuration."""
    context = click.get_current_context()
    words: list[str] = []
    for param in context.command.params:
        value = context.params.get(param.name)
        if context.get_parameter_source(param.name) is not click.core.ParameterSource.COMMANDLINE:
            continue
        if param.name in ("spec", "spec_option"):
            words.insert(0, str(value))
        elif getattr(param, "panel", None) in (TOOLCHAIN, EXTEND_KERNEL):
            words += _as_typed(param, value)
    return command_line(verb, *words)


def _as_typed(param: click.Parameter, value: object) -> list[str]:
    flag = param.opts[0]
    if value is True:
        return [flag]
    if isinstance(value, tuple):
        return [f"{flag}={word}" for word in value]
    values = value if isinstance(value, list) else [value]
    return [flag, ",".join("none" if v is None else f"{v:g}" if isinstance(v, float) else str(v) for v in values)]


# --- files that are written ------------------------------------------------------------------------------------


def check_writable(path: Path) -> None:
    """Raise UserError unless a file can be made at `path`, and where one is there already, without --force."""
    if path.is_dir():
        raise UserError(f"cannot write {path}: it is a folder; name a file in it")
    if path.exists() and not _params().get("force"):
        raise UserError(f"{path} is there already, and is kept; name another file, or give --force to write over it")
    check_folder(path)


def check_folder(path: Path) -> None:
    """Raise UserError unless a file can be made beside `path`."""
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent):
            pass
    except (OSError, ValueError) as exc:
        raise UserError(
            f"cannot write {path}: {getattr(exc, 'strerror', None) or exc}; name a file in a writable folder"
        ) from exc


def write_result(path: Path, text: str) -> None:
    """Write a result to the file that was named for it; raises UserError."""
    from helpers.files import write_text_atomically

    try:
        write_text_atomically(path, text)
    except OSError as exc:
        raise UserError(f"cannot write {path}: {exc.strerror or exc}; name a file in a writable folder") from exc


def has_terminal() -> bool:
    """Whether somebody can type on stdin."""
    return sys.stdin is not None and sys.stdin.isatty()
