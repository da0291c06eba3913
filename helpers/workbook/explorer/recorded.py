"""Explorers of recorded rows: numerics by case, throughput by case, variant and metric. They measure nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


# --- numerics -----------------------------------------------------------------------------------------------


# --- throughput ---------------------------------------------------------------------------------------------
