"""Figures drawn as far as most of their tests need it."""

from __future__ import annotations

from matplotlib.figure import Figure


def render(figure: Figure) -> None:
    """Draw a figure where its parts are, so that nothing is left to fail when it is saved.

    Laying it out takes half of the time. Tests that read places do so: `figure.draw_without_rendering()`.
    """
    engine = figure.get_layout_engine()
    figure.set_layout_engine("none")
    figure.draw_without_rendering()
    figure.set_layout_engine(engine)
