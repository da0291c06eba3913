"""Planted secrets: a text of every kind that must not leave in a bundle, and what can be read of one."""

from __future__ import annotations

import json
import random
import re
import string
import zipfile
from collections.abc import Callable
from pathlib import Path

from helpers.bundle.scrub import Identity
from helpers.compiler.kernel_spec import KernelSpec

ME = Identity(homes=("/home/adalove",), users=("adalove",), hosts=("fjord-12",))
LETTERS = string.ascii_letters + string.digits


def made_up(alphabet: str, length: int, seed: int) -> str:
    """Letters of no meaning, the same in every run; written out they would be taken for real by whoever scans this."""
    return "".join(random.Random(seed).choices(alphabet, k=length))


def planted(seed: int = 0) -> dict[str, tuple[str, str]]:
    """Kind -> (how it stands in a text, the part that must not be seen again); another seed, other letters."""
    found: dict[str, tuple[str, str]] = {}

    def plant(kind: str, text: str, secret: str | None = None) -> None:
        found[kind] = (text, secret or text)

    def letters(alphabet: str, length: int, number: int) -> str:
        return made_up(alphabet, length, 1_000 * seed + number)

    for number, (kind, before, alphabet, length) in enumerate([
        ("GitHub, classic", "ghp_", LETTERS, 36), ("GitHub, fine-grained", "github_pat_", LETTERS + "_", 82),
        ("GitHub, server", "ghs_", LETTERS, 36), ("Hugging Face", "hf_", LETTERS, 34),
        ("AWS", "AKIA", string.ascii_uppercase, 16),
        ("AWS, temporary", "ASIA", string.ascii_uppercase + "234567", 16), ("OpenAI", "sk-", LETTERS, 48),
        ("OpenAI, project", "sk-proj-", LETTERS + "_-", 80), ("Anthropic", "sk-ant-api03-", LETTERS + "_-", 93),
        ("Slack, bot", "xoxb-", string.digits, 12), ("GitLab", "glpat-", LETTERS, 20), ("PyPI", "pypi-", LETTERS, 90),
        ("npm", "npm_", LETTERS, 36), ("Google", "AIza", LETTERS, 35), ("NGC", "nvapi-", LETTERS, 64),
    ]):  # fmt: skip
        secret = before + letters(alphabet, length, number) + ("-abcdefghijklmnop" if kind.startswith("Slack") else "")
        plant(kind, secret)
    web_token = ".".join("eyJ" + letters(LETTERS, n, n) for n in (33, 90)) + "." + letters(LETTERS, 43, 9)
    plant("JWT bearer", f"Authorization: Bearer {web_token}", web_token)
    plant("opaque bearer", f"authorization: bearer {letters(LETTERS, 40, 11)}", letters(LETTERS, 40, 11))
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
    plant_more(plant, letters)
    plant("this user", "as adalove here", "adalove")
    plant("this host", "on fjord-12 here", "fjord-12")
    plant("home folder", "/home/adalove/secret_project/k.py", "secret_project")
    plant("another's home folder", "/home/turing/enigma_kernels/k.py", "enigma_kernels")
    return found


HEX = "0123456789abcdef"
# Kinds of keys that a prefix tells: prefix, its letters, how many.
PREFIXED = [
    ("GitLab, deploy", "gldt-", LETTERS, 20), ("Google, client", "GOCSPX-", LETTERS, 28),
    ("Stripe", "sk_live_", LETTERS, 24), ("Stripe, restricted", "rk_test_", LETTERS, 24),
    ("Stripe, hook", "whsec_", LETTERS, 32), ("DigitalOcean", "dop_v1_", HEX, 64), ("Databricks", "dapi", HEX, 32),
    ("Vault", "hvs.", LETTERS, 24), ("Grafana", "glsa_", LETTERS, 32), ("Linear", "lin_api_", LETTERS, 40),
    ("Notion", "ntn_", LETTERS, 46), ("Replicate", "r8_", LETTERS, 37), ("Groq", "gsk_", LETTERS, 52),
    ("xAI", "xai-", LETTERS, 80), ("Perplexity", "pplx-", LETTERS, 48), ("Together", "tgp_v1_", LETTERS, 43),
    ("New Relic", "NRAK-", string.ascii_uppercase, 27), ("Sentry", "sntrys_", LETTERS, 60),
    ("Shopify", "shpat_", HEX, 32), ("Atlassian", "ATATT3xFfGF0", LETTERS, 60),
    ("Docker, group", "dckr_oat_", LETTERS, 32),
    ("Pulumi", "pul-", HEX, 40), ("age", "AGE-SECRET-KEY-1", string.ascii_uppercase, 58),
]  # fmt: skip


def plant_more(plant: Callable[..., None], letters: Callable[[str, int, int], str]) -> None:
    """What a second hunt found that the first had not planted."""
    for number, (kind, before, alphabet, length) in enumerate(PREFIXED, start=50):
        plant(kind, before + letters(alphabet, length, number))
    for number, (kind, text, length) in enumerate([
        ("npm, basic", "//packages.example.org/:_auth={}", 32),
        ("Azure, signature", "?sv=2022-11-02&sr=b&sig={}&se=2026", 43),
        ("S3, signature", "https://cdn.huggingface.co/x?X-Amz-Signature={}&x=1", 64),
        ("Azure, account", "AccountName=v;AccountKey={}==;EndpointSuffix=core.windows.net", 86),
        ("Slack, hook", "https://hooks.slack.com/services/T01ABCDEF/B02ABCDEF/{}", 24),
        ("cluster, key", "client-key-data: {}", 80), ("cluster, token", "token: {}", 40),
        ("Docker", '"auths": {{"x": {{"auth": "{}"}}}}', 40), ("cookie", "Cookie: session={}", 40),
        ("key in a header", "X-Api-Key: {}", 32), ("token in a header", "Authorization: token {}", 32),
        (".netrc", "machine git.vaultcorp.net login a1 password {}", 12),
        ("curl", "curl -u a1:{} https://example.com", 12),
        ("ODBC", "Server=x;User Id=sa;Pwd={};", 12), ("AWS, secret", "aws_secret_access_key = {}", 40),
        ("SSH key", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{} x", 43), ("W&B", "wandb login {}", 40),
        ("basic auth", "https://ci:{}@example.com/simple", 20),
    ], start=90):  # fmt: skip
        secret = letters(LETTERS, length, number)
        plant(kind, text.format(secret), secret)
    for kind, text, secret in [
        ("IPv6, zone", "bind fe80::a00:27ff:fe4e:66a1%enp3s0f0 now", "enp3s0f0"),
        ("host, ssh", "ssh gpu-vault-17 nvidia-smi", "gpu-vault-17"),
        ("host, scp", "scp k.ptx vault-18:/data/k.ptx", "vault-18"),
        ("SLURM, a list", "srun: Nodes dgx-hidden-[001-016,020] allocated", "dgx-hidden"),
        ("SLURM, -w", "srun -w dgx-other[01-04],gpu-b[2-3] x", "dgx-other"),
        ("SLURM, account", "sbatch --account=secretproj x.sh", "secretproj"),
        ("SLURM, a step", "slurmstepd: error: *** STEP 1.0 ON dgx-step17 CANCELLED", "dgx-step17"),
        ("rendezvous", "--rdzv-endpoint=dgxmeet17:29500", "dgxmeet17"),
        ("socket", "The server socket on [dgx-sock17]:29500 failed", "dgx-sock17"),
        ("registry", "pull registry.hypercorp.net:5000/team/x", "hypercorp"),
        ("image", "gcr.io/secret-proj/trainer:1", "secret-proj"),
        ("pod", "pod/trainer-hidden-7d9f8b6c5-x2x4z", "trainer-hidden"),
        ("account of a cloud", "arn:aws:iam::123456789012:role/x", "123456789012"),
        ("user, WSL", r"\\wsl$\Ubuntu\home\turingw\k.py", "turingw"),
        ("user with a blank", r"C:\Users\Alan Turingb\k.py", "Turingb"),
        ("user, old Windows", r"C:\Documents and Settings\turingo\k.py", "turingo"),
        ("user, Inductor", "/tmp/torchinductor_turingi/ab/c.py", "turingi"),
    ]:  # fmt: skip
        plant(kind, text, secret)


# What is told by the line that it stands in alone: the line, and what must not be seen of it.
LINES = {
    "config of ssh": ("Host gpu-vault\n  HostName 10.4.5.6\n  User turingx", ("gpu-vault", "turingx", "10.4.5.6")),
    "elastic launch": ("  host      : dgx-vault17", ("dgx-vault17",)),
    "ls": ("-rw-r--r-- 1 turingx staff 12 Jan 1 x.py\nturingx was here", ("turingx",)),
    "ps": ("turingx   1234  0.0  0.1 python x.py", ("turingx",)),
    ".pgpass": ("db.vault.net:5432:app:turingx:correct-horse", ("correct-horse", "turingx")),
    ".netrc": ("machine git.vaultcorp.net\n  login turingx\n  password enigma-1942",
              ("vaultcorp", "turingx", "enigma-1942")),
    "author": ("Author: Alan Turingx <alan@bletchley.uk>", ("Turingx", "alan@")),
}  # fmt: skip


def in_bytes(text: str) -> str:
    """A text as PTX spells it in its debug sections."""
    return "\n".join(f".b8 {b}" for b in (text + "\0").encode())


def everything(path: Path) -> str:
    """All that can be read of a bundle: its members, their names, what `.b8` lines spell, the issue text."""
    parts = []
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            text = archive.read(name).decode("latin-1")
            parts += [name, text, bytes(int(n) for n in re.findall(r"^\s*\.b8\s+(\d+)", text, re.M)).decode("latin-1")]
    return "\n".join([*parts, path.with_suffix(".issue.md").read_text()])


def through(found: dict[str, tuple[str, str]], text: str) -> list[str]:
    """The kinds of which a text shows the secret."""
    return [kind for kind, (_, secret) in found.items() if secret.lower() in text.lower()]


def spec_in(folder: Path, name: str, source: str, secrets: str) -> Path:
    """A spec of one of the failing kernels, in a package called after the user, its label and kernel too."""
    package = folder / "work" / "adalove" / "ops"
    package.mkdir(parents=True)
    for part in (package.parent, package):
        (part / "__init__.py").write_text("")
    (package / "adalove_k.py").write_text(source)
    (package / "settings.py").write_text(f"LOG = {secrets!r}\nPASSWORD = 'correct-horse-battery'\n")
    body = json.loads(KernelSpec.from_json(json.dumps({
        "kernel": {"path": str(package / "adalove_k.py"), "name": name, "import_root": str(folder / "work")},
        "signature": [["numbers", "*fp32"], ["out", "*fp32"], ["COUNT", "constexpr"]], "constexprs": [["COUNT", 32768]],
        "divisible_by_16": ["numbers", "out"], "options": [["num_warps", 4]],
        "label": "ada.lovelace@hyperdyne.com tried 10.42.7.19",
    })).to_json())  # fmt: skip
    (folder / "s.json").write_text(json.dumps(body))
    return folder / "s.json"


def source_with(secrets: str, comments: str) -> str:
    """A kernel's file that spills for sm_90a, with secrets in a text of it and in its comments."""
    return f'''"""Written by adalove on fjord-12."""
import triton
import triton.language as tl

from adalove.ops.settings import LOG

# {comments}
SAID = {secrets!r}


@triton.jit
def adalove_wide_sum(numbers, out, COUNT: tl.constexpr):
    at = tl.arange(0, COUNT)
    x = tl.load(numbers + at)
    tl.store(out, tl.sum(tl.exp(x) * tl.sum(x)))
    tl.store(out + 1 + at, x)
'''
