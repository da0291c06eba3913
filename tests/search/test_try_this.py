"""Try this: every edit shown was compiled, wrong and unlaunchable ones are not shown, the order is as stated."""

from __future__ import annotations

import gzip
import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.attention.choice import Choice
from helpers.attention.ladder import ladder_of
from helpers.commands.try_ import format_try, try_command_result
from helpers.compiler.compile import CompileRequest, compile_request
from helpers.compiler.kernel_spec import KernelRef
from helpers.compiler.toolchain import Toolchain, resolve_triton
from helpers.errors import UserError
from helpers.hardware import cap_for
from helpers.search import try_this as module
from helpers.search.ablate import Limits
from helpers.search.try_this import TriedEdit, edit_lines, try_ptx, try_this
from helpers.workbook.your_own_crash.cliff_matmul import cliff_request, matmul_spec
from helpers.workbook.your_own_crash.views import edits_table

INCIDENT_PTX = Path(__file__).parents[2] / "data" / "incident.ptx.gz"


@pytest.fixture
def one_toolchain(toolchain_351, monkeypatch):
    """No other Triton and ptxas: they cost compiles, and which are here differs from machine to machine."""
    monkeypatch.setattr(module, "installed_tritons", lambda: ["3.5.1"])
    monkeypatch.setattr(module, "installed_ptxas", lambda: {})


def test_a_smaller_tile_comes_before_fewer_warps_that_spill(one_toolchain):
    edits = try_this(cliff_request())
    changes = [e.change for e in edits]
    assert list(edits_table(edits)["change"]) == changes[:12] and list(edits_table([])) == list(edits_table(edits))
    assert changes.index("BLOCK_M 256 → 128") < changes.index("num_warps 16 → 8")
    by_change = {e.change: e for e in edits}
    assert by_change["BLOCK_M 256 → 128"].report.status == "ok" and not by_change["BLOCK_M 256 → 128"].keeps_tile
    assert by_change["num_warps 16 → 8"].report.spill_store_bytes == 2108
    assert by_change["num_warps 16 → 8"].edit == "launch with num_warps=8"


def test_every_number_shown_is_that_of_a_compile_and_can_be_launched(one_toolchain):
    request = cliff_request()
    for edit in try_this(request):
        assert edit.report.compiled and edit.report.ptx_sha256
        assert edit.report.regs_per_thread <= cap_for(num_warps=edit.report.num_warps)
    # maxnreg=255 compiles with 176 registers for 512 threads: more than an SM has. It is not shown.
    capped = compile_request(replace(request, spec=matmul_spec(maxnreg=255)))
    assert capped.compiled and capped.regs_per_thread * 512 > 65536
    assert not [e for e in try_this(request) if "maxnreg" in e.change]


def test_nothing_wrong_means_nothing_to_try(one_toolchain):
    fine = replace(cliff_request(), spec=matmul_spec(128))
    assert try_this(fine) == []
    assert "nothing to try" in format_try(try_command_result(fine))


def test_a_spilling_compile_gets_edits_that_spill_less(one_toolchain):
    spilling = replace(cliff_request(), spec=matmul_spec(num_warps=8))
    edits = try_this(spilling)
    assert edits and all(e.report.spill_store_bytes + e.report.spill_load_bytes < 2108 + 1596 for e in edits)


def test_a_tile_is_known_by_its_use_whatever_it_is_called(one_toolchain, tmp_path):
    source = Path(matmul_spec().kernel.path).read_text()
    (tmp_path / "k.py").write_text(source.replace("BLOCK_N", "head_dim"))
    spec = matmul_spec()
    named = {n: n.replace("BLOCK_N", "head_dim") for n, _ in spec.signature}
    other = replace(
        spec,
        kernel=KernelRef(str(tmp_path / "k.py"), spec.kernel.name),
        signature=tuple((named[n], kind) for n, kind in spec.signature),
        constexprs=tuple((named[n], value) for n, value in spec.constexprs),
    )
    edits = [e for e in try_this(replace(cliff_request(), spec=other)) if "head_dim" in e.change]
    assert edits and all(e.keeps_answer and not e.keeps_tile for e in edits)


WIDE_DOT = """
import triton
import triton.language as tl


@triton.jit
def wide_dot(x_ptr, y_ptr, out_ptr, rows, DEEP: tl.constexpr, piece: tl.constexpr, FLAG: tl.constexpr):
    r = tl.program_id(0) * piece + tl.arange(0, piece)
    c = tl.arange(0, 16)
    deep = tl.arange(0, DEEP)
    x = tl.load(x_ptr + r[:, None] * DEEP + deep[None, :])
    y = tl.load(y_ptr + deep[:, None] * 16 + c[None, :])
    tl.store(out_ptr + r[:, None] * 16 + c[None, :], tl.dot(x, y))
"""
WIDE_SIGNATURE = (
    *((n, "*bf16") for n in ("x_ptr", "y_ptr")), ("out_ptr", "*fp32"), ("rows", "i32"),
    *((n, "constexpr") for n in ("DEEP", "piece", "FLAG")),
)  # fmt: skip


def wide_request(write_kernel, deep: int, piece: int, *, width: int = 16) -> CompileRequest:
    spec = write_kernel(
        WIDE_DOT.replace("16", str(width)), file=f"wide{deep}.py", signature=WIDE_SIGNATURE,
        divisible_by_16=("x_ptr", "y_ptr", "out_ptr"),
        constexprs=(("DEEP", deep), ("piece", piece), ("FLAG", False)), options=(("num_warps", 4), ("num_stages", 1)),
    )  # fmt: skip
    return CompileRequest(replace(spec, kernel=replace(spec.kernel, name="wide_dot")), "sm_90a", Toolchain("3.5.1"))


def test_an_extent_of_the_data_is_no_advice_where_a_tile_helps(one_toolchain, write_kernel):
    edits = try_this(wide_request(write_kernel, 2048, 64))
    assert "piece 64 → 32" in [e.change for e in edits] and not [e for e in edits if "DEEP" in e.change]


def test_an_extent_is_tried_when_nothing_else_passed_and_says_what_it_asks(one_toolchain, write_kernel):
    told = []
    edits = try_this(wide_request(write_kernel, 2048, 16, width=64), budget=Limits(max_size=1), found=told.append)
    assert edits and {e.change for e in edits} == {e.change for e in told}
    assert all("DEEP" in e.change and not e.keeps_answer and e.kind == "extent" for e in edits[:1])
    assert "asks for another problem; DEEP is an extent of the data" in edits[0].cost and "(line 1" in edits[0].cost


def test_the_kernels_own_configurations_are_tried_first(one_toolchain, write_kernel):
    own = WIDE_DOT.replace(
        "@triton.jit",
        "@triton.autotune([triton.Config({'piece': p}, num_warps=4) for p in (16, 64)], key=[])\n@triton.jit",
    )
    request = wide_request(write_kernel, 2048, 64)
    Path(request.spec.kernel.path).write_text(own)
    best = try_this(request)[0]
    assert (
        best.kind == "configuration"
        and "own configuration: piece=16" in best.change
        and best.keeps_answer
        and best.keeps_tile
    )
    assert "own autotuner" in best.cost


def test_a_hard_budget_holds_for_everything(one_toolchain, write_kernel):
    request = wide_request(write_kernel, 4096, 64)
    started = time.monotonic()
    try_this(request, budget=Limits(max_seconds=0.001))
    assert time.monotonic() - started < 30  # one compile, which a limit of a millisecond lets have its second


def test_the_order_is_the_stated_one(ok):
    def edit(change: str, **report: object) -> TriedEdit:
        fields = {k: report.pop(k) for k in tuple(report) if k.startswith(("keeps", "size", "kind"))}
        return TriedEdit(**{"kind": "launch", "change": change, "edit": "e", "cost": "c", **fields},
                         report=replace(ok, **report))  # fmt: skip

    wanted = [
        edit("kernel", kind="kernel"),
        edit("launch", regs_per_thread=100),
        edit("more registers", regs_per_thread=200),
        edit("two changes", size=2),
        edit("smaller tile", keeps_tile=False, kind="tile"),
        edit("other types", kind="types"),
        edit("a flag", kind="ptxas"),
        edit("another Triton", kind="triton"),
        edit("slower path", keeps_tensor_core_path=False),
        edit("spills a little", status="spills", spill_store_bytes=8),
        edit("spills a lot", status="spills", spill_store_bytes=800),
        edit("may be wrong", keeps_answer=False),
    ]
    assert [e.change for e in sorted(reversed(wanted), key=TriedEdit.rank)] == [e.change for e in wanted]


def test_a_ptx_alone_is_tried_at_every_level(toolchain_351):
    ptxas = resolve_triton("3.5.1").program("ptxas")
    ptx = gzip.decompress(INCIDENT_PTX.read_bytes()).decode()
    edits = try_ptx(ptx, ptxas=ptxas, ptxas_version="12.8.93", arch="sm_100a", flags=("-lineinfo", "-O3"))
    assert [(e.change, e.report.spill_store_bytes) for e in edits] == [("ptxas -O1", 1088), ("ptxas -O0", 4236)]


@pytest.mark.slow
def test_the_incident_is_cured_by_kernel_then_tile_and_never_by_wrong_answers(one_toolchain):
    edits = try_this(Choice().request(), ladder_of=ladder_of)
    assert edits[0].change == "TILE_SKIP branch → bounds, ACCUMULATE separate → fused" and edits[0].keeps_tile
    assert edits[0].report.status == "ok" and edits[1].change == "BLOCK_M 128 → 64"
    assert not [e for e in edits if "V_SCALE" in e.change or "window" in e.change]
    assert {e.change for e in edits} >= {"ptxas -O1", "maxnreg unset → 255"}


def test_a_toolchain_that_is_not_here_is_a_sentence():
    with pytest.raises(UserError, match="not installed"):
        try_this(Choice(triton="3.2.0").request())


def test_the_verb_prints_text_and_json(one_toolchain, tmp_path, capsys):
    from helpers.__main__ import main

    (tmp_path / "spec.json").write_text(matmul_spec().to_json())
    arguments = ["try", str(tmp_path / "spec.json"), "--arch", "sm_90a", "--quiet"]
    assert main([*arguments, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["baseline"]["status"] == "register_exhausted" and result["edits"][0]["status"] == "ok"
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert " 1. BLOCK_" in text and "cost: " in text and "C7602" in text
    assert len(edit_lines(result["edits"] * 20, limit=3)) == 10
    (tmp_path / "bad.json").write_text("{}")
    assert main(["try", str(tmp_path / "bad.json")]) == 2
