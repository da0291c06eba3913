"""One look for every figure: colours by meaning (safe for the colour-blind, apart in greyscale), sizes, limit lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helpers.show.display import register_formatters, remember_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe & Ito's palette, one colour per meaning everywhere. Lightness differs as well as hue.
STATUS_COLOURS = {
    "ok": "#0072B2",
    "spills": "#E69F00",
    "register_exhausted": "#8B1A1A",
}
OTHER_FAILURE_COLOUR = "#7F7F7F"
BEFORE_COLOUR = "#D55E00"
AFTER_COLOUR = "#0072B2"
LIMIT_COLOUR = "#222222"
FAILED_MARK = "✕"


def status_colour(status: str) -> str:
    """The colour of a report's status; every failure that is not register exhaustion shares one grey."""
    return STATUS_COLOURS.get(status, OTHER_FAILURE_COLOUR)


def use_house_style() -> None:
    """Set this session's defaults: figure size, fonts, a quiet grid, titles to the left; whole cells in tables."""
    import matplotlib as mpl
    import pandas as pd

    pd.set_option("display.max_colwidth", 90)
    pd.set_option("display.max_rows", 80)
    pd.set_option("display.precision", 3)
    register_formatters()

    mpl.rcParams.update(
        {
            "figure.figsize": (8.5, 4.0),
            "figure.dpi": 110,
            "savefig.dpi": 110,
            "figure.constrained_layout.use": True,
            "font.size": 10,
            "axes.titlesize": 12,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.grid.axis": "x",
            "axes.axisbelow": True,
            "grid.color": "#DDDDDD",
            "legend.frameon": False,
            "figure.facecolor": "white",
        }
    )


def bare_cells(ax: Axes, columns: int, rows: int) -> None:
    """Fit the axes to a grid of cells one unit wide, the first row on top, without ticks, lines or a frame."""
    ax.set_xlim(-0.5, columns - 0.5)
    ax.set_ylim(rows - 0.5, -0.5)
    ax.grid(False)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


def claim(ax: Axes, title: str, subtitle: str) -> None:
    """Put the claim as the title and the conditions (arch, dtype, versions, evidence) under it."""
    lines = subtitle.count("\n") + 1
    ax.set_title(title, pad=8 + 13 * lines)
    # Points, not a share of the axes: a tall figure would lift the subtitle into the title.
    ax.annotate(subtitle, (0, 1), (0, 6), xycoords="axes fraction", textcoords="offset points", fontsize=8.5,
                color="#555555", va="bottom", annotation_clip=False)  # fmt: skip
    remember_words(ax.figure, title, subtitle)
