"""Lines that a meter has measured, in the order of the steps: in memory, as a table, in a file (no torch).

The file is a table of kind `line`, as the workflow's own probe writes it, so that its analyses and figures read it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sgdline import __version__
from sgdline.errors import SgdlineError
from sgdline.extras import extra_packages
from sgdline.measured_line import MeasuredLine

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from sgdline.tables import Json


class LineLog:
    """The measured lines of a training.

    A line holds its positions and its losses, 16 bytes a position, 24 with the batch's own line: some 0.5 kB for 17
    positions, 2 kB with the objects around them. 10,000 lines take some 20 MB, and 2 MB as a file.

    Attributes:
        facts: How the lines were measured: model, loss, samples, chunk size, mode, plan, optimizers. They go into the
            file's metadata, and hold nothing but what JSON can.
    """

    def __init__(self, facts: Mapping[str, Json] | None = None) -> None:
        """Begin a log.

        Args:
            facts: How the lines are measured.
        """
        self.facts: dict[str, Json] = dict(facts or {})
        self._lines: list[MeasuredLine] = []

    def append(self, line: MeasuredLine) -> None:
        """Add a line; one of a skipped step holds nothing and is left out."""
        if line.status != "skipped":
            self._lines.append(line)

    def __len__(self) -> int:
        return len(self._lines)

    def __iter__(self) -> Iterator[MeasuredLine]:
        return iter(self._lines)

    def __getitem__(self, index: int) -> MeasuredLine:
        return self._lines[index]

    def to_pandas(self) -> pd.DataFrame:
        """Return one row per line: step, status, the numbers of `MeasuredLine.values`, errors as `<name>_error`.

        What a line does not hold is NaN. A number that no line holds has no column. `evaluations` and `seconds` say
        what a line cost.

        Raises:
            SgdlineError: If pandas is not installed.
        """
        with extra_packages():
            import pandas as pd

        rows: list[dict[str, float]] = []
        columns: dict[str, None] = {}
        for line in self._lines:
            row: dict[str, float] = {}
            for name, value, error, _ in line.values():
                row[name] = value
                if error is not None:
                    row[f"{name}_error"] = error
            rows.append(row)
            columns.update(dict.fromkeys(row))
        # An error is beside its number, even if the first line that has it comes late.
        names = list(dict.fromkeys(part for name in columns for part in _with_error(name) if part in columns))
        table: dict[str, Any] = {
            "step": pd.array([line.step for line in self._lines], dtype="Int64"),
            "status": [line.status for line in self._lines],
        }
        for name in ("evaluations", "seconds"):
            table[name] = np.array([getattr(line, name) for line in self._lines], dtype=np.float64)
        table.update({name: np.array([row.get(name, math.nan) for row in rows]) for name in names})
        return pd.DataFrame(table)

    def write(self, path: str | Path, *, updates_per_epoch: float | None = None) -> None:
        """Write the lines as a table of kind `line`: sealed, with the facts as metadata, without a date.

        Equal lines give equal bytes. The seconds that a line took are therefore not in it. What no meter knows (epoch,
        losses of chunks and samples) is NaN, empty or null; so is the learning rate of a step that has none or several.

        Args:
            path: File to write; one that is there is replaced.
            updates_per_epoch: Steps of one pass over the training set; None: epochs are not known, and figures over
                epochs are not drawn.

        Raises:
            SgdlineError: If there is no line, a line has no step, or the file cannot be written.
        """
        from sgdline.probes.line.table import LINE
        from sgdline.tables import write_table

        if not self._lines:
            raise SgdlineError("A log must hold a line to be written, got none. Measure a step first.")
        if updates_per_epoch is not None and not 0 < updates_per_epoch < math.inf:
            raise SgdlineError(
                f"updates_per_epoch must be a finite number above 0, got {updates_per_epoch!r}. Pass len(loader)."
            )
        if any(line.step is None for line in self._lines):
            raise SgdlineError(
                "A line must have the number of its step to be written, got one without. Append lines of meter.step "
                "and meter.measure_step, or set it: dataclasses.replace(line, step=0)."
            )
        interval, per_epoch = self.facts.get("interval"), updates_per_epoch or math.nan
        rows = [_row_of(line, interval=interval, updates_per_epoch=per_epoch) for line in self._lines]
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        try:
            write_table(path, LINE, columns, provenance={**self.facts, "version": __version__, "recorded": True})
        except OSError as error:
            raise SgdlineError(
                f"The log must be written to a file that can be made, got {path} ({error.strerror}). Choose another."
            ) from error

    @classmethod
    def read(cls, path: str | Path) -> LineLog:
        """Return the lines of a table of kind `line`: of a log, of the workflow's probe, or imported ones.

        Args:
            path: The table.

        Raises:
            SgdlineError: If the file is missing, damaged or of another kind.
        """
        from sgdline.probes.line.table import LINES_OF_A_FILE
        from sgdline.tables import iterate_table, read_provenance

        facts = read_provenance(path, LINES_OF_A_FILE)
        log = cls({name: fact for name, fact in facts.items() if name not in ("kind", "version", "recorded")})
        columns = [name for name in LINES_OF_A_FILE.schema.names if name not in _UNREAD]
        for batch in iterate_table(path, LINES_OF_A_FILE, columns=columns):
            log._lines += [_line_of(row) for row in batch.to_pylist()]
        return log

    def plot(self) -> Figure:
        """Return a picture of the training: loss, overshoot, and sharpness against 2 / learning rate.

        Raises:
            SgdlineError: If matplotlib is not installed, or there is nothing to draw.
        """
        from sgdline.plotting import plot_log

        return plot_log(self)


# A line that does not say so has its parabola within this share of the interval, as a meter's.
_WINDOW_SHARE = 0.4
# Losses of single chunks and samples: far larger than the lines, which do not have them.
_UNREAD = ("chunk_loss", "sample_loss", "direction_batch_sample_loss", "direction_batch_rows", "validation_loss")


def _with_error(name: str) -> tuple[str, str]:
    of = name.removesuffix("_error")
    return of, f"{of}_error"


def _row_of(line: MeasuredLine, *, interval: Json, updates_per_epoch: float) -> dict[str, Any]:
    """Return a line as a row of the table `line`; the interval is a number where all lines began with the same one."""
    rate, length, batch = _number(line.step_learning_rate), _number(line.step_length), line.batch
    slope = None if batch is None else batch.slope
    left, right = int((line.panel_edges < 0).sum()), int((line.panel_edges > 0).sum())
    if not left + right and isinstance(interval, float):
        left = right = math.ceil(float(np.abs(line.positions).max()) / interval - 1e-9)
    return {
        "step": line.step,
        "epoch": (line.step or 0) / updates_per_epoch,
        "lr": rate,
        "direction_norm": length / rate if rate else math.nan,
        "step_length": length,
        "direction_batch_slope": math.nan if slope is None else slope.value,
        "panel_edges": line.panel_edges,
        "positions": line.positions,
        "train_loss": line.losses,
        "direction_batch_loss": None if batch is None else batch.losses,
        "chunk_loss": np.empty(0, dtype=np.float32),
        "step_train_loss": _number(line.step_loss),
        "step_direction_batch_loss": math.nan if batch is None else _number(batch.step_loss),
        "interpolation_error": line.error,
        "direction_batch_interpolation_error": None if batch is None else batch.error,
        "evaluations": line.evaluations,
        "rings": max(left, right, 1),
        "window": line.window,
        "rounding_error": line.rounding,
        "status": line.status,
    }


def _line_of(row: Mapping[str, Any]) -> MeasuredLine:
    """Return a row of the table `line` as a line."""
    positions, edges = np.array(row["positions"], dtype=np.float64), np.array(row["panel_edges"], dtype=np.float64)
    # Of a step that is not finite the length is known, and need not be finite either.
    step_length = row["step_length"] if row["status"] == "non_finite" else _known(row["step_length"])
    window = row["window"]
    if window is None:
        window = _WINDOW_SHARE * float(min(-positions[0], positions[-1]))

    def curve(losses: list[float], step_loss: float, error: float | None) -> MeasuredLine:
        return MeasuredLine(
            positions=positions,
            losses=np.array(losses, dtype=np.float64),
            panel_edges=edges,
            error=error,
            status=row["status"],
            step_length=step_length,
            step_loss=_known(step_loss),
            evaluations=row["evaluations"],
            window=window,
            rounding=row["rounding_error"],
        )

    batch = None
    if row["direction_batch_loss"] is not None:
        error = row["direction_batch_interpolation_error"]
        batch = curve(row["direction_batch_loss"], row["step_direction_batch_loss"], error)
    full = curve(row["train_loss"], row["step_train_loss"], row["interpolation_error"])
    return replace(full, step_learning_rate=_known(row["lr"]), batch=batch, step=row["step"])


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
