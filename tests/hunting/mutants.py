"""Inputs as a stranger might send them: real ones of every kind that is read here, damaged by a seeded mutator.

`mutant(kind, seed, number)` is a folder's content, name by name; the same three give the same bytes.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
import struct
import tarfile
import zipfile
from collections.abc import Callable
from functools import lru_cache

from helpers.search.gate import Measured, baseline_text
from tests.compiling import ADD_ONE
from tests.hunting.text_mutants import FIXTURES, log_texts, mutated_log, mutated_ptx, mutated_text, ptx_texts

Files = dict[str, bytes]

# What a stranger may write where a word, a number or a name is expected.
STRANGE_WORDS = (
    "", " ", "\0", "\x1b]0;x\x07", "\ud800", "../../etc/passwd", "/dev/zero", "/proc/self/mem", "-", "--help",
    "a" * 5_000, "%s", "${HOME}", "\u202e", "x\ny", "nan", "9" * 5_000, "sm_100a", "*fp32", "constexpr", "<script>",
    "'\"`", "/" * 3_000,
)  # fmt: skip
STRANGE_NUMBERS = (0, -1, 2**31, 2**63, 2**64, 10**400, 1e308, float("inf"), float("nan"), 0.1, True, False)
SIZES = (1, 2, 7, 64, 4_096)


def _deep(rng: random.Random) -> object:
    """A value with many others inside one another."""
    value: object = 0
    for _ in range(rng.choice((3, 30, 150))):
        value = [value] if rng.random() < 0.5 else {"kernel": value}
    return value


def _strange(rng: random.Random) -> object:
    return rng.choice((rng.choice(STRANGE_WORDS), rng.choice(STRANGE_NUMBERS), None, [], {}, _deep(rng), ["x"] * 300))


# --- bytes ---------------------------------------------------------------------------------------------------


def mutated_bytes(content: bytes, rng: random.Random) -> bytes:
    """Some bytes flipped, cut, doubled, put in; and numbers of four or eight bytes made very large or very small."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(data) + 1)
        what = rng.randrange(6)
        if what == 0:
            del data[at : at + rng.choice(SIZES)]
        elif what == 1:
            data[at:at] = bytes(rng.randrange(256) for _ in range(rng.choice(SIZES[:4])))
        elif what == 2:
            data[at:at] = data[at : at + rng.choice(SIZES)] * rng.choice((1, 3))
        elif what == 3 and rng.random() < 0.3:
            del data[at:]
        elif what == 4:
            form = rng.choice(("<I", "<Q", "<H"))
            limit = 1 << 8 * struct.calcsize(form)
            number = rng.choice((0, 1, limit - 1, limit // 2, rng.randrange(limit)))
            data[at : at + struct.calcsize(form)] = struct.pack(form, number)
        else:
            for _ in range(rng.choice((1, 1, 8, 60))):
                if data:
                    data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data[:2_000_000])


def _packed(content: bytes, rng: random.Random) -> bytes:
    """As gzip now and then, and that damaged sometimes."""
    if rng.random() > 0.04:
        return content
    packed = gzip.compress(content, 1)
    return mutated_bytes(packed, rng) if rng.random() < 0.6 else packed


def _encoded(text: str, rng: random.Random) -> bytes:
    if rng.random() < 0.03:
        return rng.choice((b"\xff\xfe", b"")) + text.encode("utf-16-le", errors="surrogatepass")
    content = text.encode(errors="surrogatepass")
    return mutated_bytes(content, rng) if rng.random() < 0.1 else content


# --- one kind each -------------------------------------------------------------------------------------------


def _log(rng: random.Random) -> Files:
    return {"crash.log": _packed(_encoded(mutated_log(rng)[1], rng), rng)}


def _ptx(rng: random.Random) -> Files:
    return {"crash.ptx": _packed(_encoded(mutated_ptx(ptx_texts(), rng.randrange(1 << 30), 0), rng), rng)}


@lru_cache(maxsize=1)
def _ttgir_text() -> str:
    return gzip.decompress((FIXTURES / "ttgir" / "extend_sm100a.ttgir.gz").read_bytes()).decode()


def _ttgir(rng: random.Random) -> Files:
    text = _ttgir_text()
    if rng.random() < 0.7:
        text = text[: rng.randrange(2_000, 20_000)]
    return {"kernel.ttgir": _encoded(mutated_text(text, rng), rng)}


def _sass(rng: random.Random) -> Files:
    texts = [gzip.decompress(p.read_bytes()).decode() for p in sorted((FIXTURES / "sass").glob("*.gz"))]
    parts = [rng.choice(texts) for _ in range(2)]
    found = []
    for text in parts:
        begin = rng.randrange(len(text))
        found.append(mutated_text(text[begin : begin + rng.randrange(500, 12_000)], rng))
    return {"life.txt": _encoded(found[0], rng), "lines.txt": _encoded(found[1], rng)}


def _stderr(rng: random.Random) -> Files:
    texts = [text for text in log_texts().values() if "ptxas" in text]
    return {"stderr.txt": _encoded(mutated_text(rng.choice(texts), rng), rng)}


def _cubin(rng: random.Random) -> Files:
    content = (FIXTURES / "binaries" / "trap_stub_sm100a.cubin").read_bytes()
    if rng.random() < 0.5:  # the header and the table of sections, where numbers lead elsewhere
        at = rng.choice((rng.randrange(64), 64 * rng.randrange(len(content) // 64)))
        at = min(at, len(content) - 8)
        content = (
            content[:at] + struct.pack("<Q", rng.choice((0, 1, 2**32, 2**64 - 1, len(content)))) + content[at + 8 :]
        )
    return {"kernel.cubin": mutated_bytes(content, rng)}


SPEC = {
    "kernel": {"path": "kernel.py", "name": "add_one", "import_root": None, "stub_imports": False},
    "signature": [["x_ptr", "*fp32"], ["n", "i32"], ["BLOCK", "constexpr"]],
    "constexprs": [["BLOCK", 128]],
    "divisible_by_16": ["x_ptr"],
    "options": [["num_warps", 4], ["num_stages", 3], ["cluster_dims", [1, 1, 1]]],
    "label": "add_one 128",
    "capture": {
        "outcome": "failed", "stage": "ptxas", "error_type": "PTXASError", "error": "ptxas fatal", "incomplete": [],
        "arch": "sm_100a", "triton_version": "3.5.1", "ptxas": "12.8.93", "autotune": True,
    },
}  # fmt: skip


def _places(value: object) -> list[tuple[list | dict, object]]:
    """(container, key or index) of every value inside another."""
    found: list[tuple[list | dict, object]] = []
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(pairs):
        found.append((value, key))  # type: ignore[arg-type]
        found += _places(inner)
    return found


def mutated_json(value: object, rng: random.Random) -> str:
    """A value with some inner ones replaced, removed, doubled or renamed, as JSON text; the text damaged sometimes."""
    value = json.loads(json.dumps(value))
    for _ in range(rng.randint(1, 4)):
        places = _places(value)
        if not places:
            break
        box, key = rng.choice(places)
        what = rng.randrange(6)
        if what == 0:
            del box[key]  # type: ignore[arg-type]
        elif what == 1 and isinstance(box, dict):
            box[str(rng.choice(STRANGE_WORDS))] = box.pop(key)  # type: ignore[call-overload]
        elif what == 2 and isinstance(box, list) and len(json.dumps(box)) < 3_000:
            box.extend(json.loads(json.dumps(box)) * rng.choice((1, 30)))
        else:
            box[key] = _strange(rng)  # type: ignore[index]
    if rng.random() < 0.1:
        value = [value] * rng.choice((0, 1, 2, 40))
    text = json.dumps(value, indent=rng.choice((None, 2)))[:4_000_000]
    if rng.random() < 0.03:  # deeper than any reader goes down
        depth = rng.choice((900, 5_000, 200_000))
        text = text.replace(rng.choice(("null", "128", "4", '"n"')), "[" * depth + "]" * depth, 1)
    return mutated_text(text, rng) if rng.random() < 0.2 else text


def _kernel_source(rng: random.Random) -> str:
    return mutated_text(ADD_ONE, rng) if rng.random() < 0.2 else ADD_ONE


def _spec(rng: random.Random) -> Files:
    return {
        "spec.json": _encoded(mutated_json(SPEC, rng), rng),
        "kernel.py": _kernel_source(rng).encode(errors="surrogatepass"),
    }


_NAMES = ("add-0011.json", "a.incomplete.json", "b.json", "-x.json", "x y.json", "\x1b[31m.json", "%s.json", "é.json",
          "n" * 240 + ".json", "sources.json", ".json", "c.JSON", "d.json.gz")  # fmt: skip


def _captured(rng: random.Random) -> Files:
    files: Files = {"kernel.py": ADD_ONE.encode()}
    for name in rng.sample(_NAMES, rng.randint(1, 5)):
        text = json.dumps(SPEC) if rng.random() < 0.3 else mutated_json(SPEC, rng)
        files[name] = _encoded(text, rng)
    return files


MEASURED = tuple(
    Measured(f"kernel {n}", arch, status, "3.5.1", "12.8.93", None, 255, 16 * n, 8 * n, 1024, 3.5 * n, "mma_sync", 0, 0)
    for n, (arch, status) in enumerate((("sm_90a", "ok"), ("sm_100a", "spills"), ("sm_100a", "register_exhausted")))
)  # fmt: skip


def _baseline(rng: random.Random) -> Files:
    table = list(csv.reader(io.StringIO(baseline_text(MEASURED))))
    for _ in range(rng.randint(1, 5)):
        row = rng.choice(table) if table else []
        what = rng.randrange(6)
        if what == 0 and row:
            del row[rng.randrange(len(row))]
        elif what == 1 and table:
            table.insert(rng.randrange(len(table)), list(row))
        elif what == 2 and table:
            del table[rng.randrange(len(table))]
        elif row:
            words = ("ok", "spills", "timeout", "-5", "1e5", "0x10", "1_000", "१२", "nan", "-inf", "#x", *STRANGE_WORDS)
            row[rng.randrange(len(row))] = str(rng.choice((rng.choice(words), _strange(rng))))[:200_000]
    out = io.StringIO()
    csv.writer(out, lineterminator=rng.choice(("\n", "\n", "\r\n"))).writerows(table)
    text = out.getvalue()
    return {"rows.csv": _encoded(mutated_text(text, rng) if rng.random() < 0.3 else text, rng)}


def _state(rng: random.Random) -> Files:
    from tests.hunting.readers import sound_state

    return {"state.json": _encoded(mutated_json(sound_state(), rng), rng)}


_WHEEL_FILES = {
    "tiny/__init__.py": "",
    "tiny/ops/__init__.py": "",
    "tiny/ops/add.py": ADD_ONE,
    "tiny/util.py": "import os\n",
    "tiny-1.0.dist-info/METADATA": "Name: tiny\n",
}
_MEMBER_NAMES = (
    "../evil.py", "/abs.py", "a\\b.py", "C:/x.py", "n" * 300 + ".py", "/".join(["d"] * 1_200) + "/x.py",
    "a//b.py", "./a.py", "tiny/ops/add.py", "tiny", "tiny/ops", "\x1b[31m.py", "ü.py", "con.py", "a\0b.py",
    "tiny/ops/.", "wheel.json", "tiny/util.py/x.py", " .py", "",
)  # fmt: skip


def _wheel(rng: random.Random) -> Files:
    files = dict(_WHEEL_FILES)
    for _ in range(rng.randint(0, 3)):
        files[rng.choice(_MEMBER_NAMES)] = rng.choice((ADD_ONE, "", mutated_text(ADD_ONE, rng)))
    if rng.random() < 0.3:
        files["tiny/ops/add.py"] = mutated_text(ADD_ONE, rng)
    out = io.BytesIO()
    if rng.random() < 0.3:
        with tarfile.open(fileobj=out, mode="w:gz", compresslevel=1) as tar:
            for name, text in files.items():
                body = text.encode(errors="surrogatepass")
                info = tarfile.TarInfo(f"tiny-1.0/{name}" if rng.random() < 0.95 else name)
                info.size = len(body)
                info.type = rng.choice((tarfile.REGTYPE,) * 12 + (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE))
                info.linkname = rng.choice(("/etc/passwd", "../../x", ""))
                tar.addfile(info, io.BytesIO(body))
        name = "tiny-1.0.tar.gz"
    else:
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            for member, text in files.items():
                info = zipfile.ZipInfo(member)
                info.external_attr = rng.choice((0o644,) * 12 + (0o120777, 0o040755, 0o010644)) << 16
                archive.writestr(info, text.encode(errors="surrogatepass"))
        name = rng.choice(("tiny-1.0-py3-none-any.whl", "tiny.zip"))
    content = out.getvalue()
    return {name: mutated_bytes(content, rng) if rng.random() < 0.5 else content}


INDUCTOR = '''
async_compile.triton("triton_poi_0", """
import triton
import triton.language as tl

@triton_heuristics.pointwise(size_hints=[1024], triton_meta={
    "signature": {"in_ptr0": "*fp32", "xnumel": "i32", "XBLOCK": "constexpr"}, "constants": {"xnumel": 5},
    "configs": [{(0,): [["tt.divisibility", 16]]}]})
@triton.jit
def triton_poi_0(in_ptr0, xnumel, XBLOCK: tl.constexpr):
    tl.store(in_ptr0, xnumel)
""", device_str="cuda")
'''


def _python(rng: random.Random) -> Files:
    texts = [ADD_ONE, INDUCTOR, *((FIXTURES / "kernels" / f"{n}.py").read_text() for n in ("failures", "rivers"))]
    text = mutated_text(rng.choice(texts), rng)
    if rng.random() < 0.1:
        depth = rng.choice((50, 190, 3_000, 30_000))
        text += "\nx = " + rng.choice(("(", "[", "-", "not ", "lambda: ", "f'{", "a.", "(yield ")) * depth
    if rng.random() < 0.05:
        text += "\n" + "".join(f"{' ' * n}if x:\n" for n in range(rng.choice((90, 120))))
    return {"kernel.py": _encoded(text, rng), "beside.py": ADD_ONE.encode()}


_INDEX = {"files": [
    {"filename": "tiny-1.0.tar.gz", "url": "files/tiny-1.0.tar.gz", "hashes": {"sha256": "0" * 64}},
    {"filename": "tiny-1.0-py3-none-any.whl", "url": "https://example.org/tiny-1.0-py3-none-any.whl", "hashes": {}},
]}  # fmt: skip
_INDEX_HTML = (
    '<html><body><a href="../files/tiny-1.0.tar.gz#sha256=00ff">tiny-1.0.tar.gz</a><a href="x.whl">x</a></body></html>'
)


def _index(rng: random.Random) -> Files:
    if rng.random() < 0.5:
        return {"index.json": _encoded(mutated_json(_INDEX, rng), rng)}
    return {"index.html": _encoded(mutated_text(_INDEX_HTML * rng.choice((1, 40)), rng), rng)}


MUTATORS: dict[str, Callable[[random.Random], Files]] = {
    "log": _log, "ptx": _ptx, "ttgir": _ttgir, "sass": _sass, "ptxas stderr": _stderr, "cubin": _cubin, "spec": _spec,
    "captured folder": _captured, "baseline": _baseline, "state file": _state, "wheel": _wheel, "python": _python,
    "index page": _index,
}  # fmt: skip


def mutant(kind: str, seed: int, number: int) -> Files:
    """Input `number` of a hunt with `seed`: names and bytes of its files."""
    return MUTATORS[kind](random.Random(f"{kind}-{seed}-{number}"))
