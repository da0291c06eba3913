"""Each kind of failure: recognised in its wordings and in the forms people paste, with what helps and what cannot."""

from __future__ import annotations

import html
import json
import re
import textwrap
import time
from pathlib import Path

import pytest

from helpers.diagnosis.diagnose import diagnose
from helpers.diagnosis.diagnosis import Diagnosis
from helpers.diagnosis.kinds import CATALOGUE, FAMILIES, KINDS
from helpers.diagnosis.kinds.chip_lacks import feature_of
from helpers.diagnosis.kinds.known_ptxas_faults import has_fault, known_faults
from helpers.diagnosis.kinds.registers import warps_that_leave
from helpers.hardware import ARCHS, CHIPS, chips_of_limit, known_chip
from helpers.inspection.crash.pasted_text import bare_lines, clean_text, flat_text, near

REPORTS = Path(__file__).parents[1] / "fixtures" / "reports"


def report(prefix: str) -> Diagnosis:
    (path,) = REPORTS.glob(f"{prefix}-*.log")
    return diagnose(path.read_text())


def words(found: Diagnosis, what: str = "helps") -> str:
    """The sentences of one part of an answer: why it is so, what helps, what does not."""
    parts = {
        "because": found.because,
        "helps": [f"{s.edit} {s.why}" for s in found.suggestions],
        "vain": [f"{s.edit} {s.why}" for s in found.in_vain],
        "report": (found.report_to, found.report_why),
    }
    return " ".join(parts[what])


# --- the tester's reports: kind, facts, what helps, what does not, to whom --------------------------------------

# (file, kind, facts, patterns asked of: because, helps, vain, report; "" for none)
RIGHT = [
    (
        "01",
        "feature_not_on_target",
        {"feature": ".bf16", "line": 59},
        "below sm_80",
        "fp16 or fp32.*GPU with sm_80",
        "release",
        "model",
    ),
    ("01b", "feature_not_on_target", {"arch": "sm_75"}, "Turing", "fp16 or fp32", "release", "model"),
    ("02", "feature_not_on_target", {"arch": "sm_120a"}, "sm_100a, sm_103a", "path of its own", "release", "project"),
    (
        "03",
        "shared_memory",
        {"kernel": "triton_tem_fused_mm_3", "smem_needed": 294912, "smem_limit": 232448},
        "294,912 of 232,448.*sm_90a, sm_100a, sm_103a",
        "smaller blocks and fewer stages",
        "ptxas",
        "PyTorch",
    ),
    (
        "03b",
        "shared_memory",
        {"kernel": "triton_tem_fused_mm_3", "smem_needed": 139776, "smem_limit": 101376},
        "sm_86, sm_89, sm_120a, sm_121a",
        "smaller blocks and fewer stages",
        "ptxas",
        "PyTorch",
    ),
    (
        "04",
        "tensor_memory",
        {"tmem_needed": 640, "tmem_limit": 512},
        "640 of 512",
        "smaller tile",
        "maxnreg",
        "project",
    ),
    ("05", "ptxas_signal", {"signal": "11"}, "SIGSEGV", "another release of ptxas", "", "NVIDIA"),
    ("05b", "ptxas_signal", {"signal": "9"}, "memory", "fewer jobs", "", "nobody"),
    ("05c", "ptxas_signal", {"signal": "0xC0000005"}, "access violation", "another release of ptxas", "", "NVIDIA"),
    ("06", "ptxas_signal", {"arch": "sm_75"}, r"4294967295 \(that is -1\)", "by hand.*bf16", "", "nobody"),
    (
        "07",
        "static_shared_memory",
        {"smem_needed": 50176, "smem_limit": 49152},
        r"1,024 too many.*CUDA "
        r"C\+\+",
        "dynamic shared memory",
        "flags",
        "own project",
    ),
    (
        "08",
        "callee_needs_more_registers",
        {"cap": 64, "registers_needed": 255},
        "launch bound or -maxrregcount",
        "inlined.*debug",
        "",
        "own project",
    ),
    (
        "08b",
        "spills_made_errors",
        {"spill_store_bytes": 120},
        "-warn-spills with -Werror",
        "without that flag",
        "",
        "own project",
    ),
    ("09", "advice_only", {}, "advises; advice is no failure", "__launch_bounds__.*minnctapersm", "", "nobody"),
    ("09b", "advice_only", {"spill_store_bytes": 512, "kernel": "fused_24"}, "512", "", "", "nobody"),
    (
        "10",
        "frontend_error",
        {"source": "/project/lib/Analysis/Allocation.cpp:43"},
        "compiler's own source",
        "num_warps.*release of Triton",
        "ptxas",
        "triton-lang",
    ),
    (
        "11",
        "frontend_error",
        {"kernel": "my_bwd_kernel", "source": "/project/lib/Dialect/TritonGPU/Transforms/HoistTMEMAlloc.cpp:418"},
        "UNREACHABLE.*Failed to hoist tmem_store",
        "num_warps.*release of Triton",
        "ptxas",
        "triton-lang",
    ),
    (
        "12",
        "frontend_error",
        {
            "pass": "TritonGPUHoistTMEMAlloc",
            "source": "/app/k.py:26",
            "kernel": "paired",
            "num_warps": 8,
            "arch": "sm_100",
        },
        r"operand #2 does not dominate this use.*one \+= "
        r"tl.dot",
        "num_warps",
        "ptxas",
        "^Triton",
    ),
    ("13", "candidate_dropped", {"smem_needed": 131072}, "left it out and went on", "nothing", "", "nobody"),
    (
        "14",
        "build_failed_elsewhere",
        {"spill_store_bytes": 756},
        "Killed.*memory.*168 registers .as 384 threads leave., 756 B",
        "fewer jobs",
        "",
        "nobody",
    ),
    (
        "15",
        "unsupported_arch",
        {},
        "written for sm_90a, and ptxas was told sm_90",
        "--gpu-name=sm_90a",
        "release",
        "whoever calls ptxas",
    ),
    ("16", "amd_compiler", {"arch": "gfx942"}, "AMD.*gfx942.*NVIDIA's chips only", "", "", "ROCm"),
    (
        "23",
        "register_cap_too_low",
        {"registers_asked": 128, "registers_needed": 154},
        "128 is what 16 warps leave",
        "12 warps leave 168",
        "allocator",
        "CUTLASS",
    ),
    ("24", "launch_resources", {}, "65,536 registers", "fewer warps.*cap on registers", "", "own project"),
]


@pytest.mark.parametrize(("name", "kind", "facts", "because", "helps", "vain", "to"), RIGHT, ids=[r[0] for r in RIGHT])
def test_the_testers_reports(name, kind, facts, because, helps, vain, to):
    found = report(name)
    assert found.kind == kind and kind in KINDS
    assert {n: found.facts.get(n) for n in facts} == facts
    for what, pattern in (("because", because), ("helps", helps), ("vain", vain), ("report", to)):
        assert re.search(pattern, words(found, what)), (what, words(found, what))


def test_what_the_testers_reports_must_not_give():
    assert "arch" not in report("01").facts, "a threshold is not the reader's chip"
    assert not re.search("newer Triton|Triton 3|TRITON_PTXAS", words(report("02")))
    assert (
        "Triton" not in report("07").text()
        and "Triton" not in report("23").text()
        and "num_warps" not in report("23").text()
    )
    assert "num_warps" not in report("13").facts and report("13").failed is False and not report("13").incidents
    assert report("16").producer == "amd" and "ptxas" not in report("16").text()
    assert report("14").failed and "no failure" not in report("14").text()
    assert {report(n).producer for n in ("05", "05b", "07")} == {"nvcc"} and report("08").producer == "unknown"


# --- the same in the forms people paste -------------------------------------------------------------------------

FORMS = {
    "CRLF": lambda t: t.replace("\n", "\r\n"),
    "timestamps": lambda t: textwrap.indent(t, "2026-04-10T12:00:00.1234567Z ", lambda _: True),
    "kubernetes": lambda t: textwrap.indent(t, "2026-05-02T10:11:12.123456789Z stderr F ", lambda _: True),
    "worker": lambda t: textwrap.indent(
        t, "(EngineCore pid=83108) ERROR 07-21 00:00:54 [core.py:1330] ", lambda _: True
    ),
    "rank": lambda t: textwrap.indent(t, "[default6]:[rank6]: ", lambda _: True),
    "container": lambda t: textwrap.indent(t, "worker-1  | ", lambda _: True),
    "build container": lambda t: textwrap.indent(t, "#22 614.2 ", lambda _: True),
    "glog": lambda t: textwrap.indent(t, "E0101 10:00:00.100000 77 some/module.py:2100] [7/0] ", lambda _: True),
    "pytest": lambda t: textwrap.indent(t, "E       ", lambda _: True),
    "quoted": lambda t: textwrap.indent(t, "> ", lambda _: True),
    "fence": lambda t: f"I get this:\n```\n{t}\n```\nany idea?",
    "colours": lambda t: "\n".join(f"\x1b[1;31m{line}\x1b[0m" for line in t.split("\n")),
    "JSON lines": lambda t: "\n".join(
        json.dumps({"ts": "2026", "level": "error", "msg": line}) for line in t.split("\n")
    ),
    "one JSON line over 4,000 characters": lambda t: json.dumps(
        {"level": "error", "environment": ["X" * 70] * 60, "message": t}
    ),
    "repr": lambda t: f"RuntimeError({t!r})",
    "HTML": lambda t: "<pre>" + html.escape(t).replace("\n", "<br>\n") + "</pre>",
    "wrapped at 100": lambda t: "\n".join(
        part
        for line in t.split("\n")
        for part in textwrap.wrap(line, 100, break_long_words=False, break_on_hyphens=False) or [""]
    ),
    "one line": lambda t: " ".join(t.split()),
    "in the middle": lambda t: "Fetching 100%\n" * 300 + t + "\nError: exit code 1.\n",
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", [row[0] for row in RIGHT])
def test_the_form_of_a_log_does_not_matter(name, form):
    (path,) = REPORTS.glob(f"{name}-*.log")
    text = path.read_text()
    told, plain = diagnose(FORMS[form](text)), diagnose(text)
    assert told.kind == plain.kind
    for fact in ("arch", "kernel", "registers_asked", "smem_needed", "signal", "feature", "pass"):
        assert told.facts.get(fact) == plain.facts.get(fact), fact


def test_a_windows_path_is_no_line_break():
    text = "ptxas D:\\tmp\\new\\nn.ptx, line 41; error   : Feature '.bf16' requires .target sm_80 or higher\n"
    assert "D:\\tmp\\new\\nn.ptx" in clean_text(text).text and diagnose(text).failure.ptx_path == "D:\\tmp\\new\\nn.ptx"


# --- wordings beyond the corpus ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kind", "says"),
    [
        (
            "nvlink error   : entry function '_Z3outv' with max regcount of 64 calls function '_Z2inv' with regcount "
            "of "
            "70 (target: sm_61)",
            "callee_needs_more_registers",
            "nvlink says",
        ),
        (
            "fatal error: error in backend: Cannot select: t21: i64,ch = stacksave t20\nIn function: "
            "_Z5entryPd\nclang-15: error: clang "
            "frontend command failed",
            "frontend_error",
            "Cannot select",
        ),
        (
            "error: 'tt.load' op requires the same shape for all operands and results\nRuntimeError: error encountered "
            "during parsing",
            "frontend_error",
            "same shape",
        ),
        (
            "ptxas a.ptx, line 2; error   : Instruction 'mma with block scale' not supported on .target 'sm_120'",
            "feature_not_on_target",
            "arch-specific",
        ),
        (
            "ptxas a.ptx, line 2; error   : Feature '.acq_rel' requires .target sm_70 or higher",
            "feature_not_on_target",
            "below sm_70",
        ),
        (
            "ptxas a.ptx, line 3; error   : Feature '.kind::i8' requires PTX ISA .version 8.6 or later",
            "ptxas_error",
            "version below 8.6",
        ),
        ("`ptxas` failed with error code -9\n`ptxas` stderr:\n", "ptxas_signal", "RAM"),
        ("nvcc error   : 'ptxas' died with status 0xC00000FD (STACK_OVERFLOW)", "ptxas_signal", "stack overflow"),
        ("INTERNAL: ptxas exited with non-zero error code 139, output: ", "ptxas_signal", "SIGSEGV"),
        (
            "subprocess.CalledProcessError: Command '['/usr/bin/ptxas', '-v', 'a.ptx']' died with <Signals.SIGSEGV: "
            "11>.",
            "ptxas_signal",
            "SIGSEGV",
        ),
        ("nvcc error   : 'cicc' died due to signal 11 (Invalid memory reference)", "build_failed_elsewhere", "cicc"),
        ("ptxas fatal   : Memory allocation failure", "ptxas_error", "RAM"),
        (
            "RESOURCE_EXHAUSTED: Shared memory size limit exceeded: requested 245760, available: 232448",
            "shared_memory",
            "13,312 too many",
        ),
        ("RuntimeError: Compilation of kernel attn took 7 min", "slow_compile", "420 s"),
        (
            "ptxas info    : Compiling entry function 'k' for 'sm_90a'\nptxas info    : Used 40 registers\nptxas "
            "info   "
            " : Compile time = "
            "61000.0 ms",
            "slow_compile",
            "61 s",
        ),
        (
            "ptxas info    : Compiling entry function 'k' for 'sm_90a'\nptxas info    : Used 40 registers\nptxas "
            "info   "
            " : Compile time = "
            "5900.0 ms",
            "no_failure",
            "40 registers",
        ),
        (
            "ptxas fatal   : Value 'sm_61' is not defined for option 'gpu-name'",
            "unsupported_arch",
            "dropped after CUDA 12.9",
        ),
        (
            "ptxas fatal   : Value 'sm_121' is not defined for option 'gpu-name'",
            "unsupported_arch",
            "from CUDA 12.9 on",
        ),
        (
            "RuntimeError: CUDA error: no kernel image is available for execution on the device",
            "unknown",
            "built for other chips",
        ),
        ("Cannot find ptxas", "unknown", "no ptxas was found"),
    ],
)
def test_other_wordings(text, kind, says):
    found = diagnose(text + "\n")
    assert found.kind == kind and says in " ".join((found.title, *found.because)), found.because


def test_an_old_chip_is_not_sent_to_a_newer_release():
    found = diagnose("ptxas fatal   : Value 'sm_70' is not defined for option 'gpu-name'\n")
    assert "up to 12.9" in found.suggestions[0].edit and "newer CUDA" in found.in_vain[0].edit
    newer = diagnose("ptxas fatal   : Value 'sm_103a' is not defined for option 'gpu-name'\n")
    assert "CUDA 12.9 or later" in newer.suggestions[0].edit and "Triton" not in newer.text()


def test_the_plain_target_of_a_chip_that_has_the_feature_is_told_from_a_chip_that_lacks_it():
    text = "ptxas a.ptx, line 1; error   : Instruction 'tcgen05.alloc' not supported on .target '{}'\n"
    assert "sm_100a instead of sm_100" in diagnose(text.format("sm_100")).suggestions[0].edit
    assert not diagnose(text.format("sm_100")).in_vain
    for chip in ("sm_120", "sm_120a", "sm_90a"):
        found = diagnose(text.format(chip))
        assert "instead of sm_" not in words(found) and "no release adds" in words(found, "vain")
    setmaxnreg = diagnose(
        "ptxas a.ptx, line 1; error   : Instruction 'setmaxnreg.dec' not supported on .target 'sm_120'\n"
    )
    assert "sm_120a" in setmaxnreg.suggestions[0].edit


def test_a_later_ptx_helps_where_ptxas_says_so():
    text = (
        "ptxas f.ptx, line 7; error   : Feature 'cvt with .e4m3x2/.e5m2x2' requires .target sm_90 or higher\n"
        "ptxas f.ptx, line 7; error   : Feature 'cvt with .e4m3x2/.e5m2x2 on sm_89' requires PTX ISA .version 8.1 or "
        "later\n"
    )
    found = diagnose(text)
    assert "if the chip is sm_89" in found.suggestions[0].edit and not found.in_vain


def test_the_message_s_threshold_goes_before_the_table_s():
    found = diagnose("ptxas a.ptx, line 1; error   : Modifier '.m8n8k4' requires .target sm_72 or higher\n")
    assert "needs sm_72 or higher" in words(found, "because") and "sm_72" in words(found)
    assert feature_of(".bf16").floor == 80 and feature_of("nothing of the kind") is None


def test_a_dropped_candidate_is_told_from_the_failure_that_was_raised():
    out = "out of resource: shared memory, Required: {}, Hardware limit: 101376. Reducing block sizes may help."
    skipped = f"autotuner: config BLOCK=128 {out.format(262144)}, skipped\nbest config: BLOCK=32\n"
    assert diagnose(skipped).kind == "candidate_dropped" and diagnose(skipped).failed is False
    raised = diagnose(
        skipped + f"Traceback (most recent call last):\ntriton.runtime.errors.OutOfResources: {out.format(131072)}\n"
    )
    assert raised.kind == "shared_memory" and raised.facts["smem_needed"] == 131072 and raised.failed
    alone = diagnose(f"triton.runtime.errors.OutOfResources: {out.format(262144)}\n")
    assert alone.kind == "shared_memory", "no autotuner speaks"
    died = diagnose(skipped + "nvcc error   : 'ptxas' died due to signal 11 (Invalid memory reference)\n")
    assert died.kind == "ptxas_signal" and died.producer == "nvcc"


def test_a_number_of_warps_is_given_where_the_log_names_one():
    text = "ptxas fatal   : (C7600) Register allocation failed with register count of '128'.\n"
    assert diagnose("num_warps=16\n" + text).facts["num_warps"] == 16
    assert "num_warps" not in diagnose("num_warps=16\nnum_warps=8\n" + text).facts
    assert "num_warps" not in diagnose("  triton_mm_1 0.1 ms 100% num_warps=8\n" + text).facts
    assert warps_that_leave(168) == (12,) and warps_that_leave(96) == (20,) and warps_that_leave(152) == ()


def test_wrong_numbers_alone_are_no_evidence_against_ptxas():
    wrong = "AssertionError: Tensor-likes are not close!\nH100 (sm_90a)\n"
    assert diagnose(wrong + "ptxas 12.9.86\n").kind == "unknown", (
        "neither a mark of the fault nor a release that is right"
    )
    better = diagnose(wrong + "with ptxas 12.9.86\nwith ptxas 13.3.33 all is right\n")
    assert better.kind == "known_wrong_code" and better.confidence == "likely" and "13.3" in words(better)
    marked = diagnose(wrong + "kernel chunk_bwd_kernel_dv, ptxas 12.8.93\n")
    assert marked.kind == "known_wrong_code" and "chunk_bwd_kernel_dv" in words(marked, "because")
    assert diagnose(wrong + "kernel chunk_bwd_kernel_dv, ptxas 13.1.80\n").kind == "unknown"
    assert (
        diagnose(wrong.replace("H100 (sm_90a)", "A100 (sm_80)") + "chunk_bwd_kernel_dv, ptxas 12.8.93\n").kind
        == "unknown"
    )


def test_the_table_of_faults():
    faults = {f.id: f for f in known_faults()}
    assert has_fault(faults["fla-dh"], "13.0.88") and not has_fault(faults["fla-dh"], "13.1.80")
    assert has_fault(faults["fla-dv"], "12.8.93") and not has_fault(faults["fla-dv"], "13.0.88")
    assert has_fault(faults["wgmma-register-input"], "12.9.86") and not has_fault(
        faults["wgmma-register-input"], "13.3.33"
    )
    assert all(f.evidence and f.mended in f.good[0] for f in faults.values())


def test_advice_says_what_ptxas_s_reason_means():
    line = "ptxas info    : (C75{}) Potential Performance Loss: {}\n"
    for number, reason, cure in (
        ("04", "'setmaxnreg' ignored to maintain compatibility across compilation units.", "without -rdc"),
        ("05", "'setmaxnreg' ignored to allow debugging.", "without -G"),
        ("08", "'setmaxnreg' ignored; unable to determine register count at entry.", "min_blocks_per_mp"),
        (
            "11",
            "wgmma.mma_async instructions are serialized due to insufficient register resources for the wgmma "
            "pipeline in the function 'k'",
            "higher cap",
        ),
        (
            "16",
            "wgmma.mma_async instructions are serialized due to ill formed pipeline stage in the function 'k'",
            "commit_group",
        ),
    ):
        found = diagnose(line.format(number, reason))
        assert found.kind == "advice_only" and found.failed is False and cure in words(found), number
    fatal = (
        line.format("11", "x") + "ptxas fatal   : (C7600) Register allocation failed with register count of '255'.\n"
    )
    assert diagnose(fatal).kind == "register_exhaustion"


def test_builds_that_fail_beside_ptxas():
    ok = "ptxas info    : Compiling entry function '_Z1kPf' for 'sm_80'\nptxas info    : Used 24 registers\n"
    for line, says in (
        ("/src/api.cpp(88): error: no member named 'x'\nninja: build stopped: subcommand failed.", "front end"),
        (
            "/usr/bin/ld: cannot find -lcudart: No such file or directory\ncollect2: error: ld returned 1 exit status",
            "linker",
        ),
        ("ops.cu:3:10: fatal error: a/b.h: No such file or directory\ncompilation terminated.", "missing"),
        ("Killed\nninja: build stopped: subcommand failed.", "memory"),
        ("ninja: build stopped: subcommand failed.", "does not say"),
    ):
        found = diagnose(ok + line + "\n")
        assert found.kind == "build_failed_elsewhere" and found.failed and says in words(found, "because"), line
    assert diagnose(ok + "0 errors, 0 warnings\n").kind == "no_failure"
    assert (
        diagnose("c++: fatal error: Killed signal terminated program cc1plus\nninja: build stopped.\n").kind
        == "unknown"
    )


# --- tables and bounds ------------------------------------------------------------------------------------------


def test_the_catalogue_holds_together():
    names = [kind.name for family in FAMILIES for kind in family.KINDS]
    assert len(names) == len(set(names)) == len(CATALOGUE)
    wordings = [w for family in FAMILIES for w in (*family.WORDINGS, *family.PTXAS_WORDINGS)]
    assert all(w.kind in CATALOGUE or w.kind == "died" for w in wordings)
    assert all(w.hint for family in FAMILIES for w in family.WORDINGS), "a search without a plain word is slow"


def test_chips_from_maxwell_on_are_known_with_their_limits():
    assert known_chip("sm_75").generation == "Turing" and known_chip("sm_90a").capability == 90
    assert known_chip("compute_120").name == "sm_120" and known_chip("sm_999") is None and known_chip("gfx942") is None
    assert {c.name for c in CHIPS.values() if c.last_cuda == "12.9"} >= {"sm_50", "sm_61", "sm_70"}
    assert [c.name for c in chips_of_limit(65536)] == ["sm_75"]
    for arch in ARCHS.values():
        chip = CHIPS[arch.capability]
        assert chip.smem_per_block_max_bytes == arch.smem_per_block_max_bytes, arch.name
        assert chip.max_warps_per_sm == arch.max_warps_per_sm and chip.regs_per_sm == arch.regs_per_sm


def test_prefixes_and_flat_text():
    lines = bare_lines("[rank3]: a\nworker-1  | b\n> > c\n2026-01-01T00:00:00Z d\nnot | a prefix\n   indented")
    assert lines[:4] == ["a", "b", "c", "d"] and lines[5] == "   indented"
    flat = flat_text(["one  two", "", "three"])
    assert flat.text == "one two three" and [flat.line_of(i) for i in (0, 6, 8)] == [0, 0, 2]
    text = "x" * 5_000 + "needle 1 " + "y" * 5_000 + "needle 2"
    assert [m[1] for m in near(re.compile(r"needle (\d)"), text, "needle")] == ["1", "2"]


def test_ten_thousand_lines_take_less_than_a_second_of_work():
    kinds = (
        "2026-03-14T09:21:01.11Z [{0}/9] /usr/local/cuda/bin/nvcc -O3 -gencode arch=compute_90a,code=sm_90a -c k{0}.cu",
        "2026-03-14T09:21:01.11Z ptxas info    : Compiling entry function '_Z4k{0}Pf' for 'sm_90a'",
        "2026-03-14T09:21:01.11Z ptxas info    : Used 40 registers, 368 bytes cmem[0]",
        '  File "/usr/lib/python3.11/site-packages/torch/_inductor/x{0}.py", line {0}, in f',
        "2026-03-14T09:21:01.11Z step {0} loss 2.33 num_warps=4 config error: 0 warning: none took 12 ms",
    )
    text = "\n".join(kinds[i % 5].format(i) for i in range(10_000)) + "\nninja: build stopped: subcommand failed.\n"
    started = time.process_time()
    assert diagnose(text).kind == "build_failed_elsewhere"
    assert time.process_time() - started < 1.0


def test_how_to_go_on_fits_the_language():
    triton = report("12")
    assert "register-cliff spec" in triton.go_on[0] and "bisect" in triton.go_on[0] and "how to go on" in triton.text()
    assert not report("16").go_on and not report("09").go_on
    cpp = report("05")
    assert "nvcc -ptx" in " ".join(cpp.go_on) and "register-cliff spec" not in cpp.text()
    amd = diagnose(
        "error: ran out of registers during register allocation\n"
        '  File "/x/triton/backends/amd/compiler.py", line 1, in f\n'
    )
    assert amd.kind == "amd_compiler" and not amd.go_on and "Triton for its AMD backend" in amd.report_to


def test_an_error_at_run_time_on_amd_is_no_failure_of_its_compiler():
    assert diagnose("RuntimeError: HIP error: out of memory\nGPU: gfx942\n").kind == "unknown"
    mlir = diagnose(
        '  File "/x/triton/backends/amd/compiler.py", line 1, in make_ttgir\nRuntimeError: PassManager::run failed\n'
    )
    assert mlir.kind == "frontend_error" and "NVIDIA's only" in words(mlir, "because")


def test_a_release_of_triton_is_named_where_the_log_tells_it():
    said = diagnose("triton 3.6.0\n" + (REPORTS / "12-mlir-verifier.log").read_text())
    assert "version 3.6.0" in said.report_why and "than 3.6.0" in words(said) and said.facts["triton"] == "3.6.0"
    assert "name its version" in report("12").report_why


def test_verbose_adds_evidence_and_small_print():
    found = report("06")
    short, long = (" ".join(text.split()) for text in (found.text(), found.text(verbose=True)))
    assert "flags:" not in short and "-lineinfo" in long and "reported: the commonest error" in long
    assert "shows itself" in long and "shows itself" not in short and "--verbose adds" in short
    assert "[reported]" in short and "evidence" not in short.replace("--verbose adds the evidence", "")


def test_several_failures_are_told_and_one_is_explained():
    names = ("04-out-of-resource-wrapped.log", "05b-nvcc-ptxas-killed.log")
    text = "".join((REPORTS / name).read_text() for name in names)
    found = diagnose(text)
    assert found.kind == "tensor_memory" and [f.kind for f in found.failures] == ["tensor_memory", "ptxas_signal"]
    assert any("2 different failures" in n and "ptxas signal" in n for n in found.notes)
    advised = diagnose((REPORTS / "09b-spill-warning-only.log").read_text() + text)
    assert advised.kind == "tensor_memory" and not any("advice" in n for n in advised.notes)


@pytest.mark.parametrize(
    ("words_of_death", "signal"),
    [
        ("`ptxas` failed with error code 139", "11"),
        ("`ptxas` failed with error code -6", "6"),
        ("`ptxas` failed with error code -1073741819", None),
        ("`ptxas` failed with error code 3221225477", None),
        ("(ptxas received signal 9)", "9"),
        ("ptxas exited with non-zero error code 9, output:", "9"),
        ("ptxas exited with non-zero error code 34304, output:", "6"),
        ("nvcc error   : 'ptxas' died due to signal 7 (Bus error)", "7"),
        ("clang: error: unable to execute command: Killed\nclang: error: ptxas command failed due to signal", "9"),
    ],
)
def test_the_many_ways_to_say_how_ptxas_died(words_of_death, signal):
    found = diagnose(words_of_death + "\n")
    assert found.kind == "ptxas_signal" and found.facts.get("signal") == signal, found.facts
    if signal is None:
        assert "access violation (0xC0000005)" in words(found, "because")


def test_an_exit_code_beside_ptxas_s_words_adds_nothing():
    text = "Failed to compile PTX code (ptxas exited with code 255)\nptxas fatal   : Unresolved extern function 'f'\n"
    found = diagnose(text)
    assert found.kind == "ptxas_error" and [f.kind for f in found.failures] == ["unresolved_symbol"]
    silent = diagnose("Failed to compile PTX code (ptxas exited with code 1)\n")
    assert silent.kind == "ptxas_signal" and "without a word" in words(silent, "because")


# Pieces of what patterns begin with: a text of nothing else must cost time by its length, not by its square.
TEDIOUS = [
    "9",
    "x",
    " ",
    "12.",
    "ptxas ",
    "ptxas error : '",
    "Assertion `x",
    "mlir Assertion ",
    ": error: ",
    "k.py:1:1: error: a ",
    "out of resource: ",
    "triton_",
    "LLVM ERROR: ",
    "not supported on .target ",
    "took ",
    "compile took 1 ",
    "AUTOTUNE a",
    "Skipping config ",
    "config a failed ",
    "'ptxas' died ",
    "a.cu(1): error",
    "(1): error: x ",
    "gfx90",
    "sm_90a ptxas 12.9.86 ",
    "not close CUDA 12.9.86 H100\n",
    "(C7508) ",
    "ptxas info : (C7508) x ",
    "Registers are spilled ",
    '{"a": ',
    "\\n",
    "\\n\\",
    "[rank1]: ",
    "worker | ",
    "wgmma",
    "wgmma register",
    'File "/triton/compiler/a.py", line 1 in f\n',
    "Fatal Python error: Aborted\n",
    "nvcc error : \n",
    "Killed\n",
    "E   ",
    "> ",
    "#1 1.1 ",
]


@pytest.mark.parametrize("piece", TEDIOUS)
def test_no_text_costs_more_than_its_length(piece):
    def seconds(length: int) -> float:
        started = time.process_time()
        diagnose(piece * (length // len(piece))).text()
        return time.process_time() - started

    short = min(seconds(25_000) for _ in range(2))
    assert seconds(200_000) < 24 * short + 0.3


@pytest.mark.parametrize(
    ("text", "kind", "says"),
    [
        (
            "nvcc fatal   : Value 'sm_86' is not defined for option 'gpu-architecture'",
            "unsupported_arch",
            "CUDA 11.1 on",
        ),
        ("nvcc fatal   : Unsupported gpu architecture 'compute_35'", "unsupported_arch", "dropped after CUDA 11.8"),
        ("ptxas fatal   : Could not open input file '/tmp/a.ptx'", "ptxas_error", "not there"),
        (
            "ptxas warning : Value of threads per SM for entry k is out of range. .minnctapersm will be ignored",
            "advice_only",
            "minnctapersm",
        ),
        (
            "error: failed to legalize operation 'tt.dot' that was explicitly marked illegal",
            "frontend_error",
            "legalize",
        ),
        (
            "subprocess.CalledProcessError: Command '['/x/triton/backends/nvidia/bin/ptxas', '--gpu-name=sm_75', "
            "'/tmp/a.ptx']' "
            "returned non-zero exit status 255.",
            "ptxas_signal",
            "without a word",
        ),
        (
            "Fatal Python error: Segmentation fault\n\nCurrent thread 0x1 (most recent call first):\n  File "
            '"/v/triton/compiler/'
            'code_generator.py", line 223 in __init__',
            "frontend_error",
            "innermost frame",
        ),
        (
            "Fatal Python error: Segmentation fault\n\nCurrent thread 0x1 (most recent call first):\n  File "
            '"/v/triton/backends/nvidia/'
            'driver.py", line 71 in launch',
            "unknown",
            "the log says: Fatal Python error: Segmentation fault",
        ),
        (
            "[1/2] nvcc -c a.cu -o a.o\nFAILED: [code=137] a.o\nninja: build stopped: subcommand failed.",
            "build_failed_elsewhere",
            "memory",
        ),
        (
            "GPU: AMD Instinct MI300X (gfx942)\ntriton.runtime.errors.OutOfResources: out of resource: shared "
            "memory, Required: 66560, "
            "Hardware limit: 65536.",
            "shared_memory",
            "AMD's chip",
        ),
        ("RuntimeError: Triton Error [CUDA]: device kernel image is invalid", "unknown", "cannot load the binary"),
    ],
)
def test_more_of_what_people_post(text, kind, says):
    found = diagnose(text + "\n")
    assert found.kind == kind and says in " ".join((found.title, *found.because)), found.because
    assert "sm_75" not in found.facts.get("arch", "") or "sm_75" in text
