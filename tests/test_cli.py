"""The command line: exit 0 when it did its job, 2 and one line on bad input, never a traceback."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers.__main__ import cli, main
from helpers.attention.choice import Choice
from helpers.compiler.report import CompileReport

REPO_ROOT = Path(__file__).parents[1]
SMALL = ["--head-dim", "64", "--window", "none", "--tile", "16x64"]


def start(*argv, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "helpers", *argv],
        cwd=REPO_ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **options,
    )


def run(*argv, **options):
    process = start(*argv, **options)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


BAD = {
    "unknown arch": ["compile", "--arch", "sm_70"],
    "empty arch": ["compile", "--arch", ""],
    "tile no power of two": ["compile", "--tile", "100x64"],
    "tile of nothing": ["compile", "--tile", "0x0"],
    "tile in floats": ["compile", "--tile", "1e9x1"],
    "huge tile": ["compile", "--tile", "9" * 5_000],
    "negative window": ["compile", "--window", "-5"],
    "no window by zero": ["compile", "--window", "0"],
    "window in words": ["compile", "--window", "abc"],
    "huge window": ["compile", "--window", "9" * 5_000],
    "head dim": ["compile", "--head-dim", "77"],
    "head dim missing": ["compile", "--head-dim"],
    "kv dtype": ["compile", "--kv-dtype", "int4"],
    "q dtype": ["compile", "--q-dtype", "fp8"],
    "triton not there": ["compile", "--triton", "9.9.9"],
    "triton rubbish": ["compile", "--triton", "3.5.1; rm -rf"],
    "ptxas rubbish": ["compile", "--ptxas", "nonsense"],
    "ptxas not there": ["compile", "--ptxas", "13.9.9"],
    "codegen without ptxas": ["compile", "--ptxas-for-codegen"],
    "warps": ["compile", "--num-warps", "3"],
    "stages": ["compile", "--num-stages", "1000"],
    "maxnreg": ["compile", "--maxnreg", "9999"],
    "logit cap": ["compile", "--logit-cap", "nan"],
    "heads": ["compile", "--heads", "32", "--kv-heads", "5"],
    "timeout": ["compile", "--timeout", "-1"],
    "timeout nan": ["compile", "--timeout", "nan"],
    "ingredient": ["compile", "--tile-skip", "sometimes"],
    "several where one": ["compile", "--tile", "64x64,128x64"],
    "stray word": ["compile", "please"],
    "unknown flag": ["compile", "--fast"],
    "unknown verb": ["decompile"],
    "matrix value": ["matrix", "--tile", "64x64,65x65"],
    "matrix too large": [
        "matrix",
        "--window",
        ",".join(map(str, range(1, 300))),
        "--head-dim",
        ",".join(["64"] * 99),
    ],
    "csv below a file": ["matrix", *SMALL, "--csv", "README.md/x.csv"],
    "csv in no folder": ["matrix", *SMALL, "--csv", "/proc/no/x.csv"],
    "csv is a folder": ["matrix", *SMALL, "--csv", "/"],
    "install nothing": ["toolchains", "install"],
    "install rubbish": ["toolchains", "install", "3.5.1", "../x"],
    "install huge": ["toolchains", "install", "9" * 100_000],
    "toolchains verb": ["toolchains", "remove", "3.5.1"],
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_exit_two_and_one_line(name, capfd):
    assert main(BAD[name]) == 2
    out, err = capfd.readouterr()
    assert err.startswith("error: ") and err.count("\n") == 1 and len(err) < 1_000, err
    assert out == ""


def test_bad_input_in_a_process_of_its_own():
    code, out, err = run("compile", "--arch", "sm_70")
    assert (code, out) == (2, "") and err.count("\n") == 1 and "sm_121a" in err


def test_missing_toolchain_as_json_is_a_report_and_exit_two(capfd):
    assert main(["compile", "--triton", "9.9.9", "--json"]) == 2
    out, err = capfd.readouterr()
    assert json.loads(out)["status"] == "toolchain_missing"
    assert "register-cliff toolchains install 9.9.9" in err and err.count("\n") == 1


def test_a_reproduced_crash_is_exit_zero(toolchain_351, capfd):
    assert (
        main(
            [
                "compile",
                "--arch",
                "sm_100a",
                "--head-dim",
                "256",
                "--kv-dtype",
                "fp8_e4m3",
                "--window",
                "1024",
                "--tile",
                "128x64",
                "--num-warps",
                "8",
                "--triton",
                "3.5.1",
                "--json",
            ]
        )
        == 0
    )
    out, err = capfd.readouterr()
    report = json.loads(out)
    assert err == "" and report["status"] == "register_exhausted" and report["ptxas_code"] == "C7600"
    assert set(CompileReport.__dataclass_fields__) <= set(report)
    assert main(["compile"]) == 0  # the defaults are the incident; read from the cache
    out, _ = capfd.readouterr()
    assert "register_exhausted" in out and "(C7600)" in out and report["ptx_path"] in out and "from the cache" in out


def test_matrix_is_the_product_in_a_csv_and_cached_the_second_time(isolated_cache, tmp_path, capfd):
    file = tmp_path / "rows.csv"
    argv = [
        "matrix",
        *SMALL,
        "--triton",
        "environment",
        "--kv-dtype",
        "bf16,fp8",
        "--arch",
        "sm_80,sm_90a",
        "--csv",
        str(file),
    ]
    assert main(argv) == 0
    out, err = capfd.readouterr()
    assert "fp8_e4m3" in out and "frontend_error" in out and "4/4" in err
    rows = list(csv.DictReader(file.read_text().splitlines()))
    assert [(r["arch"], r["status"] == "frontend_error") for r in rows] == [
        ("sm_80", False),
        ("sm_80", True),
        ("sm_90a", False),
        ("sm_90a", False),
    ]
    assert all(r["spec_key"] and r["wall_s"] for r in rows) and [p.name for p in tmp_path.glob("*.csv")] == ["rows.csv"]
    assert main([*argv[:-2], "--json", "--quiet"]) == 0
    out, err = capfd.readouterr()
    assert err == "" and [r["cached"] for r in json.loads(out)] == [True] * 4


def test_matrix_with_every_toolchain_missing_is_exit_two(capfd):
    assert main(["matrix", "--triton", "9.9.8,9.9.9", "--quiet"]) == 2
    assert "install 9.9.8" in capfd.readouterr().err


def test_toolchains_lists(capfd):
    assert main(["toolchains", "--json"]) == 0
    listing = json.loads(capfd.readouterr().out)
    assert listing["environment_triton"] in [t["version"] for t in listing["triton"]]
    assert all(Path(p["path"]).is_file() for p in listing["ptxas"]) and "3.5.1" in listing["known_triton"]
    assert main(["toolchains"]) == 0
    out, _ = capfd.readouterr()
    assert "register-cliff toolchains install" in out


def test_install_without_a_network_is_one_sentence_and_no_folder(tmp_path):
    env = {
        **os.environ,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(tmp_path),
        "REGISTER_CLIFF_CACHE": str(tmp_path / "c"),
    }
    code, out, err = run("toolchains", "install", "--json", "3.5.0", env=env)
    assert code == 2 and out == "" and "Traceback" not in err
    ours = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(ours) == 1  # pip's own lines say ERROR
    assert "pip could not fetch triton==3.5.0" in ours[-1] and "Without a network" in ours[-1]
    assert list((tmp_path / "c" / "toolchains").iterdir()) == []


def test_install_of_what_is_there_fetches_nothing(toolchain_351, capfd):
    from helpers.compiler.toolchain import environment_triton

    if environment_triton().version == "3.5.1":
        pytest.skip("3.5.1 is the environment's own")
    assert main(["toolchains", "install", "3.5.1", "--json"]) == 0
    (row,) = json.loads(capfd.readouterr().out)
    assert row["fetched"] is False and Path(row["path"]).is_dir()


def test_unwritable_cache_is_a_warning_line(tmp_path):
    (tmp_path / "file").touch()
    env = {**os.environ, "REGISTER_CLIFF_CACHE": str(tmp_path / "file")}
    code, out, err = run("compile", *SMALL, "--triton", "environment", "--json", env=env)
    assert code == 0 and json.loads(out)["status"] in ("ok", "spills")
    assert err.startswith("warning: cannot write to the cache folder") and err.count("\n") == 1
    code, _out, err = run("toolchains", "install", "3.5.0", "--json", env=env)
    assert code == 2 and err.count("\n") == 1 and "REGISTER_CLIFF_CACHE" in err


def test_interrupt_is_clean(isolated_cache):
    # Enough compiles that a fast machine is still at it when the signal comes.
    axes = ("--head-dim", "256,512", "--tile", "128x64,64x64,32x64", "--kv-dtype", "bf16,fp8_e4m3,fp8_e5m2")
    process = start("matrix", *axes, "--window", "none,512,1024", "--triton", "environment")
    time.sleep(3)
    os.kill(process.pid, signal.SIGINT)
    started = time.monotonic()
    _out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in err and "interrupted" in err
    assert time.monotonic() - started < 20


def test_a_reader_that_leaves_early_is_no_error():
    process = start("toolchains", "--json")
    process.stdout.close()
    err = process.stderr.read()
    assert process.wait(60) == 0 and err == ""


def test_help_names_every_verb(capfd):
    # As whoever parses a command outside its group does; click then remembers the help option it made.
    cli.commands["compile"].make_context("compile", [])
    assert main(["--help"]) == 0
    out, _ = capfd.readouterr()
    assert all(verb in out for verb in ("compile", "matrix", "toolchains"))
    assert main(["compile", "-h"]) == 0
    out, _ = capfd.readouterr()
    for name in vars(Choice()):
        assert (
            name in ("causal", "timeout_s", "ptxas_flags")
            or name.replace("num_q_", "").replace("num_kv", "kv").replace("_", "-") in out
        )


def test_import_is_light():
    code = (
        "import sys, time; t = time.process_time(); import helpers; t = time.process_time() - t; "
        "print(t, *{'torch', 'pandas', 'matplotlib', 'triton', 'numpy', 'IPython'}.intersection(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO_ROOT, capture_output=True, text=True, check=True)
    seconds, *heavy = done.stdout.split()
    assert heavy == [] and float(seconds) < 1


def test_the_command_line_itself_is_light():
    heavy = "{'torch', 'pandas', 'matplotlib', 'triton'}"
    code = f"import sys, helpers.__main__; print(*{heavy}.intersection(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO_ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_every_promised_name_loads():
    import helpers

    for name in helpers.__all__:
        assert getattr(helpers, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = helpers.nonsense
