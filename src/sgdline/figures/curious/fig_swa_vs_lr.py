"""SWA of iterates against reduced learning rates and the schedule that has it as its last iterate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sgdline.figures.curious import _versus_lr

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.figure import Figure

SPEC = replace(
    _versus_lr.SPEC, id="curious/fig_swa_vs_lr", title="SWA of iterates at a constant learning rate, and reduced rates"
)


def draw(tables: Sequence[Mapping[str, pa.Table]], *, settings: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw the figure; see `_versus_lr.draw`."""
    return _versus_lr.draw(tables, settings=settings, average="swa", title=SPEC.title)
