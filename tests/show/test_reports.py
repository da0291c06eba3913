"""Tables say what the reports say: order, differences, whole numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest

import helpers as rc
from helpers.compiler.report import Evidence
from helpers.workbook.reproduce_the_crash import AGREE, DIFFERENCE


def test_whole_numbers_stay_whole_beside_a_failure(ok, crash):
    table = rc.reports_table([ok, crash], columns=None)
    assert str(table["regs_per_thread"].dtype) == "Int64" and table["regs_per_thread"].isna().tolist() == [False, True]
    assert table["n_mma_sync"].tolist() == [4, 4] and table["tensor_core_path"].tolist() == ["mma.sync"] * 2


def test_against_reference_takes_the_difference_and_compares_crash_with_crash(ok, crash):
    reference = rc.read_rows("incident_reference")
    evidence = [
        Evidence(
            replace(crash if i == 0 else replace(ok, spill_store_bytes=10), label=choice.request().spec.label), "test"
        )
        for i, choice in enumerate(rc.incident_rows())
    ]
    table = rc.against_reference(evidence, reference, list("abcdef"))
    assert table["configuration"].tolist() == list("abcdef")
    assert table[AGREE].all() and len(table) == 6
    assert table[DIFFERENCE].tolist()[1:] == [10 - 700, 10 - 164, 10 - 8, 10 - 596, 10 - 0]
    swapped = [
        Evidence(replace(e.report, status="ok" if e.report.crashed else e.report.status), "test") for e in evidence
    ]
    assert rc.against_reference(swapped, reference, list("abcdef"))[AGREE].tolist() == [False] + [True] * 5


def test_against_reference_refuses_rows_in_another_order(ok):
    evidence = [Evidence(replace(ok, label=c.request().spec.label), "test") for c in rc.incident_rows()]
    with pytest.raises(ValueError, match="is compared with"):
        rc.against_reference(evidence[::-1], rc.read_rows("incident_reference"), list("abcdef"))


def test_chooser_table_marks_what_the_fix_changed_and_nothing_else():
    table = rc.chooser_table().set_index("chip")
    changed = [
        arch
        for arch in table.index
        if "→" in "".join(table.loc[arch, ["head dim 128", "head dim 256", "head dim 512"]])
    ]
    assert changed == ["sm_100a", "sm_103a"]
    applies = table["row that applies"]
    assert set(applies[changed]) == {"the merged row"} and applies["sm_90a"] == "capability >= 9"
    assert table.loc["sm_100a", "head dim 256"] == "128x64 → 64x64" and table.loc["sm_120a", "head dim 512"] == "32x32"


def test_cost_table_counts_blocks_and_leaves_occupancy_of_a_crash_open(ok, crash):
    choices = rc.gemma4_choices(tile="hopper", kv_dtypes=("fp8_e4m3",))
    before = [Evidence(crash, "test"), Evidence(ok, "test")]
    table = rc.cost_table(before, [Evidence(ok, "test")] * 2, choices, extend_len=4096)
    assert table["kv_reads"].tolist() == [32, 64, 128, 256]
    assert table["layer"].tolist() == ["sliding, fp8_e4m3 cache"] * 2 + ["global, fp8_e4m3 cache"] * 2
    words = rc.cost_in_words(table)
    assert len(words) == 4 and not [name for name in words if "_" in name]
    assert table["ctas"].tolist() == [n * 32 for n in (32, 64, 128, 256)]
    assert table["ctas_per_sm"].isna().tolist() == [True, False, False, False]
    assert table["ctas_per_sm"].tolist()[1] == 1  # 200 registers x 256 threads: one CTA


def test_ptx_tables_name_real_lines_of_the_kernel():
    text = rc.ptx_of(rc.compile_one(rc.INCIDENT_CHOICE))
    wide = rc.wide_operand_table(text, 128)
    assert set(wide["registers per thread"]) == {128} and wide["source"].str.contains("tl.dot").all()
    lines = rc.line_table(text)
    assert lines["PTX instructions"].is_monotonic_decreasing and len(lines) == 12
    facts = rc.ptx_facts(text).set_index("what")["value"]
    # The debug information spells the kernel's path out, a letter a line: a few lines more or less.
    assert facts["target"] == "sm_100a" and facts["lines"] == f"{text.count(chr(10)):,}"
    assert 6_400 < text.count("\n") < 6_600
    counted = [int(facts[f"instructions {what}"].replace(",", "")) for what in ("of the tensor cores", "in all")]
    assert 0 < counted[0] < counted[1]
    assert wide["source"].str.endswith("* v_scale").any(), "the line that the crash is about keeps its end"


def test_spill_grid_names_rows_and_columns_of_a_product():
    choices = rc.inside_ptxas_choices(head_dims=(64, 256))
    rows, columns = rc.spill_grid(choices)
    assert len(rows) * len(columns) == len(choices) and columns == ["16x64", "32x64", "64x64", "128x64"]
    assert rows[0] == "hd64 bf16" and rows[-1] == "hd256 fp8_e4m3 window 1024"
