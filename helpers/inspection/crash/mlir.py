"""front_end_failure: what Triton's C++ side (MLIR, LLVM) wrote to stderr when it failed, as facts.

Python sees `PassManager::run failed` and nothing more; the complaint, its source line, the pass and a reproducer stand
on stderr. A process that aborts leaves an assertion, an UNREACHABLE or an LLVM ERROR there and no exception at all.

The text is a stranger's: it may be megabytes long or cut off. Nothing here raises on any text, lines are cut to a
bounded length before a pattern sees them, and the patterns are linear.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_LINE_CHARS = 4_000

# `/app/k.py:26:29: error: words`, `loc("k.py":26:29): error: words`, `error: words`
_ERROR = re.compile(
    r'(?:(?:loc\()?"?(?P<file>[^":\n]{1,1000})"?:(?P<line>[0-9]{1,7})(?::(?P<column>[0-9]{1,5}))?\)?: |^)'
    r"(?:fatal )?error: (?P<words>.+)"
)
_PASSES_FAILED = "Failures have been detected while processing an MLIR pass pipeline"
_PASS = re.compile(r"Pipeline failed while executing \[([^\]\n]{1,2000})\]")
_PASS_NAME = re.compile(r"`([A-Za-z_][\w-]{0,200})`")
_ASSERTION = re.compile(
    r"(?P<file>[^\s:]{1,500}):(?P<line>[0-9]{1,7}): .{0,2000}Assertion [`'](?P<words>.{1,2000})['\"] failed"
)
_UNREACHABLE = re.compile(r"UNREACHABLE executed at (?P<file>[^\s:]{1,500}):(?P<line>[0-9]{1,7})!?")
_LLVM_ERROR = re.compile(r"^(?:LLVM ERROR|fatal error: error in backend): (?P<words>.+)")
_KERNEL = re.compile(r"tt\.func public @([\w$.]{1,300})\(")
_TARGET = re.compile(r'"?ttg\.target"? = "cuda:([0-9]{2,3})"')
_WARPS = re.compile(r'"ttg\.num-warps" = ([0-9]{1,3}) : i32')
_PIPELINE = re.compile(r"num-warps=([0-9]{1,3})[^\n]{0,200}?target=cuda:([0-9]{2,3})")
_ANSI = re.compile(r"\x1b\[[0-9;]{0,20}m")
_DROPPED = re.compile(r"^\s*(?:%|\^bb|#loc|//)")


@dataclass(frozen=True)
class FrontEndFailure:
    """What Triton's C++ side said of its failure; None for what it did not say.

    `error` is the complaint in one line, `words` the part of it that stands in the text letter by letter. `file`,
    `line`, `column` are the place in the kernel's source that the complaint names (as MLIR counts them), `source`
    the text of that line. `failed_pass` is the MLIR pass that was running, `cpp_place` the place in Triton's or
    LLVM's own source (`HoistTMEMAlloc.cpp:418`), `aborts` whether the words are those of a process that ends there.
    `reproducer` is the MLIR module with its pipeline, which `triton-opt` runs again. `kernel`, `capability` (100
    for sm_100) and `num_warps` are read from that module.
    """

    error: str | None = None
    words: str | None = None
    file: str | None = None
    line: int | None = None
    column: int | None = None
    source: str | None = None
    failed_pass: str | None = None
    cpp_place: str | None = None
    aborts: bool = False
    reproducer: str | None = None
    kernel: str | None = None
    capability: int | None = None
    num_warps: int | None = None

    @property
    def place(self) -> str | None:
        """`k.py:26`: the kernel's line that is complained of, without folders."""
        return f"{_file_name(self.file)}:{self.line}" if self.file and self.line else None

    def headline(self) -> str:
        """The failure in one line: the complaint, the kernel's line, the pass."""
        where = [self.place, self.failed_pass and f"pass {self.failed_pass}", self.cpp_place]
        told = ", ".join(part for part in where if part)
        return f"{self.error or 'an MLIR pass failed'}{f' ({told})' if told else ''}"

    def text(self) -> str:
        """`headline` and, under it, the source line."""
        return self.headline() + (f"\n{self.place}: {self.source}" if self.source else "")


def front_end_failure(text: str, *, max_chars: int = 16_000_000) -> FrontEndFailure | None:
    """The failure that Triton's stderr tells of; None where it tells of none. Never raises on any text.

    `text` is the stderr of one compile, or a log with it inside. Of one longer than `max_chars`, the first and the last
    half of that many characters are read.
    """
    if len(text) > max_chars:
        text = text[: max_chars // 2] + "\n" + text[-(max_chars // 2) :]
    lines = [_ANSI.sub("", line[:MAX_LINE_CHARS]).rstrip("\r") for line in text.split("\n")]
    pipeline = _PASSES_FAILED in text or "PassManager::run failed" in text
    complaint = _complaint(lines, pipeline=pipeline)
    end = _end(lines)
    failed_pass = _failed_pass(lines)
    if complaint is None and end is None and failed_pass is None and not pipeline:
        return None
    found = {**(end or {}), **(complaint or {})}
    reproducer = mlir_reproducer(text)
    return FrontEndFailure(**found, failed_pass=failed_pass, reproducer=reproducer, **_module_facts(reproducer or text))


def mlir_reproducer(text: str) -> str | None:
    """The last MLIR reproducer in a text: the module, the aliases before it, its `mlir_reproducer` pipeline."""
    mark = text.rfind("mlir_reproducer:")
    begin = text.rfind("\n{-#", 0, mark) if mark >= 0 else -1
    end = text.find("#-}", mark)
    if begin < 0 or end < 0:
        return None
    module = max(text.rfind("\nmodule ", 0, begin), text.rfind("\nmodule{", 0, begin))
    if module < 0 and not text.startswith("module"):
        return None
    # Attribute aliases (`#blocked = …`) stand in front of the module.
    while module > 0:
        previous = text.rfind("\n", 0, module)
        if not text[previous + 1 : module].startswith("#"):
            break
        module = previous
    return text[module + 1 : end + 3] + "\n"


def _complaint(lines: list[str], *, pipeline: bool) -> dict | None:
    """The first error that is not a pass pipeline's own summary; without a place only where a pipeline failed."""
    for at, line in enumerate(lines):
        if "error: " not in line or _DROPPED.match(line):
            continue
        found = _ERROR.search(line)
        if found is None or _PASSES_FAILED in found["words"] or (found["file"] is None and not pipeline):
            continue
        file = found["file"]
        return {
            "error": found["words"].strip()[:1_000],
            "words": found["words"].strip()[:1_000],
            "file": file.strip() if file else None,
            "line": int(found["line"]) if file else None,
            "column": int(found["column"]) if file and found["column"] else None,
            "source": _pointed_at(lines, at),
        }
    return None


def _pointed_at(lines: list[str], at: int) -> str | None:
    """The source line that follows a complaint, with a caret below it."""
    if at + 2 < len(lines) and lines[at + 2].strip().startswith("^"):
        return lines[at + 1].strip() or None
    return None


def _end(lines: list[str]) -> dict | None:
    """An assertion, an UNREACHABLE (with the reason in the line before it) or an LLVM ERROR."""
    for at, line in enumerate(lines):
        if found := _ASSERTION.search(line):
            # `!(a && b) && "what it means"`: the words are for people.
            said = re.search(r'&& "([^"]{3,1000})"?$', found["words"])
            literal = said[1] if said else found["words"]
            words = f"assertion failed: {literal}"
        elif found := _UNREACHABLE.search(line):
            before = lines[at - 1].strip() if at else ""
            plain = before and not _DROPPED.match(before) and not before.endswith(("{", "}", "^")) and len(before) < 300
            words = f"{before if plain else 'UNREACHABLE executed'} (UNREACHABLE)"
            literal = before if plain else "UNREACHABLE executed"
        elif found := _LLVM_ERROR.search(line):
            literal = found["words"].strip()[:1_000]
            return {"error": f"LLVM ERROR: {literal}", "words": literal, "aborts": True}
        else:
            continue
        return {
            "error": words[:1_000],
            "words": literal[:1_000],
            "cpp_place": f"{_file_name(found['file'])}:{found['line']}",
            "aborts": True,
        }
    return None


def _failed_pass(lines: list[str]) -> str | None:
    for line in lines:
        if "Pipeline failed while executing" in line and (found := _PASS.search(line)):
            # The innermost stands last.
            names = _PASS_NAME.findall(found[1])
            return names[-1] if names else None
    return None


def _module_facts(text: str) -> dict:
    kernel, target, warps = _KERNEL.search(text), _TARGET.search(text), _WARPS.search(text)
    pipeline = None if target and warps else _PIPELINE.search(text)
    return {
        "kernel": kernel[1] if kernel else None,
        "capability": int(target[1]) if target else int(pipeline[2]) if pipeline else None,
        "num_warps": int(warps[1]) if warps else int(pipeline[1]) if pipeline else None,
    }


def _file_name(path: str | None) -> str:
    return (path or "").replace("\\", "/").rpartition("/")[2]
