"""Demand before ptxas beside what ptxas made of it: by compile, and by source line of a compile that succeeded."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass

__all__ = ["both_sides", "demand_table", "plot_both_sides"]
