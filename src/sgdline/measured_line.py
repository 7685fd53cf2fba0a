"""A measured line and what it says: minimum, overshoot, critical learning rate, slope, curvature (no torch).

Positions are Euclidean lengths along the unit vector of an update, positive ahead; losses have the unit of the loss
function (nats for cross-entropy). What the measurement does not hold is None, never a number at its edge. The error of
a number is by how much every second node gives another one: the error of a measurement of half the cost.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq, minimize_scalar

from sgdline.analysis.fits import fit_polynomial
from sgdline.errors import SgdlineError
from sgdline.interpolation import differentiate, interpolate_panels, panel_slices

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]

# Within the range of a line so many points are looked at before a minimum or a crossing is made exact.
_POINTS = 2001
# Points within the window that the parabola is fitted to.
_FITTED = 67


class Value(NamedTuple):
    """One number of a line."""

    name: str
    value: float
    error: float | None  # the largest that is expected; None where the measurement gives no estimate
    unit: str


@dataclass(frozen=True)
class Parabola:
    """offset + slope*s + curvature/2*s^2, fitted by least squares (linesearch M12)."""

    offset: float  # loss
    slope: float  # loss per length
    curvature: float  # loss per length^2
    mean_residual: float  # mean absolute residual, loss
    window: float  # fitted where |s| <= window

    @property
    def vertex(self) -> float:
        """Position of the minimum; NaN if the parabola has none."""
        return -self.slope / self.curvature if self.curvature > 0 else float("nan")


@dataclass(frozen=True)
class Minimum:
    """The lowest loss of a line, with higher ones measured on both sides."""

    position: float  # length
    position_error: float  # length; inf where half of the nodes show no minimum
    loss: float
    loss_error: float | None  # None for a grid


class Estimate(NamedTuple):
    """A number with the error that is expected of it."""

    value: float
    error: float


@dataclass(frozen=True)
class MeasuredLine:
    """Mean loss along theta + s*d, s a Euclidean length, in units of the loss function (nats for cross-entropy)."""

    positions: Array  # (P,), ascending, 0 among them
    losses: Array  # (P,)
    panel_edges: Array  # (K + 1,) of the Chebyshev panels; empty for a grid
    error: float | None  # largest disagreement between the last two levels of nodes; None for a grid
    status: str  # ok | edge | unresolved | non_finite | zero_direction
    step_length: float | None  # of the optimizer's step, if there was one
    step_loss: float | None  # measured at the step itself
    evaluations: int  # forward passes over the measuring set
    window: float = field(repr=False)  # half-width for the parabola
    rounding: float | None = None  # error of the plan's precision against float64, per max(1, loss); None: unknown
    step_learning_rate: float | None = None  # of the optimizer's step, if it has one and only one
    batch: MeasuredLine | None = field(default=None, repr=False)  # of the step's own batch, at the same positions
    step: int | None = None  # number of the update, counted by the meter from 0
    seconds: float | None = None  # that measuring took

    def at(self, positions: ArrayLike) -> Array:
        """Return the losses at positions: the interpolant of the panels, or straight lines between grid points.

        Args:
            positions: Euclidean lengths. Shape (n,).

        Returns:
            Shape (n,). NaN outside of the measured range.

        Raises:
            SgdlineError: If the positions are no numbers.
        """
        try:
            points = np.asarray(positions, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise SgdlineError(
                f"positions must be numbers, got {positions!r}. Pass lengths, e.g. [0.0, 0.1]."
            ) from error
        if not len(self.panel_edges):
            return np.interp(points, self.positions, self.losses, left=np.nan, right=np.nan)
        return interpolate_panels(self.panel_edges, self.positions, self.losses, points)

    @property
    def loss(self) -> float:
        """The mean loss at 0, where the step begins; NaN if nothing was measured."""
        return float(self.losses[np.searchsorted(self.positions, 0.0)])

    @property
    def loss_error(self) -> float | None:
        """The largest error that is expected of a loss on the line: between the nodes, and of the precision."""
        return None if self.error is None else self.error + self._noise

    @property
    def _noise(self) -> float:
        """What the precision of the passes does to a loss of the line."""
        if self.rounding is None or not np.isfinite(self.losses).any():
            return 0.0
        return self.rounding * max(1.0, float(np.nanmax(np.abs(self.losses))))

    @functools.cached_property
    def coarser(self) -> MeasuredLine | None:
        """The line as every second node gives it, for estimates of errors; None where that is no line."""
        if len(self.panel_edges):
            kept = np.unique(np.concatenate([np.r_[p][::2] for p in panel_slices(self.panel_edges, self.positions)]))
        else:
            middle = int(np.searchsorted(self.positions, 0.0))
            kept = np.arange(middle % 2, len(self.positions), 2)
        if len(kept) < 3 or len(kept) == len(self.positions):
            return None
        return replace(self, positions=self.positions[kept], losses=self.losses[kept], rounding=None)

    @functools.cached_property
    def minimum(self) -> Minimum | None:
        """The lowest loss; None where it lies at the edge of what was measured, or nothing is finite."""
        position = self.minimum_position
        if math.isnan(position):
            return None
        other = float("nan") if self.coarser is None else self.coarser.minimum_position
        within = float("inf") if math.isnan(other) else abs(position - other)
        points, losses = self._curve
        loss = self._one(position)
        flat = points[losses <= loss + 2 * self._noise]  # rounding cannot tell these from the lowest
        reach = float(np.abs(flat - position).max()) if len(flat) and self._noise else 0.0
        return Minimum(position, within + reach, loss, self.loss_error)

    @functools.cached_property
    def minimum_position(self) -> float:
        """Position of the minimum; NaN where there is none."""
        points, losses = self._curve
        finite = np.flatnonzero(np.isfinite(losses))
        if not len(finite):
            return float("nan")
        lowest = int(np.nanargmin(losses))
        if not finite[0] < lowest < finite[-1]:
            return float("nan")
        if not len(self.panel_edges):
            return float(points[lowest])
        bounds = float(points[lowest - 1]), float(points[lowest + 1])
        options = {"xatol": 1e-6 * (bounds[1] - bounds[0])}
        found = minimize_scalar(self._one, bounds=bounds, method="bounded", options=options)
        return float(found.x) if found.fun <= losses[lowest] else float(points[lowest])

    @property
    def overshoot(self) -> float | None:
        """Length of the step over the position of the minimum: 1 is an exact line search, 2 the edge of a parabola.

        Negative where the minimum lies on the other side of 0. None without a step or a minimum.
        """
        if self.step_length is None or math.isnan(self.minimum_position) or self.minimum_position == 0.0:
            return None
        return self.step_length / self.minimum_position

    @property
    def learning_rate(self) -> float | None:
        """The learning rate that would have ended in the minimum; None where it is unknown or would be negative."""
        overshoot, rate = self.overshoot, self.step_learning_rate
        return None if rate is None or overshoot is None or overshoot <= 0 else rate / overshoot

    @functools.cached_property
    def slope(self) -> Estimate | None:
        """Derivative of the loss at 0, loss per length; None where the line is not finite around 0."""
        return self._derivative(1)

    @functools.cached_property
    def curvature(self) -> Estimate | None:
        """Second derivative of the loss at 0, loss per length^2; None where the line is not finite around 0."""
        return self._derivative(2)

    @functools.cached_property
    def critical_position(self) -> float | None:
        """The first position ahead at which the loss is above that at 0 (K-M1).

        None where the loss rises from 0 on, or stays below within what was measured.
        """
        slope = self.slope
        if slope is None or slope.value >= 0 or not math.isfinite(self.loss):
            return None
        points = np.linspace(0.0, self.positions[-1], _POINTS)
        above = np.flatnonzero(self.at(points) > self.loss)
        above = above[above > 0]
        if not len(above) or above[0] == 1:
            return None if not len(above) else self._crossing(0.5 * points[1], points[1])
        return self._crossing(float(points[above[0] - 1]), float(points[above[0]]))

    @property
    def critical_learning_rate(self) -> float | None:
        """The smallest learning rate whose step would not lower the loss (K-M1); None where it is unknown."""
        if self.critical_position is None or self.step_learning_rate is None or not self.step_length:
            return None
        return self.step_learning_rate * self.critical_position / self.step_length

    @property
    def critical_sharpness(self) -> float | None:
        """2 over the critical learning rate (K-M1); on a parabola the directional sharpness."""
        return None if self.critical_learning_rate is None else 2.0 / self.critical_learning_rate

    @property
    def directional_sharpness(self) -> float | None:
        """Curvature along the update over its slope, per unit of learning rate (K-M2); None where it is unknown."""
        slope, curvature = self.slope, self.curvature
        if slope is None or curvature is None or self.step_learning_rate is None or not self.step_length:
            return None
        if slope.value >= 0:
            return None
        return self.step_length / self.step_learning_rate * curvature.value / -slope.value

    @functools.cached_property
    def parabola(self) -> Parabola:
        """The parabola through the window around 0; NaN where the line is not finite."""
        points = np.linspace(-self.window, self.window, _FITTED)
        fit = fit_polynomial(points, self.at(points)[None], degree=2)
        offset, slope, half = fit.coefficients[0].tolist()
        return Parabola(offset, slope, 2 * half, float(fit.mae[0]), self.window)

    def values(self) -> list[Value]:
        """Return all numbers that the line holds, with errors and units; what it does not hold is left out."""
        return [value for value in self._values() if math.isfinite(value.value)]

    def scalars(self, prefix: str = "line/") -> dict[str, float]:
        """Return the numbers by name as plain floats, as TensorBoard, W&B and MLflow take them.

        Args:
            prefix: Put before each name.
        """
        return {prefix + value.name: float(value.value) for value in self.values()}

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the loss along the line, its minimum with the error, the step, the parabola and the batch's own line.

        Args:
            ax: Where to; None: a new figure, `line.plot().figure.savefig("line.png")`.

        Raises:
            SgdlineError: If matplotlib is not installed, or no loss is finite.
        """
        from sgdline.plotting import plot_line

        return plot_line(self, ax)

    def __str__(self) -> str:
        """Return the numbers as text, one to a line."""
        rows = [f"line of {'a direction' if self.step_length is None else 'a step'}, status {self.status}"]
        for name, value, error, unit in self.values():
            within = " ± ?" if error is None or math.isinf(error) else f" ± {error:.2g}" if error else ""
            rows.append(f"  {name:<24}{value:.6g}{within}{' ' * bool(unit)}{unit}")
        if self.seconds is not None:
            rows.append(f"  {self.evaluations} passes over the measuring set, {self.seconds:.3g} s")
        return "\n".join(rows)

    def _values(self) -> Iterator[Value]:
        minimum, slope, curvature = self.minimum, self.slope, self.curvature
        position = None if minimum is None else minimum.position

        def of(name: str, unit: str) -> Value:
            value = getattr(self, name)
            other = None if self.coarser is None else getattr(self.coarser, name)
            return _value(name, value, None if None in (value, other) else abs(value - other), unit)

        yield _value("loss", self.loss, self._noise, "loss")
        yield _value("step_length", self.step_length, 0.0, "length")
        yield _value("step_loss", self.step_loss, self._noise, "loss")
        yield _value("step_learning_rate", self.step_learning_rate, 0.0, "")
        if minimum is not None:
            relative = minimum.position_error / abs(minimum.position) if minimum.position else float("inf")
            yield _value("minimum_position", position, minimum.position_error, "length")
            yield _value("minimum_loss", minimum.loss, minimum.loss_error, "loss")
            for name, value in (("overshoot", self.overshoot), ("learning_rate", self.learning_rate)):
                yield _value(name, value, None if value is None else abs(value) * relative, "")
        yield of("critical_position", "length")
        yield of("critical_learning_rate", "")
        yield of("critical_sharpness", "1 / learning rate")
        yield of("directional_sharpness", "1 / learning rate")
        if slope is not None:
            yield _value("slope", slope.value, slope.error, "loss / length")
        if curvature is not None:
            yield _value("curvature", curvature.value, curvature.error, "loss / length^2")

    @functools.cached_property
    def _curve(self) -> tuple[Array, Array]:
        """Points over the whole range, and the losses there. Shapes (2001,)."""
        points = np.linspace(self.positions[0], self.positions[-1], _POINTS)
        return points, self.at(points)

    def _one(self, position: float) -> float:
        return float(self.at(np.array([position]))[0])

    def _crossing(self, low: float, high: float) -> float | None:
        """Return where the loss passes that at 0 between two positions."""
        height: Callable[[float], float] = lambda position: self._one(position) - self.loss  # noqa: E731
        if not height(low) <= 0.0 < height(high):
            return None
        return float(brentq(height, low, high))

    def _derivative(self, order: int) -> Estimate | None:
        """Return a derivative at 0 and by how much it changes from level to level of the nodes."""
        if self.status == "zero_direction" or not np.isfinite(self.losses).any():
            return None
        if not len(self.panel_edges):
            return self._difference(order)
        part = next(p for p in panel_slices(self.panel_edges, self.positions) if self.positions[p][-1] > 0.0)
        nodes, losses = self.positions[part], self.losses[part]
        if not np.isfinite(losses).all():
            return None
        # Every second and every fourth node as well: beside kinks two levels agree by chance.
        found = [
            float(differentiate(nodes[::skip], losses[::skip], 0.0, order=order))
            for skip in (1, 2, 4)
            if len(nodes) > 2 * skip
        ]
        return Estimate(found[0], max((abs(a - b) for a, b in pairwise(found)), default=math.inf))

    def _difference(self, order: int) -> Estimate | None:
        """Return a derivative at 0 on a grid, by central differences of one spacing, and the error by those of two."""
        middle = int(np.searchsorted(self.positions, 0.0))
        spacing = float(np.diff(self.positions).max())
        found = []
        for reach in (1, 2):
            around = self.losses[[max(middle - reach, 0), middle, min(middle + reach, len(self.losses) - 1)]]
            if middle - reach < 0 or middle + reach >= len(self.losses) or not np.isfinite(around).all():
                break
            step = reach * spacing
            back, here, ahead = around.tolist()
            found.append((ahead - back) / (2 * step) if order == 1 else (ahead - 2 * here + back) / step**2)
        if not found:
            return None
        return Estimate(found[0], abs(found[0] - found[1]) if len(found) == 2 else float("inf"))


def _value(name: str, value: float | None, error: float | None, unit: str) -> Value:
    return Value(name, float("nan") if value is None else value, error, unit)
