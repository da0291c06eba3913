"""Flags for ptxas that read or write a file are refused, in every spelling that ptxas takes."""

from __future__ import annotations

import json
import subprocess

import pytest

from helpers.__main__ import main
from helpers.compiler.kernel_spec import KernelSpec
from helpers.compiler.ptxas_flags import checked_flags, names_a_file
from helpers.compiler.toolchain import installed_ptxas
from helpers.errors import UserError

READS = [
    ["--options-file=secret"], ["--options-file secret"], ["--options-file", "secret"], ["-optf=secret"],
    ["-optf secret"], ["-optf", "secret"], ["-v\t-optf=secret"], ['-optf="secret"'], ['"-optf=secret"'],
    ["-O1 -optf=secret"], ["-optf= secret"], ["@secret"], ["-o=kernel.txt"], ["--output-file=x"], ["-o x"],
    ["-ias=.version"], ["--input-as-string .version"], ["../secret"], ["/etc/passwd"], ["-v /etc/passwd"],
    ["--maxrregcount=/etc/passwd"], ["-e a,/etc/passwd"],
]  # fmt: skip
HARMLESS = [
    ["-O1"], ["-O1 -v"], ["--opt-level 2"], ["-maxrregcount=128"], ["--maxrregcount", "64"], ["-lineinfo"],
    ["--regAllocOptLevel=2"], ["--fmad=false"], ["-e", "kernel_0"], ["-dlcm=ca"], ["--override-directive-values"],
    ["-opt-fp-atomics"], ["--register-usage-level=3"], ["-w"],
]  # fmt: skip


@pytest.mark.parametrize("flags", READS, ids=" ".join)
def test_a_flag_that_names_a_file_is_refused(flags, write_kernel):
    with pytest.raises(UserError, match=r"names a file.*ptxas would read or write"):
        checked_flags(flags)
    spec = json.loads(write_kernel().to_json())
    with pytest.raises(UserError, match="ptx_options"):
        KernelSpec.from_json(json.dumps({**spec, "options": [["ptx_options", " ".join(flags)]]}))


@pytest.mark.parametrize("flags", HARMLESS, ids=" ".join)
def test_a_flag_that_changes_the_code_stays(flags, write_kernel):
    assert " ".join(checked_flags(flags)) == " ".join(flags)
    spec = write_kernel().with_options(ptx_options=" ".join(flags))
    assert KernelSpec.from_json(spec.to_json()) == spec


def test_every_spelling_that_a_ptxas_here_reads_a_file_by_is_known(tmp_path):
    """Each release at hand is given a file under each spelling; those that open it must be among those refused."""
    (tmp_path / "k.ptx").write_text(".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k()\n{\nret;\n}\n")
    (tmp_path / "secret").write_text("--planted-word")
    spellings = [f"{dashes}{name}{between}{word}" for dashes in ("--", "-", "") for between in ("=", " ", "", ":", ",")
                 for name in ("options-file", "optf", "OPTF", "options_file", "optionsfile", "opt", "@", "f")
                 for word in ("secret", '"secret"', "@secret")]  # fmt: skip
    programs = installed_ptxas()
    assert programs
    read = set()
    for program in list(programs.values())[:: max(1, len(programs) - 1)]:  # the oldest and the newest
        for spelling in spellings:
            words = [program, *spelling.split(), "k.ptx", "-arch", "sm_80", "-o", "x.cubin"]
            done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
            if "planted" in done.stdout + done.stderr:
                read.add(spelling)
    assert read and not [spelling for spelling in read if names_a_file(spelling.split()) is None]


def test_the_command_line_takes_several_words_in_one_flag_and_no_file(tmp_path, write_kernel, capsys):
    (tmp_path / "s.json").write_text(write_kernel().to_json())
    words = ["compile", str(tmp_path / "s.json"), "--arch", "H100", "--triton", "environment", "--json"]
    assert main([*words, "--ptxas-flag", "-O1 --fmad=false"]) == 0
    assert " -O1 --fmad=false " in json.loads(capsys.readouterr().out)["ptxas_command"]
    for verb in ("compile", "matrix", "try", "ablate", "bisect", "report", "minimize", "autotune"):
        assert main([verb, str(tmp_path / "s.json"), "--ptxas-flag", "-O1 -optf secret"]) == 2
        err = capsys.readouterr().err
        assert "names a file" in err and err.count("\n") == 1, verb


def test_options_that_make_triton_read_a_file_are_refused(write_kernel):
    for name in ("ir_override", "extern_libs"):
        with pytest.raises(UserError, match=f"{name} makes Triton read a file"):
            write_kernel().with_options(**{name: "/etc/passwd"})
