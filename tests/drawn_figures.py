"""Figures as far as their tests need them: a test that reads curves or words needs a figure's `draw` and no more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

import sgdline.figures
from sgdline.figures.base import Figure as Sheet
from sgdline.figures.grammar import style
from sgdline.figures.grammar.powers import plain_powers
from sgdline.papers.asked import asked


def sheet_of(name: str, **options: Any) -> Sheet:
    """Return the figure of a kind, an id or an entry; an id takes no options."""
    return asked({"name": name, **options} if options else name).figure


def render(figure: Figure) -> Figure:
    """Draw a figure where its parts are, so that nothing is left to fail when it is saved, and return it.

    Cheaper than a layout, and a tenth of what two files take. For each figure once, and for what is hard to draw.
    """
    engine = figure.get_layout_engine()
    with style.applied():
        for panel in figure.axes:
            plain_powers(panel.xaxis)
            plain_powers(panel.yaxis)
        figure.set_layout_engine("none")
        figure.draw_without_rendering()
    figure.set_layout_engine(engine)
    return figure


def settle(figure: Figure) -> None:
    """Put the parts of a figure where they are in its files, for tests that read places."""
    with style.applied():
        style.settle(figure)


def assert_nothing_overlaps(figure: Figure) -> None:
    """Lay a figure out; panels, legends, title and footer lie on the sheet, and apart from one another."""
    settle(figure)
    boxes = [(panel.get_position().bounds, panel.get_tightbbox()) for panel in figure.axes if panel.axison]
    boxes += [((), entry.get_window_extent()) for entry in (*figure.legends, *figure.texts)]
    for place, (own_place, one) in enumerate(boxes):
        assert one is not None
        assert min(one.x0, one.y0) >= -1, one
        assert max(one.x1 - figure.bbox.x1, one.y1 - figure.bbox.y1) <= 1, one
        for other_place, other in boxes[place + 1 :]:
            assert other is not None
            twins = own_place and own_place == other_place  # two scales of one panel
            assert twins or _apart(one, other), (one, other)


def bands(panel: Axes) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Return places, lower and upper edge of every band of a panel."""
    found = []
    for drawn in panel.collections:
        if isinstance(drawn, PolyCollection):
            edge = np.asarray(drawn.get_paths()[0].vertices)
            count = (len(edge) - 3) // 2
            lower, upper = edge[1 : count + 1], edge[count + 2 : 2 * count + 2][::-1]
            found.append((lower[:, 0], lower[:, 1], upper[:, 1]))
    return found


def _apart(one: Bbox, other: Bbox) -> bool:
    across = one.x1 <= other.x0 + 1 or other.x1 <= one.x0 + 1
    return across or one.y1 <= other.y0 + 1 or other.y1 <= one.y0 + 1


def render_instead_of_saving(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, Path]]:
    """Let `plot_figure` and `plot_comparison` do all but the layout and the files; return the files' names.

    All figures are saved by the same lines, which test_figures_linesearch.py runs.
    """
    saved: list[tuple[Path, Path]] = []

    def render_only(figure: Figure, pdf: Path, png: Path) -> None:
        render(figure)
        saved.append((pdf, png))

    monkeypatch.setattr(style, "settle", lambda figure: None)
    monkeypatch.setattr(sgdline.figures, "_save", render_only)
    return saved
