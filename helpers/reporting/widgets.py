"""The explorer: pick a configuration, see its compile. Reads as a picture wherever widgets do not run."""

from __future__ import annotations

import base64
import html
import io
from dataclasses import replace
from typing import TYPE_CHECKING

import ipywidgets as w

from helpers.attention.incident import INCIDENT_CHOICE
from helpers.attention.requests import Choice
from helpers.attention.shapes import HEAD_DIMS, KV_DTYPES
from helpers.attention.spec import CHOICES
from helpers.compiler.arch import ARCHS
from helpers.compiler.report import EXPLANATIONS, CompileReport
from helpers.compiler.toolchain import BUNDLED, installed_ptxas, installed_tritons
from helpers.errors import UserError
from helpers.reporting.plots import plot_registers
from helpers.reporting.records import Evidence, compile_one
from helpers.reporting.style import status_colour

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TILES = (
    "auto",
    "hopper",
    "sm100",
    "16x64",
    "32x32",
    "32x64",
    "64x32",
    "64x64",
    "64x128",
    "128x32",
    "128x64",
    "128x128",
)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()


def _figure(evidence: Evidence) -> Figure:
    return plot_registers([evidence], evidence.report.verdict(), labels=[evidence.report.arch])


def verdict_html(evidence: Evidence, choice: Choice) -> str:
    """The verdict, the numbers and the command of one compile as a small HTML block; all text escaped."""
    report = evidence.report
    rows = {
        "spec": report.label,
        "toolchain": f"Triton {report.triton_version}, ptxas {report.ptxas_version or 'not reached'}",
        "memory": _memory_words(report),
        "tensor cores": report.tensor_core_path if report.instructions else None,
        "message": report.message[:400] or None,
        "evidence": evidence.source + (", cached" if report.cached else "") + f" ({report.wall_s:.1f} s to compile)",
        "command": choice.command(),
    }
    cells = "".join(
        f'<tr><th style="text-align:left;padding-right:1em;vertical-align:top;white-space:nowrap">{name}</th>'
        f'<td style="text-align:left;overflow-wrap:anywhere">{html.escape(str(value))}</td></tr>'
        for name, value in rows.items()
        if value
    )
    return (
        f'<div style="font-weight:bold;color:white;background:{status_colour(report.status)};padding:4px 8px">'
        f"{html.escape(report.status)}: {html.escape(EXPLANATIONS[report.status])}</div><table>{cells}</table>"
    )


def _memory_words(report: CompileReport) -> str | None:
    if report.smem_bytes is None:
        return None
    return f"{report.smem_bytes} B shared memory per CTA, {report.tmem_columns or 0} tensor-memory columns"


class Explorer(w.HBox):
    """Controls on the left, verdict and bar on the right; `choice` and `evidence` hold the current state.

    Where widgets do not run (a code host's preview, an HTML export) the picture of the first view stands in.
    """

    def __init__(self, choice: Choice = INCIDENT_CHOICE) -> None:
        self.choice = choice
        self.evidence: Evidence | None = None
        self._static_png = b""
        self.controls = self._make_controls(choice)
        self._image = w.Image(format="png", layout=w.Layout(max_width="100%", object_fit="contain"))
        self._text = w.HTML()
        self._text.add_class("register-cliff-verdict")
        left = w.VBox(list(self.controls.values()), layout=w.Layout(width="290px", flex="0 0 auto"))
        right = w.VBox([self._text, self._image], layout=w.Layout(flex="1 1 auto", min_width="0"))
        super().__init__([left, right], layout=w.Layout(align_items="flex-start"))
        for control in self.controls.values():
            control.observe(self._changed, names="value")
        self._show()
        self._static_png = bytes(self._image.value)

    @staticmethod
    def _make_controls(choice: Choice) -> dict[str, w.Widget]:
        layout, style = w.Layout(width="280px"), {"description_width": "92px"}

        def drop(name: str, options, value) -> w.Dropdown:
            pairs = [(label, v) for label, v in options]
            if value not in [v for _, v in pairs]:
                pairs.insert(0, (str(value), value))
            # By index: a Dropdown takes value=None for "nothing chosen" and would show an empty box.
            chosen = [v for _, v in pairs].index(value)
            return w.Dropdown(options=pairs, index=chosen, description=name, layout=layout, style=style)

        same = lambda values: [(str(v), v) for v in values]  # noqa: E731
        tritons = [*installed_tritons()]
        return {
            "arch": drop(
                "arch", [(f"{a.name} ({a.product.split(' / ')[0]})", a.name) for a in ARCHS.values()], choice.arch
            ),
            "head_dim": drop("head dim", same(HEAD_DIMS), choice.head_dim),
            "kv_dtype": drop("KV dtype", same(KV_DTYPES), choice.kv_dtype),
            "window": drop("window", [("none", None), ("512", 512), ("1024", 1024), ("4096", 4096)], choice.window),
            "tile": drop("tile", same(TILES), choice.tile),
            "num_warps": drop("num_warps", [("as the engine", None), *same((4, 8, 16))], choice.num_warps),
            "num_stages": drop("num_stages", [("1 (as the engine)", None), *same((2, 3))], choice.num_stages),
            "triton": drop("Triton", same(tritons), choice.triton),
            "ptxas": drop("ptxas", [("bundled", BUNDLED), *same(installed_ptxas())], choice.ptxas),
            **{
                name: drop(name.replace("_", " "), same(values), getattr(choice, name))
                for name, values in CHOICES.items()
            },
        }

    def _changed(self, _change) -> None:
        self.choice = replace(self.choice, **{name: c.value for name, c in self.controls.items()})
        self._show()

    def _show(self) -> None:
        self._text.value = '<div style="padding:4px 8px">compiling …</div>'
        try:
            self.evidence = compile_one(self.choice)
            self._text.value = verdict_html(self.evidence, self.choice)
            self._image.value = _png(_figure(self.evidence))
            self._image.layout.display = None
        except UserError as exc:
            self.evidence = None
            self._text.value = (
                f'<div style="padding:4px 8px"><b>Not a possible configuration:</b> {html.escape(str(exc))}</div>'
            )
            self._image.layout.display = "none"

    def _repr_mimebundle_(self, **kwargs):
        bundle = super()._repr_mimebundle_(**kwargs)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        data = dict(data or {})
        data["text/plain"] = f"Explorer: {self.choice.command()}"
        if self._static_png:
            data["image/png"] = base64.b64encode(self._static_png).decode()
        return data, metadata


def explorer(choice: Choice = INCIDENT_CHOICE) -> Explorer:
    """An explorer that starts at `choice` (default: the incident)."""
    return Explorer(choice)
