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
        if not super().get_offset():
            return super().__call__(x, pos)
        digits, _, power = f"{x:.3g}".partition("e")
        return self.fix_minus(digits) + (
            f"\N{MULTIPLICATION SIGN}10{str(int(power)).translate(_RAISED)}" if power else ""
        )

    def get_offset(self) -> str:
        """Return no multiplier: the labels have it."""
        return ""


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
