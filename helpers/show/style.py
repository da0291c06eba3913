"""One look for every figure: colours by meaning (safe for the colour-blind, apart in greyscale), sizes, limit lines."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from helpers.show.colours import INK, SOFT_INK, STATUS_COLOURS
from helpers.show.display import register_formatters, remember_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Of the same palette as the colours of statuses.
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
            **dict.fromkeys(("text.color", "axes.labelcolor", "axes.titlecolor", "xtick.color", "ytick.color"), INK),
            "axes.edgecolor": INK,
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
    from matplotlib.transforms import blended_transform_factory

    points = ax.get_figure(root=True).get_figwidth() * 72
    said = _wrapped(subtitle, points / _SUBTITLE_LETTER)
    # Both begin at the left edge of the figure, and not of the axes: long labels leave those little room.
    head = ax.set_title(_wrapped(title, points / _TITLE_LETTER), pad=8 + 13 * (said.count("\n") + 1))
    across = ax.get_figure(root=False).transSubfigure
    head.set_transform(blended_transform_factory(across, ax.transAxes) + ax.titleOffsetTrans)
    head.set_x(_EDGE)
    # Points, not a share of the axes: a tall figure would lift the subtitle into the title.
    words = ax.annotate(said, (_EDGE, 1), (0, 6), xycoords=("subfigure fraction", "axes fraction"),
                        textcoords="offset points", fontsize=8.5, color=SOFT_INK, va="bottom",
                        annotation_clip=False)  # fmt: skip
    words.set_in_layout(False)
    remember_words(ax.figure, title, subtitle)


# Points that a letter of a title (12 points, bold) and of a subtitle (8.5 points) takes on the average, and a little.
_TITLE_LETTER, _SUBTITLE_LETTER = 6.9, 4.6
_EDGE = 0.008


def _wrapped(words: str, letters: float) -> str:
    return "\n".join(line for part in words.split("\n") for line in textwrap.wrap(part, int(letters)) or [""])
