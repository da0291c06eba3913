"""Compile kernels straight from the wheels of sglang and vllm, old and new, and write data/wheel_kernels.csv.

    python benchmarks/record_wheel_kernels.py [--wheels FOLDER]

Needs Triton 3.5.1 and the environment's own; minutes cold on two cores. The wheels come through your pip's own set-up
(vllm's is 260 MB, of which its files with device code stay), or from FOLDER. Compile-time only, no GPU.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import sys
from dataclasses import replace
from pathlib import Path

import helpers as rc
from helpers.compiler.bring.from_wheel import fetch_wheel
from helpers.files import write_text_atomically
from helpers.recorded import DATA

SGLANG = ("sglang==0.5.10", "sglang==0.5.23")
VLLM = "vllm==0.22.1"
VLLM_KERNEL = "vllm/v1/attention/ops/triton_unified_attention.py:kernel_unified_attention"
# Its launcher's choices for a prefill of Gemma 4's sliding layers: 32 query heads on 16 KV heads of 256, pages of 16.
# What a 2D launch never reads it fills with the output, the cache or 0.
VLLM_SIGNATURE = (
    "output_ptr=*bf16:16, query_ptr=*bf16:16, key_cache_ptr={kv}:16, value_cache_ptr={kv}:16, sink_ptr=None, "
    "block_tables_ptr=*i32:16, seq_lens_ptr=*i32:16, alibi_slopes_ptr=None, qq_bias_ptr=None, "
    "scale=fp32, q_scale=None, k_scale=*fp32:16, v_scale=*fp32:16, out_scale=fp32, softcap=fp32, "
    "num_query_heads=32, num_queries_per_kv=2, block_table_stride=i64:16, query_stride_?=i64:16, "
    "output_stride_0=i64:16, output_stride_1=i64:16, qq_bias_stride_0=0, BLOCK_SIZE=16, TILE_SIZE=32, HEAD_SIZE=256, "
    "HEAD_SIZE_PADDED=256, USE_ALIBI_SLOPES=False, USE_ALIBI_SQRT=False, USE_QQ_BIAS=False, USE_SOFTCAP=False, "
    "USE_SINKS=False, SLIDING_WINDOW=1024, USE_MM_PREFIX=False, MAX_MM_RANGES=0, mm_prefix_range_ptr=None, "
    "stride_k_cache_3=1, stride_v_cache_3=1, stride_?_cache_*=i64:16, query_start_len_ptr=*i32:16, BLOCK_Q=8, "
    "num_seqs=i32, BLOCK_M=16, NUM_SEGMENTS_PER_SEQ=1, USE_FP8=False, IS_3D=False, segm_*_ptr=*bf16:16, "
    "?_scale_cache_ptr={kv}:16, stride_?s_*=0, KV_QUANT_MODE={mode}, FP8_MIN=-448.0, FP8_MAX=448.0"
)
COUNTS = ("regs_per_thread", "spill_store_bytes", "spill_load_bytes", "smem_bytes")


def vllm_spec(wheel: str | Path, kv_dtype: str) -> rc.KernelSpec:
    """The spec of vllm's unified attention kernel over a bf16 or fp8_e4m3 cache."""
    kv, mode = {"bf16": ("*bf16", 0), "fp8_e4m3": ("*fp8e4nv", 1)}[kv_dtype]
    signature = VLLM_SIGNATURE.format(kv=kv, mode=mode)
    return rc.spec_from_wheel(wheel, VLLM_KERNEL, signature, label=f"vllm unified hd256 {kv_dtype} window 1024 16x32")


def main(argv: list[str] | None = None) -> int:
    """Write the rows; 1 when a toolchain was missing."""
    import pandas as pd

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wheels", type=Path, help="folder of wheels already downloaded, looked into first")
    options = parser.parse_args(argv)
    requests, wheels = [], []

    def add(wheel: str, specs: list[rc.KernelSpec], archs: tuple[str, ...]) -> None:
        for spec in specs:
            for arch in archs:
                for triton in ("3.5.1", "environment"):
                    requests.append(rc.CompileRequest(spec, arch, rc.Toolchain(triton)))
                    wheels.append(wheel)

    for requirement in SGLANG:
        wheel = at_hand(requirement, options.wheels)
        add(requirement, [rc.sglang_extend_spec(wheel, replace(c, timeout_s=600.0)) for c in rc.incident_rows()],
            ("sm_100a",))  # fmt: skip
    wheel = at_hand(VLLM, options.wheels)
    add(VLLM, [vllm_spec(wheel, kv_dtype) for kv_dtype in ("bf16", "fp8_e4m3")], ("sm_90a", "sm_100a"))
    reports = rc.compile_matrix(requests)
    missing = [r for r in reports if r.status == "toolchain_missing"]
    if missing:
        print(f"not recorded: {missing[0].message}", file=sys.stderr)
        return 1
    rows = [
        {
            "wheel": wheel,
            "kernel": request.spec.kernel.name,
            "spec": report.label,
            "arch": report.arch,
            "triton_version": report.triton_version,
            "ptxas_version": report.ptxas_version,
            "status": report.status,
            "ptxas_code": report.ptxas_code,
            **{name: getattr(report, name) for name in COUNTS},
            "tensor_core_path": report.tensor_core_path if report.instructions else None,
            "message": report.message.splitlines()[0][:200] if report.message else None,
        }
        for wheel, request, report in zip(wheels, requests, reports, strict=True)
    ]
    table = pd.DataFrame(rows)
    for name in COUNTS:
        table[name] = table[name].astype("Int64")
    abouts = [json.loads((fetch_wheel(at_hand(w, options.wheels)) / "wheel.json").read_text()) for w in (*SGLANG, VLLM)]
    head = (
        f"# {len(table)} compiles by `python benchmarks/record_wheel_kernels.py` on {datetime.date.today()}, "
        f"{platform.system()} {platform.machine()}, Python {platform.python_version()}, no GPU; compile-time only.\n"
        "# Kernels from PyPI wheels, nothing installed, imports that are missing stubbed: "
        + "; ".join(f"{a['file']} sha256 {a['sha256'][:16]}" for a in abouts)
        + ".\n"
    )
    write_text_atomically(DATA / "wheel_kernels.csv", head + table.to_csv(index=False))
    print(f"{len(table)} rows: {table['status'].value_counts().to_dict()}")
    return 0


def at_hand(requirement: str, folder: Path | None) -> str | Path:
    """The wheel of a requirement in `folder`, or the requirement itself."""
    name, _, version = requirement.partition("==")
    found = sorted(folder.glob(f"{name}-{version}-*.whl")) if folder else []
    return found[0] if found else requirement


if __name__ == "__main__":
    sys.exit(main())
