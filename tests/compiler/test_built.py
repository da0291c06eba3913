"""What is built already, read through NVIDIA's own tools: libraries, wheels, caches, and files that are damaged."""

from __future__ import annotations

import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from helpers.compiler.built.demangle import demangled
from helpers.compiler.built.extract import cuobjdump_programs, parse_usage, resource_usage
from helpers.compiler.built.inspect import inspect_built
from helpers.compiler.built.rows import BuiltKernel, chosen, registers_histogram
from helpers.errors import UserError
from helpers.inspection.binary.fatbin import as_fatbin, entries

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
BUILT = FIXTURES / "built"
pytestmark = pytest.mark.usefixtures("isolated_cache")
# What ptxas -v said when the library's parts were assembled (tests/fixtures/README.md).
WIDE = {"registers": 32, "stack_frame_bytes": 1936, "spill_store_bytes": 2244, "spill_load_bytes": 4672}


def by_name(found) -> dict[str, BuiltKernel]:
    return {row.kernel: row for row in found.kernels}


@pytest.mark.parametrize("name", ["library.so", "library.a"])
def test_a_library_s_compressed_cubins_say_what_ptxas_said(name):
    found = inspect_built([BUILT / name], sass=True)
    rows = by_name(found)
    assert sorted(rows) == ["reduce_rows", "split_kernel", "wide_stencil"]  # `fold` is only called
    assert {key: getattr(rows["wide_stencil"], key) for key in WIDE} == WIDE
    split = rows["split_kernel"]
    assert (split.setmaxnreg, split.tensor_core_path, split.arch, split.cap) == ((40, 232), "wgmma", "sm_90a", 168)
    assert found.checked == 3 and not any(row.problem for row in found.rows)
    (facts,) = found.files
    assert (facts.cubins, facts.kernels, facts.ptx_archs) == (2, 3, ("compute_80",))


def test_every_number_is_cuobjdump_s_of_the_whole_library():
    program = cuobjdump_programs()[0]
    said = subprocess.run(
        [program, "-res-usage", BUILT / "library.so"], capture_output=True, text=True, check=True
    ).stdout
    usage = parse_usage(said)
    rows = inspect_built([BUILT / "library.so"]).kernels
    assert {r.kernel: (r.registers, r.stack_frame_bytes, r.shared_bytes) for r in rows} == {
        name: numbers for name, numbers in usage.items() if name != "fold"
    }


def test_where_cuobjdump_says_another_number_the_row_says_so(monkeypatch):
    monkeypatch.setattr("helpers.compiler.built.inspect.resource_usage", lambda *_: {"split_kernel": (167, 0, 3072)})
    (row,) = inspect_built([BUILT / "split.sm_90a.cubin"]).rows
    assert row.problem == "the cubin says 168 registers, cuobjdump 167"


def test_the_second_time_comes_from_the_cache_whatever_the_file_is_called(tmp_path, monkeypatch):
    first = inspect_built([BUILT / "library.so"])
    again = shutil.copy(BUILT / "library.so", tmp_path / "other.so")
    monkeypatch.setattr("helpers.compiler.built.inspect.extract", lambda *_: pytest.fail("taken out again"))
    second = inspect_built([again])
    assert (first.from_cache, second.from_cache) == (0, 2) and second.checked == 3
    assert {row.source for row in second.rows} == {str(again)}
    assert [row.registers for row in second.rows] == [row.registers for row in first.rows]


def test_without_their_code_spills_and_paths_are_not_known():
    row = by_name(inspect_built([BUILT / "library.so"]))["wide_stencil"]
    assert (row.spill_bytes, row.tensor_core_path, row.setmaxnreg) == (None, None, None)


def test_a_cache_folder_joins_a_cubin_with_the_ptx_that_it_was_made_of(tmp_path):
    folder = tmp_path / "triton" / "0" / "ABC"
    folder.mkdir(parents=True)
    shutil.copy(BUILT / "split.sm_90a.cubin", folder / "k.cubin")
    shutil.copy(BUILT / "split_sm90a.ptx", folder / "k.ptx")
    shutil.copy(BUILT / "split_sm90a.ptx", folder / "alone.ptx")
    (folder / "k.json").write_text('{"shared": 49160, "tmem_size": "many", "num_warps": 8}')
    alone, joined = sorted(inspect_built([tmp_path]).rows, key=lambda row: row.source)
    assert (joined.registers, joined.tensor_core_path, joined.setmaxnreg) == (168, "wgmma", (40, 232))
    assert (joined.dynamic_shared_bytes, joined.tmem_columns) == (49160, None)
    (folder / "k.json").write_text("[" * 100_000)
    again = next(row for row in inspect_built([folder]).rows if row.kind == "cubin")
    assert (again.registers, again.dynamic_shared_bytes) == (168, None)
    assert (alone.kind, alone.registers, alone.tensor_core_path) == ("PTX", None, "wgmma")


def test_a_wheel_is_read_member_by_member_and_only_one_chip_where_that_is_asked(tmp_path):
    wheel = tmp_path / "p-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(BUILT / "library.so", "p/_C.so")
        archive.write(BUILT / "split.sm_90a.cubin", "p/k.cubin")
        archive.writestr("p/__init__.py", "raise SystemExit")
    found = inspect_built([wheel])
    assert sorted((row.source.rpartition("!")[2], row.kernel) for row in found.rows) == [
        ("p/_C.so", "reduce_rows"), ("p/_C.so", "split_kernel"), ("p/_C.so", "wide_stencil"),
        ("p/k.cubin", "split_kernel"),
    ]  # fmt: skip
    assert {row.kernel for row in inspect_built([BUILT / "library.so"], capability=90).rows} == {"split_kernel"}


def test_what_a_tool_refuses_is_a_row_with_its_reason(tmp_path):
    content = (BUILT / "library.so").read_bytes()
    first, second, _ptx = entries(content)
    broken = bytearray(content)
    broken[first.offset + 80 : first.offset + first.size] = b"\xff" * (first.size - 80)  # what is compressed
    (tmp_path / "broken.so").write_bytes(broken)
    (tmp_path / "broken.cubin").write_bytes((BUILT / "split.sm_90a.cubin").read_bytes()[:3000])
    (tmp_path / "empty.cubin").write_bytes(b"")
    found = inspect_built([tmp_path])
    assert [row.kernel for row in found.kernels] == ["split_kernel"]
    problems = {Path(row.source).name: row for row in found.rows if row.problem}
    assert set(problems) == {"broken.so", "broken.cubin"} and problems["broken.so"].arch == "sm_80"
    assert problems["broken.cubin"].problem.startswith("it is no cubin that can be read")
    (tmp_path / "one.fatbin").write_bytes(as_fatbin(content[second.offset : second.offset + second.size]))
    assert [row.kernel for row in inspect_built([tmp_path / "one.fatbin"]).rows] == ["split_kernel"]


def test_a_name_in_an_entry_cannot_lead_cuobjdump_out_of_its_folder(tmp_path):
    content = (BUILT / "library.so").read_bytes()
    second = list(entries(content))[1]
    entry = bytearray(content[second.offset : second.offset + second.size])
    name = b"../../escaped"
    header = int.from_bytes(entry[4:8], "little")
    entry[32:36], entry[36:40] = (header).to_bytes(4, "little"), len(name).to_bytes(4, "little")
    entry[header : header + len(name)] = name
    (tmp_path / "x.fatbin").write_bytes(as_fatbin(bytes(entry)))
    inspect_built([tmp_path / "x.fatbin"])
    assert as_fatbin(bytes(entry))[16 + 32 : 16 + 40] == bytes(8)


def test_what_holds_nothing_is_said(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing here\n")
    with pytest.raises(UserError, match="no device code in"):
        inspect_built([tmp_path])
    with pytest.raises(UserError, match=r"is a text; give a cubin"):
        inspect_built([tmp_path / "notes.txt"])
    with pytest.raises(UserError, match="is not there"):
        inspect_built([tmp_path / "gone.so"])


def test_names_are_demangled_and_a_name_that_stands_for_gigabytes_stays_as_it_is():
    bomb = "_Z1f1AIiiE" + "".join(f"S_I{a}{a}E" for a in ("S0_", *(f"S{c}_" for c in "123456789ABCDEFGHIJKLMNOPQR")))
    names = demangled(["_Z3addPfi", bomb, "plain", "_Z3subPfi", "_Znonsense\x1b"])
    assert (names["_Z3addPfi"], names["_Z3subPfi"], names["plain"]) == ("add(float*, int)", "sub(float*, int)", "plain")
    assert names[bomb] == bomb and names["_Znonsense\x1b"] == "_Znonsense\x1b"


def test_rows_go_through_json_and_nothing_else_becomes_one():
    row = by_name(inspect_built([BUILT / "library.so"], sass=True))["split_kernel"]
    assert BuiltKernel.from_dict(row.to_dict()) == row
    for wrong in ({}, {**row.to_dict(), "registers": "many"}, [], {**row.to_dict(), "more": 1}):
        with pytest.raises(ValueError):
            BuiltKernel.from_dict(wrong)


def test_choosing_and_counting():
    rows = [
        BuiltKernel("a", kernel="_Z1fv", name="f()", arch="sm_90a", registers=255),
        BuiltKernel("a", kernel="g", name="g[1]", arch="sm_75", registers=32),
        BuiltKernel("a", problem="broken"),
    ]
    assert [row.kernel for row in chosen(rows, "f(")] == ["_Z1fv", ""]
    assert [row.kernel for row in chosen(rows, "g[*")] == ["g", ""]
    assert [row.kernel for row in chosen(rows, None, 75)] == ["g", ""]
    counts = dict(registers_histogram(rows))
    assert (counts["255"], counts["0-32"], sum(counts.values())) == (1, 1, 2)


def test_a_cubin_that_no_cuobjdump_reads_has_no_usage(tmp_path):
    (tmp_path / "x.cubin").write_bytes(b"nothing")
    assert resource_usage(tmp_path / "x.cubin", cuobjdump_programs()[:1]) is None
