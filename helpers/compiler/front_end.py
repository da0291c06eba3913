"""What is kept of a compile that Triton's front end ended: its stderr, the MLIR reproducer, and a message of use."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from helpers.compiler.report import CompileReport
from helpers.inspection.crash.mlir import FrontEndFailure, front_end_failure

LOG_FILE, REPRODUCER_FILE = "frontend.log", "reproducer.mlir"
# What Python says when a pass fails: nothing.
_EMPTY_WORDS = ("PassManager::run failed", "no message")
# Where an exception of Python's tells what is wrong: what stands on stderr then may be a kernel file's own print.
_PYTHON_STAGES = ("load", "options", "frontend")


def front_end_parts(log: str) -> tuple[FrontEndFailure | None, dict[str, bytes]]:
    """(what is said, files to keep) of a compile that failed, from the worker's stderr `log`."""
    failure = front_end_failure(log)
    files = {LOG_FILE: log.encode(errors="replace")} if log.strip() else {}
    if failure is None:
        return None, files
    if failure.reproducer:
        files[REPRODUCER_FILE] = failure.reproducer.encode(errors="replace")
    return replace(failure, reproducer=None), files


def with_front_end(
    report: CompileReport, failure: FrontEndFailure | None, folder: Path, files: tuple[str, ...]
) -> CompileReport:
    """The report of a failed compile with what Triton's C++ side said, and where `folder` keeps its words and MLIR."""
    paths = {name: str(folder / name) for name in (LOG_FILE, REPRODUCER_FILE) if name in files}
    report = replace(report, frontend_log_path=paths.get(LOG_FILE), reproducer_path=paths.get(REPRODUCER_FILE))
    said = report.message.strip()
    if failure is None or (report.failed_stage in _PYTHON_STAGES and said not in _EMPTY_WORDS):
        return report
    # A worker that died says the same complaint behind its own.
    rest = "" if said in _EMPTY_WORDS else said.replace(f": {failure.headline()}", "")
    return replace(
        report,
        message=failure.text() + (f"\n{rest}" if rest else ""),
        error_line=failure.headline(),
        error_place=failure.place,
        error_source=failure.source,
        failed_pass=failure.failed_pass,
    )
