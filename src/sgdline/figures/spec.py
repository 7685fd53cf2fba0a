"""What a figure says about itself, readable without drawing it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FigureSpec:
    """The contents-page entry of one figure; the module that holds it also holds `draw`."""

    id: str  # "linesearch/fig2_lines", the module's place below sgdline.figures; or the entry of a figure of the user's
    title: str  # one line, printed above the picture
    tables: tuple[str, ...]  # kinds of tables that `draw` reads (sgdline.table_modules)
    probes: tuple[str, ...] = ()  # probes that the experiment must have
    analysis: tuple[str, ...] = ()  # keys of the config's analysis block that `draw` reads: others redraw nothing
    optional_tables: tuple[str, ...] = ()  # kinds that `draw` reads of runs whose experiment measures them
    compares: bool = False  # draws all runs of a comparison at once, not one run of an experiment
    samples: bool = False  # needs the loss of every sample: probes.line.sample_losses
    theory: bool = False  # draws what the theory of the stationary state predicts: the update rule must have one
    toy: str | None = None  # draws a toy of this kind, a name or an entry, and no run

    @property
    def subject(self) -> str:
        """What one picture is of: `run`, `comparison` (of runs) or `toy`."""
        if self.toy is not None:
            return "toy"
        return "comparison" if self.compares else "run"
