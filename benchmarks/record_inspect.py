"""Record what `inspect` takes on real libraries, and whether its numbers are cuobjdump's of the whole file.

    python benchmarks/record_inspect.py LIBRARY… [--out data/inspect_libraries.csv]

Each library is read once with an empty cache, by a process of its own (whose peak memory is recorded, and that of the
largest program it started); then `cuobjdump -res-usage` reads it whole, and every kernel of one is looked for in the
other: registers, stack, static shared memory. Name the libraries as they lie in an unpacked wheel. Rows of
other libraries stay.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

COLUMNS = (
    "library", "wheel", "size_bytes", "cubins", "kernels", "archs", "checked", "problems", "whole_file_kernels",
    "agree", "differ", "seconds", "cpu_seconds", "seconds_again", "peak_mib", "peak_of_programs_mib",
    "whole_file_seconds", "whole_file_peak_mib", "load_average", "cpus", "date", "command",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("libraries", nargs="+", type=Path)
    parser.add_argument("--wheel", action="append", default=[], help="the wheel of each library, in the same order")
    parser.add_argument("--out", type=Path, default=Path("data/inspect_libraries.csv"))
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(one(asked.libraries[0])))
        return
    rows = kept(asked.out)
    for number, library in enumerate(asked.libraries):
        wheel = asked.wheel[number] if number < len(asked.wheel) else ""
        row = {"library": library.name, "wheel": wheel, **measured(library)}
        rows = [r for r in rows if (r["library"], r["wheel"]) != (library.name, wheel)] + [row]
        print(rows[-1], file=sys.stderr)
        with asked.out.open("w", newline="") as file:
            file.write("# What `register-cliff inspect` takes, and its numbers beside cuobjdump's; no GPU involved\n")
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


def kept(out: Path) -> list[dict]:
    """The rows of libraries that were recorded before."""
    if not out.is_file():
        return []
    with out.open(newline="") as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))


def one(library: Path) -> dict:
    """One reading in this process: rows, time and memory."""
    from helpers.compiler.built.inspect import inspect_built

    began = time.perf_counter()
    found = inspect_built([library])
    seconds = time.perf_counter() - began
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    numbers = [[r.arch, r.kernel, r.registers, r.stack_frame_bytes, r.shared_bytes] for r in found.kernels]
    return {
        "numbers": numbers,
        "cubins": sum(file.cubins for file in found.files),
        "checked": found.checked,
        "problems": sum(1 for row in found.rows if row.problem),
        "seconds": round(seconds, 2),
        "cpu_seconds": round(sum(u.ru_utime + u.ru_stime for u in map(resource.getrusage, who)), 2),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "peak_of_programs_mib": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024,
    }


def measured(library: Path) -> dict:
    """The columns of one library."""
    from helpers.compiler.built.extract import cuobjdump_programs
    from helpers.files import CACHE_ENV, cache_root

    with tempfile.TemporaryDirectory() as cache:
        (Path(cache) / "toolchains").symlink_to(cache_root() / "toolchains")
        command = [sys.executable, __file__, "--one", str(library)]
        runs = [
            json.loads(subprocess.run(command, env={**os.environ, CACHE_ENV: cache}, stdout=subprocess.PIPE,
                                      check=True).stdout)
            for _ in range(2)
        ]  # fmt: skip
    first = runs[0]
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    began = time.perf_counter()
    with tempfile.TemporaryFile() as out:
        # GNU time says the peak of this one program, which getrusage does not.
        argv = ["/usr/bin/time", "-f", "peak %M", str(cuobjdump_programs()[0]), "-res-usage", str(library)]
        done = subprocess.run(argv, stdout=out, stderr=subprocess.PIPE, text=True, check=True)
        seconds = time.perf_counter() - began
        out.seek(0)
        whole = usage_of_whole_file(out.read().decode())
    peak = int(re.search(r"peak (\d+)", done.stderr)[1]) // 1024 if "peak" in done.stderr else before
    ours = Counter(tuple(row) for row in first["numbers"])
    names = {row[:2] for row in ours}
    theirs = Counter({key: n for key, n in whole.items() if key[:2] in names})
    return {
        "size_bytes": library.stat().st_size,
        "cubins": first["cubins"],
        "kernels": len(first["numbers"]),
        "archs": " ".join(sorted({row[0] for row in ours})),
        "checked": first["checked"],
        "problems": first["problems"],
        "whole_file_kernels": sum(theirs.values()),
        "agree": sum((ours & theirs).values()),
        "differ": sum((ours - theirs).values()) + sum((theirs - ours).values()),
        "seconds": first["seconds"],
        "cpu_seconds": first["cpu_seconds"],
        "seconds_again": runs[1]["seconds"],
        "peak_mib": first["peak_mib"],
        "peak_of_programs_mib": first["peak_of_programs_mib"],
        "whole_file_seconds": round(seconds, 2),
        "whole_file_peak_mib": peak,
        "load_average": round(os.getloadavg()[0], 1),
        "cpus": os.cpu_count(),
        "date": datetime.date.today().isoformat(),
        "command": "python benchmarks/record_inspect.py",
    }


def usage_of_whole_file(text: str) -> Counter:
    """(arch, function, registers, stack, shared memory) -> how often, of the text of a whole library."""
    from helpers.compiler.built.extract import parse_usage

    found: Counter = Counter()
    for piece in text.split("Fatbin elf code:")[1:]:
        arch = re.search(r"^arch = (\S+)", piece, re.MULTILINE)
        found.update((arch[1] if arch else "", name, *numbers) for name, numbers in parse_usage(piece).items())
    return found


if __name__ == "__main__":
    main()
