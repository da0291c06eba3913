"""A shell that allows next to nothing (`ulimit`): each verb says so in one sentence and ends with 3."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from helpers.files import CACHE_ENV, ROOT
from tests.compiling import spec_of

PTX = """.version 8.0
.target sm_90a
.address_size 64
.visible .entry k()
{
.reg .b32 %r<3>;
mov.u32 %r1, %tid.x;
add.s32 %r2, %r1, %r1;
ret;
}
"""
CHAIN = ("--arch", "sm_90a", "--triton", "3.7.1", "--trust-root", ".")
VERBS = {
    "compile": ("compile", "spec.json", *CHAIN),
    "matrix": ("matrix", "spec.json", *CHAIN, "--csv", "rows.csv"),
    "pressure": ("pressure", "spec.json", *CHAIN),
    "ablate": ("ablate", "spec.json", *CHAIN),
    "report": ("report", "spec.json", *CHAIN, "-o", "bundle.zip"),
    "minimize": ("minimize", "k.ptx", "-o", "small.ptx"),
}
# These only read: what allows that lets them do it.
READERS = {"diagnose": ("diagnose", "crash.log"), "pressure of a PTX": ("pressure", "k.ptx")}


def under(limit: str, words, folder, cache):
    """(exit code, stdout, stderr) of a verb in a shell with that limit; no core file is left of what it ends."""
    line = f'ulimit -c 0; ulimit {limit}; exec "$@"'
    env = {**os.environ, CACHE_ENV: str(cache), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-c", line, "bash", sys.executable, "-m", "helpers", *words], cwd=folder, env=env,
                          capture_output=True, text=True, timeout=120)  # fmt: skip
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def folder(own_cache, write_kernel, tmp_path):
    """A folder with a spec, a PTX and a log."""
    place = tmp_path / "here"
    place.mkdir()
    write_kernel(folder="here")
    (place / "spec.json").write_text(spec_of(place / "kernel.py").to_json())
    (place / "k.ptx").write_text(PTX)
    (place / "crash.log").write_text(
        "ptxas fatal   : (C7600) Register allocation failed with register count of '255'\n"
    )
    return place


# Four limits for the verbs that people have met them with, the two that differ for the rest. Eight files are enough for
# a `minimize` whose ptxas happen to run one after the other; six are too few for a single one.
CASES = [(verb, "-n 6" if (verb, limit) == ("minimize", "-n 8") else limit)
         for verb in VERBS for limit in ("-n 8", "-f 0", "-n 5", "-f 1")
         if verb in ("compile", "matrix") or limit in ("-n 8", "-f 0")]  # fmt: skip


@pytest.mark.parametrize(("verb", "limit"), CASES)
def test_a_verb_that_compiles_says_what_the_shell_does_not_allow(folder, own_cache, verb, limit):
    # The table of `matrix` has a row for what was not answered, which says so.
    before = {path.name for path in folder.iterdir()} | ({"rows.csv"} if verb == "matrix" else set())
    code, _out, err = under(limit, VERBS[verb], folder, own_cache)
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert code == 3 and len(errors) == 1 and "Traceback" not in err, err
    assert "Too many open files" in err or "File too large" in err or "ulimit -f" in err or "SIGXFSZ" in err, err
    assert "run the same command again" in errors[0] or "try again" in errors[0] or "kept" in errors[0], err
    assert {path.name for path in folder.iterdir()} <= before


@pytest.mark.parametrize("limit", ["-n 5", "-f 0"])
@pytest.mark.parametrize("verb", READERS)
def test_a_verb_that_only_reads_does_its_work_or_says_why_not(folder, own_cache, verb, limit):
    code, out, err = under(limit, READERS[verb], folder, own_cache)
    assert "Traceback" not in err
    assert (code == 0 and out) or (code == 3 and err.startswith("error: ")), (code, err)
