"""A gate's result for machines that run gates: Markdown for a summary, JUnit XML, SARIF.

All are made of the result that `gate --json` prints. Names come out of strangers' binaries: what a page or a terminal
would act on is made harmless first.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from helpers.cleaning import for_html, for_terminal

__all__ = ["gate_junit", "gate_markdown", "gate_sarif"]

# A summary page takes a megabyte at most, and nobody reads so many.
MAX_ROWS = 200
_SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_RULE = "register-cliff/kernel-regression"


def gate_markdown(result: dict) -> str:
    """A summary: the verdict as a heading, a table of what fails, a list of what is told."""
    rows, failed = result["rows"], _failed(result)
    if result["wrote_baseline"]:
        return f"## Kernels: baseline of {len(rows):,} rows written\n"
    verdict = "passed" if not failed else f"{len(failed):,} of {len(rows):,} rows fail"
    lines = [f"## Kernels: {verdict}", ""]
    if failed:
        lines += ["| kernel | chip | before | now | why |", "|---|---|---|---|---|"]
        for row in failed[:MAX_ROWS]:
            cells = (row["spec"], row["arch"], row["before"] or "-", row["now"] or "-", "; ".join(row["regressions"]))
            lines.append(f"| {' | '.join(map(_cell, cells))} |")
        if len(failed) > MAX_ROWS:
            lines.append(f"\n… and {len(failed) - MAX_ROWS:,} more.")
        lines.append("")
    told = [row for row in rows if row["notes"] and not row["failed"]]
    lines += [
        f"- {_cell(row['spec'])}, {_cell(row['arch'])}: {_cell('; '.join(row['notes']))}" for row in told[:MAX_ROWS]
    ]
    if len(told) > MAX_ROWS:
        lines.append(f"- … and {len(told) - MAX_ROWS:,} more")
    lines += ["", f"{len(rows):,} rows held to `{_cell(result['baseline'])}`."]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return for_html(" ".join(text.split())).replace("|", "&#124;").replace("`", "&#96;").replace("*", "&#42;")


def gate_junit(result: dict) -> str:
    """JUnit XML: a test case a row, a failure for each that fails."""
    from junitparser import Failure, JUnitXml, TestCase, TestSuite

    suite = TestSuite("register-cliff gate")
    for row in result["rows"]:
        # A test is known by its class and name: the chip, then the kernel.
        case = TestCase(_words(row["spec"]), classname=_words(row["arch"]))
        if row["failed"]:
            failure = Failure(_words("; ".join(row["regressions"])), "regression")
            failure.text = _words(f"before: {row['before'] or '-'}\nnow: {row['now'] or '-'}")
            case.result = [failure]
        elif row["notes"]:
            case.system_out = _words("; ".join(row["notes"]))
        suite.add_testcase(case)
    xml = JUnitXml("register-cliff gate")
    xml.add_testsuite(suite)
    return xml.tostring().decode()


def _words(text: str) -> str:
    """A text that XML can hold."""
    return for_terminal(text)


def gate_sarif(result: dict, version: str = "unknown") -> str:
    """SARIF 2.1.0: one result a row that fails, at the baseline that it is held to."""
    driver = {
        "name": "register-cliff",
        "version": version,
        "rules": [
            {
                "id": _RULE,
                "shortDescription": {"text": "A GPU kernel takes more registers, stack or spills than its baseline"},
            }
        ],
    }
    run = {"tool": {"driver": driver}, "results": list(_sarif_results(result))}
    return json.dumps({"$schema": _SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2) + "\n"


def _sarif_results(result: dict) -> Iterator[dict]:
    for row in _failed(result):
        kernel = for_terminal(f"{row['spec']} on {row['arch']}")
        words = for_terminal("; ".join(row["regressions"]))
        yield {
            "ruleId": _RULE,
            "level": "error",
            "message": {"text": f"{kernel}: {words} (before: {row['before'] or '-'}; now: {row['now'] or '-'})"},
            "locations": [
                {
                    "physicalLocation": {
                        "artifactLocation": {"uri": result["baseline"].replace("\\", "/")},
                        "region": {"startLine": 1},
                    },
                    "logicalLocations": [{"fullyQualifiedName": kernel, "kind": "function"}],
                }
            ],
            # The same row is the same alert from run to run.
            "partialFingerprints": {"kernel/v1": kernel},
        }


def _failed(result: dict) -> list[dict]:
    return [row for row in result["rows"] if row["failed"]]
