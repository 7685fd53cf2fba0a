"""Labels of axes in plain letters: setting a formula takes as long as drawing a panel."""

from __future__ import annotations

import re

from matplotlib.axis import Axis
from matplotlib.ticker import LogFormatterSciNotation, ScalarFormatter

_RAISED = str.maketrans("0123456789-\N{MINUS SIGN}", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁻")


class Powers(LogFormatterSciNotation):
    """Powers of ten as 10⁻³ and 2×10⁻³, at the places where matplotlib labels a logarithmic axis."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        """Return the label of a tick."""
        text = super().__call__(x, pos).replace("$\\mathdefault{", "").replace("}$", "")
        text = text.replace("\\times", "\N{MULTIPLICATION SIGN}")
        return re.sub(r"\^{(.*?)}", lambda power: power[1].translate(_RAISED), text)


class Numbers(ScalarFormatter):
    """Numbers of a linear axis; huge and tiny ones as 2×10³⁰, not with a multiplier above the axis, among the notes."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        """Return the label of a tick."""
        label = super().__call__(x, pos)
        multiplier = "" if self.offset else super().get_offset()  # such as 1e30
        if not multiplier or not label or not x:
            return label
        return f"{label}\N{MULTIPLICATION SIGN}10{multiplier.removeprefix('1e').translate(_RAISED)}"

    def get_offset(self) -> str:
        """Return what is added to all labels; no multiplier, which they have."""
        return super().get_offset() if self.offset else ""


def plain_powers(axis: Axis) -> None:
    """Label a linear or logarithmic axis in plain letters, unless it has labels of its own."""
    if type(axis.get_major_formatter()) is ScalarFormatter:
        axis.set_major_formatter(Numbers())
        return
    if axis.get_scale() != "log" or getattr(axis.get_transform(), "base", None) != 10:
        return
    if type(axis.get_major_formatter()) is LogFormatterSciNotation:
        axis.set_major_formatter(Powers())
    if type(axis.get_minor_formatter()) is LogFormatterSciNotation:
        axis.set_minor_formatter(Powers())
