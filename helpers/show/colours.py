"""The colours of statuses and of ink: what figures, their dark twins and pages share."""

from __future__ import annotations

# Okabe & Ito's palette, one colour per meaning everywhere. Lightness differs as well as hue.
STATUS_COLOURS = {
    "ok": "#0072B2",
    "spills": "#E69F00",
    "register_exhausted": "#8B1A1A",
}
INK, SOFT_INK = "#1c2128", "#555555"
"""What stands on the ground of a figure; on a dark page both turn light (`drawing.py`)."""
