"""Planted secrets of every kind: none leaves in a bundle, in a member or in its name; the rest is unharmed."""

from __future__ import annotations

import gzip
import io
import json
import random
import string
import zipfile
from pathlib import Path

import pytest

from helpers.__main__ import main
from helpers.bundle import collect
from helpers.bundle import material as bundle_source
from helpers.bundle.report import report
from helpers.bundle.scrub import Identity, Scrubber
from helpers.bundle.secret_words import forms_in, without_secrets
from helpers.compiler.kernel_spec import KernelSpec
from helpers.compiler.toolchain import resolve_triton
from helpers.errors import UserError

ROOT = Path(__file__).parents[2]
FAILURES = ROOT / "tests" / "fixtures" / "kernels" / "failures.py"
ME = Identity(homes=("/home/adalove",), users=("adalove",), hosts=("fjord-12",))


def made_up(alphabet: str, length: int, seed: int) -> str:
    """Letters of no meaning, the same in every run; written out they would be taken for real by whoever scans this."""
    return "".join(random.Random(seed).choices(alphabet, k=length))


LETTERS = string.ascii_letters + string.digits
HEX = "0123456789abcdef"
# kind -> (how it stands in a text, the part that must not be seen again)
PLANTED: dict[str, tuple[str, str]] = {}


def plant(kind: str, text: str, secret: str | None = None) -> None:
    PLANTED[kind] = (text, secret or text)


for number, (kind, before, alphabet, length) in enumerate([
    ("GitHub, classic", "ghp_", LETTERS, 36), ("GitHub, fine-grained", "github_pat_", LETTERS + "_", 82),
    ("GitHub, server", "ghs_", LETTERS, 36), ("Hugging Face", "hf_", LETTERS, 34),
    ("AWS", "AKIA", string.ascii_uppercase, 16),
    ("AWS, temporary", "ASIA", string.ascii_uppercase + "234567", 16), ("OpenAI", "sk-", LETTERS, 48),
    ("OpenAI, project", "sk-proj-", LETTERS + "_-", 80), ("Anthropic", "sk-ant-api03-", LETTERS + "_-", 93),
    ("Slack, bot", "xoxb-", string.digits, 12), ("GitLab", "glpat-", LETTERS, 20), ("PyPI", "pypi-", LETTERS, 90),
    ("npm", "npm_", LETTERS, 36), ("Google", "AIza", LETTERS, 35), ("NGC", "nvapi-", LETTERS, 64),
]):  # fmt: skip
    secret = before + made_up(alphabet, length, number) + ("-abcdefghijklmnop" if kind.startswith("Slack") else "")
    plant(kind, secret)
web_token = ".".join("eyJ" + made_up(LETTERS, n, n) for n in (33, 90)) + "." + made_up(LETTERS, 43, 9)
plant("JWT bearer", f"Authorization: Bearer {web_token}", web_token)
plant("opaque bearer", f"authorization: bearer {made_up(LETTERS, 40, 11)}", made_up(LETTERS, 40, 11))
plant("private key",
      "-----BEGIN OPENSSH PRIVATE KEY-----\\nb3BlbnNzaC1rZXktdjEAAAAA\\n-----END OPENSSH PRIVATE KEY-----",
      "b3BlbnNzaC1rZXktdjEAAAAA")  # fmt: skip
plant("IPv4", "connect to 10.42.7.19 failed", "10.42.7.19")
plant("IPv4 with a port", "tcp 192.168.17.33:29500", "192.168.17.33")
plant("IPv6", "listening on fd12:3456:789a:1::17 now", "fd12:3456:789a:1::17")
plant("IPv6, link", "addr fe80::1ff:fe23:4567:890a%eth0", "fe80::1ff:fe23:4567:890a")
plant("MAC", "ether 3c:ec:ef:9a:01:7b up", "3c:ec:ef:9a:01:7b")
plant("~user", "reading ~grace/models/x.json", "grace")
plant("UNC", r"from \\nas-vault\team$\weights", "nas-vault")
plant("s3", "s3://vault-bucket/checkpoints/step1", "vault-bucket")
plant("gs", "gs://other-vault/run7", "other-vault")
plant("internal URL", "see https://wiki.megacorp.example-internal.net/kernels/7?id=3", "megacorp")
plant("internal host", "on gpu17.cluster.hyperdyne.com today", "hyperdyne")
plant("internal host, short", "scp vault7.corp: failed", "vault7.corp")
plant("cloud host", "ip-10-42-7-88 joined", "ip-10-42-7-88")
plant("SLURM user", "SLURM_JOB_USER=hopperg", "hopperg")
plant("SLURM nodes", "SLURM_NODELIST=dgx-vault-[01-08]", "dgx-vault")
plant("GPU's number", "GPU-8a56a4bc-1184-2f3a-9d33-0a1b2c3d4e5f", "8a56a4bc-1184-2f3a")
plant("MIG's number", "MIG-8a56a4bc-1184-2f3a-9d33-0a1b2c3d4e5f", "8a56a4bc-1184-2f3a")
plant("e-mail address", "ask ada.lovelace@hyperdyne.com", "lovelace@")
plant("password in an address", "postgresql://svc:pr1vate-w0rd@db.example.com/x", "pr1vate-w0rd")
plant("password", 'password = "correct-horse-battery"', "correct-horse-battery")
plant(
    "variable with a token",
    "WANDB_API_KEY=0f1e2d3c4b5a69788796a5b4c3d2e1f0aabbccdd",
    "0f1e2d3c4b5a69788796a5b4c3d2e1f0aabbccdd",
)
plant("this user", "as adalove here", "adalove")
plant("this host", "on fjord-12 here", "fjord-12")
plant("home folder", "/home/adalove/secret_project/k.py", "secret_project")
plant("another's home folder", "/home/turing/enigma_kernels/k.py", "enigma_kernels")

SECRETS = {kind: secret for kind, (_, secret) in PLANTED.items()}
ALL = "\n".join(text for text, _ in PLANTED.values())


def in_bytes(text: str) -> str:
    """A text as PTX spells it in its debug sections."""
    return "\n".join(f".b8 {b}" for b in (text + "\0").encode())


def everything(path: Path) -> str:
    """All that can be read of a bundle: its members, their names, what `.b8` lines spell, the issue text."""
    import re

    parts = []
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            text = archive.read(name).decode("latin-1")
            parts += [name, text, bytes(int(n) for n in re.findall(r"^\s*\.b8\s+(\d+)", text, re.M)).decode("latin-1")]
    return "\n".join([*parts, path.with_suffix(".issue.md").read_text()])


def through(text: str) -> list[str]:
    return [kind for kind, secret in SECRETS.items() if secret.lower() in text.lower()]


@pytest.fixture(autouse=True)
def quick(monkeypatch, toolchain_351):
    """One ptxas, and no search for workarounds: both have tests of their own."""
    ptxas = resolve_triton("3.5.1").program("ptxas")
    monkeypatch.setattr(bundle_source, "installed_ptxas", lambda: {"12.8.93": ptxas})
    monkeypatch.setattr(collect, "edits_of", lambda *_, **__: [])
    monkeypatch.setattr(collect, "triton_table", lambda *_: [])


def test_there_are_at_least_as_many_as_the_hunt_planted():
    assert len(PLANTED) >= 38 and through(ALL) == list(PLANTED)


@pytest.mark.parametrize("kind", PLANTED)
@pytest.mark.parametrize("around", ["{}", "x {} y", '"{}"', "a={}", "# {}", "[{}]", "({})", "<{}>", "{},", "log: {}."])
def test_each_is_found_whatever_stands_around_it(kind, around):
    text, secret = PLANTED[kind]
    assert secret.lower() not in Scrubber(ME).text(f"before\n{around.format(text)}\nafter\n").lower()


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
    assert through(everything(tmp_path / "r.zip")) == []
    assert done.reproduced
    if not withhold:
        said = " ".join(done.replaced)
        assert "GitHub token" in said and "e-mail address" in said and through(said) == []


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
    assert through(everything(tmp_path / "r.zip")) == []


def spec_in(folder: Path, name: str, source: str) -> Path:
    """A spec of one of the failing kernels, in a package called after the user, its label and kernel too."""
    package = folder / "work" / "adalove" / "ops"
    package.mkdir(parents=True)
    for part in (package.parent, package):
        (part / "__init__.py").write_text("")
    (package / "adalove_k.py").write_text(source)
    (package / "settings.py").write_text(f"LOG = {ALL!r}\nPASSWORD = 'correct-horse-battery'\n")
    body = json.loads(KernelSpec.from_json(json.dumps({
        "kernel": {"path": str(package / "adalove_k.py"), "name": name, "import_root": str(folder / "work")},
        "signature": [["numbers", "*fp32"], ["out", "*fp32"], ["COUNT", "constexpr"]], "constexprs": [["COUNT", 32768]],
        "divisible_by_16": ["numbers", "out"], "options": [["num_warps", 4]],
        "label": "ada.lovelace@hyperdyne.com tried 10.42.7.19",
    })).to_json())  # fmt: skip
    (folder / "s.json").write_text(json.dumps(body))
    return folder / "s.json"


SOURCE = f'''"""Written by adalove on fjord-12."""
import triton
import triton.language as tl

from adalove.ops.settings import LOG

# {{}}
SAID = {ALL!r}


@triton.jit
def adalove_wide_sum(numbers, out, COUNT: tl.constexpr):
    at = tl.arange(0, COUNT)
    x = tl.load(numbers + at)
    tl.store(out, tl.sum(tl.exp(x) * tl.sum(x)))
    tl.store(out + 1 + at, x)
'''


def test_names_as_folders_in_the_kernel_and_in_labels_are_replaced_and_the_spec_inside_leads_inside(tmp_path, capsys):
    comments = "\n# ".join(ALL.splitlines())
    spec = spec_in(tmp_path, "adalove_wide_sum", SOURCE.replace("{}", comments))
    done = report(spec, tmp_path / "r.zip", identity=ME, arch="sm_90a", triton="3.5.1", symptom="spills")
    assert through(everything(tmp_path / "r.zip")) == []
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
