"""A pasted log as facts: which failures are in it, of what kind, and what it tells about kernel, arch and toolchain.

Takes Python tracebacks with or without line breaks, ptxas's stderr alone, the PTX block that Triton prints, and any of
them out of a CI log, a chat or an HTML page. Pure: nothing named in the log is opened, imported or run. Never raises on
any text, and its time grows with the text's length and no faster.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

from helpers.inspection.crash.pasted_text import MAX_CHARS, clean_text, ptx_block
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
from helpers.inspection.ptx.scan import is_trap_stub
from helpers.inspection.ptxas import PtxasLog, classify_failure, parse_ptxas_log

__all__ = ["KINDS", "CrashLog", "Failure", "parse_crash_log"]

KINDS = (
    "register_exhaustion",
    "register_cap_too_low",
    "shared_memory",
    "tensor_memory",
    "threads",
    "unsupported_ptx_version",
    "unsupported_arch",
    "illegal_instruction",
    "internal_error",
    "ptxas_signal",
    "ptxas_error",
    "trapped",
    "frontend_error",
    "no_failure",
    "unknown",
)
MAX_FAILURES = 200
MAX_MESSAGE = 600
MAX_BLOCK_LINES = 2_000
MAX_COMMAND = 4_000

_ABORTED = "Ptx assembly aborted due to errors"
_RESOURCE = re.compile(
    r"out of resource: ?([a-z][a-z ]{2,30}?),? ?Required: ?([0-9]{1,12}),? ?,? ?"
    r"Hardware limit(?:ation)?: ?([0-9]{1,12})"
)
_RESOURCE_KINDS = {"shared memory": "shared_memory", "tensor memory": "tensor_memory", "threads": "threads"}
_EXCEPTION = re.compile(
    r"(?<![\w.])((?:[A-Za-z_]\w{0,60}\.){0,8}(?:[A-Za-z_]\w{0,60}?(?:Error|Exception|Failure|Construct)"
    r"|Exception|OutOfResources))"
    # Looked at, not taken: one exception's message can name the next.
    r":(?= ?([^\n]{0,600}))",
    re.ASCII,
)
_FRONTEND = {"CompilationError", "CompileTimeAssertionFailure", "UnsupportedLanguageConstruct"}
_PASSES = re.compile(
    r"PassManager::run failed|Failures have been detected while processing an MLIR pass pipeline"
    r"|failed to translate module to LLVM IR|Pipeline failed while executing|LLVM ERROR: [^\n]{0,200}"
)
_SIGNAL = re.compile(
    r"ptxas`? (?:raised (SIG[A-Z]{2,6})|failed with error code (-?[0-9]{1,10}))"
    r"|ptxas[^\n]{0,300}died with <Signals\.(SIG[A-Z]{2,6})"
    r"|(Segmentation fault|Aborted|Killed)(?: +\(core dumped\))?[^\n]{0,80}ptxas"
)
_COMMAND = re.compile(r"(\S{0,400}ptxas(?:-blackwell)?(?:\.exe)?)[\"']? ([^\n]{1,3000})")
_GPU_NAME = re.compile(r"--gpu-name[= ]\"?(sm_[0-9]{2,3}[a-z]?)")
_ARCH_SAID = (
    re.compile(r"Compiling entry function '[^'\n]{0,500}' for '(sm_[0-9]{2,3}[a-z]?)'"),
    _GPU_NAME,
    re.compile(r"\.target[ \t]{1,8}'?(sm_[0-9]{2,3}[a-z]?)"),
    re.compile(r"Value '(sm_[0-9]{2,4}[a-z]?)' is not defined for option 'gpu-name'"),
)
_ARCH_HINT = re.compile(r"(?<![\w])sm_?([0-9]{2,3}[af]?)(?![\w])", re.IGNORECASE)
_ALLOCATION = re.compile(r"register count of ?'([0-9]{1,4})'")
_INTERNAL = re.compile(r"\(C7907\)|[Ii]nternal (?:compiler )?error")
_NOT_ON_TARGET = re.compile(r"not supported on \.target|requires \.target|requires PTX ISA|requires sm_")
_NO_SUCH_THING = re.compile(
    r"Not a name of any known instruction|Parsing error|Illegal |Unknown (?:modifier|symbol|directive)"
    r"|Arguments mismatch|Unexpected instruction types|Invalid |Undefined|Unrecognized"
)
_TOO_NEW_CUDA = re.compile(r"Triton only supports? CUDA [0-9.]{1,6} or higher, but got CUDA version: ?([0-9.]{1,8})")
_KERNEL = (
    re.compile(r"Compiling entry function '([^'\n]{1,200})'"),
    re.compile(r"\.entry[ \t]{1,8}([A-Za-z_$][\w$]{0,200})"),
    re.compile(r"in (?:the )?function '?([A-Za-z_$][\w$]{0,200})"),
)
_LAUNCH = re.compile(r"(?<![\w.])([A-Za-z_]\w{0,100})\[[^\]\n]{1,200}\]\(")
_DEF = re.compile(r"\bat [0-9]{1,6}:[0-9]{1,5}:\n(?:[^\n]{0,300}\n){0,12}?[^\n]{0,100}?def ([A-Za-z_]\w{0,100})\(")
_THREADS = re.compile(r"\.(?:req|max)ntid[ \t]{1,8}([0-9]{1,5})(?:, ?([0-9]{1,5}))?(?:, ?([0-9]{1,5}))?")
_WARPS_SAID = re.compile(r"num_warps['\"]?[=:] ?([0-9]{1,2})(?![0-9])")
_CAP = re.compile(
    r"\.maxnreg[ \t]{1,8}([0-9]{1,4})|--maxrregcount[= ]([0-9]{1,4})|(?<!\w)maxnreg['\"]?[=:] ?([0-9]{1,4})"
)
_PTX_VERSION = re.compile(r"(?m)\.version[ \t]{1,8}([0-9]{1,2}\.[0-9]{1,2})")
_PTX_FILE = re.compile(r"([^\s\"'`;,]{1,300}\.ptx)(?![\w.])")


@dataclass(frozen=True)
class Failure:
    """One distinct failure of the log: its kind, the words of who refused, and the numbers in them.

    `required` and `limit` are of an OutOfResources (bytes of shared memory, columns of tensor memory, threads);
    register counts are ptxas's, per thread; `signal` a signal's name or number, `ptx_line` a line of the PTX.
    `seen` is how often the log repeats it.
    """

    kind: str
    message: str
    code: str | None = None
    register_count_asked: int | None = None
    register_count_needed: int | None = None
    required: int | None = None
    limit: int | None = None
    resource: str | None = None
    signal: str | None = None
    ptx_line: int | None = None
    ptx_path: str | None = None
    command: str | None = None
    seen: int = 1


@dataclass(frozen=True)
class CrashLog:
    """What a log says. Absent facts are None; `facts` has each present one with the text it came from.

    `failures` are the distinct ones in order (the first is the one to explain), `failure_count` counts all, also beyond
    the `MAX_FAILURES` kept. `exception` is the last part of the first exception named that is a failure of ours, or of
    any. `compiled` is ptxas's report on what compiled. `ptx` is the module in the log, `ptx_cut` whether its end is
    missing. Paths are words here: nothing opens them.
    """

    failures: tuple[Failure, ...] = ()
    failure_count: int = 0
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
    facts: tuple[Fact, ...] = ()
    notes: tuple[str, ...] = ()
    blank: bool = True
    chars: int = 0

    @property
    def first(self) -> Failure | None:
        """The first failure, or None."""
        return self.failures[0] if self.failures else None

    def value(self, name: str) -> str | None:
        """The value of the first fact of that name."""
        return next((f.value for f in self.facts if f.name == name), None)


def parse_crash_log(text: str, *, max_chars: int = MAX_CHARS) -> CrashLog:
    """A pasted log as a `CrashLog`; an empty one for text that is no log. Never raises on any text."""
    clean = clean_text(text, max_chars=max_chars)
    body = clean.text
    failures, total, spoken = _failures(body)
    first = failures[0] if failures else None
    frames = find_frames(body)
    module = ptx_block(body)
    ptx, cut = module if module else (None, False)
    facts: list[Fact] = []

    command = first.command if first and first.command else _any_command(body)
    program, flags, ptx_path = _split_command(command or "")
    if first and first.ptx_path:
        ptx_path = first.ptx_path
    if command:
        facts.append(Fact("ptxas_command", command[:MAX_MESSAGE], STATED, command[:200]))
    arch = _arch(body, command, facts)
    kernel = _kernel(body, frames)
    if kernel:
        facts.append(kernel)
    warps = _warps(ptx or body[:MAX_CHARS], body, facts)
    cap = next(
        (Fact("register_cap", next(g for g in m.groups() if g), STATED, m[0]) for m in [_CAP.search(body)] if m), None
    )
    if cap:
        facts.append(cap)
    version = _PTX_VERSION.search(ptx) if ptx else None
    if version:
        facts.append(Fact("ptx_version", version[1], STATED, version[0].strip()))
    triton = triton_evidence(body, frames, arch=arch, ptx_version=version[1] if version else None, flags=flags)
    facts += triton.facts
    facts += version_facts(body).values()
    if program and "triton/backends/nvidia/bin" in program.replace("\\", "/"):
        facts.append(Fact("ptxas_origin", "bundled with Triton", DERIVED, program[:200]))
        facts += bundled_ptxas(triton, program)
    elif program and ("/" in program or "\\" in program):
        facts.append(Fact("ptxas_origin", "not Triton's own", DERIVED, program[:200]))
    if first is None and _ABORTED in body:
        facts.append(Fact("ptxas_gave_up", "without the reason", STATED, _ABORTED))
    exception = _exception(body, first)
    if exception:
        facts.append(exception)
    if ptx and not failures and is_trap_stub(ptx):
        failures, total = (Failure("trapped", "the PTX's kernel is one bare trap"),), 1
    return CrashLog(
        failures=failures,
        failure_count=total,
        exception=exception.value if exception else None,
        arch=arch,
        kernel_name=kernel.value if kernel else None,
        num_warps=warps,
        register_cap=int(cap.value) if cap else None,
        ptxas_program=program or None,
        ptxas_flags=flags,
        ptx_path=ptx_path or None,
        ptx=ptx,
        ptx_cut=cut,
        ptx_version=version[1] if version else None,
        triton=triton,
        frames=frames,
        compiled=spoken,
        facts=tuple(facts),
        notes=clean.notes,
        blank=not (clean.binary or body.strip()),
        chars=len(text),
    )


# --- failures ---------------------------------------------------------------------------------------------


class _Distinct:
    """Failures in order of appearance, repetitions counted: Triton prints one to stdout and raises it as well."""

    def __init__(self) -> None:
        self.failures: list[Failure] = []
        self.total = 0
        self._places: dict[tuple, int] = {}

    def add(self, failure: Failure) -> None:
        what = (failure.kind, failure.code, failure.register_count_asked, failure.required, failure.limit,
                failure.resource, failure.signal)  # fmt: skip
        # A PTX's temporary name tells compiles apart; without one the words have to.
        keys = [(*what, word) for word in (failure.ptx_path, failure.message) if word]
        if failure.ptx_path and keys[0] not in self._places:
            # Another compile, unless the one that said the same had no name yet.
            place = self._places.get(keys[-1])
            same = place is not None and self.failures[place].ptx_path is None
        else:
            place = next((self._places[key] for key in keys if key in self._places), None)
            same = place is not None
        if not same:
            self.total += 1
            if len(self.failures) >= MAX_FAILURES:
                return
            place = len(self.failures)
            self.failures.append(failure)
        else:
            old = self.failures[place]
            self.failures[place] = replace(
                old,
                seen=old.seen + 1,
                ptx_path=old.ptx_path or failure.ptx_path,
                command=old.command or failure.command,
            )
        for key in keys:
            self._places.setdefault(key, place)


def _failures(body: str) -> tuple[tuple[Failure, ...], int, PtxasLog]:
    """(distinct failures, how many, what ptxas said of kernels it compiled)."""
    found = _Distinct()
    block: list[str] = []
    first_line = 0
    clean_lines: list[str] = []
    lines = body.split("\n")
    add = found.add

    def close(command: str | None) -> None:
        nonlocal block
        if block:
            failure = _ptxas_failure(block, "\n".join(lines[first_line : first_line + 4]), command)
            if failure is not None:
                add(failure)
        block = []

    for index, line in enumerate(lines):
        if line.startswith("ptxas") and len(line) < MAX_COMMAND:
            # ptxas's last word ends a run unless the command follows.
            if block and block[-1].rstrip().endswith(_ABORTED) and _ABORTED not in line:
                close(None)
            if not block:
                first_line = index
            if len(block) < MAX_BLOCK_LINES:
                block.append(line)
            if len(clean_lines) < 50_000:
                clean_lines.append(line)
            continue
        if "bytes stack frame" in line and len(clean_lines) < 50_000:
            clean_lines.append(line[:300])
        if line.startswith("Repro command:"):
            close(line[len("Repro command:") :].strip()[:MAX_COMMAND])
        elif "stderr:" in line and "ptxas" in line:
            close(None)
        if "ptxas" in line and (m := _SIGNAL.search(line[:MAX_COMMAND])):
            signal = _signal(m)
            if signal:
                command = next((x for x in lines[index : index + 12] if x.startswith("Repro command:")), "")
                command = command[len("Repro command:") :].strip()[:MAX_COMMAND]
                add(Failure("ptxas_signal", m[0][:MAX_MESSAGE], signal=signal, command=command or None,
                            ptx_path=_split_command(command)[2] or None))  # fmt: skip
        if "out of resource" in line:
            for m in _RESOURCE.finditer(line[:20_000]):
                kind = _RESOURCE_KINDS.get(m[1].strip(), "unknown")
                add(Failure(kind, m[0], required=int(m[2]), limit=int(m[3]), resource=m[1].strip()))
        if m := _TOO_NEW_CUDA.search(line[:MAX_COMMAND]):
            add(Failure("unsupported_ptx_version", m[0]))
    close(None)
    if not found.failures and (failure := _frontend(body)):
        add(failure)
    return tuple(found.failures), found.total, parse_ptxas_log("\n".join(clean_lines))


def _ptxas_failure(block: list[str], around: str, command: str | None) -> Failure | None:
    """The failure a run of ptxas lines tells of, or None where ptxas only informs."""
    log = parse_ptxas_log("\n".join(block))
    if not log.fatal:
        return None
    complaint = "\n".join(log.fatal)
    reasons = [m for m in log.fatal if _ABORTED not in m and not _ABORTED.startswith(m.strip())]
    if not reasons:
        return None  # ptxas gave up, but the line that says why is not in the log
    message = reasons[0].strip()[:MAX_MESSAGE]
    code = log.failure_code
    asked = log.register_count_asked
    if code == "C7600" and asked is None and (m := _ALLOCATION.search(around.replace("\n", ""))):
        asked = int(m[1])  # a terminal broke the line inside the number
    status = classify_failure(log, None)
    if code == "C7602":
        kind = "register_cap_too_low"
    elif status == "register_exhausted":
        kind = "register_exhaustion"
    elif status == "unsupported_ptx_version":
        kind = "unsupported_ptx_version"
    elif status == "unsupported_target" or _NOT_ON_TARGET.search(complaint):
        kind = "unsupported_arch"
    elif _INTERNAL.search(complaint):
        kind = "internal_error"
    elif _NO_SUCH_THING.search(message):
        kind = "illegal_instruction"
    else:
        kind = "ptxas_error"
    path = _split_command(command or "")[2] or next(
        (m[1] for line in block[:5] if (m := _PTX_FILE.search(line[:600]))), ""
    )
    return Failure(
        kind,
        message,
        code=code,
        register_count_asked=asked,
        register_count_needed=log.register_count_needed,
        ptx_line=log.ptx_line,
        ptx_path=path or None,
        command=command or None,
    )


def _signal(m: re.Match) -> str | None:
    if m[2] is not None:
        # A shell reports a death by signal as 128 + its number; subprocess as a negative number.
        number = int(m[2])
        return f"signal {-number}" if number < 0 else f"signal {number - 128}" if 128 < number <= 192 else None
    return m[1] or m[3] or m[4]


def _frontend(body: str) -> Failure | None:
    for m in _EXCEPTION.finditer(body):
        if m[1].rsplit(".", 1)[-1] in _FRONTEND:
            return Failure("frontend_error", _with_last_line(body, m)[:MAX_MESSAGE])
    m = _PASSES.search(body)
    return Failure("frontend_error", m[0][:MAX_MESSAGE]) if m else None


def _with_last_line(body: str, m: re.Match) -> str:
    """A CompilationError's place and its last line, which holds the reason; the source between is left out."""
    after = [line.strip() for line in body[m.end() : m.end() + 6_000].split("\n")]
    carets = next((i for i, line in enumerate(after) if line and not line.strip("^ ")), None)
    reason = next((line for line in after[carets + 1 :] if line), "") if carets is not None else ""
    return f"{m[1].rsplit('.', 1)[-1]}: {m[2].strip()} {reason}".strip()


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


def _split_command(command: str) -> tuple[str, tuple[str, ...], str]:
    """(program, flags besides arch and output, PTX path) of a ptxas command line; empty where it is none."""
    m = re.match(r"([^\n]{0,400}?ptxas(?:-blackwell)?(?:\.exe)?)[\"']? ", command[:MAX_COMMAND])
    if m is None:
        return "", (), ""
    words = command[m.end() : MAX_COMMAND].replace("'", " ").split()
    flags, path, previous = [], "", ""
    for word in words[:100]:
        if previous == "-o":
            break  # what follows is the log again
        if word.startswith("-") and word != "-o" and not word.startswith("--gpu-name"):
            flags.append(word[:80])
        elif word.endswith(".ptx") and not path:
            path = word[:300]
        elif previous in ("--opt-level",):
            flags[-1] += f" {word[:8]}"
        previous = word
    return m[1].strip("\"'[ "), tuple(flags), path


def _arch(body: str, command: str | None, facts: list[Fact]) -> str | None:
    for source in filter(None, (command, body)):
        for pattern in _ARCH_SAID:
            if m := pattern.search(source):
                facts.append(Fact("arch", m[1], STATED, m[0][:200]))
                return m[1]
    if m := _ARCH_HINT.search(body):
        # Somebody mentions an arch; whether the failing compile was for it is not said.
        facts.append(Fact("arch_mentioned", f"sm_{m[1].lower()}", HINT, m[0]))
    return None


def _kernel(body: str, frames: tuple[Frame, ...]) -> Fact | None:
    for pattern in _KERNEL:
        if m := pattern.search(body):
            return Fact("kernel_name", m[1], STATED, m[0][:200])
    for before, frame in zip((None, *frames), frames, strict=False):
        if before is not None and "triton/runtime/" in frame.file.replace("\\", "/"):
            if m := _LAUNCH.search(before.code):
                return Fact("kernel_name", m[1], DERIVED, before.code[:200])
    if m := _DEF.search(body):
        return Fact("kernel_name", m[1], DERIVED, f"def {m[1]}(")
    return None


def _warps(ptx: str, body: str, facts: list[Fact]) -> int | None:
    """Warps per CTA, from the PTX's thread count or where the log names it."""
    if m := _THREADS.search(ptx):
        threads = 1
        for part in m.groups():
            threads *= int(part or 1)
        if threads and threads % 32 == 0 and threads <= 1024:
            facts.append(Fact("num_warps", str(threads // 32), DERIVED, m[0]))
            return threads // 32
    if m := _WARPS_SAID.search(body):
        facts.append(Fact("num_warps", m[1], STATED, m[0]))
        return int(m[1])
    return None


def _exception(body: str, first: Failure | None) -> Fact | None:
    """The exception that carried the failure, or the last one named."""
    last = None
    wanted = "OutOfResources" if first is not None and first.resource else "PTXASError" if first is not None else None
    for count, m in enumerate(_EXCEPTION.finditer(body)):
        name = m[1].rsplit(".", 1)[-1]
        last = Fact("exception", name, STATED, m[0].strip()[:200])
        if name == wanted or count > 2_000:
            break
    return last
