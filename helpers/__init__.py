"""The notebooks' whole vocabulary; names load on first use, so `import helpers` is quick and needs no GPU."""

from __future__ import annotations

import importlib

_HOMES = {
    "helpers.errors": ("UserError",),
    "helpers.hardware": (
        "ARCHS",
        "GpuArch",
        "get_arch",
    ),
    "helpers.compiler.kernel_spec": (
        "KernelRef",
        "KernelSpec",
    ),
    "helpers.compiler.toolchain": (
        "Toolchain",
        "installed_ptxas",
        "installed_tritons",
    ),
    "helpers.compiler.compile": (
        "CompileRequest",
        "compile_kernel",
        "compile_matrix",
    ),
    "helpers.search.minimize.minimize_ptx": (
        "minimize_ptx",
        "verify_agreement",
    ),
    "helpers.search.minimize.minimize_spec": ("minimize_spec",),
    "helpers.compiler.report": ("CompileReport",),
    "helpers.compiler.bring.capture": ("capture",),
    "helpers.compiler.bring.from_file": ("spec_from_file",),
    "helpers.compiler.bring.from_wheel": ("spec_from_wheel",),
    "helpers.search.autotune": ("autotune_report",),
    "helpers.workbook.your_own_crash.cliff_matmul": ("cliff_request",),
    "helpers.inspection.ptx.scan": (
        "count_instructions",
        "instructions_by_source_line",
        "ptx_header",
        "register_declarations",
        "wide_operands",
    ),
    "helpers.inspection.ptxas": ("parse_ptxas_log",),
    "helpers.inspection.binary.occupancy": ("occupancy",),
    "helpers.attention.shapes": (
        "GEMMA4_31B_GLOBAL",
        "GEMMA4_31B_SLIDING",
        "AttentionShape",
    ),
    "helpers.attention.tiles": (
        "TILE_ROWS",
        "TileConfig",
        "choose_tile",
        "tile_row",
    ),
    "helpers.attention.spec": (
        "INCIDENT",
        "LEAN",
        "Ingredients",
        "build_spec",
    ),
    "helpers.attention.choice": (
        "Choice",
        "product",
    ),
    "helpers.attention.sglang_kernel": ("sglang_extend_spec",),
    "helpers.attention.studies.incident": (
        "GEMMA4_LAYERS",
        "INCIDENT_CHOICE",
        "PTXAS_FLAGS_TRIED",
        "gemma4_choices",
        "incident_rows",
        "inside_ptxas_choices",
        "tile_chooser_choices",
    ),
    "helpers.attention.correctness.cases": (
        "gpu_cases",
        "interpreter_cases",
        "lean_cases",
    ),
    "helpers.attention.correctness.numerics": (
        "resolve_backend",
        "run_cases",
        "summarise",
    ),
    "helpers.workbook.numerics": (
        "count_table",
        "equal_shares",
        "fp8_findings",
        "fp8_in_words",
        "fp8_table",
        "gpu_numerics",
        "numerics_explorer",
        "numerics_table",
        "passed_by_kernel",
        "plot_error_budget",
        "plot_fp8_sources",
        "tile_study_table",
        "tiles_in_words",
        "worst_share",
    ),
    "helpers.workbook.evidence": (
        "compile_choices",
        "compile_one",
        "demand_of",
        "ptx_of",
    ),
    "helpers.show.reports": ("reports_table",),
    "helpers.show.plots": (
        "plot_registers",
        "use_house_style",
    ),
    "helpers.workbook.side_by_side": ("side_by_side",),
    "helpers.workbook.exercise": ("exercise",),
    "helpers.workbook.register_sum": (
        "register_sum",
        "sum_table",
    ),
    "helpers.workbook.schematics.accumulators": (
        "accumulator_picture",
        "sum_picture",
    ),
    "helpers.workbook.schematics.attention_tiles": ("tiles_picture",),
    "helpers.workbook.schematics.pipeline": ("pipeline_picture",),
    "helpers.workbook.schematics.register_file": ("register_file_picture",),
    "helpers.workbook.start_here": (
        "compile_cures",
        "cures_table",
    ),
    "helpers.workbook.inside_ptxas.introduction": (
        "before_after",
        "beside_python",
        "lean_loop",
    ),
    "helpers.workbook.inside_ptxas.targets": (
        "ctas_that_fit",
        "target_choices",
        "target_table",
    ),
    "helpers.workbook.prose": (
        "compiler_log",
        "report_summary",
        "say",
    ),
    "helpers.attention.hopper": (
        "HopperTile",
        "build_hopper_spec",
    ),
    "helpers.attention.lean": (
        "LEAN_TABLE",
        "LeanTile",
        "build_lean_spec",
        "choose_lean_tile",
    ),
    "helpers.workbook.throughput": (
        "case_rows",
        "energy_table",
        "page_one_table",
        "plot_roofline",
        "plot_sweep",
        "plot_throughput",
        "smaller_tile_table",
        "steps_table",
        "sweep_gain",
        "targets_in_words",
        "targets_table",
        "throughput",
        "throughput_explorer",
        "warp_group_registers",
        "with_unit",
    ),
    "helpers.attention.studies.tile_audit": (
        "audit_requests",
        "audit_row",
        "spill_free_tile",
    ),
    "helpers.workbook.every_chips_tiles.tile_audit": (
        "arch_tally",
        "audit_counts",
        "audit_offenders",
        "changed_choices",
        "crash_findings",
        "demand_threshold",
        "outcome_words",
        "plot_audit",
        "reader_question_table",
        "spill_free_choices",
    ),
    "helpers.workbook.how_good_is_the_estimate.estimate": (
        "family_words",
        "liveness_counts",
        "misses_of",
        "peak_findings",
        "peak_line_table",
        "plot_liveness_accuracy",
    ),
    "helpers.workbook.how_good_is_the_estimate.candidates": ("candidate_table",),
    "helpers.workbook.how_good_is_the_estimate.both_sides": (
        "both_sides",
        "plot_both_sides",
        "sides_findings",
    ),
    "helpers.attention.ladder": ("ablate_choice",),
    "helpers.search.bisect": ("bisect_kernel",),
    "helpers.inspection.ptx.pressure": (
        "held_across",
        "pressure_profile",
    ),
    "helpers.workbook.root_cause.ladder": (
        "best_with_tile_kept",
        "ingredient_table",
        "ladder_findings",
        "plot_ladder",
        "rung_of",
        "search_table",
    ),
    "helpers.workbook.root_cause.pressure": (
        "demand_table",
        "held_lines",
        "line_demands",
        "plot_pressure",
        "share_above_cap",
        "wide_move_marks",
    ),
    "helpers.workbook.root_cause.suspects": (
        "necessary_ingredients",
        "suspects_table",
    ),
    "helpers.workbook.root_cause.crossing": (
        "decided_by_column",
        "decided_by_row",
        "died",
        "plot_crossing",
        "spilled",
    ),
    "helpers.workbook.root_cause.pack_edits": (
        "no_count_decides",
        "other_kernels",
        "pack_findings",
        "pack_table",
        "packs_needed",
    ),
    "helpers.workbook.root_cause.annotated": (
        "annotated_pair",
        "lines_apart",
        "pack_pair",
        "pack_pair_verdicts",
    ),
    "helpers.workbook.root_cause.wide_moves": (
        "pairs_tried",
        "plot_tuple_experiment",
        "predictions_kept",
        "spilled_after",
        "tuple_counts",
        "tuple_experiment",
    ),
    "helpers.diagnosis.diagnose": ("diagnose",),
    "helpers.workbook.your_own_crash.paste_box": ("paste_box",),
    "helpers.workbook.your_own_crash.yours": ("yours",),
    "helpers.workbook.your_own_crash.views": (
        "compile_here",
        "diagnosis_table",
        "levels_that_die",
        "minimized_table",
        "minimized_verdicts",
        "remedy_table",
        "scratch_folder",
        "wheel_findings",
        "wheel_table",
    ),
    "helpers.workbook.verdict": ("workbook_verdict",),
    "helpers.workbook.explorer.basket": (
        "basket",
        "report_basket",
    ),
    "helpers.workbook.inside_ptxas.cliff_map": (
        "cliff_findings",
        "cliff_map",
    ),
    "helpers.workbook.reproduce_the_crash": (
        "against_reference",
        "dying_layers",
        "explorer",
        "layer_table",
        "layers_in_words",
        "reference_findings",
    ),
    "helpers.workbook.inside_ptxas.landscape": ("landscape_explorer",),
    "helpers.workbook.root_cause.explorer": ("root_cause_explorer",),
    "helpers.workbook.sm100_branch": (
        "chooser_table",
        "cost_findings",
        "cost_in_words",
        "cost_table",
        "fix_findings",
        "fix_table",
        "layer_words",
        "plot_before_after",
        "plot_cost",
        "tile_explorer",
        "triton_table",
    ),
    "helpers.recorded": (
        "provenance",
        "read_rows",
    ),
    "helpers.workbook.inside_ptxas.views": (
        "find_lines",
        "grid_findings",
        "grid_table",
        "line_table",
        "neighbour_table",
        "plot_spill_grid",
        "ptx_facts",
        "show_kernel",
        "spill_grid",
        "wide_operand_table",
    ),
    "helpers.workbook.root_cause.versions": (
        "plot_version_matrix",
        "version_findings",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
__all__ = sorted(_HOME_OF)


def __getattr__(name: str):
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'helpers' has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
