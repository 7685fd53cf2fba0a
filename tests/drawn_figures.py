"""Figures drawn as far as most of their tests need it, from texts that are parsed once."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure
from matplotlib.mathtext import MathTextParser


def render(figure: Figure) -> None:
    """Draw a figure where its parts are, so that nothing is left to fail when it is saved.

    Laying it out takes half of the time. Tests that read places do so: `figure.draw_without_rendering()`.
    """
    engine = figure.get_layout_engine()
    figure.set_layout_engine("none")
    figure.draw_without_rendering()
    figure.set_layout_engine(engine)


def _keep_parsed_texts() -> None:
    """Let all drawings share what matplotlib has parsed, half of the time without a layout.

    Its own cache belongs to a parser, and each canvas has a new one.
    """
    cached: Any = getattr(MathTextParser, "_parse_cached", None)
    if not hasattr(cached, "__wrapped__"):  # another matplotlib; the tests only take longer
        return
    parse, known = cached.__wrapped__, {}

    def parse_once(parser: Any, *words: Any) -> Any:
        key = (parser._output_type, *words)
        if key not in known:
            known[key] = parse(parser, *words)
        return known[key]

    MathTextParser._parse_cached = parse_once  # type: ignore[attr-defined]


_keep_parsed_texts()
