"""What a Triton wheel says of itself: the LLVM it was built with, and which words its compiler knows.

All of it is read from the bytes of the wheel's extension module; nothing of it runs.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from helpers.compiler import cache
from helpers.compiler.toolchain import Tool, installed_tritons, resolve_triton
from helpers.errors import UserError

EXTENSION = Path("triton") / "_C" / "libtriton.so"
# lld names the repository and the commit that it was built from; LLVM names its release.
_REVISION = re.compile(rb"LLD [0-9.]+ \((?:[^\0\s]{0,120}llvm-project) ([0-9a-f]{40})\)")
_RELEASE = re.compile(rb"LLVM([0-9]{1,3}\.[0-9]{1,2}\.[0-9]{1,2}[a-z]{0,8})")

# Switches of LLVM's that DISABLE_LLVM_OPT can turn on and that change an NVPTX kernel, the most telling first.
LLVM_SWITCHES = {
    "nvptx-no-f32x2": "no packed pairs of floats (f32x2)",
    "nvptx-sched4reg": "instructions are scheduled for few registers",
    "disable-lsr": "no strength reduction of addresses in loops",
}
# Words of a text that a release must know to read it.
TEXT_WORDS = ("colStride", "nocreateundeforpoison")
INTRINSICS = (
    "llvm.nvvm.ex2.approx",
    "llvm.nvvm.fence.proxy.async.shared_cta",
    "llvm.nvvm.stmatrix.sync.aligned.m8n8.x1.b16",
)
_WORDS = (*LLVM_SWITCHES, *TEXT_WORDS, *INTRINSICS)


@dataclass(frozen=True)
class WheelFacts:
    """Of a Triton release: LLVM's release (`22.0.0git`) and commit, None where the wheel does not say; words known."""

    triton: str
    llvm_release: str | None
    llvm_revision: str | None
    words: frozenset[str]

    def knows(self, word: str) -> bool:
        """Whether its compiler has this word: a switch of LLVM's, an attribute, a parameter."""
        return word in self.words

    @property
    def llvm(self) -> str:
        """`LLVM 22.0.0git f6ded0be8`, for people."""
        commit = self.llvm_revision[:9] if self.llvm_revision else "(commit not stated)"
        return f"LLVM {self.llvm_release or '(release not stated)'} {commit}"


def wheel_facts(triton: Tool) -> WheelFacts:
    """The facts of the Triton at hand; read once per wheel (a second), then from the cache. Raises UserError."""
    path = triton.path / EXTENSION
    try:
        stat = path.stat()
    except OSError as exc:
        raise UserError(f"cannot read Triton {triton.version}'s own library: {exc.strerror or exc}; install it again, "
                        f"register-cliff toolchains install {triton.version}") from exc  # fmt: skip
    return _facts(str(path), stat.st_size, stat.st_mtime_ns, triton.version)


@lru_cache(maxsize=64)
def _facts(path: str, size: int, changed: int, version: str) -> WheelFacts:
    key = cache.content_key(path=path, size=size, changed=changed, words=_WORDS)
    entry, _ = cache.get_or_make("wheel", key, lambda: (_read(Path(path)), {}, True))
    return WheelFacts(version, entry["release"], entry["revision"], frozenset(entry["words"]))


def _read(path: Path) -> dict:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        revision, release = _REVISION.search(content), _RELEASE.search(content)
        # A name may be the tail of another that the linker stored once, so only its end is certain.
        words = [word for word in _WORDS if content.find(word.encode() + b"\0") >= 0]
        words += [word for word in TEXT_WORDS if word not in words and content.find(word.encode()) >= 0]
        return {
            "release": release and release.group(1).decode(),
            "revision": revision and revision.group(1).decode(),
            "words": words,
        }


# --- switches of LLVM's ----------------------------------------------------------------------------------------

SWITCH_VARIABLE = "DISABLE_LLVM_OPT"


def switch_environment(switches: Sequence[str], triton: Tool) -> tuple[tuple[str, str], ...]:
    """What a worker's environment needs so that this Triton's LLVM turns these switches on; () for none.

    Raises UserError for a switch that is not among LLVM_SWITCHES and for one that this release does not know: Triton
    itself would pass over it, or worse, without a word.
    """
    if not switches:
        return ()
    for name in switches:
        if name not in LLVM_SWITCHES:
            raise UserError(f"no switch of LLVM's is called {name[:60]!r} here: choose {', '.join(LLVM_SWITCHES)}")
    facts = wheel_facts(triton)
    for name in switches:
        if not facts.knows(name):
            knowing = [v for v in installed_tritons() if wheel_facts(resolve_triton(v)).knows(name)]
            raise UserError(
                f"the LLVM of Triton {triton.version} ({facts.llvm}) has no switch {name}; of the releases here "
                f"{', '.join(knowing) or 'none'} {'have' if len(knowing) > 1 else 'has'} it"
            )
    return ((SWITCH_VARIABLE, ",".join(sorted(set(switches)))),)


def merged(first: tuple[tuple[str, str], ...], more: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """Both environments in one: switches of LLVM's add up, of anything else the later value counts."""
    both = dict(first)
    for name, value in more:
        if name == SWITCH_VARIABLE and name in both:
            value = ",".join(sorted({*both[name].split(","), *value.split(",")}))
        both[name] = value
    return tuple(sorted(both.items()))
