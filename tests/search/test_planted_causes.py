"""ablate on full-size kernels that are no attention: it names the planted cause, that one alone, and what cures it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.__main__ import main
from helpers.attention.ladder import is_extend_kernel
from helpers.compiler.kernel_spec import KernelRef, KernelSpec
from helpers.compiler.toolchain import Toolchain
from helpers.search.ablate import COMPILES, ENDS_SPILLS, MAKES_IT_COMPILE, NO_SPILLS, TOO_MANY, Limits, ablate
from helpers.search.changes import generic_changes, option_change

KERNELS = Path(__file__).parents[1] / "fixtures" / "kernels" / "rivers.py"
# The specs lie in a scratch folder and name a kernel elsewhere: that is the user's own word.
TRUSTED = ("--trust-root", str(KERNELS.parent))


def spec(name: str, pointers: dict[str, str], *, constexprs: dict, num_warps: int) -> KernelSpec:
    strides = [p.replace("_ptr", "").join(("stride_", "")) for p in pointers if p != "silt_ptr"]
    runtime = {**pointers, "reaches": "i32", **dict.fromkeys(strides, "i32")}
    return KernelSpec(
        kernel=KernelRef(str(KERNELS), name),
        signature=(*runtime.items(), *((n, "constexpr") for n in constexprs)),
        constexprs=tuple(constexprs.items()),
        divisible_by_16=tuple(n for n in runtime if n != "reaches"),
        options=(("num_warps", num_warps), ("num_stages", 1)),
        label=name,
    )


@pytest.fixture(scope="module")
def river() -> KernelSpec:
    """Spills 1.4 kB a thread for its ledger alone."""
    pointers = {
        "flow_ptr": "*bf16",
        "bank_ptr": "*fp8e4nv",
        "mud_ptr": "*fp8e4nv",
        "silt_ptr": "*i64",
        "sea_ptr": "*bf16",
    }
    values = {"REACH": 64, "LEDGER": "kept", "TURBID": True, "DELTA": 2, "ORDER": "rising"}
    return spec("river_kernel", pointers, constexprs=values, num_warps=8)


@pytest.fixture(scope="module")
def weir() -> KernelSpec:
    """Dies in ptxas: one operand as large as the 64 registers that 32 warps leave to each thread."""
    pointers = {"flow_ptr": "*fp32", "bank_ptr": "*bf16", "sea_ptr": "*fp32"}
    values = {"REACH": 64, "GATES": "one", "TURBID": True, "DELTA": 0}
    return spec("weir_kernel", pointers, constexprs=values, num_warps=32)


@pytest.mark.slow
def test_the_planted_cause_of_spills_is_named_and_no_other(toolchain_351, river, tmp_path, capsys):
    assert not is_extend_kernel(river)
    file = tmp_path / "river.json"
    file.write_text(river.to_json())
    assert main(["ablate", str(file), "--arch", "sm_100a", "--triton", "3.5.1", "--json", *TRUSTED]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["baseline"]["status"] == "spills" and said["baseline"]["spill_store_bytes"] > 1000
    assert (said["criterion"], said["necessary"]) == (ENDS_SPILLS, ["LEDGER"])
    for search in said["smallest"]:
        assert [(s["names"], s["tensor_core_path"]) for s in search["sets"]] == [(["LEDGER"], "tcgen05")]
    assert "launch" in said["smallest"][1]["held"]
    # The decoys were tried, each of them.
    tried = {r["name"] for r in said["rungs"]}
    assert {"REACH", "TURBID", "DELTA", "ORDER", "num_warps", "maxnreg", "ptxas_level", "pointers *fp8e4nv"} <= tried


@pytest.mark.slow
def test_the_planted_cause_of_a_crash_is_named_and_no_other(toolchain_351, weir):
    changes = generic_changes(weir, "sm_90a")
    found = ablate(weir, "sm_90a", Toolchain("3.5.1"), changes=changes, hold=("launch",), limits=Limits(max_size=1))
    assert (found.baseline.status, found.baseline.ptxas_code) == ("register_exhausted", "C7602")
    # Half the warps double the cap and the operand too: the wide product is the cause, nothing else is.
    assert (found.criterion, found.necessary) == (MAKES_IT_COMPILE, ("GATES",))
    for held in ((), ("launch",)):
        assert [r.names for r in found.smallest(COMPILES, held).sets] == [("GATES",)]
    assert {"REACH", "TURBID", "DELTA", "num_warps", "maxnreg", "ptxas_level"} <= {
        n for r in found.rungs for n in r.names
    }


@pytest.mark.slow
def test_a_binary_that_no_sm_can_take_is_no_cure(toolchain_351, weir):
    # In two pieces it compiles; told that it may have 128 registers, it takes them: 1,024 threads cannot.
    pieces = weir.with_constexprs(GATES="two")
    capped = option_change("maxnreg", None, 128)
    found = ablate(pieces, "sm_90a", Toolchain("3.5.1"), changes=[capped])
    assert found.baseline.status == "spills"
    (rung,) = found.rungs
    assert (rung.report.regs_per_thread, rung.report.spill_store_bytes) == (128, 0)
    assert (rung.launchable, rung.effect) == (False, TOO_MANY)
    assert found.necessary == () and found.smallest(NO_SPILLS).sets == ()


def test_options_of_the_extend_kernel_do_not_go_with_a_spec(weir, tmp_path, capsys):
    file = tmp_path / "weir.json"
    file.write_text(weir.to_json())
    assert main(["ablate", str(file), "--head-dim", "512", *TRUSTED]) == 2
    said = capsys.readouterr().err
    assert "--head-dim is an option of the extend kernel" in said and "weir.json" in said
    file.write_text(json.dumps([json.loads(weir.to_json())] * 2))
    assert main(["bisect", str(file), *TRUSTED]) == 2 and "holds 2 specs" in capsys.readouterr().err
    file.write_text(replace(weir, kernel=KernelRef(str(tmp_path / "gone.py"), "weir_kernel")).to_json())
    assert main(["ablate", str(file), *TRUSTED]) == 2 and "gone.py" in capsys.readouterr().err
