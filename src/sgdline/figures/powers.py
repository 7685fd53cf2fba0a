"""Labels of logarithmic axes in plain letters: setting a formula takes as long as drawing a panel."""

from __future__ import annotations

import re

from matplotlib.axis import Axis
from matplotlib.ticker import LogFormatterSciNotation

_RAISED = str.maketrans("0123456789-\N{MINUS SIGN}", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁻")


class Powers(LogFormatterSciNotation):
    """Powers of ten as 10⁻³ and 2×10⁻³, at the places where matplotlib labels a logarithmic axis."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        """Return the label of a tick."""
        text = super().__call__(x, pos).replace("$\\mathdefault{", "").replace("}$", "")
        text = text.replace("\\times", "\N{MULTIPLICATION SIGN}")
        return re.sub(r"\^{(.*?)}", lambda power: power[1].translate(_RAISED), text)


def plain_powers(axis: Axis) -> None:
    """Label a logarithmic axis in plain letters, unless it has labels of its own."""
    if axis.get_scale() != "log" or getattr(axis.get_transform(), "base", None) != 10:
        return
    if type(axis.get_major_formatter()) is LogFormatterSciNotation:
        axis.set_major_formatter(Powers())
    if type(axis.get_minor_formatter()) is LogFormatterSciNotation:
        axis.set_minor_formatter(Powers())
