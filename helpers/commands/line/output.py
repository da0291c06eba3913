"""What a verb says and writes: the result on stdout, notes on stderr, the next step, files that are never lost."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shlex
import stat
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import rich_click as click

from helpers.cleaning import for_terminal
from helpers.commands.line.grammar import EXTEND_KERNEL, TOOLCHAIN
from helpers.errors import OUT_OF_ROOM, MachineError, UserError

# --- what is said ----------------------------------------------------------------------------------------------


def note(words: str) -> None:
    """A note on stderr, unless --quiet or --json was given."""
    params = _params()
    if not params.get("quiet") and not params.get("as_json"):
        warn(f"note: {words}")


def _params() -> dict:
    context = click.get_current_context(silent=True)
    return context.params if context is not None else {}


def warn(text: str) -> None:
    """Print to stderr; a closed stderr is no failure."""
    with contextlib.suppress(OSError, ValueError):
        _print(text, err=True)


def say(text: str) -> None:
    """Print a piece of the result.

    A reader who has left (`| head`) takes nothing from the verb: it ends as it would have. Where stdout cannot take the
    result (a full disk), the verb goes on as well, and `run` says so at its end.
    """
    try:
        _print(text)
    except BrokenPipeError:
        drop_stdout()
    except (OSError, ValueError) as exc:  # ValueError: closed by whoever called us
        drop_stdout()
        _UNPRINTED.append(f"cannot print the result: {getattr(exc, 'strerror', None) or exc}")


def _print(text: str, *, err: bool = False) -> None:
    """The one place where a text goes to the terminal: every stranger's character in it is harmless from here on."""
    shown = for_terminal(text)
    try:
        click.echo(shown, err=err)
    except UnicodeEncodeError:  # a terminal of ASCII alone
        click.echo(shown.encode("ascii", "backslashreplace").decode(), err=err)


# What stdout did not take, as sentences.
_UNPRINTED: list[str] = []


def unprinted() -> str | None:
    """Why stdout has not taken a piece of the result, as a sentence; asked once, None where it has taken all."""
    found = _UNPRINTED[0] if _UNPRINTED else None
    _UNPRINTED.clear()
    return found


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
    words: list[str] = trust_words()
    for param in context.command.params:
        value = context.params.get(param.name)
        if context.get_parameter_source(param.name) is not click.core.ParameterSource.COMMANDLINE:
            continue
        if param.name in ("spec", "spec_option"):
            words.insert(0, str(value))
        elif getattr(param, "panel", None) in (TOOLCHAIN, EXTEND_KERNEL):
            words += _as_typed(param, value)
    return command_line(verb, *words)


def trust_words() -> list[str]:
    """What a further command about the same spec needs, so that it may have its kernel too."""
    from helpers.compiler.trust import trusted_roots

    return [word for root in trusted_roots() for word in ("--trust-root", str(root))]


def _as_typed(param: click.Parameter, value: object) -> list[str]:
    flag = param.opts[0]
    if value is True:
        return [flag]
    if isinstance(value, tuple):
        return [f"{flag}={word}" for word in value]
    values = value if isinstance(value, list) else [value]
    return [flag, ",".join("none" if v is None else f"{v:g}" if isinstance(v, float) else str(v) for v in values)]


# --- files that are written ------------------------------------------------------------------------------------


# Errors of the machine; every other one is about the name that was given.
_OF_THE_MACHINE = OUT_OF_ROOM | {errno.EIO, errno.EROFS}


def of_the_machine(exc: BaseException) -> str | None:
    """A sentence for an exception that nobody expected and that the machine is the reason of; None for any other."""
    if isinstance(exc, OSError) and exc.errno in _OF_THE_MACHINE:
        where = f" at {exc.filename}" if exc.filename else ""
        return f"the machine failed: {exc.strerror}{where}; make room (disk, memory, open files), then try again"
    if isinstance(exc, MemoryError):
        return "the machine failed: there is no memory left; make room, then try again"
    if isinstance(exc, RuntimeError) and "start new thread" in str(exc):
        return "the machine failed: it starts no more threads; end other programs, then try again"
    return None


def check_writable(path: Path) -> None:
    """Raise UserError unless a file can be made at `path`, and where one is there already, without --force.

    The one rule for whatever a verb writes: a file that is there is kept, no folder is made, and all of that is said
    before anything is compiled.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as exc:
        raise _not_written(path, exc) from exc
    else:
        if stat.S_ISDIR(mode):
            raise UserError(f"cannot write {path}: it is a folder; name a file in it")
        if not stat.S_ISREG(mode):
            raise UserError(f"cannot write {path}: it is a device or a pipe; name a file, or leave it away for stdout")
        if not _params().get("force"):
            raise UserError(
                f"{path} is there already, and is kept; name another file, or give --force to write over it"
            )
    check_folder(path)


def check_folder(path: Path) -> None:
    """Raise UserError unless a file can be made beside `path`; MachineError where the machine is the reason."""
    if not path.parent.is_dir():
        raise UserError(f"cannot write {path}: there is no folder {path.parent}; make it first, or name another one")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except (OSError, ValueError) as exc:
        raise _not_written(path, exc) from exc


def _not_written(path: Path, exc: OSError | ValueError) -> UserError:
    number, words = getattr(exc, "errno", None), getattr(exc, "strerror", None) or exc
    if number in _OF_THE_MACHINE:
        return MachineError(f"cannot write {path}: {words}; make room, or name a file in another folder")
    return UserError(f"cannot write {path}: {words}; name a file in a writable folder")


def write_result(path: Path, text: str) -> None:
    """Write a result to the file that was named for it, before it is printed.

    Raises MachineError where that fails; what took long to find is then kept in another folder, and the sentence says
    where.
    """
    from helpers.files import write_text_atomically

    try:
        write_text_atomically(path, text, make_folder=False)
    except OSError as exc:
        kept = kept_elsewhere(path, text)
        where = f"the result is kept in {kept}" if kept else "nor can it be kept anywhere else"
        raise MachineError(f"cannot write {path}: {exc.strerror or exc}; {where}") from exc


def kept_elsewhere(path: Path, text: str) -> Path | None:
    """The file in the cache folder, or among temporary files, that holds a result which its own folder did not take."""
    from helpers.files import cache_root, write_text_atomically
    from helpers.processes import temporary_place

    for folder in (lambda: cache_root() / "kept", lambda: Path(temporary_place())):
        with contextlib.suppress(OSError, MachineError):
            place = Path(tempfile.mkdtemp(prefix="result-", dir=_made(folder()))) / (path.name[-80:] or "result")
            write_text_atomically(place, text)
            return place
    return None


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def has_terminal() -> bool:
    """Whether somebody can type on stdin."""
    return sys.stdin is not None and sys.stdin.isatty()
