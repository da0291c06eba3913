"""A box to paste or upload a crash log into, the diagnosis below. Reads as a page wherever widgets do not run."""

from __future__ import annotations

from pathlib import Path

import ipywidgets as w

from helpers.cleaning import for_html
from helpers.diagnosis.diagnose import diagnose
from helpers.diagnosis.diagnosis import Diagnosis
from helpers.errors import UserError
from helpers.files import decode_text
from helpers.workbook.explorer.frame import OWN_KEYS, gone_notice

# What a notebook's connection takes comfortably; the command line reads longer logs.
MAX_UPLOAD_BYTES = 5_000_000


def example_log() -> str:
    """The log of the incident as posted: a public comment of sgl-project/sglang pull request #22079, one line."""
    return Path(__file__).with_name("example_crash.log").read_text()


class PasteBox(w.VBox):
    """Text area, upload and button; `diagnosis` holds the last answer (None while there is none or an error).

    Whatever is pasted is data: shown escaped, never run; no file it names is opened. Where widgets do not run, the
    diagnosis of the first text stands in.
    """

    def __init__(self, text: str = "") -> None:
        self.diagnosis: Diagnosis | None = None
        self.text = w.Textarea(
            value=text,
            placeholder="paste a traceback, ptxas's output or a piece of a CI log here",
            layout=w.Layout(width="100%", height="140px"),
        )
        self.upload = w.FileUpload(accept="", multiple=False, description="or a file")
        self.button = w.Button(description="Diagnose", button_style="primary", icon="search")
        self.answer = w.HTML()
        self.answer.add_class("register-cliff-answer")
        super().__init__([self.text, w.HBox([self.button, self.upload, w.HTML(OWN_KEYS)]), self.answer, gone_notice()])
        for css in ("rc-explorer", "rc-paste"):
            self.add_class(css)
        self.button.on_click(lambda _button: self.run())
        self.upload.observe(self._uploaded, names="value")
        if text:
            self.run()
        else:
            self._say("Nothing pasted yet.")
        self._static_html = self.answer.value
        self._static_text = self.diagnosis.text() if self.diagnosis else "Nothing pasted yet."

    def run(self) -> None:
        """Diagnose what stands in the text area."""
        self._show(self.text.value)

    def _show(self, text: str) -> None:
        self.diagnosis = None
        if not text.strip():
            self._say("The box is empty: paste a log, or choose a file.")
            return
        try:
            self.diagnosis = diagnose(text)
            self.answer.value = self.diagnosis._repr_html_()
        except UserError as exc:
            self._say(str(exc))

    def _uploaded(self, change) -> None:
        files = change["new"]
        if not files:
            return
        first = files[0]
        data = bytes(first["content"])
        if len(data) > MAX_UPLOAD_BYTES:
            self.diagnosis = None
            self._say(
                f"{first['name']} has {len(data):,} bytes; up to {MAX_UPLOAD_BYTES:,} are read here. On the command "
                "line: register-cliff diagnose FILE"
            )
            return
        self._show(decode_text(data))

    def _say(self, sentence: str) -> None:
        self.answer.value = f'<div style="padding:4px 8px">{for_html(sentence)}</div>'

    def _repr_mimebundle_(self, **kwargs):
        bundle = super()._repr_mimebundle_(**kwargs)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        data = dict(data or {})
        data["text/plain"] = self._static_text
        data["text/html"] = self._static_html
        return data, metadata


def paste_box(text: str = "") -> PasteBox:
    """A box for a log, empty or with `text` in it and diagnosed (`helpers.example_log()` is the incident's)."""
    return PasteBox(text)
