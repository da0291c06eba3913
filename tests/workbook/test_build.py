"""The workbook: pages that stand alone, the verdict, failures told in full, nothing committed touched."""

from __future__ import annotations

import html
import json
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from helpers.errors import UserError
from helpers.workbook import pages
from helpers.workbook.build import build, execute_notebook, find_notebooks
from helpers.workbook.glossary import TERMS
from tests.compiling import hear_signals

ROOT = Path(__file__).resolve().parents[1]

FIRST = [
    "# Does *it* stand alone?\n\n**Question.** Does [`it`](02_second.ipynb#part), *alone*,\nstand?\n\n"
    "See [the next](02_second.ipynb#part), [outside](https://example.org/x), [ptxas](00_start_here.ipynb#ptxas).",
    "## A part\n\n## A part\n\n### A smaller one",
    "import sys\nprint('out', 6 * 7)\nprint('err', file=sys.stderr)",
    "import pandas as pd\npd.DataFrame({'arch': ['sm_100a'], 'spill_store_bytes': [8]})",
    "import matplotlib.pyplot as plt\nfig, ax = plt.subplots(figsize=(2, 1))\nax.plot([0, 1])\nplt.show()",
    "import ipywidgets\nfrom IPython.display import HTML, display\n"
    "display(HTML('<b>default view</b>'))\ndisplay(ipywidgets.VBox([ipywidgets.Dropdown(options=['x'])]))",
    "ipywidgets.IntSlider()",
]
SECOND = ["# Second?", "import helpers, pathlib\npathlib.Path(helpers.__file__).parts[-2:]"]
BROKEN = ["# Broken?", "print('before the fall')\nvalue = {'a': 1}['b']", "print('never reached')"]


@dataclass(frozen=True)
class VerdictDouble:
    lines: list[str]
    table: pd.DataFrame


VERDICT = VerdictDouble(
    ["Crash reproduced: hd 256 <fp8>.", "The merged row: from 50 of 60 to 0."],
    pd.DataFrame({"layer": ["sliding", "global"], "before": ["C7600", "596 B"], "after": [8, None]}),
)


def write_notebook(path: Path, sources: list[str]) -> Path:
    """A notebook whose `#` sources are markdown; its code cells carry a stale output, as if committed."""
    cells = []
    for source in sources:
        if source.startswith("#"):
            cells.append(nbformat.v4.new_markdown_cell(source))
        else:
            stale = nbformat.v4.new_output("stream", name="stdout", text="stale committed output")
            cells.append(nbformat.v4.new_code_cell(source, outputs=[stale], execution_count=7))
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory):
    """(exit code, out folder, what was printed, notebooks' bytes before and after) of one real build."""
    folder = tmp_path_factory.mktemp("workbook")
    paths = [
        write_notebook(folder / "notebooks" / "01_first.ipynb", FIRST),
        write_notebook(folder / "notebooks" / "02_second.ipynb", SECOND),
    ]
    before = [path.read_bytes() for path in paths]
    with pytest.MonkeyPatch.context() as patch, open(folder / "printed", "w+") as printed:
        patch.setattr("helpers.workbook.verdict.workbook_verdict", lambda: VERDICT)
        patch.setattr(sys, "stdout", printed)
        code = build(notebooks=folder / "notebooks", out=folder / "build")
        printed.seek(0)
        text = printed.read()
    return code, folder / "build", text, before, [path.read_bytes() for path in paths]


def test_a_build_leaves_a_page_and_an_executed_copy_per_notebook_and_no_scraps(built):
    code, out, *_ = built
    assert code == 0
    names = [
        "01_first.html",
        "01_first.ipynb",
        "02_second.html",
        "02_second.ipynb",
        "index.html",
        "verdict.json",
    ]
    assert sorted(p.name for p in out.iterdir()) == names


def test_the_committed_notebooks_are_not_touched(built):
    *_, before, after = built
    assert before == after


def test_pages_hold_the_run_and_nothing_of_the_committed_outputs(built):
    _, out, *_ = built
    page = (out / "01_first.html").read_text()
    assert "out 42" in page and ">err" in page.replace("\n", "") and "sm_100a" in page
    assert "data:image/png;base64," in page
    assert "stale committed output" not in page
    assert "('helpers', '__init__.py')" in (out / "02_second.html").read_text().replace("&#39;", "'")


def test_no_page_loads_anything(built):
    _, out, *_ = built
    html_pages = sorted(out.glob("*.html"))
    assert len(html_pages) == 3
    for page in html_pages:
        text = page.read_text()
        assert pages.network_loads(text) == [], page.name
        assert "default-src 'none'" in text  # and the browser refuses what the search might miss
        assert "prefers-color-scheme: dark" in text


def test_every_figure_says_where_it_comes_from_or_that_it_does_not(built):
    _, out, *_ = built
    assert (out / "01_first.html").read_text().count('<p class="evidence">Evidence: not stated.</p>') == 1
    assert "<td>1 not stated</td>" in (out / "index.html").read_text()
    notebook = nbformat.read(out / "01_first.ipynb", as_version=4)
    picture = next(o for cell in notebook.cells for o in cell.get("outputs", []) if "image/png" in o.get("data", {}))
    picture.metadata = {"image/png": {"alt": "A <line>.", "evidence": "compile-only, recorded"}}
    assert pages.figure_evidence(notebook) == ["compile-only, recorded"]
    page = pages.notebook_page(notebook, entry=pages.PageEntry("01_first", "x", 0.0))
    assert "Evidence: compile-only (compiled, not run on a GPU); recorded, read from data/." in page
    assert 'alt="A &lt;line&gt;."' in page


def test_links_between_notebooks_become_links_between_pages(built):
    _, out, *_ = built
    page = (out / "01_first.html").read_text()
    assert 'href="02_second.html#part"' in page and 'href="https://example.org/x"' in page
    assert "02_second.ipynb" not in page


def test_explorers_show_their_default_view_and_say_where_they_are_alive(built):
    _, out, *_ = built
    page = (out / "01_first.html").read_text()
    assert "<b>default view</b>" in page
    assert "VBox(" not in page and "IntSlider(" not in page.split("Out[")[-1]
    assert page.count('class="widget-note"') == 2
    assert pages.WIDGET_VIEW not in (out / "01_first.ipynb").read_text()


def test_the_verdict_is_printed_in_three_lines_and_shown_on_the_index(built):
    _, out, printed, *_ = built
    last = printed.strip().splitlines()[-3:]
    assert last[:2] == VERDICT.lines
    assert last[2].startswith(f"Pages: {out / 'index.html'} (2 of 2 notebooks ran in ")
    kept = json.loads((out / "verdict.json").read_text())
    assert kept["columns"] == ["layer", "before", "after"]
    assert kept["rows"] == [["sliding", "C7600", 8.0], ["global", "596 B", None]]
    index = (out / "index.html").read_text()
    assert "hd 256 &lt;fp8&gt;." in index and ">C7600</td>" in index
    assert 'href="01_first.html">Does it stand alone?</a><br>Does <code>it</code>, alone, stand?</li>' in index


def test_pages_name_their_neighbours_and_list_their_parts(built):
    _, out, *_ = built
    first, second = ((out / f"{name}.html").read_text() for name in ("01_first", "02_second"))
    assert 'href="02_second.html">Second? →</a>' in first and 'href="index.html">← All pages</a>' in first
    assert 'href="01_first.html">← Does it stand alone?</a>' in second and 'href="index.html">All pages →</a>' in second
    listed = re.findall(r'<li class="(l\d)"><a href="#([^"]+)">([^<]+)</a>', first)
    small = ("l3", "A-smaller-one", "A smaller one")
    assert listed == [("l2", "A-part", "A part"), ("l2", "A-part-2", "A part"), small]
    assert [first.count(f'id="{anchor}"') for _, anchor, _ in listed] == [1, 1, 1]
    assert 'class="contents"' not in second and 'href="#top"' in second


def test_code_is_folded_and_its_output_is_not(built):
    _, out, *_ = built
    page = (out / "01_first.html").read_text()
    folds = re.findall(r'<details class="code">.*?</details>', page, re.DOTALL)
    assert len(folds) == 5 and page.count('class="input_area"') == 5
    assert any("6</span>" in fold for fold in folds) and not any("out 42" in fold for fold in folds)
    assert "In\xa0[" not in page and "In&nbsp;[" not in page and "¶" not in page


def test_a_term_carries_what_it_means():
    words = "[ptxas](00_start_here.ipynb#ptxas), [nothing](00_start_here.ipynb#nothing)"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(words)])
    titles = {"00_start_here": "Start", "01_x": "x"}
    page = pages.notebook_page(notebook, entry=pages.PageEntry("01_x", "x", 0.0), titles=titles)
    means = next(term.plain for term in TERMS if term.name == "ptxas")
    assert f'<a class="term" title="{html.escape(means)}" href="00_start_here.html#ptxas">ptxas</a>' in page
    assert '<a href="00_start_here.html#nothing">nothing</a>' in page and "`" not in means and "*" not in means


def test_a_drawing_keeps_its_words():
    drawn = '<svg xmlns="http://www.w3.org/2000/svg"/>'
    output = nbformat.v4.new_output(
        "display_data", {"image/svg+xml": drawn}, metadata={"image/svg+xml": {"alt": "A <line>."}}
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x", outputs=[output])])
    page = pages.notebook_page(notebook, entry=pages.PageEntry("01_x", "x", 0.0))
    assert 'src="data:image/svg+xml;base64,' in page and 'alt="A &lt;line&gt;."' in page


def test_the_front_page_says_what_this_is_and_shows_a_picture(built):
    _, out, *_ = built
    front = (out / "index.html").read_text().split("<h2>")[0]
    assert "ptxas" in front and "Blackwell" in front and front.count("<img ") == 1


def test_a_failing_notebook_is_told_in_full_and_the_others_still_appear(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("helpers.workbook.verdict.workbook_verdict", lambda: VERDICT)
    write_notebook(tmp_path / "nb" / "01_broken.ipynb", BROKEN)
    write_notebook(tmp_path / "nb" / "02_second.ipynb", SECOND)
    assert build(notebooks=tmp_path / "nb", out=tmp_path / "out") == 1
    told = capfd.readouterr()
    assert "value = {'a': 1}['b']" in told.err and "before the fall" in told.err and "KeyError" in told.err
    assert "1 of 2 notebooks ran" in told.out
    page = (tmp_path / "out" / "01_broken.html").read_text()
    assert 'class="banner"' in page and "stale committed output" not in page
    index = (tmp_path / "out" / "index.html").read_text()
    assert index.count("class=failed") == 2 and (tmp_path / "out" / "02_second.html").exists()


def test_a_kernel_that_dies_is_a_failure_with_its_cell(tmp_path):
    path = write_notebook(tmp_path / "01_dies.ipynb", ["# Dies?", "import os\nos.write(2, b'last words')\nos._exit(3)"])
    run = execute_notebook(path)
    assert not run.ok and "kernel died" in run.message and "last words" in run.message
    assert "os._exit(3)" in run.failure_report()


def test_an_error_that_a_tag_allows_is_a_failure_all_the_same(tmp_path):
    path = write_notebook(tmp_path / "01_tagged.ipynb", ["# Tagged?", "1 / 0"])
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[1].metadata["tags"] = ["raises-exception"]
    nbformat.write(notebook, path)
    assert "ZeroDivisionError" in execute_notebook(path).failure_report()


def test_a_page_that_would_fetch_something_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("helpers.workbook.verdict.workbook_verdict", lambda: VERDICT)
    loading = "from IPython.display import HTML\nHTML('<script src=\"https://example.org/x.js\"></script>')"
    write_notebook(tmp_path / "nb" / "01_loads.ipynb", ["# Loads?", loading])
    with pytest.raises(UserError, match=r"01_loads.ipynb.*would fetch 1 things.*example.org"):
        build(notebooks=tmp_path / "nb", out=tmp_path / "out")
    assert not (tmp_path / "out" / "index.html").exists()


def test_no_notebooks_and_an_unwritable_folder_are_sentences(tmp_path):
    with pytest.raises(UserError, match="no notebook in"):
        find_notebooks(tmp_path / "nowhere")
    write_notebook(tmp_path / "nb" / "01_x.ipynb", SECOND)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot make the folder"):
        build(notebooks=tmp_path / "nb", out=tmp_path / "file" / "build")


def is_running(pid: str) -> bool:
    """False when the process is gone, or a zombie where nobody collects orphans."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=["int", "term", "hup"]
)
def test_a_stop_ends_the_kernels_and_leaves_no_index(tmp_path, number: int, code: int):
    marker = tmp_path / "pid"
    slow = "import os, pathlib, subprocess, time\nchild = subprocess.Popen(['sleep', '100'])\n"
    slow += f"pathlib.Path({str(marker)!r}).write_text(f'{{os.getpid()}} {{child.pid}}')"
    for name in ("01_slow", "02_next", "03_next"):
        write_notebook(tmp_path / "nb" / f"{name}.ipynb", ["# Slow?", slow, "time.sleep(100)"])
    command = [
        sys.executable,
        "-m",
        "helpers.workbook",
        "--notebooks",
        tmp_path / "nb",
        "--out",
        tmp_path / "out",
    ]
    with subprocess.Popen(
        command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, preexec_fn=hear_signals
    ) as process:
        deadline = time.monotonic() + 60
        while not (marker.exists() and marker.read_text()) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(number)
        try:
            _, told = process.communicate(timeout=20)
        finally:
            process.kill()
    assert process.returncode == code and told.startswith("stopped;") and "Traceback" not in told
    assert not (tmp_path / "out" / "index.html").exists()
    deadline = time.monotonic() + 5
    while any(map(is_running, marker.read_text().split())) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_running, marker.read_text().split()))


@pytest.mark.parametrize(
    "fragment",
    [
        '<script src="https://cdn.example/x.js"></script>',
        "<SCRIPT SRC=//cdn.example/x.js></SCRIPT>",
        '<link rel="stylesheet" href="https://cdn.example/x.css">',
        '<link href="pages.css" rel="stylesheet">',
        '<img src="figure.png">',
        "<style>@import 'https://cdn.example/x.css';</style>",
        "<style>@font-face { src: url(https://cdn.example/f.woff2) }</style>",
        '<p style="background: url(//cdn.example/x.png)">x</p>',
        '<script type="module">import {a} from "https://cdn.example/a.mjs"</script>',
        "<script>import('https://cdn.example/mermaid')</script>",
        '<script>require.config({paths: {x: "https://cdn.example/x.js"}})</script>',
        "<script>fetch('https://cdn.example/data')</script>",
        '<iframe src="https://example.org"></iframe>',
        '<iframe srcdoc="&lt;img src=https://example.org/x&gt;"></iframe>',
    ],
)
def test_loads_are_found(fragment: str):
    assert pages.network_loads(f"<html><body>{fragment}</body></html>")


@pytest.mark.parametrize(
    "fragment",
    [
        '<a href="https://example.org">a link is clicked, not loaded</a>',
        '<img src="data:image/png;base64,AAAA">',
        '<svg xmlns="http://www.w3.org/2000/svg"><use href="#mark"/></svg>',
        "<pre>import x from 'https://example.org/x.js'; url(https://example.org)</pre>",
        "<style>p { background: url(data:image/png;base64,AAAA); clip-path: url(#c) }</style>",
    ],
)
def test_what_loads_nothing_is_left_alone(fragment: str):
    assert pages.network_loads(f"<html><body>{fragment}</body></html>") == []
