"""report: one zip to attach to an issue, its own repro run before it was written, and the issue's text beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from helpers.bundle.draft import Bundle, Draft
from helpers.bundle.facts import Say
from helpers.bundle.material import Source, read_material
from helpers.bundle.scrub import Identity
from helpers.errors import UserError
from helpers.files import write_bytes_atomically, write_text_atomically

__all__ = ["Bundle", "report"]


def report(
    source: Source,
    out: str | Path = "report.zip",
    *,
    withhold_source: bool = False,
    allow_unreproduced: bool = False,
    arch: str | None = None,
    triton: str | None = None,
    ptxas: str | None = None,
    ptxas_flags: Sequence[str] = (),
    minimize_s: float = 0.0,
    identity: Identity | None = None,
    say: Say | None = None,
) -> Bundle:
    """Write a zip that reproduces a failure with nothing but a ptxas, and `<name>.issue.md`; the Bundle it became.

    `source` is a CompileRequest, Choice or KernelSpec, the path of a spec (JSON), PTX or log, or a text of these (see
    `read_material`; arch, triton, ptxas and flags are for sources that do not say). The zip's repro.sh is run from an
    empty folder first; where it does not fail as ptxas did, UserError, unless `allow_unreproduced`. A log without PTX
    makes a zip of the diagnosis, marked as not reproduced. `withhold_source` leaves out source, IR, spec, log and line
    info, and renames everything the PTX declares. `minimize_s` seconds go to a smaller PTX. Home folders, user and host
    names (`identity`, default: this machine's) and absolute paths are replaced in every file.
    """
    say = say or (lambda _words: None)
    out = Path(out)
    if out.suffix != ".zip":
        raise UserError(f"{str(out)[:200]!r}: the bundle is a zip; give it a name that ends in .zip")
    material = read_material(source, arch=arch, triton=triton, ptxas=ptxas, ptxas_flags=ptxas_flags)
    draft = Draft(material, withhold_source, identity, say)
    draft.collect(allow_unreproduced, minimize_s)
    content, bundle = draft.finish(out, allow_unreproduced)
    issue_path = bundle.issue_path
    try:
        write_bytes_atomically(out, content)
        write_text_atomically(issue_path, draft.issue_text)
    except OSError as exc:
        raise UserError(f"cannot write {out}: {exc.strerror or exc}; name a file in a writable folder") from exc
    return bundle
