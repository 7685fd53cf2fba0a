"""Phases of large steps on CIFAR-10 without regularisation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sgdline.figures.sparse import _deep

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.figure import Figure

SPEC = replace(
    _deep.SPEC,
    id="sparse/fig_deep_noreg_cifar10",
    title="Phases of large steps without regularisation",
)


def draw(tables: Sequence[Mapping[str, pa.Table]], *, settings: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw the figure; see `_deep.draw`."""
    return _deep.draw(tables, settings=settings, title=SPEC.title)
