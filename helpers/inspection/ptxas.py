"""What ptxas said: its verbose log as numbers, and what a failure means.

ptxas speaks in lines such as ``ptxas info    : Used 255 registers, used 1 barriers``. The program's name
varies (Triton ships a second copy called ``ptxas-blackwell``), and a complaint about one place in the PTX
puts the place between the name and the severity: ``ptxas some.ptx, line 5; fatal   : Unsupported .version
9.9``.

A log is somebody else's output: it may be megabytes long, binary, or cut off. Nothing here raises on any
text, every line is cut to a bounded length before a pattern sees it, and the patterns are linear.
"""

import re
from dataclasses import dataclass

__all__ = ["PtxasFunction", "PtxasLog", "classify_failure", "parse_ptxas_log"]

# The longest real line seen is under 250 characters; a longer one is not ptxas speaking.
_MAX_LINE_CHARS = 2_000
# Digits are bounded because int() itself refuses more than 4,300 of them.
_NUMBER = "([0-9]{1,12})"

_SEVERITY = re.compile(r"(?:^ptxas[\w.+-]* +|; *)(info|warning|error|fatal) *: ?(.*)", re.ASCII)
_PLACE = re.compile(r", line ([0-9]{1,9})$")
_ENTRY = re.compile(r"Compiling entry function '([^']*)' for '([^']*)'")
_PROPERTIES = re.compile(r"Function properties for (\S+)")
_STACK = re.compile(rf"{_NUMBER} bytes stack frame, {_NUMBER} bytes spill stores, {_NUMBER} bytes spill loads")
_REGISTERS = re.compile(rf"Used {_NUMBER} registers")
_BARRIERS = re.compile(rf"used {_NUMBER} barriers")
_SHARED = re.compile(rf"{_NUMBER}(?:\+[0-9]{{1,12}})? bytes smem")
_CONSTANT = re.compile(rf"{_NUMBER} bytes cmem\[([0-9]{{1,3}})\]")
_CODE = re.compile(r"\((C[0-9]{4,5})\)")
_ASKED = re.compile(rf"register count of '{_NUMBER}'|Insufficient registers \({_NUMBER}\)")
_NEEDED = re.compile(rf"register target of {_NUMBER} or higher")
_AT_LINE = re.compile(rf"(?:at |^)line {_NUMBER}\b")

_UNSUPPORTED_TARGET = (
    re.compile(r"Value '[^']*' is not defined for option 'gpu-name'"),
    re.compile(r"Unsupported \.target "),
    re.compile(r"SM version specified by \.target is higher"),
    # The PTX's own version is too old for the target it names: the front end that wrote it cannot target it.
    re.compile(r"PTX \.version [0-9.]{1,16} does not support \.target "),
)
_UNSUPPORTED_VERSION = re.compile(r"Unsupported \.version ")
_REGISTER_CODES = frozenset({"C7600", "C7602"})


@dataclass(frozen=True)
class PtxasFunction:
    """One function of the log; None where ptxas said nothing, as for the registers of a called function.

    Units: registers per thread, bytes per thread (spills, stack), bytes per CTA (`smem_bytes`, static only:
    Triton's shared memory is dynamic and never shows here), bytes per constant bank.
    """

    name: str
    regs_per_thread: int | None = None
    spill_store_bytes: int | None = None
    spill_load_bytes: int | None = None
    stack_frame_bytes: int | None = None
    smem_bytes: int | None = None
    barriers: int | None = None
    cmem_bytes: dict[int, int] | None = None
    is_entry: bool = False
    target: str | None = None


@dataclass(frozen=True)
class PtxasLog:
    """The whole log: functions in ptxas's order, and what it complained of.

    `codes` holds every C-code once, advice such as C7511 (a slow wgmma) included: a code alone is no failure.
    `fatal` holds the messages of severity error and fatal in order, the place in front ("line 5: …"), the
    file's path removed. `register_count_asked` is the register count an allocation failed at,
    `register_count_needed` the one ptxas asks for instead (C7602 only), `ptx_line` the line of the PTX that
    the first complaint names.
    """

    functions: tuple[PtxasFunction, ...] = ()
    codes: tuple[str, ...] = ()
    fatal: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    register_count_asked: int | None = None
    register_count_needed: int | None = None
    ptx_line: int | None = None

    @property
    def entry(self) -> PtxasFunction | None:
        """The first entry function (a kernel), or None when ptxas compiled none."""
        return next((f for f in self.functions if f.is_entry), None)

    @property
    def failure_code(self) -> str | None:
        """The code of the failure itself: advice in the same log has codes of its own."""
        return next((code for code in self.codes if any(code in words for words in self.fatal)), None)


def parse_ptxas_log(text: str, *, max_chars: int = 4_000_000) -> PtxasLog:
    """The log of one ``ptxas -v`` run as a `PtxasLog`; empty for text in which ptxas does not speak.

    `text` is ptxas's stderr, with or without what surrounds it (Triton prints the PTX too). Of a text longer
    than `max_chars` the first and the last half of that many characters are read: kernels are named at the
    front, and the reason of a failure stands at the end. Never raises on any text.
    """
    if len(text) > max_chars:
        half = max_chars // 2
        text = text[:half] + "\n" + text[len(text) - half :]

    functions: dict[str, dict] = {}
    codes: dict[str, None] = {}
    fatal: list[str] = []
    warnings: list[str] = []
    entry: str | None = None  # the kernel being compiled
    described: str | None = None  # the function whose properties come next

    for line in text.split("\n"):
        line = line[:_MAX_LINE_CHARS].rstrip()
        if not line.startswith("ptxas"):
            # The one line without a prefix is the indented one under "Function properties for".
            if described is not None and (m := _STACK.search(line)):
                stack, stores, loads = (int(n) for n in m.groups())
                functions[described].update(stack_frame_bytes=stack, spill_store_bytes=stores, spill_load_bytes=loads)
            continue
        said = _SEVERITY.search(line)
        if not said:
            continue
        severity, message = said.groups()
        codes.update(dict.fromkeys(_CODE.findall(message)))
        if severity in ("error", "fatal"):
            place = _PLACE.search(line[: said.start()])
            fatal.append(f"line {place[1]}: {message}" if place else message)
        elif severity == "warning":
            warnings.append(message)
        elif m := _ENTRY.search(message):
            entry = described = m[1]
            functions.setdefault(entry, {}).update(is_entry=True, target=m[2])
        elif m := _PROPERTIES.search(message):
            described = m[1]
            functions.setdefault(described, {})
        elif m := _REGISTERS.search(message):
            # A called function may be described between its kernel's header and the kernel's own "Used" line.
            open_entry = entry is not None and "regs_per_thread" not in functions[entry]
            owner = entry if open_entry else described
            if owner is not None:
                functions[owner].update(_usage(message, registers=int(m[1])))

    complaint = "\n".join(fatal)
    return PtxasLog(
        functions=tuple(PtxasFunction(name=name, **fields) for name, fields in functions.items()),
        codes=tuple(codes),
        fatal=tuple(fatal),
        warnings=tuple(warnings),
        register_count_asked=_first_number(_ASKED, complaint),
        register_count_needed=_first_number(_NEEDED, complaint),
        ptx_line=_first_number(_AT_LINE, fatal[0]) if fatal else None,
    )


def classify_failure(log: PtxasLog, returncode: int | None, *, timed_out: bool = False) -> str:
    """One word for how a ptxas run ended.

    ok | register_exhausted (C7600, C7602) | unsupported_target | unsupported_ptx_version | ptxas_signal |
    timeout | ptxas_error (anything else ptxas refused, such as an illegal instruction).

    `returncode` is the process's: negative, or 129–192 when a shell stood between, for a death by signal;
    None when it is not known (a recorded log), where a compiled kernel and no complaint counts as ok.
    """
    if timed_out:
        return "timeout"
    if returncode is not None and (returncode < 0 or 128 < returncode <= 192):
        return "ptxas_signal"
    if not log.fatal:
        succeeded = returncode == 0 or (returncode is None and log.entry is not None)
        return "ok" if succeeded else "ptxas_error"
    complaint = "\n".join(log.fatal)
    if _REGISTER_CODES.intersection(_CODE.findall(complaint)):
        return "register_exhausted"
    if any(pattern.search(complaint) for pattern in _UNSUPPORTED_TARGET):
        return "unsupported_target"
    if _UNSUPPORTED_VERSION.search(complaint):
        return "unsupported_ptx_version"
    return "ptxas_error"


def _usage(message: str, *, registers: int) -> dict:
    """The fields of a "Used … registers" line. What it does not mention is zero: ptxas leaves zeros out."""
    barriers = _BARRIERS.search(message)
    shared = _SHARED.search(message)
    return {
        "regs_per_thread": registers,
        "barriers": int(barriers[1]) if barriers else 0,
        "smem_bytes": int(shared[1]) if shared else 0,
        "cmem_bytes": {int(bank): int(size) for size, bank in _CONSTANT.findall(message)},
    }


def _first_number(pattern: re.Pattern, text: str) -> int | None:
    m = pattern.search(text)
    return int(next(g for g in m.groups() if g is not None)) if m else None
