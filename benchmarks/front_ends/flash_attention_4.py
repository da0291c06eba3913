"""FlashAttention-4's forward kernel, compiled by CuTe DSL without a GPU; its files are left in the current folder.

    python flash_attention_4.py sm_90a HEAD_DIM PAGE_SIZE WINDOW PACKED        (0: no pages, no window)

PACKED is 1 for a batch whose sequences lie one behind the other (as an engine has them), 0 for one of equal lengths.

Run by benchmarks/record_front_ends.py. The tensors are fake ones of torch's: shapes and types, no memory.
"""

from __future__ import annotations

import os
import sys

BATCH, NEW, KEYS, HEADS, KV_HEADS = 2, 4096, 8192, 32, 16
SMS = {"sm_90a": "132", "sm_100a": "148"}


def main(arch: str, head_dim: int, page_size: int, window: int, packed: int) -> None:
    """Compile one configuration: causal, bf16, grouped heads as in the incident's sliding layer."""
    os.environ |= {"FLASH_ATTENTION_ARCH": arch, "CUTE_DSL_ARCH": arch, "FLASH_ATTENTION_NUM_SMS": SMS[arch],
                   "CUTE_DSL_KEEP": "ptx,cubin", "CUTE_DSL_DUMP_DIR": os.getcwd()}  # fmt: skip
    import torch
    from flash_attn.cute import interface
    from torch._subclasses.fake_tensor import FakeTensorMode

    choose = interface._get_fwd_config

    def choose_and_say(**asked):
        chosen = choose(**asked)
        print(f"tile {chosen.m_block_size}x{chosen.n_block_size}", flush=True)
        return chosen

    interface._get_fwd_config = choose_and_say
    with FakeTensorMode():
        kind = {"dtype": torch.bfloat16, "device": "cuda"}
        query = torch.empty(*((BATCH * NEW,) if packed else (BATCH, NEW)), HEADS, head_dim, **kind)
        rows, length = (BATCH * KEYS // page_size, page_size) if page_size else (BATCH, KEYS)
        key, value = (torch.empty(rows, length, KV_HEADS, head_dim, **kind) for _ in range(2))
        options = {"window_size_left": window - 1, "window_size_right": 0} if window else {}
        number = {"dtype": torch.int32, "device": "cuda"}
        if packed:
            options |= {"cu_seqlens_q": torch.empty(BATCH + 1, **number), "max_seqlen_q": NEW}
        if page_size:
            options["page_table"] = torch.empty(BATCH, KEYS // page_size, **number)
        if page_size or packed:
            options["seqused_k"] = torch.empty(BATCH, **number)
        interface._flash_attn_fwd(query, key, value, causal=True, **options)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
