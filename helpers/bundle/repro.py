"""repro.sh: a script that needs a ptxas and nothing else, and a run of it from a zip in an empty folder."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import signal
import subprocess
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from helpers.compiler.ptxas_flags import names_a_file
from helpers.compiler.run_ptxas import PtxasRun
from helpers.errors import UserError
from helpers.processes import end_with_parent, scratch_folder

SAME, NOT_THE_SAME, NO_PTXAS = 0, 1, 2
MAX_WORDS = 160
MAX_OUTPUT = 200_000
MAX_UNPACKED = 256_000_000
RUN_LIMIT_S = 120
NO_KERNEL = "ptxas ends with exit code 0 and makes no kernel"
# Flags of a pasted log that go to a ptxas; any other word of a stranger's is left out.
_SAFE_FLAG = re.compile(
    r"-v|--verbose|-lineinfo|--generate-line-info|-g|--device-debug|-O[0-4]|--opt-level[= ][0-4]|--fmad=(?:true|false)"
    r"|--(?:regAllocOptLevel|register-usage-level|maxrregcount)[= ][0-9]{1,3}|-maxrregcount=[0-9]{1,3}"
    r"|--(?:warn-on-spills|suppress-debug-info|return-at-end|extensible-whole-program)"
)
_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Expected:
    """How a ptxas run ended: the status, its C-code, and words of its log by which to know it again.

    `silent`: with exit code 0, and no kernel.
    """

    status: str
    code: str | None
    words: str
    limit_s: int = RUN_LIMIT_S
    silent: bool = False

    @property
    def failed(self) -> bool:
        """Whether ptxas made no binary, or one that spills where that is what is shown."""
        return self.status != "ok"

    def sentence(self) -> str:
        """What is expected of a repro, in words."""
        if self.status == "timeout":
            return f"ptxas is still running after {self.limit_s} seconds"
        if self.status == "ptxas_signal":
            return "ptxas is ended by a signal"
        if self.status == "spills":
            return f"ptxas succeeds and spills: {self.words}"
        if self.silent:
            return NO_KERNEL
        return f"ptxas fails and says: {self.words}" if self.failed else "ptxas succeeds"


@dataclass(frozen=True)
class ReproRun:
    """One run of a repro.sh: its exit code (None: stopped at the time limit) and what it printed."""

    exit_code: int | None
    output: str

    @property
    def same(self) -> bool:
        """Whether ptxas failed as recorded."""
        return self.exit_code == SAME


def expected_of(run: PtxasRun) -> Expected:
    """What a run of ptxas ended in, as something a script can recognise."""
    if run.ptxas_code:
        return Expected(run.status, run.ptxas_code, f"({run.ptxas_code})")
    # `line 5: …`: where it is may move with an edit of comments; what it says does not.
    first = re.sub(r"^line [0-9]+: ", "", run.fatal[0]) if run.fatal else ""
    words = re.split(r"[^\x20-\x7e]", first)[0][:MAX_WORDS].strip()
    limit_s = max(1, min(RUN_LIMIT_S, round(run.wall_s)))
    return Expected(run.status, None, words, limit_s, silent=run.silent)


def spills_of(row: Mapping) -> Expected:
    """What a run of ptxas that spills (a row of the table) is known by again: that it spills, however much."""
    return Expected("spills", None, f"{row['spill_store_bytes']} bytes stored, {row['spill_load_bytes']} bytes loaded")


def safe_flags(flags: Sequence[str], *, trusted: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(flags for the repro, flags left out). Flags of a stranger's log must be known ones; none may name a file."""
    kept, out = [], []
    for flag in flags:
        fine = (
            flag.isprintable() and names_a_file(flag.split()) is None and not flag.startswith(("--gpu-name", "-arch"))
        )
        if fine and (trusted or _SAFE_FLAG.fullmatch(flag)):
            kept += flag.split(" ") if not trusted else [flag]
        elif not flag.startswith(("--gpu-name", "-arch")):
            out.append(flag)
    return tuple(kept), tuple(out)


def ptxas_words(flags: Sequence[str], gpu_name: str) -> list[str]:
    """The arguments of the one command, without program and output."""
    words = list(flags)
    if not {"-v", "--verbose"} & set(words):
        words.append("-v")
    return [*words, f"--gpu-name={gpu_name}", "kernel.ptx"]


def one_command(flags: Sequence[str], gpu_name: str) -> str:
    """The one command as a person types it in the unpacked folder."""
    return shlex.join(["ptxas", *ptxas_words(flags, gpu_name), "-o", "kernel.cubin"])


def repro_script(flags: Sequence[str], gpu_name: str, expected: Expected) -> str:
    """A POSIX sh script: exit 0 when ptxas fails as `expected`, 1 when it does not, 2 when there is no ptxas."""
    arguments = shlex.join(ptxas_words(flags, gpu_name))
    if expected.status == "timeout":
        run = (
            f'"$ptxas" {arguments} -o "$out/kernel.cubin" >"$out/log" 2>&1 &\n'
            f'ran=$!\n(sleep {expected.limit_s}; kill -9 "$ran") 2>/dev/null &\nwatch=$!\n'
            'wait "$ran"\ncode=$?\nkill "$watch" 2>/dev/null'
        )
        same = '[ "$code" -eq 137 ]'
    else:
        run = f'"$ptxas" {arguments} -o "$out/kernel.cubin" >"$out/log" 2>&1\ncode=$?'
        if expected.status == "spills":
            same = '[ "$code" -eq 0 ] && grep -E -q "[1-9][0-9]* bytes spill (stores|loads)" "$out/log"'
        elif expected.status == "ptxas_signal":
            same = '[ "$code" -gt 128 ]'
        elif expected.silent:
            kernel = '[ -f "$out/kernel.cubin" ] && grep -q "Compiling entry function" "$out/log"'
            same = f'[ "$code" -eq 0 ] && ! {{ {kernel}; }}'
        elif expected.words:
            same = f'[ "$code" -ne 0 ] && grep -F -q -e {shlex.quote(expected.words)} "$out/log"'
        else:
            same = '[ "$code" -ne 0 ]'
    said = shlex.quote(expected.sentence())
    return f"""#!/bin/sh
# Gives kernel.ptx to ptxas and says whether that fails as recorded. Needs a ptxas: $PTXAS, else the one on the PATH.
# Writes to a temporary folder only. Exit code: 0 failed the same way, 1 did not, 2 there is no ptxas to run.
set -u
ptxas=${{PTXAS:-ptxas}}
case $ptxas in
  /*) ;;
  */*) ptxas=$PWD/$ptxas ;;
esac
cd -- "$(dirname -- "$0")" || exit {NO_PTXAS}
if ! version=$("$ptxas" --version 2>/dev/null); then
  echo "no ptxas: put one on the PATH, or name it: PTXAS=/path/to/ptxas sh repro.sh" >&2
  exit {NO_PTXAS}
fi
echo "$version" | grep release
out=$(mktemp -d) || exit {NO_PTXAS}
trap 'rm -rf "$out"' EXIT
trap 'exit {NO_PTXAS}' HUP INT TERM
{run}
cat "$out/log"
echo "exit code of ptxas: $code"
echo expected: {said}
if {same}; then
  echo "result: failed the same way"
  exit {SAME}
fi
echo "result: did not fail the same way"
exit {NOT_THE_SAME}
"""


def safe_member(name: str) -> str:
    """`name` if it is a file name that stays inside a folder wherever it is unpacked; raises UserError otherwise."""
    path = PurePosixPath(name)
    fine = (
        re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._/-]{0,199}", name)
        and path.as_posix() == name
        and not {".", ".."} & set(path.parts)
        and not any(part.startswith((".", "-")) for part in path.parts)
    )
    if not fine:
        raise UserError(f"{name[:80]!r} is no name for a file of a bundle: letters, digits and ._- in folders of such")
    return name


def zip_bytes(members: Mapping[str, bytes]) -> bytes:
    """A zip of `members` (name to content) whose bytes depend on nothing else; names are checked."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in sorted(members):
            info = zipfile.ZipInfo(safe_member(name), date_time=_EPOCH)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.create_system = 3
            info.external_attr = (0o100755 if name.endswith(".sh") else 0o100644) << 16
            archive.writestr(info, members[name])
    return buffer.getvalue()


def unpack(content: bytes, folder: Path) -> list[str]:
    """Unpack a zip into `folder`, every name checked first; returns the names. Raises UserError for a bad one."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        infos = archive.infolist()
        for info in infos:
            safe_member(info.filename)
        if sum(info.file_size for info in infos) > MAX_UNPACKED:
            raise UserError(f"the zip unpacks to more than {MAX_UNPACKED} bytes")
        for info in infos:
            target = folder / info.filename
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(archive.read(info))
        return [info.filename for info in infos]


def run_repro(content: bytes, ptxas: Path, *, timeout_s: float = 300.0) -> ReproRun:
    """Run the repro.sh of a zip (its bytes) from a folder with nothing but the zip's files; one ptxas is named."""
    return run_unpacked(content, ["/bin/sh", "repro.sh"], {"PTXAS": str(ptxas)}, timeout_s=timeout_s)


def run_unpacked(content: bytes, words: Sequence[str], environment: Mapping[str, str], *, timeout_s: float) -> ReproRun:
    """Run a program in a folder that holds the files of a zip (its bytes) and nothing else.

    The environment is PATH, TMPDIR, LC_ALL and `environment` alone. What still runs at `timeout_s` is killed, group and
    all.
    """
    with scratch_folder("repro") as place:
        scratch, folder, outside = str(place), place / "bundle", place / "tmp"
        folder.mkdir()
        outside.mkdir()
        unpack(content, folder)
        env = {"PATH": "/usr/bin:/bin", "TMPDIR": str(outside), "LC_ALL": "C", **environment}
        with open(outside / "said", "wb") as said:
            process = subprocess.Popen(
                list(words),
                cwd=folder,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
                preexec_fn=end_with_parent(),
            )
            code: int | None = None
            try:
                code = process.wait(timeout=timeout_s)
            except subprocess.TimeoutExpired:
                pass
            finally:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        with open(outside / "said", "rb") as said:
            output = said.read(MAX_OUTPUT).decode(errors="replace")
        return ReproRun(code, output.replace(str(folder), ".").replace(scratch, "."))
