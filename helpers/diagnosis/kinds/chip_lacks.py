"""The chip lacks what the kernel uses: a feature from a later chip on, or of one family of chips only.

A threshold in a message ("requires .target sm_80 or higher") is never the reader's chip. No release adds a feature to a
chip.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from helpers.diagnosis.failure import Answer, Failure, Kind, Suggestion, wording
from helpers.diagnosis.words import OWNER, chip_words, is_triton, maker
from helpers.hardware import CHIPS, KnownChip, known_chip
from helpers.inspection.crash.crash_log import CrashLog
from helpers.inspection.crash.gpus_named import the_only_gpu

MAX_NAMED = 6

_SM = r"sm_[0-9]{2,3}[af]?"
# `sm_100a or sm_100f or higher`: further targets that do as well.
_OR = rf"(?P<or>(?:(?:,| or) {_SM}){{0,6}})(?:,? or (?:higher|later))?"
PTXAS_WORDINGS = (
    wording(
        "feature_not_on_target",
        rf"'(?P<feature>[^'\n]{{1,200}})' without '[^'\n]{{1,80}}' requires ?\.target (?P<floor>{_SM}){_OR}",
    ),
    wording(
        "feature_not_on_target",
        rf"'(?P<feature>[^'\n]{{1,200}})'(?: (?:in|for|with) [\w.]{{1,40}})? requires ?\.target (?P<floor>{_SM}){_OR}",
    ),
    wording("feature_not_on_target", rf"'(?P<feature>[^'\n]{{1,200}})' not supported on ?\.target '?(?P<chip>{_SM})'?"),
    wording(
        "feature_not_on_target",
        rf"(?:Instruction|Feature|Modifier|Type|Operation) '(?P<feature>[^'\n]{{1,200}})' cannot be compiled for "
        rf"architecture "
        rf"'(?P<chip>{_SM})'",
    ),
    wording("feature_not_on_target", rf"(?P<feature>[^\s'][^\n';]{{0,120}}?) requires ?\.target (?P<floor>{_SM}){_OR}"),
)
WORDINGS = (
    # Triton's own check, before there is PTX.
    wording(
        "feature_not_on_target",
        r"type (?P<feature>fp8\w{1,12}) not supported in this architecture\.?(?: The supported fp8 dtypes are "
        r"(?P<others>\([^)\n]{0,120}\)))?",
        "not supported in this arch",
    ),
    wording(
        "feature_not_on_target",
        r"(?P<feature>fp8e4nv) data type is not supported on CUDA arch < (?P<below>[0-9]{2,3})",
        "data type is not supported on CUDA arch",
    ),
    wording(
        "feature_not_on_target",
        rf"(?P<feature>'?[\w.]{{3,120}}'?) needs target feature (?:\(?)(?P<floor>{_SM})",
        "needs target feature",
    ),
    # The CuTe DSL's own check of an operation.
    wording(
        "arch_not_in_list",
        rf"expects arch to be one of \[(?P<wanted>[^\]\n]{{1,400}})\],? but got <?Arch\.(?P<chip>{_SM})"
        r"(?: ?Error Code: ?(?P<feature>[A-Z]\w{2,60}) error)?",
        "expects arch to be one of",
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Feature:
    """What a feature's name in a message means: who has it, and what does the same elsewhere."""

    names: re.Pattern[str]
    what: str
    has: str
    instead: str
    # The least chip (as 80), for features that every later chip has; None for those of one family.
    floor: int | None = None
    # Chips that have it under their arch-specific target only (100 for sm_100a).
    a_targets: tuple[int, ...] = ()


def _feature(
    names: str, what: str, has: str, instead: str, floor: int | None = None, a_targets: tuple[int, ...] = ()
) -> Feature:
    return Feature(re.compile(names), what, has, instead, floor, a_targets)


# Source: PTX ISA, "Target ISA Notes" of each instruction. The first that fits is taken.
FEATURES = (
    _feature(
        r"tcgen05|\.cta_group|\.32x32b|\.16x(?:64|128|256)b|\.kind::|tensor memory",
        "tcgen05 (tensor memory and its matrix instructions)",
        "data-centre Blackwell only: sm_100a, sm_103a and Thor (sm_110a, once sm_101a); consumer Blackwell (sm_120a, "
        "sm_121a) and "
        "every other chip do not have it",
        "a kernel or path of its own for this chip, by mma.sync (consumer Blackwell) or wgmma (Hopper)",
        a_targets=(100, 101, 103, 110),
    ),
    _feature(
        r"wgmma|WGMMA|\.wgmma",
        "wgmma (Hopper's warp-group matrix instructions)",
        "sm_90a only: neither earlier chips nor Blackwell have it",
        "a kernel or path of its own for this chip: mma.sync, or tcgen05 on data-centre Blackwell",
        a_targets=(90,),
    ),
    _feature(
        r"setmaxnreg",
        "setmaxnreg (registers handed from warp to warp)",
        "the arch-specific targets from Hopper on (their names end in a: sm_90a, sm_100a …)",
        "a kernel without a register split between warp groups",
        a_targets=(90, 100, 101, 103, 110, 120, 121),
    ),
    _feature(
        r"e2m1|e3m2|e2m3|ue8m0|ue4m3|block.scale|scale_vec|mxf|nvf4",
        "4- and 6-bit floats and their block scales",
        "the arch-specific targets of Blackwell (sm_100a, sm_120a and their relatives)",
        "fp8 or 16-bit operands",
        a_targets=(100, 101, 103, 110, 120, 121),
    ),
    _feature(r"redux[\w.]{0,20}\.(?:f32|fmin|fmax)", "redux on floats",
             "sm_100a and its family (sm_100f), which is data-centre Blackwell", "a reduction by shuffles",
             a_targets=(100, 103)),
    _feature(r"fence\.proxy\.(?:async|tensormap)", "fences between kinds of memory access (proxies)",
             "sm_90 (Hopper) and higher", "a path without asynchronous copies", 90),
    _feature(r"(?:atom|red)\b[^']{0,60}\.?bf16", "atomic operations on bfloat16", "sm_90 (Hopper) and higher",
             "atomic addition in fp32, or a loop of compare-and-swap (atomicCAS)", 90),
    _feature(r"(?:atom|red)\b[^']{0,60}\.?f16", "atomic operations on fp16", "sm_70 (Volta) and higher",
             "atomic addition in fp32, or a loop of compare-and-swap (atomicCAS)", 70),
    _feature(r"e4m3|e5m2|[Ff][Pp]8", "fp8 conversions and matrix instructions", "sm_89 and higher", "fp16 or bf16 "
                                                                                              "operands", 89),
    _feature(
        r"bf16",
        "bfloat16 arithmetic",
        "sm_80 (Ampere) and higher",
        "fp16 or fp32 instead of bf16 (for a model: dtype=float16 or float32, --dtype half, torch_dtype=torch.float16)",
        80,
    ),
    _feature(r"tf32", "tf32 matrix instructions", "sm_80 (Ampere) and higher", "fp16 operands, or plain fp32 "
                                                                               "arithmetic", 80),
    _feature(r"redux", "redux (reduction over a warp in one instruction)", "sm_80 (Ampere) and higher",
             "a reduction by shuffles", 80),
    _feature(r"cp\.async\.bulk|\.bulk|tensormap|mbarrier\.try_wait|cp\.reduce", "bulk copies by descriptor (TMA)",
             "sm_90 (Hopper) and higher; parts of it (tensormap.replace) on the arch-specific targets only",
             "loads by pointers, or cp.async", 90, (90, 100, 101, 103, 110, 120, 121)),
    _feature(r"cp\.async|mbarrier", "asynchronous copies to shared memory", "sm_80 (Ampere) and higher",
             "plain loads, or a kernel for older chips", 80),
    _feature(r"griddepcontrol", "programmatic dependent launch (griddepcontrol)", "sm_90 (Hopper) and higher",
             "launches one after the other, without it", 90),
    _feature(r"multimem", "multimem (one address for the memory of several GPUs)", "sm_90 (Hopper) and higher",
             "an exchange through a library (NCCL)", 90),
    _feature(r"stmatrix", "stmatrix (matrix fragments stored by a warp)", "sm_90 (Hopper) and higher",
             "stores to shared memory thread by thread", 90),
    _feature(r"cluster|\belect\b", "thread-block clusters and what came with them", "sm_90 (Hopper) and higher",
             "a path without clusters", 90),
    _feature(r"f32x2", "packed fp32 arithmetic", "sm_100 and higher", "scalar fp32", 100),
    _feature(r"acq_rel|acquire|release|relaxed|\bfence\b", "memory operations with an order (acquire, release)",
             "sm_70 (Volta) and higher", "older fences (membar) and volatile accesses", 70),
    _feature(r"m16n8k(?:8|16|32|64)", "Ampere's shapes of the tensor-core instructions (mma)", "sm_80 (Ampere) and "
                                                                                               "higher; the "
             "smallest from sm_75 on", "a kernel for older chips, with their shapes", 80),
    _feature(r"ldmatrix|\.m8n8|tanh", "ldmatrix and other instructions of Turing", "sm_75 (Turing) and higher",
             "loads from shared memory thread by thread", 75),
    _feature(r"nanosleep", "nanosleep (a thread that sleeps for a while)", "sm_70 (Volta) and higher",
             "a loop without a pause", 70),
    _feature(r"\bmatch\.", "match (lanes of a warp that hold the same value)", "sm_70 (Volta) and higher",
             "a loop over the lanes by shuffles", 70),
    _feature(r"\bwmma\b|WMMA|\.m16n16k16|\.m8n8k4", "tensor-core matrix instructions (wmma)",
             "sm_70 (Volta) and higher", "plain arithmetic", 70),
    _feature(r"(?:atom|red)\b.*f64|atomicAdd", "atomic addition of doubles", "sm_60 (Pascal) and higher",
             "a loop of compare-and-swap (atomicCAS)", 60),
    _feature(r"\.?f16|half", "fp16 arithmetic", "sm_53 and higher", "fp32", 53),
)  # fmt: skip


def feature_of(name: str, floor: str = "") -> Feature | None:
    """What is known of a feature by its name in a message; None too where the message gives another threshold.

    A name that only holds a known word (`mma with FP8`, `atom.add.bf16`) is another feature: its threshold tells.
    """
    known = next((f for f in FEATURES if f.names.search(name)), None)
    if known is None or not floor or _is_own_target(floor) or known.floor is None:
        return known
    return known if _number(floor) == known.floor or _number(floor) in known.a_targets else None


def _is_own_target(floor: str) -> bool:
    """Whether a threshold names one target or family (`sm_100a`, `sm_100f`), and no place in an order."""
    return floor[-1:] in ("a", "f")


def _number(name: str) -> int:
    return int(re.sub(r"[^0-9]", "", name) or 0)


def together(first: Failure, others: Iterable[Failure]) -> Failure:
    """The first complaint of a run, with the features and thresholds of all of them: the highest is what is needed."""
    several = (first, *others)
    wanted = {f.detail("feature") or "": f.detail("floor") or "" for f in several}
    floors = sorted((floor for floor in wanted.values() if floor), key=_number)
    if len(wanted) < 2 or not floors:
        return first
    more = {
        "floor": floors[-1],
        "lowest": floors[0],
        "features": "\n".join(f"{feature}\t{floor}" for feature, floor in wanted.items()),
    }
    return replace(first, details={**first.details, **more})


def _features(failure: Failure) -> list[tuple[str, str]]:
    """(feature, its threshold or "") of each feature that a run complained of."""
    if listed := failure.detail("features"):
        return [(line.partition("\t")[0], line.partition("\t")[2]) for line in listed.split("\n")]
    floor = failure.detail("floor") or (f"sm_{failure.detail('below')}" if failure.detail("below") else "")
    return [(failure.detail("feature") or "a feature", floor)]


def _chip_lacks(log: CrashLog, failure: Failure) -> Answer:
    features = _features(failure)
    floors = sorted((floor for _, floor in features if floor), key=_number)
    chip = failure.detail("chip") or log.arch
    # What is advised is about the feature that needs the newest chip.
    name = next((n for n, floor in features if floors and floor == floors[-1]), features[0][0])
    floor = floors[-1] if floors else None
    known = feature_of(name, floor or "")
    because = [f"{'ptxas' if log.runs else 'Triton' if is_triton(log) else 'the compiler'} says: {failure.message}"]
    because += _thresholds(failure, features, floors)
    because.append(_chip_sentence(log, chip, floors[0] if floors else None, known))
    if failure.seen > 1 and log.runs:  # a traceback repeats a message in its source line
        because.append(f"the log says it {failure.seen} times")
    suffix = _suffix_cure(chip, floor, known)
    later = _later_ptx(log)
    helps = [later] if later else []
    helps += [suffix] if suffix else [*_instead(features), _newer_chip(floor, known), *_wrong_target(log)]
    return Answer(
        tuple(because),
        tuple(helps),
        () if suffix or later else _in_vain(log),
        *_to_whom(log, suffix),
        ("the GPU and its chip (nvidia-smi --query-gpu=name,compute_cap --format=csv)",)
        if chip is None and the_only_gpu(log.text) is None
        else (),
        (),
        title=f"the chip lacks a feature that the kernel uses: {known.what}" if known else "",
    )


def _thresholds(failure: Failure, features: list[tuple[str, str]], floors: list[str]) -> list[str]:
    """What each feature needs, in sentences; `floors` are the thresholds in rising order."""
    said = [words for n, at in features[:MAX_NAMED] if (words := _needs(n, at))]
    if len(features) > MAX_NAMED:
        said.append(f"{len(features) - MAX_NAMED} more features are refused the same way")
    if more := _LISTED.findall(failure.detail("or") or ""):
        said.append(f"the message names further targets that do as well: {', '.join(more)}")
    if len(set(floors)) > 1 and not any(map(_is_own_target, floors)):
        said.append(f"the highest of these thresholds is {floors[-1]}, and the kernel as it is needs all of them")
    return said


def _needs(name: str, floor: str) -> str:
    known = feature_of(name, floor)
    if known and not floor:
        return f"{known.what}: {known.has}"
    if not floor:
        return ""
    what = f" ({known.what})" if known and known.what.split(" ")[0] != name else ""
    if not _is_own_target(floor):
        return f"{name}{what} needs {floor} or higher"
    which = "the family of targets" if floor[-1] == "f" else "the arch-specific target"
    has = f": {known.has}" if known and known.floor is None else ", and a higher number alone does not have it"
    return f"{name}{what} needs {which} {floor}{has}"


def _instead(features: list[tuple[str, str]]) -> list[Suggestion]:
    """What does the same without each feature."""
    ways: dict[str, list[str]] = {}
    known_ways = {f.instead for f in FEATURES}
    for name, floor in features[:MAX_NAMED]:
        known = feature_of(name, floor)
        way = known.instead if known else "another path or data type in the kernel, without this feature"
        ways.setdefault(way, []).append(name)
    return [
        Suggestion(
            way,
            f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'} then not needed",
            "PTX ISA, target notes of the instruction" if way in known_ways else "follows from the message",
        )
        for way, names in ways.items()
    ]


def _chip_sentence(log: CrashLog, chip: str | None, floor: str | None, known: Feature | None) -> str:
    if floor and _is_own_target(floor):
        which = "another target" if floor[-1] == "a" else "a target outside that family"
        gpu = the_only_gpu(log.text)
        return (
            f"this compile was for {chip_words(chip)}, and not for {floor}"
            if chip
            else f"so the compile was for {which}"
            + (
                f"; the log names a {gpu[0]}, which is {chip_words(gpu[1].name)}"
                if gpu
                else ", which the log does not name"
            )
        )
    if chip:
        return f"this compile was for {chip_words(chip)}" + (
            f", which is below {floor}" if floor and _number(chip) < _number(floor) else ""
        )
    if floor is None:
        return "which chip the compile was for, the log does not say"
    gpu = the_only_gpu(log.text)
    if gpu and gpu[1].capability < _number(floor):
        return (
            f"so the chip compiled for is below {floor}; the log names a {gpu[0]}, which is {chip_words(gpu[1].name)}"
        )
    return f"so the chip compiled for is below {floor}; which one it is, the log does not say"


def _suffix_cure(chip: str | None, floor: str | None, known: Feature | None) -> Suggestion | None:
    """The chip has the feature, and its plain target hides it: `sm_100` for `sm_100a`."""
    if chip is None or chip[-1] in "af":
        return None
    number = _number(chip)
    has = set(known.a_targets if known else ()) | ({_number(floor)} if floor and _is_own_target(floor) else set())
    if number not in has:
        return None
    return Suggestion(
        f"compile for {chip}a instead of {chip} (nvcc: -gencode arch=compute_{number}a,code={chip}a; ptxas: "
        f"--gpu-name={chip}a and "
        f".target {chip}a)",
        f"the chip has the feature, and only its arch-specific target {chip}a offers it",
        "PTX ISA: features of a target whose name ends in a are not in the plain target",
    )


def _newer_chip(floor: str | None, known: Feature | None) -> Suggestion:
    least = floor or (f"sm_{known.floor}" if known and known.floor else None)
    if least and _is_own_target(least):
        has = known.has.split(":")[0].removesuffix(" only") if known and known.floor is None else least
        return Suggestion(
            f"a GPU that has it, and code for its own target: {has}",
            f"{least} is a target of its own; chips with higher numbers do not all have what it has",
            "the message's own threshold; PTX ISA: features of a target whose name ends in a or f",
        )
    if least and not (known and known.floor is None):
        chip = known_chip(least)
        words = f" ({_from_then_on(chip)})" if chip else ""
        return Suggestion(
            f"a GPU with {least} or higher{words}", "the feature is in the chip", "the message's own threshold"
        )
    return Suggestion("a GPU that has it" + (f": {known.has.split(':')[0].removesuffix(' only')}" if known else ""),
                      "the feature is in the chip", "PTX ISA, target notes of the instruction")  # fmt: skip


def _from_then_on(chip: KnownChip) -> str:
    """`Turing and later`; where a generation has the feature in its later chips only, that chip's products."""
    if any(c.generation == chip.generation and c.capability < chip.capability for c in CHIPS.values()):
        return f"{chip.generation} has it from {chip.product} on; the generations after it have it"
    return f"{chip.generation} and later"


_ON_CHIP = re.compile(r"on (?P<chip>sm_[0-9]{2,3}[af]?)' requires ?PTX ISA \.version (?P<version>[0-9.]{1,8})")


def _later_ptx(log: CrashLog) -> Suggestion | None:
    """ptxas can say of one chip that a later version of PTX is enough: then a release helps, on that chip."""
    m = _ON_CHIP.search(log.flat.text) if "requires PTX ISA" in log.flat.text else None
    if m is None:
        return None
    return Suggestion(
        f"if the chip is {m['chip']}: have the PTX written with .version {m['version'].rstrip('.')} or later (a "
        f"newer compiler)",
        "ptxas says that the feature is there on that chip from that version on",
        "ptxas's own message",
    )


def _wrong_target(log: CrashLog) -> list[Suggestion]:
    if not log.speaks("nvcc", "clang", "CMake or Ninja", "TileLang") or is_triton(log):
        return []
    return [
        Suggestion(
            "if the GPU is a newer one: take the old target out of the build (-gencode, CMAKE_CUDA_ARCHITECTURES, "
            "TORCH_CUDA_ARCH_LIST)",
            "a build compiles for every target in its list, whatever GPU is in the machine",
            "general: nvcc compiles once a target",
        )
    ]


def _in_vain(log: CrashLog) -> tuple[Suggestion, ...]:
    tools = "Triton, ptxas or PyTorch" if is_triton(log) else "ptxas or CUDA"
    return (
        Suggestion(
            f"any other release of {tools}, {'num_warps, tile sizes' if is_triton(log) else 'tile sizes'} or ptxas "
            f"flags",
            "no release adds an instruction to a chip",
            "follows from the message",
        ),
    )


def _to_whom(log: CrashLog, suffix: Suggestion | None) -> tuple[str, str]:
    if suffix:
        return f"{OWNER}, or whoever chose the target", "the target is the build's choice; no compiler is at fault"
    made = maker(log)
    if made and not is_triton(log) and log.speaks("TileLang", "XLA", "CUTLASS DSL (CuTe)", "cuTile"):
        return f"{OWNER}, then {made}", "it chose an instruction that this chip does not have"
    return "the kernel's or the model's project", "it chose a data type or an instruction that this chip does not have"


_LISTED = re.compile(_SM)


def _not_in_list(log: CrashLog, failure: Failure) -> Answer:
    """The CuTe DSL names the targets that an operation is for, and the one that it was compiled for."""
    wanted = ", ".join(dict.fromkeys(_LISTED.findall(failure.detail("wanted") or "")))
    chip = failure.detail("chip") or ""
    what = failure.detail("feature") or "the operation"
    return Answer(
        (
            f"the CuTe DSL says: {failure.message}",
            f"{what} is written for {wanted or 'other targets'} only, and this compile was for {chip_words(chip)}",
        ),
        (
            Suggestion(
                "a kernel or path of its own for this chip, without that operation",
                f"{what} is refused for every target outside its list",
                "the message itself",
            ),
            Suggestion(
                f"if the GPU is another one: compile for its own target (CUTE_DSL_ARCH); {wanted} have the operation",
                "the target that is compiled for can be set apart from the GPU",
                "the message itself",
            ),
        ),
        (
            Suggestion(
                "ptxas flags, another ptxas or a register cap",
                "the DSL refuses the operation before there is PTX",
                "the message itself",
            ),
        ),
        "the kernel's or the model's project",
        "it chose an operation that this chip's target does not have",
        ("the GPU and its chip (nvidia-smi --query-gpu=name,compute_cap --format=csv)",),
        title=f"{what} is not there for this chip",
    )


KINDS = (
    Kind("feature_not_on_target", "the chip lacks a feature that the kernel uses", _chip_lacks),
    Kind("arch_not_in_list", "the chip lacks what the kernel uses", _not_in_list, public="feature_not_on_target"),
)

__all__ = ["FEATURES", "KINDS", "PTXAS_WORDINGS", "WORDINGS", "Feature", "feature_of", "together"]
