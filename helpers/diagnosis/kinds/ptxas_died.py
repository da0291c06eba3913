"""A compiler that died: by a signal, by an access violation on Windows, or without a word; ptxas or a neighbour."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from helpers.diagnosis.failure import LIKELY, Answer, Failure, Kind, Suggestion, wording
from helpers.diagnosis.kinds.toolchain import lower_level, other_ptxas
from helpers.diagnosis.words import NVIDIA, chip_words, maker, ptx_verbs
from helpers.hardware import known_chip
from helpers.inspection.crash.crash_log import CrashLog
from helpers.inspection.crash.ptxas_runs import split_command

# Programs of CUDA's own compilers; others that die are the build's business.
_TOOLS = r"(?P<tool>ptxas(?:-blackwell)?|cicc|nvlink|fatbinary|cudafe\+\+|tileiras|nvvmd)"
_QUOTED = rf"[`'\"]?(?:\S{{0,200}}[\\/])?{_TOOLS}(?:\.exe)?[`'\"]?"
# The generic kind "died": which kind it is follows from the tool and the number.
WORDINGS = (
    wording("died", rf"{_QUOTED} died due to signal (?P<number>[0-9]{{1,3}})(?: "
                    rf"\((?P<words>[^)\n]{{1,60}})\))?", "died due to"),
    wording("died", rf"{_QUOTED} died with status (?P<status>0x[0-9A-Fa-f]{{8}})(?: "
                    rf"\((?P<words>[^)\n]{{1,60}})\))?", "died with"),
    wording("died", rf"{_QUOTED} core dumped", "core dumped"),
    wording("died", rf"{_QUOTED} raised (?P<name>SIG[A-Z]{{2,6}})", "raised SIG"),
    wording("died", rf"{_QUOTED} failed with error code (?P<code>-?[0-9]{{1,10}})", "failed with error code"),
    wording("died", rf"{_QUOTED} received signal (?P<number>[0-9]{{1,3}})", "received signal"),
    wording("died", rf"{_QUOTED} exited with code (?P<code>-?[0-9]{{1,10}})", "exited with code"),
    wording("died", rf"{_QUOTED} exited with non-zero error code (?P<wait>-?[0-9]{{1,10}})", "exited with non-zero"),
    wording("died", rf"{_QUOTED} command failed due to signal", "failed due to signal"),
    wording("died", rf"{_QUOTED}[^\n]{{0,600}}?died with <Signals\.(?P<name>SIG[A-Z]{{2,6}})", "died with <Signals"),
    wording("died", rf"{_QUOTED} TERMINATED by signal (?P<number>[0-9]{{1,3}})", "TERMINATED by signal"),
    wording("died", rf"{_QUOTED}(?:(?! died )[^\n]){{0,600}}? returned non-zero exit "
            r"status (?P<code>-?[0-9]{1,10})\b",
            "returned non-zero exit"),
    wording("died", rf"(?P<words>Segmentation fault|Aborted|Killed)(?: ?\(core dumped\))?[^\n]{{0,80}}? {_QUOTED}(?= "
                    rf"|$)", "ptxas"),
)  # fmt: skip
PTXAS_WORDINGS = ()

SIGNALS = {
    4: ("SIGILL", "illegal instruction"),
    6: ("SIGABRT", "the program gave itself up"),
    7: ("SIGBUS", "a fault of memory or disk"),
    8: ("SIGFPE", "an arithmetic fault"),
    9: ("SIGKILL", "killed from outside"),
    11: ("SIGSEGV", "invalid memory reference"),
    15: ("SIGTERM", "told to end"),
}
_NUMBER_OF = {name: number for number, (name, _) in SIGNALS.items()}
# Windows: status codes as a process leaves them.
STATUSES = {0xC0000005: "access violation", 0xC00000FD: "stack overflow", 0xC0000409: "stack buffer overrun",
            0xC000001D: "illegal instruction", 0xC0000374: "heap corruption",
            0xC0000135: "a DLL that it needs is missing", 0xC0000139: "a DLL lacks a function that it needs",
            0xC000007B: "a DLL of another kind of processor", 0xC0000142: "a DLL failed to start"}  # fmt: skip
# With these it never began: Windows could not start it.
NOT_STARTED = (0xC0000135, 0xC0000139, 0xC000007B, 0xC0000142)
KILL, SEGV, BUS = 9, 11, 7
_WORDS_SIGNAL = {"Segmentation fault": SEGV, "Aborted": 6, "Killed": KILL}


def _signal_of(failure: Failure, text: str) -> tuple[int | None, int | None]:
    """(signal, Windows status) that a death tells of; (None, None) where it names neither."""
    if name := failure.detail("name"):
        return _NUMBER_OF.get(name), None
    if number := failure.detail("number"):
        return int(number), None
    if status := failure.detail("status"):
        return None, int(status, 16)
    if code := failure.detail("code"):
        return _of_exit_code(int(code))
    if wait := failure.detail("wait"):
        return _of_wait_status(int(wait))
    words = failure.detail("words")
    if words in _WORDS_SIGNAL:
        return _WORDS_SIGNAL[words], None
    if "core dumped" in failure.message and "fault" not in failure.message:
        return 0, None
    if "failed due to signal" in failure.message:
        # clang names the signal in the line before.
        near = next((w for w in _WORDS_SIGNAL if w in text), None)
        return (_WORDS_SIGNAL[near] if near else 0), None
    return None, None


def _of_exit_code(code: int) -> tuple[int | None, int | None]:
    """A shell reports a death by signal as 128 + its number, subprocess as a negative number, Windows as a status."""
    if code < 0 and -code in SIGNALS:
        return -code, None
    if 128 < code <= 192:
        return code - 128, None
    if code & 0xFFFFFFFF in STATUSES:
        return None, code & 0xFFFFFFFF
    return None, None


def _of_wait_status(status: int) -> tuple[int | None, int | None]:
    """XLA prints what wait() gave: the signal in the low seven bits, the exit code in the next byte."""
    signal = status & 0x7F
    if 0 < signal and status < 256 and signal in SIGNALS:
        return signal, None
    return _of_exit_code(status >> 8) if status >= 256 else (None, None)


def recognise(log: CrashLog, found: Iterable[Failure]) -> Iterable[Failure]:
    """Deaths of compilers as kinds: `ptxas_signal`, `ptxas_exit` (left without a word) or `compiler_died`."""

    spoken = any(run.complaints for run in log.runs)
    deaths = [f for f in found if f.kind == "died"]
    for failure in deaths:
        if failure.message.endswith("core dumped") and len(deaths) > 1:
            continue  # said of the death that the line before names
        tool = failure.detail("tool") or "ptxas"
        start = max(0, failure.at - 3)
        signal, status = _signal_of(failure, "\n".join(log.bare[start : failure.at + 1]))
        name = f"signal {signal}" if signal else "a signal" if signal == 0 else f"0x{status:08X}" if status else None
        if failure.detail("name"):
            name = failure.detail("name")
        details = {**failure.details, "signal_number": str(signal or ""), "status_number": str(status or "")}
        if name is not None:
            kind = "ptxas_signal" if tool.startswith("ptxas") else "compiler_died"
        elif tool.startswith("ptxas") and not spoken and _silent(failure):
            kind = "ptxas_exit"
        else:
            continue  # an exit code beside words of ptxas adds nothing to them
        command = _command_after(log, failure.at)
        yield replace(failure, kind=kind, signal=name, details=details, command=command or None,
                      ptx_path=split_command(command)[2] or None)  # fmt: skip


def _command_after(log: CrashLog, at: int) -> str:
    """The command that Triton prints a few lines behind the death."""
    line = next((x for x in log.bare[at : at + 12] if x.startswith("Repro command:")), "")
    return line[len("Repro command:") :].strip()[:4_000]


def _silent(failure: Failure) -> bool:
    code = failure.detail("code") or failure.detail("wait")
    return code not in (None, "0")


# --- what is said -----------------------------------------------------------------------------------------


def _signal_answer(log: CrashLog, failure: Failure) -> Answer:
    tool = failure.detail("tool") or "ptxas"
    number = int(failure.detail("signal_number") or 0)
    status = int(failure.detail("status_number") or 0)
    because = [f"the log says: {failure.message}", _what_signal(tool, number, status, failure.signal)]
    chip = log.arch and known_chip(log.arch)
    if chip:
        because.append(f"it was compiling for {chip_words(log.arch or '')}")
    if number == KILL:
        return _killed(log, tool, because)
    if number == BUS:
        return _bus_error(tool, because)
    if status in NOT_STARTED:
        return _not_started(tool, status, because)
    helps = [other_ptxas(), lower_level()] if tool.startswith("ptxas") else [_other_cuda(tool)]
    in_vain = (
        Suggestion(
            "the same compile again, unchanged",
            "a compiler that breaks off does so each time, unless the machine is ill",
            "general",
        ),
    )
    made = maker(log)
    with_tool = f"; {made} as well, whose code it was" if made and tool.startswith("ptxas") else ""
    return Answer(
        tuple(because),
        tuple(helps),
        in_vain,
        NVIDIA,
        f"a compiler that breaks off by itself is at fault whatever its input: name "
        f"{_version_words(log, tool)}{with_tool}",
        _attach(log, failure, tool),
        ptx_verbs(log) if tool.startswith("ptxas") else (),
        title=_title(tool, status),
    )


def _what_signal(tool: str, number: int, status: int, name: str | None) -> str:
    if status in NOT_STARTED:
        return f"0x{status:08X} is Windows's status for: {STATUSES[status]}; {tool} never began, and read no PTX"
    if status:
        what = STATUSES.get(status, "exception")
        return f"{tool} died of: {what} (0x{status:08X}): a fault of its own, and not a word about the kernel"
    if number == KILL:
        return f"signal 9 kills from outside: mostly the machine ran out of memory (RAM) while {tool} and others ran"
    if number == BUS:
        return f"signal 7 is SIGBUS: {tool} touched memory that is not behind its address, mostly a file on a full disk"
    if number in SIGNALS:
        short, words = SIGNALS[number]
        return f"signal {number} is {short} ({words}): {tool} broke off by itself, without a word about the kernel"
    return f"{tool} was ended by {name or 'a signal'}; the log does not say more"


def _not_started(tool: str, status: int, because: list[str]) -> Answer:
    return Answer(
        tuple(because),
        (
            Suggestion(
                f"start it by hand ({tool} --version): Windows then names the DLL; the Microsoft Visual C++ runtime "
                "(VC redistributable) is the one that is mostly missing",
                "without its DLLs no program starts",
                "Microsoft's list of NTSTATUS values",
            ),
        ),
        (Suggestion("other settings of the kernel", "no compile began", "follows from the status"),),
        "nobody yet",
        "the installation is at fault, not the compiler",
        (f"what {tool} --version says",),
        title=f"{tool} could not be started: {STATUSES[status]}",
    )


def _bus_error(tool: str, because: list[str]) -> Answer:
    return Answer(
        tuple(because),
        (
            Suggestion(
                "look whether the temporary folder or shared memory is full: df -h /tmp /dev/shm (and TMPDIR), free -h",
                "a file that is read and written as memory ends a program by this signal when its disk is full",
                "general: signal(7), mmap(2)",
            ),
            Suggestion(
                f"then {tool} alone on the same input, and on another machine",
                "the same end on a machine with room and sound memory shows that the program is at fault",
                "general",
            ),
        ),
        (),
        "nobody yet",
        f"the machine's disk or memory is the first suspect; to NVIDIA if {tool} alone ends so with room to spare",
        ("df -h, free -h and dmesg of around that time",),
        title=_title(tool, 0),
        confidence=LIKELY,
    )


def _killed(log: CrashLog, tool: str, because: list[str]) -> Answer:
    return Answer(
        tuple(because),
        (
            Suggestion(
                "fewer jobs at once (MAX_JOBS=1, ninja -j 1, make -j 1; nvcc --threads 1), or a machine with more "
                "memory",
                f"each {tool} of a large kernel can take gigabytes; the operating system ends one when memory is full",
                "general; `dmesg | grep -i oom` (or the container's memory limit) says whether it was so",
            ),
            Suggestion(
                f"another release of {tool if tool.startswith('ptxas') else 'CUDA'}, or a smaller kernel (less "
                "unrolled), if one job alone is killed",
                "then it is the compile itself that takes too much",
                "general; not measured here for this kernel",
            ),
        ),
        (
            Suggestion(
                "register or tile settings alone, while many jobs run",
                "what is short is the machine's memory, not the GPU's",
                "follows from the signal",
            ),
        ),
        "nobody yet",
        f"a {tool} that is killed from outside is not at fault; to NVIDIA if it is killed when it runs alone with "
        "memory to spare",
        ("the amount of RAM, the number of parallel jobs, and dmesg around that time",),
        title=_title(tool, 0),
        confidence=LIKELY,
    )


def _title(tool: str, status: int) -> str:
    """The kind's title for this tool; Windows ends a program by a status, not by a signal."""
    if status:
        return f"{tool} died: {STATUSES.get(status, 'an exception')}"
    return "" if tool.startswith("ptxas") else f"{tool} was killed by a signal"


def _other_cuda(tool: str) -> Suggestion:
    return Suggestion(
        f"another release of CUDA ({tool} comes with it)",
        "a compiler that breaks off by itself is at fault whatever its input; another release may not be",
        "reported in general; not measured here",
    )


def _version_words(log: CrashLog, tool: str) -> str:
    version = log.value("ptxas_version") or log.value("cuda_of_ptxas")
    return f"{tool} {version}" if version and tool.startswith("ptxas") else f"the release of {tool}"


def _attach(log: CrashLog, failure: Failure, tool: str) -> tuple[str, ...]:
    path = failure.ptx_path or log.ptx_path
    source = f"the PTX ({path})" if path else "the PTX" if tool.startswith("ptxas") else "the source it was compiling"
    return (source, f"the command line of {tool}", f"{tool} --version")


def _exit_answer(log: CrashLog, failure: Failure) -> Answer:
    code = failure.detail("code") or failure.detail("wait") or ""
    minus_one = " (that is -1)" if code == "4294967295" else ""
    because = [
        f"the log says: {failure.message}",
        f"ptxas left with {code}{minus_one} and without a word: the reason is not in the log",
    ]
    old = log.arch is not None and (known_chip(log.arch) is not None) and known_chip(log.arch).capability < 80  # type: ignore[union-attr]
    if log.arch:
        because.append(f"it was compiling for {chip_words(log.arch)}")
    helps = [
        Suggestion(
            "run the command by hand" + (" (it stands after `Repro command:`)" if log.ptxas_program else "")
            + " in a terminal: ptxas then says why",
            "what it printed is not in the log",
            "general",
        )
    ]  # fmt: skip
    if old:
        helps.append(Suggestion(
            "fp16 or fp32 instead of bf16, if the kernel uses bf16",
            f"bf16 needs sm_80 or higher, and it is the usual reason for ptxas to refuse a kernel on {log.arch}",
            "reported: the commonest error of ptxas on chips before sm_80; this log does not say it",
        ))  # fmt: skip
    helps.append(Suggestion(
        "check that this ptxas starts at all (ptxas --version), and that the temporary folder can be written",
        "an antivirus, a missing library or a full disk ends it in silence too",
        "general",
    ))  # fmt: skip
    return Answer(
        tuple(because),
        tuple(helps),
        (),
        "nobody yet",
        "without ptxas's words nobody can tell whose fault it is",
        ("what ptxas says when the command is run by hand", "ptxas --version"),
        ptx_verbs(log),
    )


def _host_memory(log: CrashLog, failure: Failure) -> Answer:
    return Answer(
        (f"ptxas says: {failure.message}", "ptxas ran out of the machine's memory (RAM), not of the GPU's"),
        (
            Suggestion(
                "fewer jobs at once (MAX_JOBS=1, ninja -j 1), or a machine with more memory",
                "each ptxas of a large kernel takes gigabytes",
                "follows from the message",
            ),
        ),
        (),
        "nobody yet",
        "to NVIDIA only if it happens when ptxas runs alone with memory to spare",
        ("the amount of RAM and the number of parallel jobs",),
    )


KINDS = (
    Kind("ptxas_signal", "ptxas was killed by a signal", _signal_answer),
    Kind(
        "compiler_died",
        "a compiler beside ptxas was killed by a signal",
        _signal_answer,
        public="build_failed_elsewhere",
    ),
    Kind("ptxas_exit", "ptxas left without saying why", _exit_answer, public="ptxas_signal"),
    Kind("host_memory", "ptxas ran out of the machine's memory", _host_memory, public="ptxas_error"),
)

__all__ = ["KINDS", "PTXAS_WORDINGS", "SIGNALS", "STATUSES", "WORDINGS", "recognise"]
