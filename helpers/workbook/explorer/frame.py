"""The frame of every explorer: controls on the left, verdict and figure on the right, and what goes with them.

A change is answered in a thread. An answer that comes at once (from a cache) appears at once; one that takes longer
shows its progress and can be cancelled; a newer change ends an older one. What goes wrong is a sentence. Where widgets
do not run (a code host's preview, an HTML export) the picture of the first view stands in.
"""

from __future__ import annotations

import html
import os
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import ipywidgets as w

from helpers.attention.choice import Choice
from helpers.cleaning import for_html
from helpers.errors import UserError
from helpers.show.display import DRAWN, evidence_label
from helpers.show.drawing import drawing_html
from helpers.show.html import alert, command_html
from helpers.workbook.explorer.basket import BasketItem, add_to_basket, in_basket, remove_from_basket
from helpers.workbook.explorer.work import Cancelled, Work

PATIENCE_S = 0.18
"""An answer within this time appears without a progress bar in between."""
PROGRESS_EVERY_S = 0.1
_FAINT = "<style>.rc-busy :is(.rc-verdict, .rc-figure, .rc-below, .rc-command) { opacity: .35 }</style>"
MOST_VIEWS_KEPT = 64
KNOBS = "application/vnd.register-cliff.knobs+json"
"""The MIME type under which an output carries what an exported page needs to operate the explorer (`on_page.py`)."""
MAKING_PAGES = "REGISTER_CLIFF_MAKING_PAGES"
"""Set in the environment of a kernel whose outputs become a page."""


@dataclass(frozen=True)
class View:
    """What an explorer shows for one state: a verdict (HTML), a figure (SVG, or HTML), HTML below it, a command.

    `title` says it in one line. `choice` is the configuration a report bundle can be made of, if there is one. `data`
    is for whoever asks the explorer from Python. A view that is not `final` is made anew when its state comes again.
    """

    verdict: str
    title: str
    command: str
    drawing: bytes = b""
    figure: str = ""
    below: str = ""
    choice: Choice | None = None
    data: object = None
    final: bool = True


class ExplorerFrame(w.HBox):
    """One explorer: `controls` by name, `answer(state, work)` gives the View of the controls' values.

    `view` is what is shown now (None while there is none), `state` the controls' values. `middle` are further widgets
    between the verdict and the figure. The first view is made before the constructor returns; `still` draws the picture
    that stands in for it on pages without widgets where its figure is no drawing; `shown` is called with each view that
    appears. `extra` adds to the state what is no control's value. `page` makes of the controls what a page
    without a kernel needs (`on_page.OnPage.payload`); it is asked for where a page is being made, for it takes a while.
    """

    def __init__(
        self,
        name: str,
        controls: Mapping[str, w.Widget],
        answer: Callable[[dict, Work], View],
        *,
        middle: Sequence[w.Widget] = (),
        extra: Callable[[], Mapping[str, object]] | None = None,
        still: Callable[[View], bytes] | None = None,
        shown: Callable[[View], None] | None = None,
        page: Callable[[dict[str, w.Widget]], dict] | None = None,
    ) -> None:
        self.name, self.controls, self._answer, self._extra = name, dict(controls), answer, extra
        self._shown, self._page = shown, page
        self.view: View | None = None
        self.problem: BaseException | None = None
        self._views: dict[tuple, View] = {}
        self._lock = threading.RLock()
        self._work: Work | None = None
        self._told = 0.0
        self._still = b""
        self._still_words = {"alt": "", "evidence": ""}
        self._make_parts(middle)
        # Beside the answer where there is room for both, else above it in as many columns as fit: letters of a figure
        # that shrinks to the rest of a narrow notebook cannot be read.
        left = w.HBox(
            [*self.controls.values()],
            layout=w.Layout(flex="1 1 300px", flex_flow="row wrap", align_content="flex-start"),
        )
        right = w.VBox(
            [self.verdict, self.progress, self.buttons, *middle, self.figure, self.below, self.command],
            layout=w.Layout(flex="1000 1 700px", min_width="0"),
        )
        super().__init__([left, right, gone_notice()], layout=w.Layout(align_items="flex-start", flex_flow="row wrap"))
        for css in ("rc-explorer", f"rc-{name}"):
            self.add_class(css)
        for control in self.controls.values():
            control.observe(lambda _change: self.refresh(), names="value")
        self.refresh(wait=True)
        if self.view:
            self._still = still(self.view) if still else self.view.drawing
            self._still_words = _words(self.view)

    def _make_parts(self, middle: Sequence[w.Widget]) -> None:
        part = lambda css: _with_class(w.HTML(), css)  # noqa: E731
        self.verdict, self.figure, self.below = part("rc-verdict"), part("rc-figure"), part("rc-below")
        self.progress, self.command, self.noted = part("rc-progress"), part("rc-command"), part("rc-noted")
        self.cancel_button = _button("Cancel", "rc-cancel", "stop this; a change starts anew", self.cancel)
        self.again_button = _button("Try again", "rc-again", "answer this state once more", self.refresh)
        self.add_button = _button("Add to report", "rc-add-to-report", "keep this state for report_basket()", self.add)
        self.basket_button = _button(
            "Show the basket", "rc-show-basket", "what is kept for the report", self.show_basket
        )
        self.basket = w.VBox(layout=w.Layout(display="none", border="1px solid #8888", padding="4px 8px"))
        self.basket.add_class("rc-basket")
        for hidden in (self.progress, self.cancel_button, self.again_button):
            hidden.layout.display = "none"
        asked = [self.cancel_button, self.again_button, self.add_button, self.basket_button]
        row = w.HBox([*asked, self.noted, w.HTML(OWN_KEYS)], layout=w.Layout(flex_flow="row wrap"))
        self.buttons = w.VBox([row, self.basket])

    @property
    def state(self) -> dict:
        """The controls' values by name, and what else the explorer adds to them (a cell that was clicked)."""
        values = {name: control.value for name, control in self.controls.items()}
        values = {name: plain_value(value) for name, value in values.items()}
        return values | dict(self._extra() if self._extra else {})

    def refresh(self, *, wait: bool = False) -> None:
        """Answer the current state; ends whatever is under way. With `wait` it returns when the answer is shown."""
        with self._lock:
            if self._work is not None:
                self._work.cancel()
            state = self.state
            known = self._views.get(_key(state))
            work = self._work = (
                None if known else Work(lambda w: self._answer(state, w), self._finished, self._progress)
            )
            if known:
                self._show(known)
                return
        work.state = state
        work.start()
        if wait:
            work.done.wait()
        elif not work.done.wait(PATIENCE_S):
            self._progress(work, *work.said, at_once=True)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until nothing is under way; False when the time was over first."""
        work = self._work
        return work is None or work.done.wait(timeout_s)

    def cancel(self) -> None:
        """End what is under way, its compiles included, and say so."""
        with self._lock:
            work, self._work = self._work, None
            if work is None:
                return
            work.cancel()
            self._say("Cancelled.", "Nothing is shown for this state. Change a control, or try again.")
            self.again_button.layout.display = None

    def add(self) -> None:
        """Put the current state into the report basket."""
        with self._lock:
            view = self.view
            if view is None:
                self.noted.value = "<i>nothing to add: no answer is shown</i>"
                return
            try:
                held = add_to_basket(BasketItem(self.name, view.title, view.command, self.state, view.choice))
            except UserError as exc:
                self.noted.value = f"<i>{for_html(str(exc))}</i>"
                return
            self.noted.value = f"<i>{held} in the basket; <code>rc.report_basket()</code> writes them out</i>"

            if self.basket.layout.display is None:
                self._list_basket()

    def show_basket(self) -> None:
        """Open the list of what is in the report basket, or fold it away."""
        if self.basket.layout.display is None:
            self.basket.layout.display = "none"
            self.basket_button.description = "Show the basket"
        else:
            self.basket.layout.display = None
            self.basket_button.description = "Hide the basket"
            self._list_basket()

    def _list_basket(self) -> None:
        """Show what the basket holds now, each state with a button that takes it out."""

        def line(item: BasketItem) -> w.HBox:
            def take_out() -> None:
                remove_from_basket(item)
                self._list_basket()

            words = w.HTML(f"{for_html(item.title)}<br><code>{for_html(item.command)}</code>")
            return w.HBox([_button("Remove", "rc-remove", f"take {item.title} out of the basket", take_out), words])

        held = in_basket()
        says = "<code>rc.report_basket()</code> writes them to the folder report, a file each."
        head = f"<b>In the basket: {len(held)}.</b> {says}" if held else "<b>The basket is empty.</b>"
        self.basket.children = [w.HTML(f'<div role="status">{head}</div>'), *(line(item) for item in held)]

    def _progress(self, work: Work, done: int, total: int, words: str, *, at_once: bool = False) -> None:
        now = time.monotonic()
        with self._lock:
            if work is not self._work or work.done.is_set():
                return
            if not at_once and now - self._told < PROGRESS_EVERY_S:
                return
            self._told = now
            # The answer of another state stays in sight, but faint, until the new one is there.
            self.add_class("rc-busy")
            bar = f'<progress value="{done}" max="{total}"></progress>' if total else "<progress></progress>"
            count = f" {done} of {total}" if total else ""
            self.progress.value = f'{_FAINT}<span role="status">{bar}{count} {for_html(words)}</span>'
            self.progress.layout.display = self.cancel_button.layout.display = None
            self.again_button.layout.display = "none"

    def _finished(self, work: Work, view: object, problem: BaseException | None) -> None:
        with self._lock:
            if work is not self._work:
                return  # a newer change, or a cancel, came before the answer
            self._work = None
            self.problem = problem
            if isinstance(problem, UserError):
                self._say("Not a possible configuration:", str(problem))
            elif isinstance(problem, Cancelled):
                self._say("Cancelled.", "")
            elif problem is not None:
                self._say("This state could not be answered:", f"{type(problem).__name__}: {problem}"[:600])
                self.again_button.layout.display = None
            else:
                if view.final:
                    self._views[_key(work.state)] = view
                    while len(self._views) > MOST_VIEWS_KEPT:
                        self._views.pop(next(iter(self._views)))
                self._show(view)

    def _idle(self) -> None:
        self.remove_class("rc-busy")
        for part in (self.progress, self.cancel_button, self.again_button):
            part.layout.display = "none"
        self.noted.value = ""

    def _show(self, view: View) -> None:
        self._idle()
        self.problem, self.view = None, view
        with self.hold_sync():
            self.verdict.value = view.verdict
            self.figure.value = view.figure or drawing_html(view.drawing, view.title)
            self.below.value = view.below
            self.command.value = command_html(view.command)
        self.figure.layout.display = None if self.figure.value else "none"
        self.add_button.disabled = False
        if self._shown:
            self._shown(view)

    def _say(self, head: str, words: str) -> None:
        """A sentence in place of an answer; the figure of another state must not stand beside it."""
        self._idle()
        self.view = None
        self.verdict.value = alert(head, words)
        self.figure.value = self.below.value = self.command.value = ""
        self.figure.layout.display = "none"
        self.add_button.disabled = True

    def _repr_mimebundle_(self, **kwargs):
        bundle = super()._repr_mimebundle_(**kwargs)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        data = dict(data or {})
        title = f"{self.view.title}\n{self.view.command}" if self.view else "no answer yet"
        data["text/plain"] = f"{self.name} explorer: {title}"
        if self._still:
            data["text/html"] = drawing_html(self._still, self._still_words["alt"])
            metadata = {**metadata, "text/html": {DRAWN: "explorer", **self._still_words}}
            if self._page and os.environ.get(MAKING_PAGES):
                data[KNOBS] = self._page(self.controls)
        return data, metadata


def _words(view: View) -> dict[str, str]:
    """What goes with the picture of a view: its title for who cannot see it, and where what it shows comes from."""
    text = re.sub(r"<[^>]*>", " ", f"{view.verdict} {view.below}")
    return {"alt": view.title, "evidence": evidence_label(html.unescape(text))}


def _key(state: Mapping[str, object]) -> tuple:
    return tuple(sorted((name, str(value)) for name, value in state.items()))


def _with_class(widget: w.DOMWidget, css: str) -> w.DOMWidget:
    widget.add_class(css)
    return widget


def _button(label: str, css: str, tooltip: str, act: Callable[[], None]) -> w.Button:
    button = _with_class(w.Button(description=label, tooltip=tooltip, layout=w.Layout(width="auto")), css)
    button.on_click(lambda _button: act())
    return button


class _Nothing:
    """None among the options of a list. ipywidgets takes a value of None for "nothing chosen" and empties the box."""

    def __repr__(self) -> str:
        return "none"


NOTHING = _Nothing()


def plain_value(value: object) -> object:
    """The value of an option as the rest of the program knows it."""
    return None if value is NOTHING else value


def drop(name: str, options: Sequence[tuple[str, object]], value: object, means: str) -> w.Dropdown:
    """A labelled drop-down list of (label, value) pairs; a value that is not among them is put first.

    `means` says what the control is about; it shows where the pointer rests.
    """
    pairs = [(str(label), v) for label, v in options]
    if value not in [v for _, v in pairs]:
        pairs.insert(0, (str(value), value))
    chosen = [v for _, v in pairs].index(value)
    return w.Dropdown(
        options=[(label, NOTHING if v is None else v) for label, v in pairs],
        index=chosen, description=name, tooltip=means, layout=w.Layout(width="290px"),
        style={"description_width": "92px"},
    )  # fmt: skip


GONE = "The kernel was restarted, so these controls lead nowhere: run this cell again."


def gone_notice() -> w.HTML:
    """A sentence that appears by itself, above the widget it is the last part of, once the widget's kernel is gone.

    JupyterLab then marks all of its widgets with a class of ipywidgets; the rest is style, for there is nobody left who
    could send a message.
    """
    style = (
        "<style>.rc-explorer .widget-html-content{min-width:0}"
        ".rc-gone{display:none}.rc-gone.jupyter-widgets-disconnected{display:block;order:-1;flex:0 0 100%}"
        ":is(.rc-explorer,.rc-exercise).jupyter-widgets-disconnected::before,"
        ":is(.rc-explorer,.rc-exercise) .jupyter-widgets-disconnected::before{display:none!important}"
        ".jupyter-widgets-disconnected :is(.rc-verdict,.rc-figure,.rc-below,.rc-command){opacity:.45}</style>"
    )
    return _with_class(w.HTML(f"{style}{alert('', GONE)}"), "rc-gone")


# JupyterLab takes plain keys for the notebook: an arrow leaves the list that has the focus, a "b" adds a cell. Inside
# an explorer they are the controls' own; keys with Ctrl, Alt or Meta still reach JupyterLab. A verdict that changes is
# read out. Markup in a widget may not hold a script, so a picture of one point does both when it has loaded.
OWN_KEYS = (
    '<img alt="" style="display:none" src="data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAACADs=" onload="'
    "var i=this,n=50,own=function(e){if(!e.ctrlKey&&!e.altKey&&!e.metaKey&&!e.shiftKey){e.stopPropagation()}};"
    "(function find(){var r=i.closest('.rc-explorer,.rc-exercise');"
    "if(r){r.addEventListener('keydown',own);r.querySelectorAll('.rc-verdict').forEach(function(v){"
    "v.setAttribute('role','status');v.setAttribute('aria-live','polite')})}else if(n--){setTimeout(find,100)}})()\">"
)
