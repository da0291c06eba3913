"""Notebook 07's views: what lies in a bundle, the incident made small, wheels' kernels, a compile to capture."""

from __future__ import annotations

import contextlib
import gzip
import importlib
import io
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers.attention.choice import Choice
from helpers.attention.ladder import ladder_of
from helpers.compiler.compile import CompileRequest
from helpers.compiler.toolchain import version_key
from helpers.diagnosis.diagnose import diagnose
from helpers.diagnosis.diagnosis import Diagnosis, printable
from helpers.processes import session_folder
from helpers.recorded import DATA, read_rows
from helpers.search.try_this import MAX_SHOWN, TriedEdit
from helpers.search.try_this import try_this as search_try_this
from helpers.show.verdicts import words_in_cell

if TYPE_CHECKING:
    import pandas as pd

    from helpers.bundle.material import Source
    from helpers.bundle.report import Bundle
    from helpers.compiler.kernel_spec import KernelSpec


def try_this(source: CompileRequest | Choice, **options: Any) -> list[TriedEdit]:
    """`helpers.search.try_this.try_this` with the ladder of this study's own kernel where the source is of it."""
    return search_try_this(source.request() if isinstance(source, Choice) else source, ladder_of=ladder_of, **options)


def report(source: Source, out: str | Path = "report.zip", **options: Any) -> Bundle:
    """`helpers.bundle.report.report` with the ladder of this study's own kernel where the source is of it."""
    from helpers.bundle.report import report as bundle_report

    return bundle_report(source, out, ladder_of=ladder_of, **options)


_PURPOSE = {
    "README.md": "what happens, what was expected, the one command",
    "repro.sh": "runs a ptxas on kernel.ptx and says whether it fails the same way",
    "repro_check.txt": "what repro.sh said in an empty folder before the zip was written",
    "kernel.ptx": "what Triton handed to ptxas",
    "kernel.ttgir": "Triton's GPU dialect, one stage earlier",
    "kernel.ttir": "Triton's own dialect",
    "spec.json": "the KernelSpec: recompiles with `register-cliff compile spec.json`",
    "environment.json": "versions, hashes, the command",
    "ptxas.log": "ptxas's words",
    "ptxas_table.csv": "the same PTX under every ptxas at hand",
    "pressure.png": "registers in demand along the PTX",
    "pressure.txt": "the same as text",
    "workarounds.json": "edits that were compiled and pass",
}


def scratch_folder() -> Path:
    """A folder for this session's files, removed when Python ends."""
    return session_folder("bundle")


def bundle_table(bundle: Bundle) -> pd.DataFrame:
    """The files of a bundle: name, size in bytes, what each is for."""
    import pandas as pd

    with zipfile.ZipFile(bundle.path) as archive:
        rows = [
            {"file": i.filename, "bytes": i.file_size, "what": _PURPOSE.get(i.filename, "kernel source")}
            for i in archive.infolist()
        ]
    return pd.DataFrame(rows)


def bundle_text(bundle: Bundle, name: str, lines: int = 40) -> str:
    """The first lines of a text file of a bundle; of the issue text beside it for the name `issue`."""
    if name == "issue":
        text = bundle.issue_path.read_text()
    else:
        with zipfile.ZipFile(bundle.path) as archive:
            text = archive.read(name).decode()
    return "\n".join(text.splitlines()[:lines])


def incident_ptx() -> tuple[str, str]:
    """(the PTX of the crash, the same crash minimised), both as recorded in data/."""
    with gzip.open(DATA / "incident.ptx.gz", "rt") as file:
        return file.read(), (DATA / "incident_minimized.ptx").read_text()


def minimized_table() -> pd.DataFrame:
    """The recorded PTX of the crash beside its minimised form: lines, instructions, wide tensor-memory moves."""
    import pandas as pd

    from helpers.inspection.ptx.scan import wide_operands

    whole, small = incident_ptx()
    rows = {
        "lines": [len(text.splitlines()) for text in (whole, small)],
        "instructions": [len(re.findall(r"^\s+(?!\.)[@%a-z].*;$", text, re.MULTILINE)) for text in (whole, small)],
        "moves of 128 registers": [
            sum(operand.registers >= 128 for operand in wide_operands(text)) for text in (whole, small)
        ],
    }
    return pd.DataFrame(rows, index=["as Triton wrote it", "minimised"]).T


def minimized_verdicts(ptxas: str = "12.8.93") -> pd.DataFrame:
    """What one ptxas says of the minimised PTX at -O0 to -O3, assembled now. Empty where that ptxas is not here."""
    import pandas as pd

    from helpers.compiler.toolchain import ToolchainMissing, resolve_ptxas
    from helpers.search.minimize.prober import LEVELS, Check

    try:
        check = Check(ptxas, resolve_ptxas(ptxas).path, (), "sm_100a")
    except ToolchainMissing:
        return pd.DataFrame(columns=["level", "verdict"])
    small = incident_ptx()[1]
    return pd.DataFrame([{"level": level, "verdict": check.at_level(level).run(small, 60).text()} for level in LEVELS])


def wheel_table() -> pd.DataFrame:
    """The recorded compiles of kernels out of wheels: one row a wheel and configuration, one column a Triton."""
    recorded = rows = read_rows("wheel_kernels")
    rows = rows.assign(
        verdict=[words_in_cell(row) for row in rows.to_dict("records")],
        configuration=rows["spec"].str.replace(r"^(sglang\S+|vllm unified) ", "", regex=True),
    )
    table = rows.pivot(index=["wheel", "configuration", "arch"], columns="triton_version", values="verdict")
    table.attrs = recorded.attrs
    return table


def compile_here(spec: KernelSpec, arch: str) -> str:
    """Compile one of this project's kernels by this Python's own Triton, as a program would; its last words if it dies.

    What Triton prints of a failure is kept off the page. For a kernel of somebody else's there are the workers.
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler.compiler import ASTSource

    from helpers.hardware import get_arch

    module = importlib.import_module(f"kernels.{Path(spec.kernel.path).stem}")
    kernel = getattr(module, spec.kernel.name)
    index = {name: i for i, name in enumerate(kernel.arg_names)}
    source = ASTSource(
        kernel,
        dict(spec.signature),
        {(index[name],): value for name, value in spec.constexprs},
        {(index[name],): [["tt.divisibility", 16]] for name in spec.divisible_by_16},
    )
    target = GPUTarget("cuda", get_arch(arch).capability, 32)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            triton.compile(source, target=target, options=dict(spec.options))
        except Exception as error:  # whatever the compiler raises is what this is about
            lines = str(error).strip().splitlines()
            said = next((line.strip() for line in lines if "fatal" in line), lines[-1])
            return f"{type(error).__name__}: {said}"
    return "compiled"


def edits_table(edits: Sequence[TriedEdit], top: int = MAX_SHOWN) -> pd.DataFrame:
    """The best edits as rows: change, registers, spill bytes, tensor-core path, what it costs."""
    import pandas as pd

    rows = [e.to_dict() for e in edits[:top]]
    shown = {"change": "change", "regs_per_thread": "registers", "spill_store_bytes": "spill stores (B)",
             "spill_load_bytes": "spill loads (B)", "tensor_core_path": "tensor cores", "cost": "cost"}  # fmt: skip
    return pd.DataFrame(rows, columns=list(shown)).rename(columns=shown)


def facts_table(diagnosis: Diagnosis) -> pd.DataFrame:
    """One row a fact: its value, how it is known (stated, derived, hint) and the text of the log it came from."""
    import pandas as pd

    rows = [(f.name.replace("_", " "), f.value, f.how, f.text) for f in diagnosis.log.facts]
    table = pd.DataFrame(rows, columns=["fact", "value", "how", "text in the log"])
    return table.map(printable)


def diagnosis_table(logs: Mapping[str, str]) -> pd.DataFrame:
    """One row a log: what kind of failure it is, why, and the first thing to try."""
    import pandas as pd

    rows = []
    for name, text in logs.items():
        found = diagnose(text)
        first = found.suggestions[0].edit if found.suggestions else "–"
        rows.append((name, found.kind.replace("_", " "), found.because[-1], first))
    return pd.DataFrame(rows, columns=["log", "kind", "because", "first to try"]).map(printable)


def remedy_table() -> pd.DataFrame:
    """data/remedies.csv as remedy (rows, mildest spills first) by Triton: spill-store bytes, or the code it died with.

    Only the Tritons that die of the incident unchanged; `attrs['provenance']` says where the rows come from.
    """
    rows = read_rows("remedies")
    unchanged = rows[rows["remedy"] == "nothing"]
    dying = set(unchanged[unchanged["ptxas_code"].notna()]["triton"])
    chosen = rows[rows["triton"].isin(dying)].copy()
    chosen["cell"] = [words_in_cell(row) for row in chosen.to_dict("records")]
    worst = chosen.groupby("remedy")["spill_store_bytes"].max().fillna(float("inf"))
    # A remedy without a row is a switch that this Triton does not have.
    table = chosen.pivot(index="remedy", columns="triton", values="cell").fillna("has no such switch")
    table = table.loc[
        sorted(table.index, key=lambda name: (worst[name], name != "nothing", name)),
        sorted(table.columns, key=version_key),
    ]
    table.attrs["provenance"] = rows.attrs["provenance"]
    return table


def wheel_findings(triton: str = "3.5.1") -> dict[str, object]:
    """Of the recorded wheels under one Triton: the `wheel` that spills most, its `bytes`, the wheels that `died`."""
    rows = read_rows("wheel_kernels")
    rows = rows[rows["triton_version"] == triton]
    worst = rows.loc[rows["spill_store_bytes"].idxmax()]
    died = list(rows.dropna(subset="ptxas_code")["wheel"])
    return {"wheel": worst["wheel"], "bytes": int(worst["spill_store_bytes"]), "died": died}


def levels_that_die(verdicts: pd.DataFrame) -> list[str]:
    """Of `minimized_verdicts`: the levels at which ptxas runs out of registers."""
    return list(verdicts.loc[verdicts["verdict"].str.startswith("C7600"), "level"])
