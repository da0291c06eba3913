"""Planted secrets of every kind: none leaves in a bundle, in a member or in its name; the rest is unharmed."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from pathlib import Path

import pytest

from helpers.__main__ import main
from helpers.bundle import collect
from helpers.bundle import material as bundle_source
from helpers.bundle.report import report
from helpers.bundle.scrub import Identity, Scrubber
from helpers.bundle.secret_words import forms_in, without_secrets
from helpers.compiler.toolchain import resolve_triton
from helpers.errors import UserError
from tests.hunting.planted import (
    LETTERS,
    LINES,
    ME,
    everything,
    in_bytes,
    made_up,
    planted,
    source_with,
    spec_in,
    through,
)

ROOT = Path(__file__).parents[2]
FAILURES = ROOT / "tests" / "fixtures" / "kernels" / "failures.py"
PLANTED = planted()
ALL = "\n".join(text for text, _ in PLANTED.values())


@pytest.fixture(autouse=True)
def quick(monkeypatch, toolchain_351):
    """One ptxas, and no search for workarounds: both have tests of their own."""
    ptxas = resolve_triton("3.5.1").program("ptxas")
    monkeypatch.setattr(bundle_source, "installed_ptxas", lambda: {"12.8.93": ptxas})
    monkeypatch.setattr(collect, "edits_of", lambda *_, **__: [])
    monkeypatch.setattr(collect, "triton_table", lambda *_: [])


def test_there_are_at_least_as_many_as_the_hunt_planted():
    assert len(PLANTED) >= 38 and through(PLANTED, ALL) == list(PLANTED)


@pytest.mark.parametrize("kind", PLANTED)
@pytest.mark.parametrize("around", ["{}", "x {} y", '"{}"', "a={}", "# {}", "[{}]", "({})", "<{}>", "{},", "log: {}."])
def test_each_is_found_whatever_stands_around_it(kind, around):
    text, secret = PLANTED[kind]
    assert secret.lower() not in Scrubber(ME).text(f"before\n{around.format(text)}\nafter\n").lower()


@pytest.mark.parametrize("kind", LINES)
@pytest.mark.parametrize("where", ["text", "comment", "string", "PTX"])
def test_what_only_its_line_tells_is_found_wherever_the_line_stands(kind, where):
    text, secrets = LINES[kind]
    scrubber = Scrubber(ME)
    if where == "text":
        said = scrubber.text(f"before\n{text}\nafter\n")
    elif where == "comment":
        said = scrubber.python("x = 1\n" + "".join(f"# {line}\n" for line in text.splitlines()))
    elif where == "string":
        said = scrubber.python(f"x = {text!r}\n")
    else:
        said = scrubber.code("".join(f"// {line}\n" for line in text.splitlines()) + ".version 8.0\n")
    assert [secret for secret in secrets if secret.lower() in said.lower()] == []


@pytest.mark.parametrize(
    "text",
    [
        r"aws_secret_access_key = AbCdEf1234567890AbCdEf1234567890AbCdEf12\na=curl -u a1:hunter2Long https://example.com",
        r"secret = V4lue9xQQ7\npassword: hunter2Long",
        r"api_key=abcd1234efgh\nsshpass -p hunter2Long host",
    ],
)
def test_a_value_that_swallows_the_beginning_of_the_next_line_does_not_hide_what_is_secret_there(text):
    assert "hunter2Long" not in without_secrets(text, forms_in(text))


def test_a_quote_that_is_escaped_stays_so_and_what_follows_is_looked_at():
    said = "X-Api-Key: hunter2Hunter2Hunter2\n'connect to 10.42.7.19 failed'\n\"x\""
    scrubbed = Scrubber(Identity(users=("ada",))).python(f"SAID = {said!r}\n")
    compile(scrubbed, "kernel.py", "exec")
    assert "10.42.7.19" not in scrubbed and "hunter2" not in scrubbed


@pytest.mark.parametrize("seed", [0, 9])
def test_what_stands_in_the_place_of_a_secret_is_no_secret_of_another_kind(seed):
    lines = [around.format(text) for text, _ in planted(seed).values() for around in ("{}", "x {} y", "[{}]", "{},")]
    spelt = "".join(f"\t.section .debug_x{n}\n\t{{\n{in_bytes(line)}\n\t}}\n" for n, line in enumerate(lines))
    text = "".join(f"// {line}\n" for line in lines) + spelt
    scrubber = Scrubber(ME)
    done = scrubber.code(text)
    assert scrubber.remains("kernel.ptx", done.encode()) == []


HARMLESS = """token: str = 'a'
num_tokens = 16384, max_tokens: 32768
auth = None
password = get_password()
key = tl.load(k_ptr + offs_n[0, 1])
offs[0-3] regs[0,1] x[00] layer-3[0]
tokenizer = AutoTokenizer.from_pretrained("meta-llama/Llama-3.1-8B")
Host code: the host is slow
User error
connect the two: 128 nodes: 4
kernel.ptx:1234: error at line 5:17
machine learning, login required
at triton/language/core.py:42 in wrapper
loc("k.py":12:3)
_ZN7cutlass13device_kernelIN5flash12FlashAttnFwdSm90I5FirstEEvT_
"""


def test_what_only_looks_like_one_stays():
    assert Scrubber(Identity()).text(HARMLESS) == HARMLESS
    assert Scrubber(Identity()).python(HARMLESS) == HARMLESS


@pytest.mark.parametrize("withhold", [False, True])
def test_none_leaves_with_a_log(withhold, tmp_path):
    ptx = gzip.decompress((ROOT / "tests" / "fixtures" / "ptx" / "crash_sm100a.ptx.gz").read_bytes()).decode()
    bar = "=" * 60
    log = (f"{ALL}\n{bar}\n{ptx}\n{bar}\nTraceback (most recent call last):\n"
           "  File \"/home/adalove/secret_project/serve.py\","
           " line 3, in run\n    run()\n"
           "triton.runtime.errors.PTXASError: PTXAS error: Internal Triton PTX codegen error\n"
           "`ptxas` stderr:\nptxas fatal   : (C7600) Register allocation failed with register count of '255'.\n\n"
           "Repro command: ptxas -lineinfo -v --gpu-name=sm_100a /tmp/x.ptx -o /tmp/x.ptx.o\n" + ALL)  # fmt: skip
    done = report(log, tmp_path / "r.zip", identity=ME, withhold_source=withhold)
    assert through(PLANTED, everything(tmp_path / "r.zip")) == []
    assert done.reproduced
    if not withhold:
        said = " ".join(done.replaced)
        assert "GitHub token" in said and "e-mail address" in said and through(PLANTED, said) == []


@pytest.mark.parametrize("withhold", [False, True])
def test_none_leaves_with_a_ptx(withhold, tmp_path):
    ptx = gzip.decompress((ROOT / "tests" / "fixtures" / "ptx" / "crash_sm100a.ptx.gz").read_bytes()).decode()
    lines = "".join(f"// {line}\n" for line in ALL.splitlines())
    spelt = "".join(
        f"\t.section .debug_x{n}\n\t{{\n{in_bytes(line)}\n\t}}\n" for n, line in enumerate(ALL.splitlines())
    )
    file = tmp_path / "adalove.ptx"
    file.write_text(lines + ptx + spelt)
    assert report(file, tmp_path / "r.zip", identity=ME, withhold_source=withhold).reproduced
    assert through(PLANTED, everything(tmp_path / "r.zip")) == []


def test_names_as_folders_in_the_kernel_and_in_labels_are_replaced_and_the_spec_inside_leads_inside(tmp_path, capsys):
    comments = "\n# ".join(ALL.splitlines())
    spec = spec_in(tmp_path, "adalove_wide_sum", source_with(ALL, comments), ALL)
    done = report(spec, tmp_path / "r.zip", identity=ME, arch="sm_90a", triton="3.5.1", symptom="spills")
    assert through(PLANTED, everything(tmp_path / "r.zip")) == []
    with zipfile.ZipFile(tmp_path / "r.zip") as archive:
        names = archive.namelist()
        inside = json.loads(archive.read("spec.json"))
        archive.extractall(tmp_path / "elsewhere")
    assert inside["kernel"]["path"] == "kernel/USER/ops/USER_k.py" and inside["kernel"]["path"] in names
    assert inside["kernel"]["name"] == "USER_wide_sum" and done.reproduced
    # It compiles as it lies there, packages and all.
    words = ["compile", str(tmp_path / "elsewhere" / "spec.json"), "--arch", "sm_90a", "--triton", "3.5.1", "--json"]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["status"] == "spills"


def test_a_withheld_kernel_may_have_parameters_called_like_words_of_ours(tmp_path):
    """`out` stands in every repro.sh, `count` in every pressure.txt: that is no reason to refuse the bundle."""
    spec = spec_in(tmp_path, "adalove_wide_sum", source_with("a", "b"), "c")
    done = report(spec, tmp_path / "r.zip", identity=ME, arch="sm_90a", triton="3.5.1", symptom="spills",
                  withhold_source=True)  # fmt: skip
    shown = everything(tmp_path / "r.zip")
    assert done.reproduced and "adalove" not in shown.lower() and "wide_sum" not in shown
    scrubber = Scrubber(ME, withheld=("out", "secret_sauce", "Kq"))
    assert scrubber.remains("repro.sh", b'cat "$out/log"') == []
    assert scrubber.remains("repro.sh", b"secret_sauce") and scrubber.remains("ptxas.log", b"the out parameter")


def test_a_kernel_that_triton_refuses_is_renamed_alike_in_its_repro(tmp_path):
    source = FAILURES.read_text().replace("def wide_sum", "def adalove_wide_sum")
    (tmp_path / "failures.py").write_text(source)
    raw = {
        "kernel": {"path": "failures.py", "name": "adalove_wide_sum"},
        "signature": [["numbers", "*fp32"], ["out", "*fp32"], ["COUNT", "constexpr"]],
        "constexprs": [["COUNT", "adalove"]],
        "divisible_by_16": [],
        "options": [],
    }
    (tmp_path / "s.json").write_text(json.dumps(raw))
    done = report(tmp_path / "s.json", tmp_path / "r.zip", identity=ME, arch="sm_90a", triton="3.5.1")
    assert done.reproduced and "adalove" not in everything(tmp_path / "r.zip")


# --- what must stay --------------------------------------------------------------------------------------------------

KEPT = """
ptxas info    : Used 255 registers, 1.2.3.4 and 12.8.93, version 12.8.93.1
Cuda compilation tools, release 12.8, V12.8.93
nvidia-cublas-cu12==12.8.4.1 nvidia-curand-cu12 10.3.9.90 triton-3.5.1-cp311 libcudnn.so.9.10.2.21 cudnn 9.10.2.21
[pip3] nvidia-cudnn-cu12==9.10.2.21
570.124.6.1 is installed, 12.08.9.3 is not, sections 1.2.3.4.5 and 10.1.2.3-dev1
nvidia-cusparse-cu12     12.5.8.93
driver version: 570.124.6.1 NVIDIA-SMI 570.124.06 GNU C Library 2.36 torch==2.13.0+cu128 glibc 2.36.0.1
mov.b32 %r1, 0x3f800000; ld.global.v4.b32 {%r1, %r2, %r3, %r4}, [%rd1]; @%p1 bra $L__BB0_2; %f12:%f13
9d2f1c3b5a7e8f60112233445566778899aabbccddeeff00112233445566778 0xdeadbeefcafebabe 0x1234:0x5678
sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b
e3b0c44298fc1c149afbf4c8996fb924 d41d8cd98f00b204e9800998ecf8427e
ld.local.b32 st.local threading.local std::string a::b fe::add torch._inductor.codecache self.buffer.io x.home
2026-11-26T08:11:35 12:34:56 12:34:56.789 %0 = arith.constant ~mask, ~x & ~4x, tt.divisibility = 16 : i32
https://github.com/triton-lang/triton/issues/8488 https://docs.nvidia.com/cuda/ptx 127.0.0.1:8888 http://localhost:29500
risk-free disk-based token_count=4 num_tokens = 5 secret: tl.constexpr, cache_key=abc password=None hf_config eyJ
#blocked = #ttg.blocked<{sizePerThread = [1, 4], threadsPerWarp = [2, 16], order = [1, 0]}>
.version 8.7 .target sm_100a .file 1 "k.py" .loc 1 22 3 .b8 97 C:0 GPU-0 MIG 1g.10gb SKU 900-21001-0000-000
"""


def test_hashes_versions_registers_and_constants_stay():
    for line in KEPT.splitlines():
        assert Scrubber(ME).text(line) == line
        found = forms_in(line)
        assert not found, (line, found)


def members() -> list[Path]:
    folders = (ROOT / "tests" / "fixtures", ROOT / "kernels", ROOT / "data")
    texts = {".ptx", ".gz", ".log", ".py", ".ttgir", ".ttir", ".csv", ".json", ".txt", ".md"}
    return [path for folder in folders for path in sorted(folder.rglob("*")) if path.suffix in texts]


@pytest.mark.parametrize("path", members(), ids=lambda path: path.name)
def test_nothing_of_a_real_file_is_taken_for_a_secret(path):
    content = path.read_bytes()
    text = (gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content).decode(errors="replace")
    assert without_secrets(text, forms_in(text)) == text
    nobody = Scrubber(Identity())
    if path.suffix == ".py":
        kept = nobody.python(text)
        assert [a for a, b in zip(text.splitlines(), kept.splitlines(), strict=True) if a != b and "/" not in a] == []
    if ".ptx" in path.name:
        kept = nobody.code(text)
        assert [a for a, b in zip(text.splitlines(), kept.splitlines(), strict=True) if a != b and "/" not in a] == []


def test_a_text_is_looked_through_in_time_whatever_it_is():
    import time

    for piece in ("a", "a.", "~a", "eyJa", "\\\\a", "1.", "2001:", "a://", "password", "x_", "-----BEGIN ", "password=",
                  "bearer ", "-----BEGIN PRIVATE KEY-----", " ", "A_", "aa:", "user: ", "x.eyJ", "h.co", "a-", "//",
                  "@"):  # fmt: skip
        text = (piece * 200_000)[:200_000]
        began = time.perf_counter()
        without_secrets(text, forms_in(text))
        assert time.perf_counter() - began < 5, piece


# --- the verb ---------------------------------------------------------------------------------------------------------


def test_what_is_replaced_is_said_before_the_zip_is_written_and_a_dry_run_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    ptx = gzip.decompress((ROOT / "tests" / "fixtures" / "ptx" / "crash_sm100a.ptx.gz").read_bytes()).decode()
    Path("c.ptx").write_text(f"// ask ada.lovelace@hyperdyne.com\n{ptx}")
    assert main(["report", "c.ptx", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert (
        "nothing was written" in out and "kernel.ptx" in out and " B  README.md" in out and "1 × e-mail address" in out
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.ptx"]
    assert main(["report", "c.ptx", "--dry-run", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["written"] is False and found["bytes"]["kernel.ptx"] > 10_000 and found["replaced"]
    told = []
    report(tmp_path / "c.ptx", "r.zip", tell=lambda words: told.append((words, Path("r.zip").exists())))
    assert [(w[:8], there) for w, there in told] == [("replaced", False)] and Path("r.zip").exists()


def test_a_budget_that_is_spent_leaves_what_shows_the_failure(tmp_path, monkeypatch):
    def never(*_args, **_more):
        raise AssertionError("the budget was spent")

    monkeypatch.setattr(collect, "edits_of", never)
    monkeypatch.setattr(collect, "minimized_of", never)
    done = report(ROOT / "data" / "incident_minimized.ptx", tmp_path / "r.zip", budget_s=0.001, minimize_s=60.0)
    assert done.reproduced and any("budget" in note for note in done.notes)


def test_a_member_that_still_holds_a_secret_is_refused(tmp_path, monkeypatch):
    from helpers.bundle import report as module

    real = module._packed

    def packed(found, scrubber, **more):
        return real(found.with_member("extra.txt", "ghp_" + made_up(LETTERS, 36, 1)), scrubber, **more)

    monkeypatch.setattr(module, "_packed", packed)
    with pytest.raises(UserError, match=r"extra\.txt: GitHub token"):
        report(ROOT / "data" / "incident_minimized.ptx", tmp_path / "r.zip")
    assert not (tmp_path / "r.zip").exists() and io.BytesIO
