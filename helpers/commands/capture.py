"""`capture`: run a program of the user's own and record every Triton kernel that it compiles, launches or fails on."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import click

from helpers.commands.common import HELP_NAMES, Verb, echo_json
from helpers.errors import UserError


class _Rest(Verb):
    """Everything after the first word that is no option of ours belongs to the program."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.context_settings = {**HELP_NAMES, "ignore_unknown_options": True}
        self.allow_interspersed_args = False


@click.command("capture", cls=_Rest)
@click.option("-o", "--out", "folder", required=True, type=click.Path(file_okay=False, path_type=Path),
              help="folder for the specs and the kernels' sources; several processes may share it")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="list what the folder holds as JSON, after the program's output")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def capture_command(folder: Path, as_json: bool, command: tuple[str, ...]) -> int:
    """Run COMMAND (`-- python program.py …`) and record its Triton kernels; without one, list what a folder holds.

    Every distinct specialisation that it or its child processes launch or fail to compile becomes a JSON file for
    `compile SPEC` and the other verbs; failures that an autotuner swallows are among them. The program runs once, as it
    would without, in its own Python; the exit code is its own. Python's -I and -E switch the recording off.
    """
    from helpers.compiler.bring.capture import CAPTURE_ENV, HOOK_FOLDER

    code = 0
    if command:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path = os.pathsep.join(p for p in (str(HOOK_FOLDER), os.environ.get("PYTHONPATH", "")) if p)
            env = {**os.environ, CAPTURE_ENV: str(folder.absolute()), "PYTHONPATH": path}
            code = subprocess.run(command, env=env, check=False).returncode
        except (OSError, ValueError) as exc:
            raise UserError(f"cannot run {command[0][:80]!r}: {getattr(exc, 'strerror', None) or exc}") from exc
    elif not folder.is_dir():
        raise UserError(f"there is no folder {folder}; give a command to run: capture -o {folder} -- python program.py")
    rows = recorded(folder)
    if as_json:
        echo_json(rows)
    else:
        click.echo(format_recorded(rows, folder), err=bool(command))
    return 128 - code if code < 0 else code


def recorded(folder: Path) -> list[dict]:
    """One row a spec in a capture's folder, failures first; files that are none are left out."""
    rows = []
    for path in sorted(folder.glob("*.json")):
        try:
            raw = json.loads(path.read_text())
            about = raw["capture"]
            rows.append({"spec": str(path), "kernel": raw["kernel"]["name"],
                         **{n: about.get(n) for n in ("outcome", "stage", "error_type", "arch", "triton_version",
                                                      "autotune", "incomplete")},
                         "error": (about.get("error") or "")[:300]})  # fmt: skip
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue
    return sorted(rows, key=lambda row: (row["outcome"] != "failed", row["spec"]))


def format_recorded(rows: list[dict], folder: Path) -> str:
    """The rows of `recorded` as text, with what to do next."""
    failed = [row for row in rows if row["outcome"] == "failed"]
    lines = [f"{folder}: {len(rows)} specialisations, {len(failed)} of them failed"]
    for row in rows:
        words = [row["outcome"], row["spec"]]
        if row["error_type"]:
            words.append(f"{row['error_type']}" + (" (swallowed by the autotuner)" if row["autotune"] else ""))
        if row["incomplete"]:
            words.append(f"cannot be compiled elsewhere: {'; '.join(row['incomplete'])}")
        lines.append("  ".join(words))
    if rows:
        lines.append(f"next: register-cliff compile {rows[0]['spec']} --arch {rows[0]['arch']}")
    else:
        lines.append("no Triton kernel was compiled or launched")
    return "\n".join(lines)
