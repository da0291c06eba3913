"""The verb `toolchains`: which Tritons and ptxas are at hand, and how to get more."""

from __future__ import annotations

import click

from helpers.commands.common import echo_json


@click.group("toolchains", invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="print as JSON")
@click.pass_context
def toolchains_command(ctx: click.Context, as_json: bool) -> None:
    """List the Tritons and ptxas releases on this machine, or install more (`toolchains install 3.5.1`)."""
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
    click.echo(f"toolchain folder: {listing['folder']}")
    click.echo(
        "Triton on hand:   "
        + (", ".join(v + (" (environment)" if here and v == here.version else "") for v in tritons) or "none")
    )
    click.echo(f"ptxas on hand:    {', '.join(ptxas) or 'none'}")
    click.echo(f"can be fetched:   Triton {', '.join(v for v in tc.KNOWN_TRITONS if v not in tritons)}")
    click.echo(f"                  ptxas {', '.join(v for v in tc.KNOWN_PTXAS if v not in ptxas)}")
    click.echo("fetch with:       register-cliff toolchains install 3.5.1 ptxas==12.9.86")


@toolchains_command.command("install")
@click.argument("versions", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="print as JSON")
def install_command(versions: tuple[str, ...], as_json: bool) -> None:
    """Fetch Triton (`3.5.1`) or ptxas (`ptxas==12.9.86`) releases through pip into the cache folder."""
    from helpers.compiler import toolchain as tc

    for version in versions:  # all readable before any is fetched
        tc.parse_request(version)
    done = []
    for version in versions:
        kind, number = tc.parse_request(version)
        there = tc.is_installed(kind, number)
        if not as_json:
            click.echo(f"{kind} {number}: {'already installed' if there else 'fetching'}", err=True)
        done.append(
            {"kind": kind, "version": number, "path": str(tc.install(version, quiet=as_json)), "fetched": not there}
        )
    if as_json:
        echo_json(done)
