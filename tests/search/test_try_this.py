"""Try this: every edit shown was compiled, wrong and unlaunchable ones are not shown, the order is as stated."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.attention.choice import Choice
from helpers.attention.ladder import ladder_of
from helpers.commands.try_ import format_try, try_command_result
from helpers.compiler.compile import compile_request
from helpers.compiler.kernel_spec import KernelRef
from helpers.compiler.toolchain import resolve_triton
from helpers.errors import UserError
from helpers.hardware import cap_for
from helpers.search import try_this as module
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


def test_constexprs_that_nobody_here_knows_come_last_and_say_so(one_toolchain, tmp_path):
    source = Path(matmul_spec().kernel.path).read_text()
    # The same kernel with its tile's width called like an extent of the problem.
    (tmp_path / "k.py").write_text(source.replace("BLOCK_N", "BLOCK_DMODEL"))
    spec = matmul_spec()
    named = {n: n.replace("BLOCK_N", "BLOCK_DMODEL") for n, _ in spec.signature}
    other = replace(
        spec,
        kernel=KernelRef(str(tmp_path / "k.py"), spec.kernel.name),
        signature=tuple((named[n], kind) for n, kind in spec.signature),
        constexprs=tuple((named[n], value) for n, value in spec.constexprs),
    )
    edits = try_this(replace(cliff_request(), spec=other))
    unknown = [e for e in edits if "BLOCK_DMODEL" in e.change]
    assert unknown and not any(e.keeps_answer for e in unknown) and "check its answers" in unknown[0].cost
    assert all(e.keeps_answer for e in edits[: -len(unknown)]) and edits[-1] in unknown


def test_the_order_is_the_stated_one(ok):
    def edit(change: str, **report: object) -> TriedEdit:
        fields = {k: report.pop(k) for k in tuple(report) if k.startswith(("keeps", "size", "kind"))}
        return TriedEdit(**{"kind": "launch", "change": change, "edit": "e", "cost": "c", **fields},
                         report=replace(ok, **report))  # fmt: skip

    wanted = [
        edit("kernel", kind="kernel"),
        edit("launch", regs_per_thread=100),
        edit("more registers", regs_per_thread=200),
        edit("a flag", kind="ptxas"),
        edit("another Triton", kind="triton"),
        edit("two changes", size=2),
        edit("smaller tile", keeps_tile=False, kind="tile"),
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
