"""The verb `toolchains`: which Tritons and ptxas are at hand, and how to get more."""

from __future__ import annotations

import rich_click as click

from helpers.commands.line.grammar import ARGUMENTS, Verb, VerbGroup, shared
from helpers.commands.line.output import echo_json, note, say


@click.command(
    "toolchains", cls=VerbGroup, invoke_without_command=True,
    examples=("register-cliff toolchains", "register-cliff toolchains install 3.6.0 ptxas==12.9.86"),
)  # fmt: skip
@shared("json", "quiet")
@click.pass_context
def toolchains_command(ctx: click.Context, as_json: bool, quiet: bool) -> None:
    """List the Tritons and ptxas releases on this machine, or install more.

    They lie in one folder of the user's cache, side by side; the environment's own Triton stays as it is.
    """
    if ctx.invoked_subcommand:
        return
    from helpers.compiler import toolchain as tc

    here = tc.environment_triton()
    tritons = tc.installed_tritons()
    ptxas = tc.installed_ptxas()
    listing = {
        "folder": str(tc.toolchains_root()),
        "environment_triton": here.version if here else None,
        "triton": [{"version": v, "path": str(tc.resolve_triton(v).path)} for v in tritons],
        "ptxas": [{"version": v, "path": str(p)} for v, p in ptxas.items()],
        "known_triton": list(tc.KNOWN_TRITONS),
        "known_ptxas": list(tc.KNOWN_PTXAS),
    }
    if as_json:
        echo_json(listing)
        return
    say(f"toolchain folder: {listing['folder']}")
    say(
        "Triton on hand:   "
        + (", ".join(v + (" (environment)" if here and v == here.version else "") for v in tritons) or "none")
    )
    say(f"ptxas on hand:    {', '.join(ptxas) or 'none'}")
    say(f"can be fetched:   Triton {', '.join(v for v in tc.KNOWN_TRITONS if v not in tritons)}")
    say(f"                  ptxas {', '.join(v for v in tc.KNOWN_PTXAS if v not in ptxas)}")
    say("fetch with:       register-cliff toolchains install 3.5.1 ptxas==12.9.86")


@toolchains_command.command("install", cls=Verb, examples=("register-cliff toolchains install 3.5.1",))
@click.argument("versions", nargs=-1, required=True, metavar="VERSION...", panel=ARGUMENTS,
                help="a Triton release (3.5.1) or a ptxas release (ptxas==12.9.86)")  # fmt: skip
@shared("json", "quiet")
def install_command(versions: tuple[str, ...], as_json: bool, quiet: bool) -> None:
    """Fetch releases of Triton and ptxas through pip into the cache folder."""
    from helpers.compiler import toolchain as tc

    for version in versions:  # all readable before any is fetched
        tc.parse_request(version)
    done = []
    for version in versions:
        kind, number = tc.parse_request(version)
        there = tc.is_installed(kind, number)
        note(f"{kind} {number}: {'already installed' if there else 'fetching'}")
        done.append(
            {
                "kind": kind,
                "version": number,
                "path": str(tc.install(version, quiet=as_json or quiet)),
                "fetched": not there,
            }
        )
    if as_json:
        echo_json(done)
        return
    for row in done:
        flag = "--triton" if row["kind"] == "triton" else "--ptxas"
        say(f"{row['kind']} {row['version']}: {row['path']}; next: register-cliff compile {flag} {row['version']}")
