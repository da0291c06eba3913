"""The command line: `register-cliff …`, a thin skin over the functions the notebooks call."""

from __future__ import annotations

import importlib
import os
import sys
import warnings

import click

from helpers.commands import VERBS
from helpers.commands.common import (
    HELP_NAMES,
    Verb,
)
from helpers.errors import UserError


class _Group(click.Group):
    """Verbs defined here, and those of helpers.commands, each loaded when it is asked for."""

    command_class = Verb
    group_class = type

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *VERBS})

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if home := VERBS.get(name):
            return getattr(importlib.import_module(home), f"{name}_command")
        return super().get_command(ctx, name)


@click.group(cls=_Group, context_settings=HELP_NAMES)
def cli() -> None:
    """Register Cliff: look inside Triton kernels that die in ptxas, on a machine with or without a GPU."""


def main(argv: list[str] | None = None) -> int:
    """Run the command line; exit code 0 when it did its job, 2 on bad input with one line on stderr."""
    # A warning is a sentence for the reader, not a place in our source.
    warnings.showwarning = lambda message, *_rest, **_more: click.echo(f"warning: {message}", err=True)
    try:
        code = cli.main(args=argv, prog_name="register-cliff", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except click.exceptions.NoArgsIsHelpError as exc:
        click.echo(exc.format_message())
        return 2
    except click.ClickException as exc:
        click.echo(f"error: {' '.join(exc.format_message().split())}", err=True)
        return 2
    except UserError as exc:
        click.echo(f"error: {' '.join(str(exc).split())}", err=True)
        return 2
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted; what was finished is in the cache", err=True)
        return 130
    except (BrokenPipeError, SystemExit):
        # `… | head` has seen enough (click turns that into an exit of its own). What Python still holds back
        # must not fail at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


if __name__ == "__main__":
    sys.exit(main())
