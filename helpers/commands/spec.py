"""`spec`: a KernelSpec of a kernel in a Python file or a PyPI wheel, as JSON for every other verb."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from helpers.commands.line.given import CUBIN, FOLDER, LOG, PROGRAM, PTX, SPEC, ZIP, kernels_in, recognise, refused
from helpers.commands.line.grammar import GIVEN, Verb, own_option, shared
from helpers.commands.line.output import check_writable, command_line, say, write_result
from helpers.errors import UserError


@click.command(
    "spec", cls=Verb,
    examples=(
        "register-cliff spec --file k.py --kernel mm --signature '*bf16:16, *bf16:16, i32:16, BM=128' -o spec.json",
        "register-cliff spec --wheel sglang==0.5.10 --incident -o spec.json",
    ),
)  # fmt: skip
@own_option("--file", "file", type=GIVEN, metavar="FILE", help="a Python file with the kernel, or what Inductor wrote")
@own_option("--wheel", metavar="NAME==VERSION|FILE",
            help="a wheel or sdist: a requirement, or a .whl or .tar.gz on this machine")  # fmt: skip
@own_option("--member", metavar="PATH:KERNEL", help="the kernel in the wheel")
@own_option("--kernel", metavar="NAME", help="the @triton.jit function in --file")
@own_option("--signature", default="", metavar="ITEM,…",
            help="types and values in order or as name=item: *bf16:16, i32:16, fp32, BLOCK=128, d=None")  # fmt: skip
@own_option("--constexpr", "constexprs", multiple=True, metavar="NAME=VALUE", help="one constexpr (repeatable)")
@own_option("--option", "options", multiple=True, metavar="NAME=VALUE",
            help="one launch option: num_warps=8, num_stages=1, maxnreg=128 (repeatable)")  # fmt: skip
@own_option("--import-root", type=click.Path(path_type=Path), metavar="FOLDER",
            help="where the imports of --file start from")  # fmt: skip
@own_option("--incident", is_flag=True, help="with --wheel sglang==…: its extend kernel under the incident")
@own_option("--label", default="", metavar="NAME", help="what tables call it")
@shared("out", "force", "json", "quiet", out="(stdout)")
def spec_command(file, wheel, member, kernel, signature, constexprs, options, import_root, incident, label, out,
                 force, as_json, quiet) -> None:  # fmt: skip
    """Make a KernelSpec of any kernel, for `compile SPEC`, `matrix SPEC`, `ablate SPEC`, `autotune SPEC` and the rest.

    The kernel's file is read here, not run; a compile runs it in a worker process, with stand-ins for imports that are
    missing. In the signature *bf16 is a pointer, :16 says divisible by 16 (as torch's allocations are),
    stride_*=i32:16 names many, None is an argument that is left out. A wheel comes through your pip's own set-up
    and an sdist from the same index; neither is installed or built. Missing items are listed.
    """
    if (file is None) == (wheel is None):
        raise UserError("give --file FILE --kernel NAME, or --wheel NAME==VERSION --member PATH:KERNEL")
    if file is not None:
        _check_python(file)
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
            there = ", ".join(kernels_in(file)[:40]) or "none"
            raise UserError(f"--file wants --kernel NAME; kernels in {file}: {there}")
        from helpers.compiler.bring.from_file import spec_from_file

        spec = spec_from_file(file, kernel, signature, import_root=import_root, **given)
    if out is None:
        say(spec.to_json())
        return
    write_result(out, spec.to_json() + "\n")
    chain = ("--arch", "sm_100a", "--triton", "3.5.1") if incident else ()
    say(spec.to_json() if as_json else f"{out}: {spec.label}\n\nnext: {command_line('compile', out, *chain)}")


def _check_python(file: Path) -> None:
    """Raise UserError, with the verb that reads it, for a file that is another thing than Python."""
    given = recognise(file)
    if given.kind in (LOG, PTX, SPEC, FOLDER, CUBIN, PROGRAM, ZIP):
        raise refused(given, wants="a Python file with a kernel")


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
