"""Bundles of every mode with a secret of each kind in what they are made of: none may be seen in one."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from helpers.bundle.report import report
from helpers.errors import UserError
from helpers.files import ROOT
from tests.hunting.planted import ME, everything, in_bytes, planted, source_with, spec_in, through
from tests.hunting.records import Outcome

AROUND = ("{}", "x {} y", '"{}"', "a={}", "# {}", "[{}]", "({})", "<{}>", "{},", "log: {}.", "\t{}\t", "{}{{", "'{}'")
MODES = (
    "log", "withheld log", "ptx", "withheld ptx", "minimised ptx", "spilling spec", "withheld spec", "dry run",
)  # fmt: skip


def _crash() -> str:
    return (ROOT / "data" / "incident_minimized.ptx").read_text()


def _log(secrets: list[str]) -> str:
    bar = "=" * 60
    half = len(secrets) // 2
    return (
        "\n".join(secrets[:half]) + f"\n{bar}\n{_crash()}\n{bar}\nTraceback (most recent call last):\n"
        '  File "/home/adalove/secret_project/serve.py", line 3, in run\n    run()\n'
        "triton.runtime.errors.PTXASError: PTXAS error: Internal Triton PTX codegen error\n"
        "`ptxas` stderr:\nptxas fatal   : (C7600) Register allocation failed with register count of '255'.\n\n"
        "Repro command: ptxas -lineinfo -v --gpu-name=sm_100a /tmp/x.ptx -o /tmp/x.ptx.o\n" + "\n".join(secrets[half:])
    )


def _ptx(secrets: list[str]) -> str:
    spelt = "".join(f"\t.section .debug_x{n}\n\t{{\n{in_bytes(line)}\n\t}}\n" for n, line in enumerate(secrets))
    return "".join(f"// {line}\n" for line in secrets) + _crash() + spelt


def seen_in(mode: str, seed: int) -> list[str]:
    """The kinds of secrets that are seen in a bundle of this mode, or in what is said while it is made."""
    rng, found = random.Random(f"{mode}-{seed}"), planted(seed)
    kinds = list(found)
    rng.shuffle(kinds)
    secrets = [rng.choice(AROUND).format(found[kind][0]) for kind in kinds]
    said: list[str] = []
    options = {
        "identity": ME,
        "withhold_source": "withheld" in mode,
        "budget_s": 1.0 if not mode.endswith("spec") else 20.0,
        "tell": said.append,
    }
    with tempfile.TemporaryDirectory(prefix="hunt-bundle-") as scratch:
        folder, out = Path(scratch), Path(scratch) / "r.zip"
        if mode.endswith("log"):
            report(_log(secrets), out, **options)
        elif mode.endswith("spec"):
            text = "\n".join(secrets)
            spec = spec_in(folder, "adalove_wide_sum", source_with(text, "\n# ".join(text.splitlines())), text)
            report(spec, out, arch="sm_90a", triton="3.5.1", symptom="spills", **options)
        else:
            file = folder / "adalove.ptx"
            file.write_text(_ptx(secrets))
            more = {"minimize_s": 3.0} if "minimised" in mode else {}
            bundle = report(file, out, dry_run=mode == "dry run", **options, **more)
            said += [bundle.text(), str(bundle.to_dict())]
        written = everything(out) if out.exists() else ""
    # The path of the bundle is the user's own, and is told to nobody else.
    return through(found, written + "\n".join(said).replace(str(folder), ""))


def hunt_secrets(mode: str, seed: int, go_on: Callable[[str], bool]) -> Outcome:
    """Bundles of one mode; a run is one kind of secret in one bundle."""
    outcome, number = Outcome(), seed
    going = True
    while going:
        began = time.monotonic()
        try:
            seen, wrong = seen_in(mode, number), ""
        except UserError as exc:  # a bundle that cannot be made shows nothing, and is no use
            seen, wrong = [], f"{mode}, seed {number}: no bundle: {exc}"
        for kind in planted(number):
            words = f"{mode}, seed {number}: {kind} is seen" if kind in seen else wrong
            outcome.count(words, time.monotonic() - began)
            going = go_on(words)
            wrong = ""
        number += 1
    return outcome
