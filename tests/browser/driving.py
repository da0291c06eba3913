"""JupyterLab and a Chromium for tests: both started here, in folders of their own, nothing from outside let in."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from nbformat import v4, write

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Route

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM_ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip
VIEWPORT = {"width": 1280, "height": 900}
RUN_ALL_TIMEOUT_S = 240
# The longest side of a picture that Chromium still draws.
TALLEST = 16_000

# What JupyterLab itself says in a clean session. Each line must match a whole message; nothing of ours is in here.
ALLOWED_CONSOLE = (
    # The workspace of a new user does not exist yet; Chromium reports the 404 that JupyterLab handles.
    r"Failed to load resource: the server responded with a status of 404 \(Not Found\) @ .*/lab/api/workspaces/.*",
)


def chromium() -> str | None:
    """The path of a Chromium on this machine, None where there is none."""
    return next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)


def _settings(folder: Path) -> Path:
    """JupyterLab settings of a user who wants no news, no checks for updates (the network) and no saving by itself."""
    quiet = folder / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    quiet.parent.mkdir(parents=True)
    quiet.write_text(json.dumps({"fetchNews": "false", "checkForUpdates": False}))
    saving = folder / "@jupyterlab" / "docmanager-extension" / "plugin.jupyterlab-settings"
    saving.parent.mkdir(parents=True)
    saving.write_text(json.dumps({"autosave": False}))
    return folder


def folders_of_its_own(folder: Path) -> dict[str, str]:
    """Environment variables that give a JupyterLab config, runtime, data and settings of its own, below `folder`."""
    return {
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTER_DATA_DIR": str(folder / "data"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(_settings(folder / "settings")),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
        "IPYTHONDIR": str(folder / "ipython"),
        "JUPYTER_PREFER_ENV_PATH": "1",
    }


@dataclass(frozen=True)
class Lab:
    """A running JupyterLab: its address, its token, and the folder it serves."""

    url: str
    token: str
    folder: Path

    def address(self, notebook: str) -> str:
        """Where a notebook of the folder opens, in a workspace of its own."""
        return f"{self.url}lab/workspaces/{secrets.token_hex(4)}/tree/{notebook}?token={self.token}"

    def add_notebook(self, name: str, sources: Sequence[str]) -> str:
        """Write a notebook of code cells into the folder; its name."""
        cells = [v4.new_code_cell(source) for source in sources]
        kernel = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
        write(v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), self.folder / name)
        return name


@contextmanager
def jupyterlab(folder: Path, notebooks: Sequence[Path], *, options: Sequence[str] = ()) -> Iterator[Lab]:
    """JupyterLab over copies of `notebooks`, at a free port, with config, runtime and settings of its own.

    With `options`, which go on its command line, its user has never set anything.
    """
    served = folder / "served"
    served.mkdir()
    for path in notebooks:
        shutil.copy(path, served)
    token = secrets.token_hex(16)
    runtime = folder / "runtime"
    environment = {
        **os.environ,
        **folders_of_its_own(folder),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")])),
    }
    if options:
        shutil.rmtree(environment["JUPYTERLAB_SETTINGS_DIR"])
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1",
        "--ServerApp.port=0", f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={served}",
        "--LabApp.extension_manager=readonly", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        "--LabApp.expose_app_in_browser=True", *options,
    ]  # fmt: skip
    log = folder / "jupyterlab.log"
    with log.open("w") as out:
        process = subprocess.Popen(command, env=environment, cwd=served, stdout=out, stderr=out, start_new_session=True)
    try:
        yield Lab(wait_for_address(process, runtime, log), token, served)
    finally:
        # The server ends its kernels on SIGTERM; what is left of its group after that is killed.
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_for_address(process: subprocess.Popen, runtime: Path, log: Path, timeout_s: float = 60) -> str:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and process.poll() is None:
        for info in runtime.glob("jpserver-*.json"):
            try:
                return json.loads(info.read_text())["url"]
            except ValueError:  # half-written
                pass
        time.sleep(0.1)
    raise RuntimeError(f"JupyterLab did not start within {timeout_s:.0f} s; it said:\n{log.read_text()[-3000:]}")


@contextmanager
def browser() -> Iterator[Browser]:
    """A headless Chromium with a fresh profile."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium(), args=list(CHROMIUM_ARGUMENTS))
        try:
            yield started
        finally:
            started.close()


@dataclass
class Heard:
    """What a page said and asked for while it was open: console errors, uncaught exceptions, foreign addresses."""

    console: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    requested: list[str] = field(default_factory=list)

    def forget(self) -> None:
        """Begin anew: what was heard belongs to another test."""
        for heard in (self.console, self.foreign, self.requested):
            heard.clear()

    def problems(self) -> list[str]:
        """Everything that is not on the list of allowed noise."""
        loud = [line for line in self.console if not any(re.fullmatch(p, line, re.DOTALL) for p in ALLOWED_CONSOLE)]
        return [*loud, *(f"asked the network for {address}" for address in self.foreign)]


@contextmanager
def opened(browser: Browser, *, own: str = "", **options) -> Iterator[tuple[Page, Heard]]:
    """A page in a context of its own; whatever does not begin with `own` (or data:, blob:, file:) is refused."""
    heard = Heard()
    context = browser.new_context(viewport=VIEWPORT, **options)

    def gate(route: Route) -> None:
        address = route.request.url
        heard.requested.append(address)
        if address.startswith(("file:", "data:", "blob:")) or (own and address.startswith(own)):
            route.continue_()
        else:
            heard.foreign.append(address)
            route.abort()

    def on_console(message: ConsoleMessage) -> None:
        if message.type == "error":
            heard.console.append(f"{message.text} @ {message.location.get('url', '')}")

    context.route("**/*", gate)
    page = context.new_page()
    page.on("console", on_console)
    page.on("pageerror", lambda error: heard.console.append(f"uncaught: {error}"))
    try:
        yield page, heard
    finally:
        context.close()


def open_notebook(page: Page, lab: Lab, name: str) -> None:
    """Open a notebook of the lab and wait until its kernel is ready."""
    page.goto(lab.address(name))
    page.wait_for_selector(".jp-NotebookPanel .jp-Notebook", timeout=60_000)
    page.wait_for_function(
        "() => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'",
        timeout=60_000,
    )


def show_notebook(page: Page, name: str) -> None:
    """Bring a notebook to the front of a JupyterLab that is open, opened where it is not, and wait for its kernel."""
    page.set_viewport_size(VIEWPORT)
    page.evaluate("path => window.jupyterapp.commands.execute('docmanager:open', {path}).then(() => true)", name)
    page.wait_for_function(
        """path => {
            const front = window.jupyterapp.shell.currentWidget;
            return front?.context?.path === path && front.sessionContext?.session?.kernel?.status === 'idle';
        }""",
        arg=name,
        timeout=60_000,
    )


def put_away(page: Page) -> None:
    """End the kernel of the notebook in front and close it unsaved: with its compilers it holds a gigabyte."""
    page.evaluate(
        """async () => {
            const front = window.jupyterapp.shell.currentWidget;
            await front.sessionContext.shutdown();
            front.context.model.dirty = false;  // whether to save is not asked
            front.close();
        }"""
    )


def run_all_cells(page: Page) -> None:
    """Run > Run All Cells, with the mouse, as a person would; returns when every code cell has its number."""
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    page.wait_for_function(
        """() => {
            const panel = window.jupyterapp.shell.currentWidget;
            const code = [...panel.content.model.cells].filter(cell => cell.type === 'code');
            const failed = code.some(cell => [...Array(cell.outputs.length).keys()].some(
                i => cell.outputs.get(i).type === 'error'));
            const counts = code.map(cell => cell.executionCount);
            const ran = counts.every((n, i) => n !== null && (i === 0 || n > counts[i - 1]));
            const idle = panel.sessionContext.session.kernel.status === 'idle';
            return failed || (ran && idle && !code.some(cell => cell.executionState === 'running'));
        }""",
        timeout=RUN_ALL_TIMEOUT_S * 1000,
    )


def write_cell(page: Page, source: str) -> None:
    """Put another source into the one cell of the notebook in front, which then shows nothing and was never run."""
    clear_outputs(page)
    page.evaluate(
        "source => window.jupyterapp.shell.currentWidget.content.widgets[0].model.sharedModel.setSource(source)", source
    )


def clear_outputs(page: Page) -> None:
    """Edit > Clear Outputs of All Cells: what is seen after a run then comes from that run."""
    page.get_by_role("menuitem", name="Edit", exact=True).click()
    page.get_by_role("menuitem", name="Clear Outputs of All Cells", exact=True).click()


def errors_shown(page: Page) -> list[str]:
    """The error outputs of the notebook in front, from its model (also of cells out of sight)."""
    return page.evaluate(
        """() => [...window.jupyterapp.shell.currentWidget.content.model.cells]
            .filter(cell => cell.type === 'code')
            .flatMap(cell => [...Array(cell.outputs.length).keys()].map(i => cell.outputs.get(i).toJSON()))
            .filter(output => output.output_type === 'error')
            .map(output => `${output.ename}: ${output.evalue}`)"""
    )


def all_in_sight(page: Page) -> None:
    """Make the window as tall as a notebook can be, and wait until JupyterLab has drawn every cell that fits in it.

    A cell out of sight is not drawn, and what is wrong with its output is not heard.
    """
    page.set_viewport_size({**VIEWPORT, "height": TALLEST})
    page.evaluate("() => window.jupyterapp.shell.currentWidget.content.scrollToItem(0)")
    page.wait_for_function(
        """() => {
            const front = window.jupyterapp.shell.currentWidget;
            const drawn = [...front.node.querySelectorAll('.jp-Notebook .jp-Cell')];
            const bottom = Math.max(0, ...drawn.map(cell => cell.getBoundingClientRect().bottom));
            const all = drawn.length >= front.content.model.cells.length;
            return drawn.length && (bottom >= innerHeight || (all && !front.content.widgets.some(w => w.placeholder)));
        }""",
        timeout=30_000,
    )
    settled(page)


def settled(page: Page) -> None:
    """Wait until the page has drawn twice: what a change of its size brought about has then happened."""
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


@dataclass(frozen=True)
class Pictures:
    """Takes pictures into a folder, to be looked at; without a folder it takes none: no test reads them."""

    folder: Path | None

    def take(self, page: Page, name: str, *, full_page: bool = True) -> None:
        """A picture of a page."""
        if self.folder:
            page.screenshot(path=self.folder / name, full_page=full_page)

    def take_notebook(self, page: Page, name: str) -> None:
        """A picture of the whole notebook in front: the window is made as tall as its cells."""
        if not self.folder:
            return
        all_in_sight(page)
        page.wait_for_timeout(600)
        bottom = page.evaluate(
            "() => Math.max(...[...document.querySelectorAll('.jp-Notebook .jp-Cell')]"
            ".map(cell => cell.getBoundingClientRect().bottom))"
        )
        page.set_viewport_size({**VIEWPORT, "height": min(max(int(bottom) + 80, VIEWPORT["height"]), TALLEST)})
        page.wait_for_timeout(300)
        page.evaluate("() => document.querySelectorAll('.jp-WindowedPanel-outer').forEach(e => { e.scrollTop = 0; })")
        page.wait_for_timeout(300)
        page.screenshot(path=self.folder / name)
        page.set_viewport_size(VIEWPORT)


def serious_faults(page: Page) -> list[str]:
    """What axe finds serious or critical on a page, an entry for each element; nothing is told of what passes."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
    found = axe.Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    return [
        f"{fault['id']}: {node['html'][:200]}"
        for fault in found
        if fault["impact"] in ("serious", "critical")
        for node in fault["nodes"]
    ]


def shown_text(part: Locator) -> str:
    """What a part of a page shows: its text and the pictures in it, as one string to compare."""
    return part.evaluate(
        "e => e.innerText + [...e.querySelectorAll('img')].map(i => i.src).join() + "
        "[...e.querySelectorAll('svg')].map(s => s.outerHTML).join()"
    )
