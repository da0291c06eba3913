"""`spec`: a KernelSpec of a kernel in a Python file or a PyPI wheel, as JSON for every other verb."""

from __future__ import annotations

from pathlib import Path

import click

from helpers.commands.common import Verb, check_writable
from helpers.errors import UserError


@click.command("spec", cls=Verb)
@click.option(
    "--file", "file", type=click.Path(path_type=Path), help="a Python file with the kernel, or what Inductor wrote"
)
@click.option(
    "--wheel",
    metavar="NAME==VERSION|FILE",
    help="a wheel or sdist: a requirement, or a .whl or .tar.gz on this machine",
)
@click.option("--member", metavar="PATH:KERNEL", help="the kernel in the wheel")
@click.option("--kernel", metavar="NAME", help="the @triton.jit function in --file")
@click.option("--signature", default="", metavar="ITEM,…",
              help="types and values in order or as name=item: *bf16:16, i32:16, fp32, BLOCK=128, d=None")  # fmt: skip
@click.option("--constexpr", "constexprs", multiple=True, metavar="NAME=VALUE", help="one constexpr (repeatable)")
@click.option("--option", "options", multiple=True, metavar="NAME=VALUE",
              help="one launch option: num_warps=8, num_stages=1, maxnreg=128 (repeatable)")  # fmt: skip
@click.option("--import-root", type=click.Path(path_type=Path), help="the folder --file's imports start from")
@click.option("--incident", is_flag=True, help="with --wheel sglang==…: its extend kernel under the incident")
@click.option("--label", default="", help="what tables call it")
@click.option("-o", "--out", type=click.Path(dir_okay=False, path_type=Path), help="write it to this file")
@click.option("--json", "as_json", is_flag=True, help="print it as JSON, which it is in any case")
def spec_command(file, wheel, member, kernel, signature, constexprs, options, import_root, incident, label, out,
                 as_json) -> None:  # fmt: skip
    """Make a KernelSpec of any kernel, for `compile SPEC`, `matrix SPEC`, `ablate SPEC`, `autotune SPEC` and the rest.

    The kernel's file is read here, not run; a compile runs it in a worker process, with stand-ins for imports that are
    missing. In the signature *bf16 is a pointer, :16 says divisible by 16 (as torch's allocations are),
    stride_*=i32:16 names many, None is an argument that is left out. A wheel comes through your pip's own set-up
    and an sdist from the same index; neither is installed or built. Missing items are listed.
    """
    if (file is None) == (wheel is None):
        raise UserError("give --file FILE --kernel NAME, or --wheel NAME==VERSION --member PATH:KERNEL")
    given = {"constexprs": _pairs(constexprs, "--constexpr"), "options": _pairs(options, "--option"), "label": label}
    if out is not None:
        check_writable(out)
    if incident:
        if wheel is None or member or kernel or signature or constexprs or options:
            raise UserError("--incident goes with --wheel alone: it says everything else itself")
        from helpers.attention.sglang_kernel import sglang_extend_spec

        spec = sglang_extend_spec(wheel)
    elif wheel is not None:
        if not member or kernel:
            raise UserError("--wheel wants --member PATH:KERNEL, such as pkg/ops/attention.py:_fwd_kernel")
        from helpers.compiler.bring.from_wheel import spec_from_wheel

        spec = spec_from_wheel(wheel, member, signature, **given)
    else:
        if not kernel or member:
            raise UserError("--file wants --kernel NAME")
        from helpers.compiler.bring.from_file import spec_from_file

        spec = spec_from_file(file, kernel, signature, import_root=import_root, **given)
    if out is None:
        click.echo(spec.to_json())
    else:
        from helpers.files import write_text_atomically

        write_text_atomically(out, spec.to_json() + "\n")
        click.echo(spec.to_json() if as_json else f"{out}: {spec.label}; next: register-cliff compile {out}")


def _pairs(words: tuple[str, ...], flag: str) -> dict[str, object]:
    """NAME=VALUE options as a dictionary; numbers, truths and none as what they are."""
    found: dict[str, object] = {}
    for word in words:
        name, separator, value = word.partition("=")
        if not separator or not name.strip():
            raise UserError(f"{flag} {word[:60]!r} is not of the form NAME=VALUE")
        found[name.strip()] = _plain(value.strip())
    return found


def _plain(text: str) -> object:
    import ast

    try:
        value = ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return {"true": True, "false": False, "none": None}.get(text.lower(), text)
    return value if isinstance(value, (bool, int, float, str, type(None), tuple)) else text
