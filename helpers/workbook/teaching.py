"""An exercise for the reader: the question in sight, the answer, computed in this run, below a fold."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass
