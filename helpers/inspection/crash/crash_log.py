"""A pasted log as facts: what ptxas complained of, and what the log tells about kernel, arch, launch and toolchain.

Takes Python tracebacks with or without line breaks, ptxas's stderr alone, the PTX block that Triton prints, and any of
them out of a CI log, a chat or an HTML page. Pure: nothing named in the log is opened, imported or run. Never raises on
any text, and its time grows with the text's length and no faster. `helpers.diagnosis` says what kind of failure it is.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field

from helpers.inspection.crash.pasted_text import (
    MAX_CHARS,
    FlatText,
    bare_lines,
    clean_text,
    flat_text,
    near,
    near_any,
    ptx_block,
)
from helpers.inspection.crash.ptxas_runs import ABORTED, MAX_COMMAND, PtxasRun, ptxas_runs, split_command
from helpers.inspection.crash.speakers import Speaker, find_speakers
from helpers.inspection.crash.which_triton import (
    DERIVED,
    HINT,
    STATED,
    Fact,
    Frame,
    TritonEvidence,
    bundled_ptxas,
    find_frames,
    triton_evidence,
    version_facts,
)
from helpers.inspection.ptxas import PtxasLog, parse_ptxas_log

__all__ = ["CrashLog", "parse_crash_log"]

MAX_MESSAGE = 600
MAX_SPOKEN_LINES = 50_000
MAX_WARPS_SAID = 20_000

_EXCEPTION = re.compile(
    r"(?<![\w.])((?:[A-Za-z_]\w{0,60}\.){0,8}(?:[A-Za-z_]\w{0,60}?(?:Error|Exception|Failure|Construct)"
    r"|Exception|OutOfResources))"
    # Looked at, not taken: one exception's message can name the next.
    r":(?= ?([^\n]{0,600}))",
    re.ASCII,
)
_EXCEPTION_ENDS = ("Error:", "Exception:", "Failure:", "Construct:", "OutOfResources:")
# The exception that carries a compiler's failure goes before the one that a caller makes of it.
_CARRIERS = ("PTXASError", "OutOfResources")
_COMMAND = re.compile(r"(\S{0,400}ptxas(?:-blackwell)?(?:\.exe)?)[\"']? ([^\n]{1,3000})")
_SM = r"(sm_[0-9]{2,3}[af]?)"
# Each of these names the chip that the failing compile was for; a threshold ("requires .target sm_80") never does.
_ARCH_SAID = (
    ("but got", re.compile(rf"expects arch to be one of [^\n]{{1,300}}?, but got <?Arch\.{_SM}")),
    ("Compiling entry function", re.compile(rf"Compiling entry function '[^'\n]{{0,500}}' for '{_SM}'")),
    ("--gpu-name", re.compile(rf"--gpu-name(?:=|[ ]|', '|\", \")[\"']?{_SM}")),
    ("not supported on", re.compile(rf"not supported on \.target '{_SM}'")),
    ("cannot be compiled", re.compile(rf"cannot be compiled for architecture '{_SM}'")),
    (".target", re.compile(rf"(?<!requires )\.target[ \t]{{1,8}}'?{_SM}(?! or higher)")),
    # nvcc names its PTX after the target it was written for.
    (".compute_", re.compile(r"ptxas \S{0,300}\.compute_([0-9]{2,3}[af]?)\.ptx\"?, line [0-9]{1,9}; "
                              r"{0,4}(?:error|fatal)")),
    ("is not defined", re.compile(r"Value '(sm_[0-9]{2,4}[a-z]?)' is not defined for option 'gpu-[a-z]{1,20}'")),
    ("Cannot find option", re.compile(r"Cannot find option named '(sm_[0-9]{2,4}[a-z]?)'")),
    ("gpu architecture", re.compile(r"Unsupported gpu architecture '((?:sm|compute)_[0-9]{2,4}[a-z]?)'")),
    ("-mcpu", re.compile(rf"-mcpu[= ]{_SM}")),
    ("target architecture", re.compile(rf"target architecture: {_SM}")),
    (".target", re.compile(r"(?:ttg|triton_gpu)\.target\"? = \"cuda:([0-9]{2,3})\"")),
    ("gfx", re.compile(r"(?:-mcpu[= ]|amdgcn-amd-amdhsa--|--offload-arch=|GPUTarget\([\"']hip[\"'], "
                       r"?[\"'])(gfx[0-9a-f]{3,5})")),
    ("'cc': ", re.compile(r"'device_type': 'cuda'[^\n]{0,300}?'cc': ([0-9]{2,3})\b")),
    ("(target: sm_", re.compile(rf"\(target: {_SM}\)")),
    ("GPUTarget", re.compile(r"GPUTarget\(\s{0,4}(?:backend=)?[\"']cuda[\"'],\s{0,4}(?:arch=)?([0-9]{2,3})\b")),
)  # fmt: skip
# What a build was told to compile for: the chip only where it is one.
_BUILD_TARGETS = re.compile(r"(?:-arch[= ]|--gpu-architecture[= ]|code=\[?\"?)(sm_[0-9]{2,3}[af]?)")
_ARCH_HINT = re.compile(r"(?<![\w])(?<!\.target )(?<!\.target ')sm_?([0-9]{2,3}[af]?)(?![\w])", re.IGNORECASE)
_KERNEL = (
    re.compile(r"Compiling entry function '([^'\n]{1,200})'"),
    re.compile(r"\.entry[ \t]{1,8}([A-Za-z_$][\w$]{0,200})"),
    re.compile(r"tt\.func (?:public |private )?@\"?([A-Za-z_$][\w$.]{0,200})"),
    re.compile(r"in (?:the )?function '?([A-Za-z_$][\w$]{0,200})"),
    re.compile(r"out of resource: (triton_\w{1,200}) Required"),
    re.compile(r"(?<![\w])In function: ([A-Za-z_$][\w$]{0,200})"),
    re.compile(r"on function '@([A-Za-z_$][\w$]{0,200})'"),
    re.compile(r"sym_name = \"([A-Za-z_$][\w$]{0,200})\""),
)
_LAUNCH = re.compile(r"(?<![\w.])([A-Za-z_]\w{0,100})\[[^\]\n]{1,200}\]\(")
_DEF = re.compile(r"\bat [0-9]{1,6}:[0-9]{1,5}:\s(?:[^\n]{0,300}\n){0,12}?[^\n]{0,100}?def ([A-Za-z_]\w{0,100})\(")
_THREADS = re.compile(r"\.(?:req|max)ntid[ \t]{1,8}([0-9]{1,5})(?:, ?([0-9]{1,5}))?(?:, ?([0-9]{1,5}))?")
_WARPS_SAID = re.compile(r"num[-_]warps['\"]?(?: ?= ?|: ?| )([0-9]{1,2})(?![0-9])")
# In front of a number of warps: it is a configuration's that an autotuner timed, chose or dropped.
_OF_ANOTHER = re.compile(r"[0-9] ms\b|\bbest\b|Config\(|candidate|choice")
_CAP = re.compile(
    r"\.maxnreg[ \t]{1,8}([0-9]{1,4})|--?maxrregcount[= ]([0-9]{1,4})|(?<!\w)maxnreg['\"]?[=:] ?([0-9]{1,4})"
)
_PTX_VERSION = re.compile(r"(?m)\.version[ \t]{1,8}([0-9]{1,2}\.[0-9]{1,2})")


@dataclass(frozen=True)
class CrashLog:
    """What a log says. Absent facts are None; `facts` has each present one with the text it came from.

    `runs` are ptxas's complaints, run by run; `compiled` is ptxas's report on what compiled; `speakers` are the tools
    that show themselves. `arch` is a chip the log names as the compile's target, never a threshold. `num_warps` is None
    where the log names several. `ptx` is the module in the log, `ptx_cut` whether its end is missing. `text` is the
    cleaned text, `bare` its lines without log prefixes, `flat` the same as one line. Paths are words: nothing
    opens them.
    """

    runs: tuple[PtxasRun, ...] = ()
    exception: str | None = None
    arch: str | None = None
    kernel_name: str | None = None
    num_warps: int | None = None
    register_cap: int | None = None
    ptxas_program: str | None = None
    ptxas_flags: tuple[str, ...] = ()
    ptx_path: str | None = None
    ptx: str | None = None
    ptx_cut: bool = False
    ptx_version: str | None = None
    triton: TritonEvidence = field(default_factory=TritonEvidence)
    frames: tuple[Frame, ...] = ()
    compiled: PtxasLog = field(default_factory=PtxasLog)
    speakers: tuple[Speaker, ...] = ()
    facts: tuple[Fact, ...] = ()
    notes: tuple[str, ...] = ()
    blank: bool = True
    chars: int = 0
    text: str = field(default="", repr=False)
    bare: tuple[str, ...] = field(default=(), repr=False)
    flat: FlatText = field(default=FlatText("", ()), repr=False)

    def value(self, name: str) -> str | None:
        """The value of the first fact of that name."""
        return next((f.value for f in self.facts if f.name == name), None)

    def speaks(self, *names: str) -> bool:
        """Whether one of these tools shows itself in the log."""
        return any(s.name in names for s in self.speakers)


def parse_crash_log(text: str, *, max_chars: int = MAX_CHARS) -> CrashLog:
    """A pasted log as a `CrashLog`; an empty one for text that is no log. Never raises on any text."""
    clean = clean_text(text, max_chars=max_chars)
    body = clean.text
    bare = bare_lines(body)
    lines = body.split("\n")
    runs = ptxas_runs(lines, bare)
    frames = find_frames(body)
    ptx, cut = ptx_block(body) or (None, False)
    facts: list[Fact] = []

    command = next((r.command for r in runs if r.command), None) or _any_command(body)
    program, flags, ptx_path = split_command(command or "")
    if command:
        facts.append(Fact("ptxas_command", command[:MAX_MESSAGE], STATED, command[:200]))
    flat = flat_text(bare)
    arch = _arch(flat.text, command, facts)
    kernel = _kernel(flat.text, body, frames)
    facts += _present(kernel)
    warps = _warps(ptx, body, facts)
    cap = _cap(body)
    version = _ptx_version(ptx)
    facts += _present(cap, version)
    ptx_version = version.value if version else None
    triton = triton_evidence(body, frames, arch=arch, ptx_version=ptx_version, flags=flags)
    facts += triton.facts
    facts += version_facts(body).values()
    facts += _origin(triton, program)
    exception = _exception(body)
    facts += _present(_gave_up(body, runs), exception)
    return CrashLog(
        runs=runs,
        exception=exception.value if exception else None,
        arch=arch,
        kernel_name=kernel.value if kernel else None,
        num_warps=warps,
        register_cap=int(cap.value) if cap else None,
        ptxas_program=program or None,
        ptxas_flags=flags,
        ptx_path=next((r.ptx_path for r in runs[:1] if r.ptx_path), ptx_path) or None,
        ptx=ptx,
        ptx_cut=cut,
        ptx_version=ptx_version,
        triton=triton,
        frames=frames,
        compiled=_compiled(lines),
        speakers=find_speakers(body),
        facts=tuple(facts),
        notes=clean.notes,
        blank=not (clean.binary or body.strip()),
        chars=len(text),
        text=body,
        bare=tuple(bare),
        flat=flat,
    )


def _present(*facts: Fact | None) -> list[Fact]:
    return [fact for fact in facts if fact is not None]


def _cap(body: str) -> Fact | None:
    """The cap on registers that the log names."""
    m = _CAP.search(body)
    return Fact("register_cap", next(g for g in m.groups() if g), STATED, m[0]) if m else None


def _ptx_version(ptx: str | None) -> Fact | None:
    """The version that the PTX in the log declares."""
    m = _PTX_VERSION.search(ptx) if ptx else None
    return Fact("ptx_version", m[1], STATED, m[0].strip()) if m else None


def _gave_up(body: str, runs: tuple[PtxasRun, ...]) -> Fact | None:
    """ptxas's last word, where what it says before it is missing."""
    silent = ABORTED in body and not any(run.complaints for run in runs)
    return Fact("ptxas_gave_up", "without the reason", STATED, ABORTED) if silent else None


def _compiled(lines: list[str]) -> PtxasLog:
    """What ptxas reports of the functions it compiled."""
    spoken = []
    for line in lines:
        if line.startswith("ptxas"):
            spoken.append(line[:MAX_COMMAND])
        elif "bytes stack frame" in line:
            spoken.append(line[:400])
        if len(spoken) >= MAX_SPOKEN_LINES:
            break
    return parse_ptxas_log("\n".join(spoken))


def _origin(triton: TritonEvidence, program: str) -> list[Fact]:
    """Whose ptxas the command names, and with it its release where that follows."""
    if program and "triton/backends/nvidia/bin" in program.replace("\\", "/"):
        return [Fact("ptxas_origin", "bundled with Triton", DERIVED, program[:200]), *bundled_ptxas(triton, program)]
    if program and ("/" in program or "\\" in program):
        return [Fact("ptxas_origin", "not Triton's own", DERIVED, program[:200])]
    return []


# --- command, arch, kernel, launch ------------------------------------------------------------------------


def _any_command(body: str) -> str | None:
    """A ptxas command line of the log that has its `--gpu-name`, wherever it stands."""
    for at in re.finditer(r"--gpu-name[= ]", body):
        start = max(body.rfind("\n", 0, at.start()) + 1, at.start() - 1_000)
        end = body.find("\n", at.end())
        line = (
            body[start : min(end if end >= 0 else len(body), at.end() + 2_000)]
            .replace("', '", " ")
            .replace('", "', " ")
        )
        if m := _COMMAND.search(line):
            return m[0].strip("[]'\"")[:MAX_COMMAND]
        break
    return None


def _arch(body: str, command: str | None, facts: list[Fact]) -> str | None:
    for source in filter(None, (command, body)):
        for word, pattern in _ARCH_SAID:
            if m := next(near(pattern, source, word, before=600, after=200), None):
                name = f"sm_{m[1]}" if m[1][0].isdigit() else m[1].replace("compute_", "sm_")
                facts.append(Fact("arch", name, STATED, m[0].strip()[:200]))
                return name
    targets = {m[1]: m[0] for m in _BUILD_TARGETS.finditer(body[:2_000_000])}
    if len(targets) == 1:
        (name, words), *_ = targets.items()
        facts.append(Fact("arch", name, STATED, words))
        return name
    if m := _ARCH_HINT.search(body):
        # Somebody mentions an arch; whether the failing compile was for it is not said.
        facts.append(Fact("arch_mentioned", f"sm_{m[1].lower()}", HINT, m[0]))
    return None


def _kernel(flat: str, body: str, frames: tuple[Frame, ...]) -> Fact | None:
    for pattern in _KERNEL:
        if m := pattern.search(flat):
            return Fact("kernel_name", m[1], STATED, m[0][:200])
    for before, frame in zip((None, *frames), frames, strict=False):
        if before is not None and "triton/runtime/" in frame.file.replace("\\", "/"):
            if m := _LAUNCH.search(before.code):
                return Fact("kernel_name", m[1], DERIVED, before.code[:200])
    if m := _DEF.search(body):
        return Fact("kernel_name", m[1], DERIVED, f"def {m[1]}(")
    return None


def _warps(ptx: str | None, body: str, facts: list[Fact]) -> int | None:
    """Warps per CTA, from the PTX's thread count or where the log names one number of them."""
    if m := _THREADS.search(ptx or body):
        threads = 1
        for part in m.groups():
            threads *= int(part or 1)
        if threads and threads % 32 == 0 and threads <= 1024:
            facts.append(Fact("num_warps", str(threads // 32), DERIVED, m[0]))
            return threads // 32
    said: dict[str, str] = {}
    for m in itertools.islice(_WARPS_SAID.finditer(body), MAX_WARPS_SAID):
        if _OF_ANOTHER.search(body, max(body.rfind("\n", 0, m.start()), m.start() - 400, 0), m.start()):
            continue
        said.setdefault(m[1], m[0])
        if len(said) > 1:
            return None  # an autotuner's list, or a table: which one failed is not said
    for number, words in said.items():
        facts.append(Fact("num_warps", number, STATED, words))
        return int(number)
    return None


def _exception(body: str) -> Fact | None:
    """The exception that carried a compiler's failure, or the last one named."""
    last = None
    for m in near_any(_EXCEPTION, body, _EXCEPTION_ENDS, before=300, after=60):
        name = m[1].rsplit(".", 1)[-1]
        last = Fact("exception", name, STATED, m[0].strip()[:200])
        if name in _CARRIERS:
            break
    return last
