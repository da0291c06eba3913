"""mypy over helpers: wings that anybody builds on are clean; what is left elsewhere may only become less.

`python -m tests.test_types` writes the counts of today into tests/mypy_ratchet.json, wherever they are lower.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
RATCHET = ROOT / "tests" / "mypy_ratchet.json"
# No file of these may stand in the ratchet.
CLEAN = (
    "helpers/errors.py", "helpers/hardware.py", "helpers/files.py", "helpers/recorded.py",
    "helpers/inspection/", "helpers/compiler/", "helpers/search/", "helpers/show/",
)  # fmt: skip
# Being rewritten.
NOT_YET: tuple[str, ...] = ()
LOWER = f"{Path(sys.executable).name} -m tests.test_types"


def errors_of_today() -> dict[str, list[str]]:
    """File -> the errors that mypy finds in it, by the configuration in pyproject.toml."""
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--no-error-summary",
        "--no-color-output",
        "--hide-error-context",
        "helpers",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        if ": error: " in line:
            found.setdefault(line.partition(":")[0], []).append(line)
    return found


def beyond(found: dict[str, list[str]], allowed: dict[str, int]) -> list[str]:
    """The errors of every file that has more of them than it may have."""
    return [line for file, lines in found.items() if len(lines) > allowed.get(file, 0) for line in lines]


def slack(found: dict[str, list[str]], allowed: dict[str, int]) -> dict[str, int]:
    """The files that have fewer errors than they may have, each with how many it has now."""
    return {file: len(found.get(file, ())) for file, count in allowed.items() if len(found.get(file, ())) < count}


def lowered(found: dict[str, list[str]], allowed: dict[str, int]) -> dict[str, int]:
    """The ratchet with every count as low as it is now; none goes up, and a file without errors goes out."""
    now = {file: min(count, len(found.get(file, ()))) for file, count in allowed.items()}
    return {file: count for file, count in sorted(now.items()) if count}


@pytest.mark.slow
def test_types_hold_and_the_ratchet_only_tightens() -> None:
    if importlib.util.find_spec("mypy") is None:
        words = "mypy is not installed: pip install -e '.[test]'"
        pytest.fail(words) if os.environ.get("CI") == "true" else pytest.skip(words)
    found, allowed = errors_of_today(), json.loads(RATCHET.read_text())
    assert not (more := beyond(found, allowed)), "more errors than before:\n" + "\n".join(more)
    assert not (fewer := slack(found, allowed)), f"fewer errors than before, well done; now run {LOWER}: {fewer}"


def test_no_wing_that_is_clean_stands_in_the_ratchet() -> None:
    assert [f for f in json.loads(RATCHET.read_text()) if f.startswith(CLEAN) and f not in NOT_YET] == []


def test_the_ratchet_goes_one_way() -> None:
    found = {
        "a.py": ["a.py:1: error: x"],
        "b.py": ["b.py:1: error: x", "b.py:2: error: y"],
        "new.py": ["new.py:1: error"],
    }
    allowed = {"a.py": 2, "b.py": 1, "gone.py": 3}
    assert beyond(found, allowed) == [*found["b.py"], *found["new.py"]]
    assert slack(found, allowed) == {"a.py": 1, "gone.py": 0}
    assert lowered(found, allowed) == {"a.py": 1, "b.py": 1}


if __name__ == "__main__":
    before = json.loads(RATCHET.read_text())
    after = lowered(errors_of_today(), before)
    RATCHET.write_text(json.dumps(after, indent=2) + "\n")
    print(f"{RATCHET.relative_to(ROOT)}: {sum(before.values())} errors allowed before, {sum(after.values())} now")
