"""Toolchains that do not fit: a chip that ptxas does not know, PTX for another target, PTX of another version.

And what ptxas refuses for what the PTX says.
"""

from __future__ import annotations

from helpers.diagnosis.failure import Answer, Failure, Kind, Suggestion, wording
from helpers.diagnosis.words import (
    NOBODY,
    NVIDIA,
    OWNER,
    TRITON,
    chip_words,
    is_cuda_cpp,
    is_triton,
    maker,
    ptx_verbs,
    spec_verbs,
    triton_words,
)
from helpers.hardware import known_chip
from helpers.inspection.crash.crash_log import CrashLog
from helpers.recorded import recorded

_SM = r"sm_[0-9]{2,4}[a-z]?"
PTXAS_WORDINGS = (
    wording("unsupported_arch", rf"Value '(?P<unknown>{_SM})' is not defined for option 'gpu-name'"),
    wording("unsupported_arch", rf"Unsupported \.target '?(?P<unknown>{_SM})'?"),
    wording("unsupported_arch",
            rf"PTX \.version (?P<version>[0-9.]{{1,8}}) does not support ?\.target (?P<unknown>{_SM})"),
    wording("target_mismatch",
            rf"PTX with \.target '(?P<target>{_SM})' cannot be compiled for architecture '(?P<gpu_name>{_SM})'"),
    wording("target_mismatch",
            rf"Program with \.target '(?P<target>{_SM})' cannot be compiled to future architecture(?: "
            rf"'(?P<gpu_name>{_SM})')?"),
    wording("target_mismatch", r"SM version specified by \.target is higher than default SM version assumed"),
    wording("unsupported_ptx_version",
            r"Unsupported \.version (?P<version>[0-9.]{1,8}); ?current version is '(?P<current>[0-9.]{1,8})'"),
    wording("unsupported_ptx_version", r"Unsupported \.version (?P<version>[0-9.]{1,8})"),
    wording("ptx_version_too_low",
            r"(?P<feature>\S[^\n;]{0,120}?) requires ?PTX ISA \.version (?P<version>[0-9.]{1,8}) or later"),
    wording("cannot_write", r"(?:(?:Could not|Cannot|Failed to) (?:open|create) (?:the )?output ?file|"
                            r"Could not write|Failed to write)[^\n]{0,300}|No space left on device|Disk quota "
                            r"exceeded"),
    wording("internal_error", r"\(C7907\)[^\n]{0,200}|[Ii]nternal (?:compiler )?error[^\n]{0,200}"),
    wording("no_input", r"(?:Could not|Cannot|Failed to) open (?:the )?input file '?(?P<file>[^'\n]{1,400})'?"),
    wording("host_memory", r"[Mm]emory [Aa]llocation (?:[Ff]ailure|[Ee]rror)|[Oo]ut of memory"),
    wording("illegal_instruction",
            r"Not a name of any known instruction[^\n]{0,200}|Parsing error[^\n]{0,200}|Illegal [^\n]{0,200}|Unknown "
            r"(?:modifier|symbol|"
            r"directive)[^\n]{0,200}|Arguments mismatch[^\n]{0,200}|Unexpected instruction types[^\n]{0,200}|Invalid "
            r"[^\n]{0,200}|"
            r"Undefined[^\n]{0,200}|Unrecognized[^\n]{0,200}|Modifier '[^\n]{0,200}? cannot be applied[^\n]{0,200}|"
            r"State space (?:incorrect|mismatch)[^\n]{0,200}|Call has wrong number[^\n]{0,120}|Duplicate "
            r"definition[^\n]{0,200}|Unexpected [^\n]{0,200}|syntax error"),
    wording("unresolved_symbol", r"Unresolved extern (?:function|variable) '(?P<symbol>[^'\n]{1,500})'"),
)  # fmt: skip
WORDINGS = (
    wording("unsupported_arch", r"nvcc fatal ?: ?Unsupported gpu architecture '(?P<unknown>(?:sm|"
                                r"compute)_[0-9]{2,4}[a-z]?)'",
            "Unsupported gpu architecture"),
    wording("unsupported_arch", rf"nvcc fatal ?: ?Value '(?P<unknown>{_SM})' is not defined for option 'gpu-(?:code|"
                                rf"architecture|name)'",
            "is not defined for option"),
    wording("unsupported_arch", rf"(?P<tool>tileiras): [^\n]{{0,80}}Cannot find option named '(?P<unknown>{_SM})'",
            "Cannot find option named"),
    wording("unsupported_arch", r"nvrtc: error: invalid value for --gpu-architecture", "invalid value for "
                                                                                       "--gpu-architecture"),
    wording("unsupported_arch", rf"(?:error|warning): '?(?P<unknown>{_SM})'? is not a recognized processor for this "
                                rf"target",
            "is not a recognized processor"),
    wording("unsupported_arch", rf"Unsupported CUDA gpu architecture: (?P<unknown>{_SM})", "Unsupported CUDA gpu arch"),
    wording("unsupported_ptx_version",
            r"Triton only supports? CUDA [0-9.]{1,6} or higher, but got CUDA version: "
            r"?(?P<cuda>[0-9.]{1,8})", "Triton only support"),
    wording("unsupported_ptx_version", r"the provided PTX was compiled with an unsupported "
                                       r"toolchain", "unsupported toolchain"),
)  # fmt: skip


# --- a chip that ptxas does not know -----------------------------------------------------------------------


# Whose words a refusal is, where it says so itself.
_WHO = (("nvcc ", "nvcc"), ("nvrtc", "NVRTC"), ("gpu-name", "ptxas"), ("recognized processor", "LLVM"))


def _nvrtc(log: CrashLog, failure: Failure) -> Answer:
    """NVRTC refuses a chip's name, and does not repeat it; the program that calls NVRTC chose it."""
    caller = next((name for name in ("CuPy", "Numba", "Inductor", "Triton") if log.speaks(name)), "")
    whose = f"{caller}, which calls NVRTC" if caller else "the program that calls NVRTC"
    return Answer(
        (
            f"NVRTC says: {failure.message}",
            f"the name of the chip is given by {whose}, and is mostly that of the GPU in the machine; NVRTC does not "
            "repeat it",
            "a usual reason is an NVRTC older than the GPU; a GPU that NVRTC's release has dropped is another",
        ),
        (
            Suggestion(
                "an NVRTC (CUDA toolkit or its package) that knows the GPU"
                + (f", with a {caller} built for it" if caller else ""),
                "from sm_120 on that is CUDA 12.8 or later; before sm_75 it is CUDA 12 or earlier",
                "CUDA's release notes",
            ),
        ),
        (Suggestion("changes in the kernel", "NVRTC stops before it reads the kernel", "the message"),),
        NOBODY,
        "two parts of the toolchain are of different ages; no compiler is at fault",
        ("the GPU and its chip (nvidia-smi)", f"the versions of {caller or 'the calling program'} and of its CUDA"),
    )  # fmt: skip


def _by_nvcc(name: str, first: str) -> tuple[tuple[Suggestion, ...], tuple[Suggestion, ...]]:
    """What helps where nvcc itself refuses a chip that is newer than it is."""
    number = f"{name[3:].rstrip('af')[:-1]}.{name[3:].rstrip('af')[-1]}"
    return (
        (
            Suggestion(f"an nvcc of CUDA {first} or later", f"{name} is in it", "CUDA's release notes"),
            Suggestion(
                f"or take {name} out of the list of targets (-gencode, CMAKE_CUDA_ARCHITECTURES; for PyTorch's "
                f"extensions TORCH_CUDA_ARCH_LIST without {number}, and with +PTX behind the last chip that nvcc "
                "knows)",
                f"code for an earlier chip runs on {name} where that chip is of the same major number, and PTX of any "
                "earlier chip is compiled by the driver",
                "the CUDA programming guide: binary and PTX compatibility",
            ),
        ),
        (
            Suggestion("another ptxas beside this nvcc", "nvcc itself refuses the name", "nvcc's own message"),
            Suggestion("changes in the kernel", "nvcc stops before it reads the source", "nvcc's own message"),
        ),
    )


def _unsupported_arch(log: CrashLog, failure: Failure) -> Answer:
    name = (failure.detail("unknown") or log.arch or "").replace("compute_", "sm_")
    who = failure.detail("tool") or next((w for words, w in _WHO if words in failure.message), "")
    who = who or ("ptxas" if log.runs else "the compiler")
    if who == "NVRTC":
        return _nvrtc(log, failure)
    because = [f"{who} says: {failure.message}"]
    chip = known_chip(name)
    if failure.detail("version"):
        because.append(
            f"the PTX declares version {failure.detail('version')}, which is older than {name}: whoever wrote the "
            f"PTX does not "
            "know the chip"
        )
        helps, in_vain = _pair_too_old(log, name)
    elif failure.detail("tool") == "tileiras":
        because.append(f"this tileiras, cuTile's compiler, has no {chip_words(name)}")
        helps, in_vain = _cutile(name), _no_new_ptxas(log)
    elif name.startswith("sm_101"):
        new = name.replace("sm_101", "sm_110")
        because.append(f"{name} is Thor's name up to CUDA 12.9; from CUDA 13.0 on the same chip is called {new}")
        helps, in_vain = (
            Suggestion(f"write {new} for {name}, where the {who} is one of CUDA 13.0 or later", "it is the same chip",
                       "CUDA's release notes"),
            Suggestion(f"or take a {who} of CUDA 12.8 or 12.9, which knows {name}", "it is the name's own release",
                       "CUDA's release notes"),
        ), ()  # fmt: skip
    elif chip and chip.last_cuda:
        because.append(
            f"{chip_words(name)} was dropped after CUDA {chip.last_cuda}: {who} of CUDA 13 and later does not know it"
        )
        helps, in_vain = _older_toolkit(log, name, chip.last_cuda)
    elif before := _BEFORE_MAXWELL.get(name.rstrip("af")):
        because.append(f"{name} is older than Maxwell (sm_50) and was dropped after CUDA {before}")
        helps, in_vain = _before_maxwell(name, before)
    elif chip:
        because.append(f"{chip_words(name)} is known from CUDA {chip.first_cuda} on: this {who} is older")
        helps, in_vain = (
            _by_nvcc(name, chip.first_cuda) if who == "nvcc" else _newer_toolkit(log, name, chip.first_cuda)
        )
    else:
        because.append(
            f"this project's table of chips, sm_50 to sm_121, has no {name}"
            if name
            else "which chip, the log does not say"
        )
        helps, in_vain = (_check_name(),), ()
    to = NOBODY
    why = "another release of the toolchain knows the chip; no compiler is at fault"
    return Answer(tuple(because), helps, in_vain, to, why, _versions_wanted(log), spec_verbs(log, "matrix"))


# The last CUDA that compiled for chips before Maxwell (CUDA's release notes).
_BEFORE_MAXWELL = {"sm_20": "8.0", "sm_21": "8.0", "sm_30": "10.2", "sm_32": "10.2", "sm_35": "11.8", "sm_37": "11.8"}


def _before_maxwell(name: str, last: str) -> tuple[tuple[Suggestion, ...], tuple[Suggestion, ...]]:
    return (
        (
            Suggestion(
                f"take {name} out of the list of targets (-gencode, CMAKE_CUDA_ARCHITECTURES, TORCH_CUDA_ARCH_LIST), "
                "if the GPU is a newer one",
                "a build compiles for every target in its list, whatever GPU is in the machine",
                "general: nvcc compiles once a target",
            ),
            Suggestion(f"or a CUDA toolkit up to {last}", f"the last that compiles for {name}", "CUDA's release notes"),
        ),
        (Suggestion("a newer CUDA", "the newer releases are those that dropped the chip", "CUDA's release notes"),),
    )


def _check_name() -> Suggestion:
    return Suggestion(
        "check the name: chips are called sm_90, sm_90a, sm_100a …",
        "a name that ptxas does not know is refused whatever is in the PTX",
        "ptxas's own message; helpers/hardware.py lists the chips from sm_50 on",
    )


def _older_toolkit(log: CrashLog, name: str, last: str) -> tuple[tuple[Suggestion, ...], tuple[Suggestion, ...]]:
    how = {
        "Julia (CUDA.jl)": f'in CUDA.jl: CUDA.set_runtime_version!(v"{last}")',
        "nvcc": "nvcc of that toolkit",
    }
    words = next((text for tool, text in how.items() if log.speaks(tool)), "the ptxas of that toolkit")
    return (
        (
            Suggestion(
                f"a CUDA toolkit up to {last} ({words})",
                f"the last ptxas that compiles for {name} is that of CUDA {last}",
                "CUDA's release notes (13.0 dropped the chips before sm_75)",
            ),
            Suggestion(
                f"if the GPU is a newer one: take {name} out of the list of targets",
                "a build compiles for every target in its list",
                "general",
            ),
        ),
        (
            Suggestion(
                "a newer CUDA, ptxas or driver",
                "the newer releases are those that dropped the chip",
                "CUDA's release notes",
            ),
        ),
    )


def _newer_toolkit(log: CrashLog, name: str, first: str) -> tuple[tuple[Suggestion, ...], tuple[Suggestion, ...]]:
    helps = []
    if is_triton(log):
        rows = (r for r in recorded("compile_rows") if r["triton_version"] == "3.7.1" and r["status"] == "spills")
        measured_here = {form for r in rows for form in (r["arch"], r["arch"].rstrip("af"))}
        evidence = (
            f"measured here (data/compile_rows.csv): Triton 3.7.1 compiles for {name}"
            if name in measured_here
            else f"CUDA's release notes for ptxas; which Triton brings one that knows {name} is not recorded here"
        )
        helps += [
            Suggestion("a newer Triton (with its own ptxas)",
                       "both have to know the chip: Triton writes the PTX version, ptxas the machine code", evidence),
            *(() if _by_own_ptxas(log) else (_own_ptxas(log),)),
        ]  # fmt: skip
    else:
        helps.append(Suggestion(
            f"a ptxas of CUDA {first} or later" + (" (nvcc brings one)" if log.speaks("nvcc") else ""),
            f"{name} is in it", "CUDA's release notes",
        ))  # fmt: skip
    in_vain = []
    if is_triton(log):
        in_vain.append(Suggestion(
            "a newer ptxas called by hand on the PTX that is already written",
            "its `.version` can be older than the chip, and ptxas refuses the pair",
            "measured here: ptxas 12.9 refuses Triton 3.5.1's PTX for sm_103a (tests/fixtures/logs)",
        ))  # fmt: skip
    in_vain.append(
        Suggestion("tile sizes, warps or ptxas flags", "ptxas stops before it reads the kernel", "ptxas's own message")
    )
    return tuple(h for h in helps if h), tuple(in_vain)


def _pair_too_old(log: CrashLog, name: str) -> tuple[tuple[Suggestion, ...], tuple[Suggestion, ...]]:
    writer = "Triton" if is_triton(log) else "compiler that writes the PTX"
    return (
        (Suggestion(f"a newer {writer}", f"it has to write PTX of a version that has {name}", "ptxas's own message"),),
        (
            Suggestion(
                "a newer ptxas alone",
                "it reads the same old `.version` and refuses the pair",
                "measured here: ptxas 12.9 refuses Triton 3.5.1's PTX for sm_103a (tests/fixtures/logs)",
            ),
        ),
    )


def _cutile(name: str) -> tuple[Suggestion, ...]:
    return (
        Suggestion(
            f"look in the release notes of tileiras for {name}; without it, write the kernel in another language "
            f"(CUDA C++, Triton, "
            "Numba)",
            "cuTile compiles for the chips its tileiras lists, and early releases list few",
            "the message; which release knows which chip is not recorded here",
        ),
    )


def _no_new_ptxas(log: CrashLog) -> tuple[Suggestion, ...]:
    return (
        Suggestion(
            "another ptxas, or other options of the kernel", "tileiras itself refuses the chip's name", "the message"
        ),
    )


def _by_own_ptxas(log: CrashLog) -> bool:
    """Whether the ptxas that refused is the one that Triton brings: then no override is at fault."""
    return log.value("ptxas_origin") == "bundled with Triton"


def _own_ptxas(log: CrashLog) -> Suggestion:
    chip = known_chip(log.arch) if log.arch else None
    before_blackwell = chip is not None and chip.capability < 100
    return Suggestion(
        "Triton's own ptxas: unset TRITON_PTXAS_PATH, where it is set"
        if before_blackwell
        else "Triton's own ptxas: unset TRITON_PTXAS_PATH and TRITON_PTXAS_BLACKWELL_PATH, where they are set",
        "an override set for another version hands PTX to a ptxas that cannot read it",
        "read in Triton's wheels (knobs.py): from 3.6 on Blackwell has a variable of its own",
    )


def _versions_wanted(log: CrashLog) -> tuple[str, ...]:
    wanted = []
    if not log.value("ptxas_version"):
        wanted.append("`ptxas --version` (or `nvcc --version`) of the one that ran")
    if log.arch is None:
        wanted.append("the GPU and its chip (nvidia-smi)")
    return tuple(wanted)


# --- a target and an arch that differ ----------------------------------------------------------------------


def _target_mismatch(log: CrashLog, failure: Failure) -> Answer:
    target, gpu_name = failure.detail("target") or _ptx_target(log), failure.detail("gpu_name")
    because = [f"ptxas says: {failure.message}"]
    if target:
        because.append(
            f"the PTX was written for {target}"
            + (f", and ptxas was told {gpu_name}" if gpu_name else "; ptxas was told a lower chip, or none")
        )
        if target[-1] in "af":
            because.append(
                f"{target} is an arch-specific target: its PTX compiles for --gpu-name={target} only, not for "
                f"{target[:-1]} and not for later chips"
            )
    else:
        because.append("ptxas was told no --gpu-name, or a lower one than the .target of the PTX")
    wanted = target or "the .target that stands at the head of the PTX"
    made = maker(log)
    return Answer(
        tuple(because),
        (
            Suggestion(
                f"call ptxas with --gpu-name={target}" if target else f"call ptxas with --gpu-name set to {wanted}",
                "the PTX and the chip have to be the same" if target else "without it ptxas takes its default chip",
                "ptxas's own message",
            ),
            Suggestion(
                f"or write the PTX for the chip that ptxas is told{f' ({gpu_name})' if gpu_name else ''}",
                "then nothing arch-specific is in it",
                "follows from the message",
            ),
        ),
        (Suggestion("another release of ptxas", "it refuses the pair as well", "PTX ISA: rules of .target"),),
        f"whoever calls ptxas{f': {made}' if made and not is_triton(log) else ''}",
        "it hands over PTX for one target and names another",
        ("the command line of ptxas",),
        ptx_verbs(log),
    )


def _ptx_target(log: CrashLog) -> str | None:
    return next((f.value for f in log.facts if f.name == "arch" and ".target" in f.text), None)


# --- versions of PTX ---------------------------------------------------------------------------------------


def _ptx_version(log: CrashLog, failure: Failure) -> Answer:
    version, current = failure.detail("version"), failure.detail("current")
    who = "Triton" if failure.detail("cuda") else "ptxas"
    because = [
        f"{who} says: {failure.message}"
        if log.runs or failure.detail("cuda")
        else f"the driver says: {failure.message}"
    ]
    if version and current:
        because.append(
            f"the PTX is of version {version}, and this ptxas reads versions up to {current}: it is the older one"
        )
    driver = _inside_the_driver(log, failure)
    helps: list[Suggestion] = []
    if log.speaks("nvJitLink"):
        helps.append(Suggestion(
            "an nvJitLink at least as new as the compiler that wrote the PTX (package nvidia-nvjitlink, or the CUDA "
            "toolkit's)",
            "here the ptxas is the one inside nvJitLink: it reads PTX up to its own version",
            "the message; NVIDIA's page on CUDA compatibility",
        ))  # fmt: skip
    elif driver:
        helps.append(Suggestion(
            "a newer driver, or a CUDA toolkit for the kernel's compiler that is no newer than the driver's CUDA "
            "(nvidia-smi names it)",
            "here the ptxas is the one inside the driver, or of a library such as nvJitLink: it reads PTX up to its "
            "own version",
            "the message; NVIDIA's page on CUDA compatibility",
        ))  # fmt: skip
    elif is_triton(log) and not _by_own_ptxas(log):
        helps.append(_own_ptxas(log))
    if not driver:
        helps.append(Suggestion(
            "a ptxas at least as new as the PTX" + (f" (one that reads {version})" if version else ""),
            "ptxas reads every PTX version up to its own",
            "measured here (data/version_matrix.csv): each Triton's PTX is refused by every older ptxas",
        ))  # fmt: skip
    return Answer(
        tuple(because),
        tuple(helps),
        (
            Suggestion(
                "editing `.version` in the PTX down",
                "works only where nothing in it is newer; it changes what is compiled",
                "follows from the PTX ISA's rules; not measured here",
            ),
        ),
        NOBODY,
        "two parts of the toolchain are of different ages; no compiler is at fault",
        _versions_wanted(log),
        spec_verbs(log, "matrix"),
    )


def _inside_the_driver(log: CrashLog, failure: Failure) -> bool:
    """Whether the ptxas that refused is a library's or the driver's: it names its input so, or its error is there."""
    return (
        log.speaks("the CUDA driver's linker", "nvJitLink", "Numba")
        or "unsupported toolchain" in failure.message
        or "CUDA_ERROR_UNSUPPORTED_PTX_VERSION" in log.text
        or "ptxas application ptx input" in log.text
    )


def _version_too_low(log: CrashLog, failure: Failure) -> Answer:
    needs = failure.detail("version")
    writer = maker(log)
    return Answer(
        (
            f"ptxas says: {failure.message}",
            f"the head of the PTX declares a version below {needs}; ptxas itself may be newer",
        ),
        (
            Suggestion(
                f"have the PTX written with `.version {needs}` or later (a newer compiler, or its option for the PTX "
                f"version)",
                "the feature is from that version on",
                "ptxas's own message",
            ),
        ),
        (Suggestion("another GPU", "the message is about the version that the PTX declares", "ptxas's own message"),),
        f"whoever wrote the PTX{f': {writer}' if writer else ''}",
        "it uses what its declared version does not have",
        ("the head of the PTX (.version, .target)",),
        ptx_verbs(log),
    )


# --- what ptxas cannot read, and its own faults -------------------------------------------------------------


def _illegal(log: CrashLog, failure: Failure) -> Answer:
    said = triton_words(log)
    made = maker(log)
    if "Duplicate definition of" in failure.message:
        return _defined_twice(log, failure, made)
    return Answer(
        (f"ptxas says: {failure.message}",),
        (
            Suggestion(
                "look at the PTX line that ptxas names; is it inline assembly of the kernel's own?",
                "ptxas could not read it: a name or operand that this PTX version or chip does not have",
                "ptxas's own message",
            ),
        ),
        (),
        f"{OWNER} if it has inline assembly, else {made or 'whoever wrote the PTX'}",
        "whoever wrote that PTX line" + (f"; Triton's version: {said}" if said else ""),
        (f"the PTX, with line {failure.ptx_line}" if failure.ptx_line else "the PTX",),
        ptx_verbs(log),
    )


def _defined_twice(log: CrashLog, failure: Failure, made: str) -> Answer:
    return Answer(
        (
            f"ptxas says: {failure.message}",
            "the name is defined twice in the PTX; each of the two can be read",
        ),
        (
            Suggestion(
                "look for the other definition of that name: inline assembly that stands in a function which is "
                "inlined more than once, or PTX put together from several pieces, are usual ways to it",
                "a name may be defined once where it is visible; in inline assembly braces { } or %= keep it apart",
                "ptxas's own message; the CUDA guide to inline PTX",
            ),
        ),
        (Suggestion("another ptxas or chip", "the PTX says it twice for each", "ptxas's own message"),),
        f"{OWNER} if it has inline assembly, else {made or 'whoever wrote the PTX'}",
        "whoever put that PTX together wrote the name twice",
        (f"the PTX, with line {failure.ptx_line}" if failure.ptx_line else "the PTX",),
        ptx_verbs(log),
        title="a name is defined twice in the PTX",
    )


def _internal(log: CrashLog, failure: Failure) -> Answer:
    version = log.value("ptxas_version") or log.value("cuda_of_ptxas")
    made = maker(log)
    return Answer(
        (f"ptxas says: {failure.message}",),
        (other_ptxas(), lower_level()),
        (),
        f"{NVIDIA}{f', and {made}' if made else ''}",
        "a compiler that breaks off by itself is at fault whatever its input"
        + (f"; name ptxas {version}" if version else "; name the ptxas (ptxas --version)"),
        ("the PTX, and the command line of ptxas",),
        ptx_verbs(log),
    )


def other_ptxas() -> Suggestion:
    """The first thing to try when ptxas itself breaks off."""
    return Suggestion(
        "assemble the same PTX with another release of ptxas (register-cliff toolchains install ptxas==13.1.80)",
        "a ptxas that breaks off by itself is at fault whatever the PTX says; another release may not be",
        "reported in general; not measured here for this PTX",
    )


def lower_level() -> Suggestion:
    """Whether an optimisation pass of ptxas is at fault."""
    return Suggestion(
        "ptxas -O1 or -O0 on the same PTX",
        "tells whether an optimisation pass is at fault",
        "general practice; not measured here for this PTX",
    )


def _unresolved(log: CrashLog, failure: Failure) -> Answer:
    symbol, made = failure.detail("symbol") or "", maker(log)
    because = [f"ptxas says: {failure.message}", f"the PTX calls {symbol}, and nothing in it defines that name"]
    if symbol.startswith("__nv"):
        because.append(
            f"{symbol} is of libdevice, NVIDIA's library of mathematics for compilers: whoever writes the PTX has to "
            "put its code in or resolve the call"
        )
    if made and not is_cuda_cpp(log):
        # Its user has no command line to link with.
        helps = (
            Suggestion(
                "another release of the tool that wrote the PTX, with the CUDA toolkit that it asks for",
                "that tool has to define what it calls, mostly from a file of the toolkit (libdevice)",
                "follows from the message; which release does is not recorded here",
            ),
        )
        return Answer(
            tuple(because), helps, (), made, "it left a call in its PTX without what is called",
            ("the PTX", "the versions of the tool and of its CUDA toolkit"),
        )  # fmt: skip
    return Answer(
        tuple(because),
        (
            Suggestion(
                "link the code that defines it: device linking (-rdc=true, -dlink), a bitcode or library file left out",
                "ptxas alone does not look for other files",
                "follows from the message",
            ),
        ),
        (),
        OWNER,
        "a part of the program was not handed to the compiler",
        ("the compile and link commands",),
    )


def _cannot_write(log: CrashLog, failure: Failure) -> Answer:
    full = next((w for w in ("No space left on device", "Disk quota exceeded") if w in log.flat.text), None)
    because = [f"ptxas says: {failure.message}"]
    if full and full not in failure.message:
        because.append(f"the log says as well: {full}")
    because.append("what ptxas could not do is write its file; it says nothing against the PTX")
    return Answer(
        tuple(because),
        (
            Suggestion(
                "free space on the disk of the temporary folder, or another folder (TMPDIR)"
                if full
                else "check that file and its folder: are they there, may they be written, is the disk full (df -h)",
                "the temporary files of a build with many jobs take gigabytes"
                if full
                else "these are the reasons for which a file cannot be written",
                "the log's own words" if full else "follows from the message",
            ),
        ),
        (
            Suggestion(
                "another ptxas, or changes in the kernel", "the PTX is not what it complains of", "ptxas's own message"
            ),
        ),
        NOBODY,
        "the machine's disk or folder is at fault",
        ("`df -h` and the permissions of the folder",),
    )


def _no_input(log: CrashLog, failure: Failure) -> Answer:
    return Answer(
        (f"ptxas says: {failure.message}", "the file that it was to read is not there, or cannot be read"),
        (
            Suggestion(
                "look whether the temporary folder is full, is cleaned meanwhile, or differs between processes",
                "the caller writes the PTX there and starts ptxas after it",
                "general",
            ),
        ),
        (Suggestion("another ptxas, or a change of the kernel", "ptxas did not read a line", "ptxas's own message"),),
        NOBODY,
        "the machine, not the compiler, is the first suspect",
        ("the value of TMPDIR, `df` of that folder, and whether several processes compile at once",),
    )


def _ptxas_error(log: CrashLog, failure: Failure) -> Answer:
    made = maker(log)
    said = triton_words(log)
    return Answer(
        (f"ptxas says: {failure.message}", "this project has no rule for that message"),
        report_to=f"whoever wrote the PTX or called ptxas: {made}" if made else "whoever wrote the PTX or called ptxas",
        report_why="what ptxas refuses is the PTX or its command line"
        + (f" (Triton {said})" if said and made == TRITON else ""),
        attach=("the PTX, and the command line of ptxas",),
        go_on=ptx_verbs(log),
    )


KINDS = (
    Kind("unsupported_arch", "the toolchain does not know this chip", _unsupported_arch),
    Kind(
        "target_mismatch",
        "the PTX was written for another target than ptxas was told",
        _target_mismatch,
        public="unsupported_arch",
    ),
    Kind("unsupported_ptx_version", "ptxas is older than the PTX it was given", _ptx_version),
    Kind(
        "ptx_version_too_low",
        "the PTX declares a version that is older than what it uses",
        _version_too_low,
        public="ptxas_error",
    ),
    Kind("illegal_instruction", "ptxas could not read the PTX", _illegal),
    Kind("internal_error", "ptxas broke off with an internal error", _internal),
    Kind("cannot_write", "ptxas could not write its output", _cannot_write, public="ptxas_error"),
    Kind("unresolved_symbol", "the PTX calls what nothing defines", _unresolved, public="ptxas_error"),
    Kind("no_input", "ptxas could not open its input", _no_input, public="ptxas_error"),
    Kind("ptxas_error", "ptxas refused the PTX for a reason this project does not know", _ptxas_error),
)

__all__ = ["KINDS", "PTXAS_WORDINGS", "WORDINGS", "lower_level", "other_ptxas"]
