"""The grammar of the command line over all verbs: one meaning a name, one style of defaults, examples that parse."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from helpers.__main__ import main
from helpers.commands import INCIDENT, UPKEEP, VERBS, YOUR_CRASH
from helpers.commands.line.cli import cli
from helpers.commands.line.grammar import EXTEND_KERNEL, OUTPUT, OWN, PANELS, RENAMED, TOOLCHAIN, Values, Verb

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "tests" / "fixtures"


def all_verbs() -> dict[str, click.Command]:
    """Every verb by its words, those of `toolchains` among them."""
    found = {}
    for name in VERBS:
        verb = cli.get_command(None, name)
        found[name] = verb
        for inner in getattr(verb, "commands", {}):
            found[f"{name} {inner}"] = verb.commands[inner]
    return found


COMMANDS = all_verbs()
OPTIONS = [(verb, option) for verb, command in COMMANDS.items() for option in command.params
           if isinstance(option, click.Option)]  # fmt: skip


def by_name() -> dict[str, list[tuple[str, click.Option]]]:
    """Every option by each of its spellings, with the verb that has it."""
    found: dict[str, list] = {}
    for verb, option in OPTIONS:
        for spelling in option.opts:
            found.setdefault(spelling, []).append((verb, option))
    return found


def kind_of(option: click.Option) -> tuple:
    """What a value of an option is, apart from whether several are taken."""
    if isinstance(option.type, Values):
        return ("values", option.type.kind, option.type.allow_none)
    return (type(option.type).__name__, option.is_flag)


SHARED = {name: uses for name, uses in by_name().items() if len(uses) > 1}


@pytest.mark.parametrize("name", SHARED)
def test_a_name_has_one_type_one_group_and_one_sentence(name):
    uses = [(verb, option) for verb, option in SHARED[name] if not (name in ("-o", "--out") and verb == "capture")]
    assert len({kind_of(option) for _verb, option in uses}) == 1, uses
    assert len({option.help for _verb, option in uses}) == 1, {verb: option.help for verb, option in uses}
    # The fields of the extend kernel are options of `audit` in its own right.
    assert len({option.panel for verb, option in uses if verb != "audit"}) <= 1
    assert len({(option.metavar or "").removesuffix(",…") for _verb, option in uses}) == 1


def test_the_names_that_the_grammar_promises_are_there():
    names = by_name()
    assert {"--arch", "--triton", "--ptxas", "--time-limit", "--budget", "-o", "--csv", "--json", "--quiet", "--spec",
            "--force"} <= set(names)  # fmt: skip
    everywhere = {verb for verb, _option in names["--json"]} & {verb for verb, _option in names["--quiet"]}
    assert everywhere == set(COMMANDS)
    # Whatever compiles says for which chip, with what, and how long.
    compiling = {"compile", "matrix", "ablate", "try", "bisect", "autotune", "gate", "report", "minimize", "pressure"}
    for name in ("--arch", "--triton", "--time-limit"):
        assert compiling <= {verb for verb, _option in names[name]}, name
    assert set(names) & set(RENAMED) == {"--out"}  # of bench alone it is the old spelling


@pytest.mark.parametrize("verb", COMMANDS)
def test_a_verbs_own_options_come_first_and_the_extend_kernels_last(verb):
    panels = [option.panel for option in COMMANDS[verb].params if isinstance(option, click.Option)]
    assert set(panels) <= set(PANELS)
    context = COMMANDS[verb].make_context(verb, [], resilient_parsing=True)
    shown = [line for line in COMMANDS[verb].get_help(context).splitlines() if line.startswith("╭")]
    titles = [re.sub(r"[╭─╮]", "", line).strip() for line in shown]
    order = [title for title in (OWN, TOOLCHAIN, OUTPUT, EXTEND_KERNEL) if title in titles]
    assert [title for title in titles if title in order] == order
    assert (EXTEND_KERNEL in titles) == (EXTEND_KERNEL in panels)


@pytest.mark.parametrize(("verb", "option"), OPTIONS, ids=lambda value: getattr(value, "name", value))
def test_a_default_is_shown_in_one_style_and_every_option_has_words(verb, option):
    assert option.help and option.help[0] not in "[(" and not option.help.rstrip().endswith("."), option.help
    assert not re.search(r"\[[^\]]*\]|\(default", option.help), option.help
    if option.is_flag or option.multiple:
        return
    if option.default not in (None, "") and str(option.default) != "Sentinel.UNSET":
        assert option.show_default is True, option.name


@pytest.mark.parametrize("verb", COMMANDS)
def test_a_verb_has_a_line_words_and_an_example_that_parses(verb):
    command = COMMANDS[verb]
    assert isinstance(command, Verb) and command.help and command.examples
    for example in command.examples:
        parse(example.rpartition(" | ")[2])


def parse(line: str) -> click.Context:
    """The context of a command line of ours, as a shell splits it; raises where it does not parse."""
    words = shlex.split(line, comments=True)
    assert words[0] == "register-cliff", line
    verb, rest = cli.get_command(None, words[1]), words[2:]
    assert verb is not None, line
    if inner := getattr(verb, "commands", {}).get(rest[0] if rest else ""):
        verb, rest = inner, rest[1:]
    return verb.make_context(words[1], list(rest))


def test_verbs_stand_in_three_groups_and_the_list_loads_none(capfd):
    assert {entry.group for entry in VERBS.values()} == {YOUR_CRASH, INCIDENT, UPKEEP}
    assert main(["--help"]) == 0
    out = capfd.readouterr().out
    at = [out.index(f"─ {group} ─") for group in (YOUR_CRASH, INCIDENT, UPKEEP)]
    assert at == sorted(at)
    for name, entry in VERBS.items():
        assert f"{name} " in out and entry.line in " ".join(out.split()), name
    code = (
        "import sys; from helpers.__main__ import main; main(['--help']); "
        "print('helpers.commands.line.common' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.endswith("False\n") and "example" in done.stdout.lower()


def test_every_line_of_the_list_is_its_verbs_and_fits():
    for name, entry in VERBS.items():
        assert hasattr(importlib.import_module(entry.home), f"{name}_command")
        assert len(entry.line) <= 60, entry.line


def test_toolchains_lists_its_own_verbs_alone(capfd):
    assert main(["toolchains", "--help"]) == 0
    out = capfd.readouterr().out
    assert "install" in out and not re.search(r"│ (diagnose|compile|matrix|gate)\b", out)
    assert main(["toolchains", "compile"]) == 2
    assert "compile" in capfd.readouterr().err


def test_the_version_says_where_it_runs_from(capfd):
    assert main(["--version"]) == 0
    assert re.fullmatch(rf"register-cliff \d+\.\d+\.\d+, from {re.escape(str(ROOT))}\n", capfd.readouterr().out)


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_an_old_spelling_names_the_new_one(old, new, capfd):
    has_old = {verb for verb, option in OPTIONS if old in option.opts}
    verb = next(verb for verb, option in OPTIONS if new in option.opts and verb not in has_old)
    assert main([verb, old, "5"]) == 2
    assert capfd.readouterr().err == f"error: {old} is called {new} now\n"


def test_the_old_spellings_of_the_time_limit_are_known():
    assert RENAMED["--timeout"] == RENAMED["--run-timeout"] == "--time-limit"


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "x", "1e9", ""])
@pytest.mark.parametrize("flag", ["--time-limit", "--budget"])
def test_seconds_are_a_number_of_seconds(flag, seconds, capfd):
    assert main(["try", flag, seconds]) == 2
    assert "seconds" in capfd.readouterr().err


# --- the examples that are cheap, run -------------------------------------------------------------------------------


@pytest.fixture
def workshop(tmp_path, monkeypatch) -> Path:
    """A folder with the files that the examples name: a log, a PTX, a kernel, a spec, a folder of specs, a library."""
    (tmp_path / "build").mkdir()
    shutil.copy(FIXTURES / "built" / "library.so", tmp_path / "build")
    shutil.copy(FIXTURES / "logs" / "pr22079_comment.log", tmp_path / "crash.log")
    shutil.copy(ROOT / "data" / "incident_minimized.ptx", tmp_path / "crash.ptx")
    (tmp_path / "k.py").write_text(
        "import triton\nimport triton.language as tl\n\n\n@triton.jit\n"
        "def mm(x_ptr, y_ptr, n, BM: tl.constexpr):\n"
        "    at = tl.program_id(0) * BM + tl.arange(0, BM)\n"
        "    tl.store(y_ptr + at, tl.load(x_ptr + at, mask=at < n), mask=at < n)\n"
    )
    monkeypatch.chdir(tmp_path)
    words = ["--kernel", "mm", "--signature", "*bf16:16, *bf16:16, i32:16, BM=128"]
    (tmp_path / "specs").mkdir()
    for out in ("spec.json.made", "specs/NAME.json"):
        assert main(["spec", "--file", "k.py", *words, "-o", out]) == 0
    (tmp_path / "spec.json.made").rename(tmp_path / "kept.json")
    return tmp_path


CHEAP = ("diagnose", "pressure", "spec", "compile", "capture", "audit", "gate", "toolchains")


def cheap_examples() -> list[str]:
    lines = [line for verb in CHEAP for line in COMMANDS[verb].examples]
    return [
        line
        for line in lines
        if not re.search(r"--wheel|--live|install|\| |serve\.py|^register-cliff compile --head", line)
    ]


@pytest.mark.parametrize("line", cheap_examples())
def test_a_cheap_example_runs(line, workshop, capfd):
    if "spec.json" in line and not line.startswith("register-cliff spec"):
        (workshop / "kept.json").rename(workshop / "spec.json")
    words = shlex.split(line, comments=True)[1:]
    if words[0] == "gate" and "--write" not in words:
        assert main([*words, "--write"]) == 0
    capfd.readouterr()
    assert main(words) == 0, capfd.readouterr().err
    assert capfd.readouterr().out.strip()


# --- command lines that pages print ---------------------------------------------------------------------------------

_QUOTED = re.compile(r"`(register-cliff [a-z][^`\n]*)`|^(register-cliff [a-z].*)$", re.MULTILINE)


def printed_lines(text: str) -> list[str]:
    return [" ".join((a or b).split()) for a, b in _QUOTED.findall(text)]


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", *sorted(
    path.relative_to(ROOT).as_posix() for path in (ROOT / "notebooks").glob("*.ipynb"))])  # fmt: skip
def test_every_command_line_in_the_papers_and_pages_parses(page):
    text = (ROOT / page).read_text()
    if page.endswith(".ipynb"):
        import json

        cells = json.loads(text)["cells"]
        text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    for line in printed_lines(text):
        if "$(" not in line:
            parse_loosely(line)


def parse_loosely(line: str) -> None:
    """Parse a line that may name a verb alone, as prose does, or leave things out with `…`."""
    words = shlex.split(line.replace("…", ""), comments=True)
    verb = cli.get_command(None, words[1])
    assert verb is not None, line
    rest = words[2:]
    if rest and getattr(verb, "commands", {}).get(rest[0]):
        verb, rest = verb.commands[rest[0]], rest[1:]
    if rest:
        verb.make_context(words[1], list(rest))


# --- command lines that messages and explorers are made of -----------------------------------------------------------


def literals(file: Path) -> list[str]:
    """Every text in a module's source, f-strings with X for what is filled in."""
    tree = ast.parse(file.read_text())
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            found.append("".join(part.value if isinstance(part, ast.Constant) else "X" for part in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner:
            found.append(node.value)
    return found


def test_every_command_line_in_a_message_or_an_explorer_names_a_verb_and_its_flags():
    seen = 0
    for file in sorted((ROOT / "helpers").rglob("*.py")):
        for text in literals(file):
            for verb, rest in re.findall(r"register-cliff (?!put )([a-z]+)([^\n;,`]*)", text):
                if verb == "dask":  # `pip install …` of another tool beside it
                    continue
                assert verb in COMMANDS, (file.name, text[:200])
                mine = rest.partition(" -- ")[0].partition("register-cliff")[0]
                inner = COMMANDS.get(f"{verb} {mine.split()[0]}") if mine.split() else None
                known = {spelling for option in (inner or COMMANDS[verb]).params for spelling in option.opts}
                assert set(re.findall(r"(?<!\S)--[a-z][a-z-]*", mine)) <= known, (file.name, text[:200])
                seen += 1
    assert seen > 20


def test_the_copy_commands_of_the_explorers_parse():
    from helpers.attention.choice import Choice
    from helpers.workbook.inside_ptxas.landscape import ptx_command

    choice = Choice(arch="sm_90a", window=None, num_warps=4, num_stages=3, maxnreg=128, mask=True, causal=False,
                    ptxas="12.9.86", ptxas_for_codegen=True, ptxas_flags=("-O1",), timeout_s=7.0)  # fmt: skip
    assert parse(choice.command()).params["timeout_s"] == 7.0
    outer, _, inner = ptx_command(choice).partition("$(")
    assert parse(f'{outer}x"').params["file"] == Path("x")
    assert parse(inner.partition(" | ")[0]).params["as_json"]
