"""The suite's own check must catch kernels that are wrong in one place, and pass the one that is not."""

import re
from pathlib import Path

import pytest

from helpers.attention.correctness.cases import interpreter_cases
from helpers.attention.correctness.numerics import run_cases, summarise
from helpers.attention.spec import EXTEND_KERNEL

SOURCE = Path(EXTEND_KERNEL.path).read_text(encoding="utf-8")
CASES = interpreter_cases()
# What is wrong -> (the text, what takes its place, which of its occurrences; None for all).
MUTATIONS = {
    "window one too wide, prefix": ("key[None, :] + WINDOW_LEFT", "key[None, :] + WINDOW_LEFT + 1", 0),
    "window one too wide, new tokens": ("key[None, :] + WINDOW_LEFT", "key[None, :] + WINDOW_LEFT + 1", 1),
    "window one too narrow": ("key[None, :] + WINDOW_LEFT", "key[None, :] + WINDOW_LEFT - 1", None),
    "v_scale missing, separate": ("tl.dot(p, v) * v_scale", "tl.dot(p, v)", None),
    "v_scale missing, fused": ("acc *= v_scale", "acc *= 1.0", None),
    "k_scale missing": ("qk_scale_prefix = sm_scale * k_scale", "qk_scale_prefix = sm_scale", None),
    "k_scale on new tokens as well": (
        "k, q_pe, k_pe, sm_scale, LOGIT",
        "k, q_pe, k_pe, sm_scale * k_scale, LOGIT",
        None,
    ),
    "accumulator not rescaled, prefix": (
        "acc * rescale[:, None] + tl.dot(p, v) * v_scale",
        "acc + tl.dot(p, v) * v_scale",
        None,
    ),
    "accumulator not rescaled, fused": ("tl.dot(p, v, acc * rescale[:, None])", "tl.dot(p, v, acc)", None),
    "sum not rescaled": ("row_sum * rescale + tl.sum(p, 1)", "row_sum + tl.sum(p, 1)", None),
    "stale maximum": ("return p, rescale, new_max,", "return p, rescale, row_max,", None),
    "causal edge excludes the token itself": (
        "key[None, :] <= offs_m[:, None]",
        "key[None, :] < offs_m[:, None]",
        None,
    ),
    "causal edge one too far": (
        "key[None, :] <= offs_m[:, None]",
        "key[None, :] <= offs_m[:, None] + 1",
        None,
    ),
    "bounds start one tile late": (
        "- WINDOW_LEFT, 0) // BLOCK_N * BLOCK_N",
        "- WINDOW_LEFT, 0) // BLOCK_N * BLOCK_N + BLOCK_N",
        None,
    ),
    "other heads' keys": (
        "kv_head = head // kv_group_num",
        "kv_head = head % tl.cdiv(tl.num_programs(1), kv_group_num)",
        None,
    ),
    "prefix end not checked": ("key_ok = key < prefix_len", "key_ok = key < prefix_len + 1", None),
    "next sequence's tokens seen": ("key_ok = key < extend_len", "key_ok = key < extend_len + 1", None),
    "soft cap ignored": ("if logit_cap > 0:", "if logit_cap > 1e30:", None),
    "sink ignored": ("tl.exp(sink - new_max)", "0.0 * tl.exp(sink - new_max)", None),
    "mask of the prefix ignored": (
        "if HAS_MASK and MASK_PREFIX:",
        "if HAS_MASK and MASK_PREFIX and prefix_len < 0:",
        None,
    ),
    "mask of the prefix not skipped": ("if HAS_MASK and MASK_PREFIX:", "if HAS_MASK:", None),
    "mask row too short": ("* (prefix_len + extend_len) + prefix_len", "* extend_len + prefix_len", None),
    "rotary part ignored": ("qk += tl.dot(q_pe, k_pe)", "qk += 0.0", None),
    "rows past the end written": ("mask=row_ok[:, None] & dv_ok[None, :]", "mask=dv_ok[None, :]", None),
}


def mutated(text: str, replacement: str, which: int | None) -> str:
    """The kernel's source with `text` replaced somewhere; fails when the kernel no longer reads so."""
    places = [found.start() for found in re.finditer(re.escape(text), SOURCE)]
    assert places, f"the kernel no longer holds {text!r}: bring this mutation up to date"
    if which is not None:
        places = places[which : which + 1]
    result = SOURCE
    for place in reversed(places):
        result = result[:place] + replacement + result[place + len(text) :]
    assert result != SOURCE
    return result


def first_catch(processes, path):
    """The first row that is not ok when the matrix runs on the kernel in `path`; None if all are."""
    for start in range(0, len(CASES), 2):
        rows = run_cases(CASES[start : start + 2], "interpreter", processes=processes, kernel_path=str(path))
        for row in rows:
            if not row.ok:
                return row
    return None


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_wrong_kernel_is_caught(interpreter, tmp_path, name):
    path = tmp_path / "mutated.py"
    path.write_text(mutated(*MUTATIONS[name]), encoding="utf-8")
    caught = first_catch(interpreter, path)
    assert caught is not None, "every case of the matrix passed a wrong kernel"
    assert caught.status in ("too_large", "nan", "wrote_outside"), caught


def test_the_kernel_itself_passes_from_a_copy(interpreter, tmp_path):
    path = tmp_path / "same.py"
    path.write_text(SOURCE, encoding="utf-8")
    rows = run_cases(CASES[:10], "interpreter", processes=interpreter, kernel_path=str(path))
    assert summarise(rows) == {"total": 10, "ok": 10}
