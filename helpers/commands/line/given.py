"""What a verb was given, and what to say where it reads something else.

`helpers.inspection.contents` says what a file is. A verb that reads such a thing does its job; another one raises what
`refused` makes: a sentence that names the verb that does.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from helpers.errors import UserError
from helpers.files import MAX_TEXT_BYTES, read_text_bounded
from helpers.inspection.contents import (
    ARCHIVE,
    BINARY,
    CUBIN,
    EMPTY,
    FATBIN,
    FOLDER,
    LOG,
    PROGRAM,
    PTX,
    PYTHON,
    SPEC,
    TEXT,
    ZIP,
    Given,
    captured_with,
    head_of,
    kind_of,
    recognise,
)

# A verb takes what it needs of `contents` from here, beside what it says of it.
__all__ = [
    "ARCHIVE",
    "BINARY",
    "CUBIN",
    "EMPTY",
    "FATBIN",
    "FOLDER",
    "GIVEN_SPEC",
    "LOG",
    "MAX_BYTES",
    "PROGRAM",
    "PTX",
    "PYTHON",
    "SPEC",
    "TEXT",
    "ZIP",
    "Given",
    "built_paths",
    "captured_with",
    "kernels_in",
    "read_text",
    "recognise",
    "refused",
    "spec_command_line",
    "spec_path",
    "spec_paths",
    "specs_in",
]

MAX_BYTES = MAX_TEXT_BYTES
MAX_LISTED = 8
MAX_FOLDER_FILES = 20_000

GIVEN_SPEC = "a KernelSpec in JSON, as spec and capture write it, or a folder of such files"


# What reads each kind, as commands; {} is the path.
_READERS = {
    LOG: ("register-cliff diagnose {}",),
    PTX: ("register-cliff pressure {}", "register-cliff minimize {}", "register-cliff report {}"),
    SPEC: ("register-cliff compile {}", "register-cliff try {}"),
    PROGRAM: ("register-cliff inspect {}",),
    FATBIN: ("register-cliff inspect {}",),
    ARCHIVE: ("register-cliff inspect {}",),
}


def refused(given: Given, *, wants: str = "") -> UserError:
    """The error for a thing that a verb does not read: what it is, what the verb `wants`, and which verb reads it.

    Without `wants`, the thing stands where a verb should.
    """
    takes = f"this takes {wants}" if wants else "a verb comes first"
    what = f"{given.path} is {'an' if given.kind[0] in 'aeiou' else 'a'} {given.kind}, and {takes}"
    if given.kind == FOLDER:
        return UserError(f"{what}; {_of_folder(given)}")
    if given.kind == PYTHON:
        return UserError(f"{what}; make a spec of a kernel in it: {spec_command_line(given.path)}")
    if given.kind == CUBIN:
        return UserError(
            f"{what}; a cubin is compiled already: give the PTX or the spec that it was made from, or read what it is "
            f"with register-cliff inspect {given.shown}"
        )
    if given.kind == ZIP:
        return UserError(
            f"{what}; unpack it first, or, for a wheel: register-cliff spec --wheel {given.shown} --member …, and for "
            f"the libraries in it: register-cliff inspect {given.shown}"
        )
    if readers := _READERS.get(given.kind):
        return UserError(f"{what}; {' or '.join(readers).format(*[given.shown] * len(readers))} reads it")
    return UserError(what)


def _of_folder(given: Given) -> str:
    specs = specs_in(given.path)
    if not specs:
        return "it holds no captured specs: register-cliff capture -o FOLDER -- python PROGRAM.py makes such a folder"
    listed = ", ".join(str(path) for path in specs[:MAX_LISTED])
    more = f" and {len(specs) - MAX_LISTED} more" if len(specs) > MAX_LISTED else ""
    return f"name one spec in it ({listed}{more}), or take all: register-cliff matrix {given.shown}"


def spec_command_line(path: Path) -> str:
    """The command that makes a spec of a kernel in a Python file, with the kernels there are."""
    there = kernels_in(path)
    name = there[0] if len(there) == 1 else "NAME"
    listing = f" (kernels there: {', '.join(there[:40]) or 'none'})"
    return f"register-cliff spec --file {shlex.quote(str(path))} --kernel {name} --signature …{listing}"


def kernels_in(path: Path) -> list[str]:
    """Names of the @triton.jit functions in a Python file; [] where there are none or it cannot be read."""
    from helpers.compiler.bring.signature import kernel_names

    try:
        return kernel_names(path)
    except UserError:
        return []


def specs_in(folder: Path) -> list[Path]:
    """The spec files of a folder that can be compiled, failures first; those that capture calls incomplete are not."""
    found = []
    for number, path in enumerate(sorted(folder.glob("*.json"))):
        if number >= MAX_FOLDER_FILES:
            break
        if path.name.endswith(".incomplete.json") or not path.is_file():
            continue
        try:
            if kind_of(head_of(path), path) == SPEC:
                found.append((captured_with(path).get("outcome") != "failed", path))
        except UserError:
            continue
    return [path for _ok, path in sorted(found)]


def spec_path(path: Path) -> Path:
    """The one spec file that a path stands for: itself, or the only spec of a folder; raises UserError."""
    given = recognise(path)
    if given.kind == FOLDER and len(specs := specs_in(path)) == 1:
        return specs[0]
    if given.kind in (SPEC, TEXT, EMPTY, BINARY):  # of the last three, whoever reads specs says what is wrong
        return path
    raise refused(given, wants="a spec (a KernelSpec in JSON)")


def spec_paths(paths: Iterable[Path]) -> list[Path]:
    """The spec files that paths stand for, every spec of a folder among them; raises UserError."""
    found = []
    for path in paths:
        given = recognise(path)
        if given.kind == FOLDER and (specs := specs_in(path)):
            found += specs
        else:
            found.append(spec_path(path))
    return found


# What is built already, and is read by its binary (`helpers.compiler.built`).
_BUILT = (CUBIN, PROGRAM, FATBIN, ARCHIVE, ZIP)


def built_paths(paths: Iterable[Path]) -> list[Path]:
    """The paths where they are of what is built already, none where they are specs; raises UserError for a mixture.

    A folder is of specs where it has some, and a build's where not.
    """
    built: list[Path] = []
    others: list[Path] = []
    for path in paths:
        given = recognise(path)
        is_build = given.kind in _BUILT or (given.kind == FOLDER and not specs_in(path))
        (built if is_build else others).append(path)
    if built and others:
        raise UserError(
            f"{built[0]} is built already and {others[0]} is not: give specs, which are compiled, or what is built"
        )
    return built


def read_text(given: Given, *, wants: str, kinds: Sequence[str]) -> str:
    """The whole text of what was given, unpacked where it is gzip, if it is of one of `kinds`; raises UserError."""
    if given.kind not in (*kinds, TEXT, EMPTY):
        raise refused(given, wants=wants)
    return read_text_bounded(given.path, MAX_BYTES)
