"""How a run and its twins move away from one update: distances, and projections on the Hessian's eigenvectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sgdline.figures.base import PanelSheet
from sgdline.figures.grammar import comparing, style
from sgdline.figures.grammar.sheet import NoDataError, Panel, draw_sheet
from sgdline.figures.grammar.style import FloatArray
from sgdline.tables import provenance

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from sgdline.analysis.predicted_gains import Directions


Tables = Mapping[str, "pa.Table"]

_BINS_PER_DECADE = 12  # of curves that are averaged over the logarithm of time
_LONGEST_MODEL = 2000  # lags at which the model's correlation is drawn
_MOST_EIGENVECTORS = 8  # that are drawn; more do not keep apart
_TOTAL: dict[str, Any] = {"color": "#000000", "linestyle": "-", "linewidth": 1.8}
_FLAT: dict[str, Any] = {"color": "#777777", "linestyle": (0, (5, 1.5)), "linewidth": 1.4}
_GUIDE: dict[str, Any] = {"color": "#999999", "linewidth": 1.1}
_TWIN: dict[str, Any] = {"color": "#D55E00", "linestyle": "-", "linewidth": 1.6}
_REJOINED: dict[str, Any] = {"color": "#0072B2", "linestyle": "-", "linewidth": 1.6}
_MODEL: dict[str, Any] = {"color": "#333333", "linestyle": (0, (4, 1.5)), "linewidth": 1.1}
_NO_EIGENVECTOR = "no eigenvector was measured"


@dataclass(frozen=True, kw_only=True)
class Stationarity(PanelSheet):
    """Quasi-stationarity: moving away from update t₀.

    How a run at a constant learning rate moves away from where it was at update t₀. (a) The squared distance from t₀,
    averaged over bins that are even in the logarithm of time, and the mean squared displacement along leading
    eigenvectors of the full-batch Hessian at t₀ over all starts, the stiffest one darkest; grey: what diffusion and a
    steady drift would give. (b) Autocorrelation of the projections on them, dots measured, dashed (1 - lr·λ)^lag of
    the quadratic model. (c) Squared distance of two twins from the run. Both leave it at t₀ with batches of their own;
    one sees the run's batches again from half-way on. Thin: along the eigenvectors alone. (d) Variance of the
    projections over the second half against lr·λ, with the model's value where the spectrum was measured.
    """

    reads: ClassVar[tuple[str, ...]] = ("stationarity", "trace")
    also: ClassVar[tuple[str, ...]] = ("spectrum",)
    panels: ClassVar[tuple[str, ...]] = ("distance", "correlation", "twins", "variance")

    def draw(self, tables: Tables, *, settings: Mapping[str, Any]) -> Figure:
        """Draw distances from theta_t0, autocorrelations, distances of twins, and variances per eigenvector.

        Source: curious C-M5 (papers.md 3.3), fig_stationarity (3.4); model: F2 and F13 (3.2).
        """
        walk = _Walk(tables)
        model = _model(tables, walk)
        panels = [
            Panel(name, title, partial(draw, walk, tables), height=2.2)
            for name, title, draw in (
                ("distance", "squared distance from the iterate at t₀", _draw_distance),
                ("correlation", "autocorrelation of the projections", _draw_autocorrelation),
                ("twins", "twins: squared distance from the run", partial(_draw_twins, model)),
                ("variance", "variance of the projections", partial(_draw_variances, model)),
            )
        ]
        return draw_sheet(self, panels, footer=_footer(tables, settings, walk), columns=2)


class _Walk:
    """The table as arrays over t - t0."""

    def __init__(self, tables: Tables) -> None:
        table = tables["stationarity"].sort_by("step")
        facts = provenance(tables["stationarity"])
        self._table = table
        self.start = int(facts.get("start", 0))
        self.rejoins_after = int(facts.get("rejoins_at", self.start)) - self.start
        self.momentum: float | None = facts.get("momentum", 0.0)  # None: no theory for this update rule
        self.elapsed = style.numbers(table, "updates")
        rates = style.numbers(table, "lr")
        self.lr = float(rates[0]) if len(rates) else float("nan")
        self.constant_lr = bool(np.all(rates[np.isfinite(rates)] == self.lr))
        found = [row for row in table["eigenvalues"].to_pylist() if row is not None]
        self.eigenvalues = np.array(found[0] if found else [], dtype=np.float64)
        self.not_converged = "not_converged" in table["status"].to_pylist()
        spacing = np.diff(self.elapsed)  # the last row is that of the run's end, wherever that is
        self.every = int(spacing[0]) if len(spacing) else 1

    @property
    def relative_lr(self) -> FloatArray:
        """Return a_i = lr*lambda_i. Shape (k,)."""
        return self.lr * self.eigenvalues

    @property
    def drawn(self) -> list[int]:
        """Return the eigenvectors that are drawn one by one: all, or some from the stiffest to the flattest."""
        count = len(self.eigenvalues)
        return sorted({round(place) for place in np.linspace(0, count - 1, min(count, _MOST_EIGENVECTORS))})

    def column(self, name: str) -> FloatArray:
        """Return a column of numbers. Shape (rows,)."""
        return style.numbers(self._table, name)

    def projections(self, name: str = "projections") -> FloatArray:
        """Return projections, NaN where there are none. Shape (rows, k)."""
        count = len(self.eigenvalues)
        rows = [[np.nan] * count if row is None else row for row in self._table[name].to_pylist()]
        return np.array(rows, dtype=np.float64).reshape(len(rows), count)

    def looks(self) -> dict[int, dict[str, Any]]:
        """Return the plot arguments of each eigenvector that is drawn, the stiffest one darkest."""
        looks = comparing.ordered_looks(len(self.drawn))[::-1]
        return dict(zip(self.drawn, looks, strict=True))

    def even(self, values: FloatArray) -> FloatArray:
        """Return the rows that are equally spaced: without that of the run's end where it breaks the step."""
        found: FloatArray = values[self.elapsed % self.every == 0]
        return found

    def late(self, values: FloatArray) -> FloatArray:
        """Return the rows of the second half."""
        found: FloatArray = values[self.elapsed >= self.elapsed[-1] / 2] if len(values) else values
        return found


@dataclass(frozen=True)
class _Model:
    """What the quadratic model predicts along the leading eigenvectors."""

    step: int  # update of the spectrum
    variances: FloatArray  # (k,), stationary, batches with replacement; NaN where there is no such state
    epochwise: FloatArray  # (k,), each sample once an epoch, mean over the places in an epoch


def _model(tables: Tables, walk: _Walk) -> _Model | None:
    """Return the model's variances from the spectrum nearest to the middle of the second half; None without one."""
    if "spectrum" not in tables or not len(walk.eigenvalues):
        return None
    # Imported lazily: reading a spec does not need it.
    from sgdline.analysis.predicted_gains import directions_of, iterate_variance

    found = directions_of(tables["spectrum"])
    middle = walk.start + 0.75 * walk.elapsed[-1]
    found = [directions for directions in found if len(directions.eigenvalues)]
    if not found:
        return None
    nearest = min(found, key=lambda directions: abs(directions.step - middle))
    count = len(walk.eigenvalues)
    return _Model(
        nearest.step, _by_rank(iterate_variance(nearest), count), _by_rank(_epochwise(nearest, walk.momentum), count)
    )


def _epochwise(directions: Directions, momentum: float | None) -> FloatArray:
    from sgdline.quadratic_model import epochwise_variance

    count = directions.updates_per_epoch
    if momentum != 0.0 or count < 2:
        return np.full_like(directions.eigenvalues, np.nan)
    noise = directions.noise_variances * (1.0 - directions.batch_share)
    return epochwise_variance(directions.relative_lr, noise, batches_per_epoch=count)


def _by_rank(values: FloatArray, count: int) -> FloatArray:
    """Return the first `count` values, NaN where there are fewer."""
    found = np.full(count, np.nan)
    found[: len(values)] = values[:count]
    return found


def _footer(tables: Tables, settings: Mapping[str, Any], walk: _Walk) -> list[str]:
    facts = provenance(tables["stationarity"])
    samples = facts.get("samples")
    changes = [] if walk.constant_lr else ["THE LEARNING RATE CHANGES: predictions are for that at t₀"]
    over = f"N = {samples:,} samples" if isinstance(samples, int) else "N not recorded"
    mode = f"BatchNorm in {facts.get('batch_norm', 'not recorded')} mode"
    return style.run_facts(
        tables, settings, measured=[*changes, f"t₀ = {walk.start:,}", f"Hessian at t₀ over {over}", mode]
    )


def _binned(elapsed: FloatArray, values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return means over bins that are equally wide in the logarithm of time, rows at 0 and non-finite ones left out."""
    known = (elapsed > 0) & np.isfinite(values)
    if not known.any():
        return np.empty(0), np.empty(0)
    bins = np.floor(_BINS_PER_DECADE * np.log10(elapsed[known]) + 1e-9).astype(int)
    places = np.unique(bins)
    found = [(elapsed[known][bins == place].mean(), values[known][bins == place].mean()) for place in places]
    times, means = np.array(found).T
    return times, means


def _draw_distance(walk: _Walk, tables: Tables, panel: Axes) -> Sequence[str]:
    panel.set_xlabel("updates since t₀")
    panel.set_ylabel("squared distance (length²)")
    total = walk.column("squared_distance")
    times, means = _binned(walk.elapsed, total)
    positive = means > 0
    if not positive.any():
        raise NoDataError("the run was not followed", tables)
    panel.plot(times, np.where(positive, means, np.nan), **_TOTAL, label=r"whole: $\|\theta_t - \theta_{t_0}\|^2$")
    projections = walk.projections()
    count = projections.shape[1]
    if count:
        rest = _binned(walk.elapsed, total - (projections**2).sum(axis=1))
        _positive(panel, *rest, **_FLAT, label=f"whole without the {count} eigenvectors")
    lags, displacements = _displacements(walk.even(projections))
    for place, look in walk.looks().items():
        label = f"eigenvector {place + 1}: lr·λ = {walk.relative_lr[place]:.2g}"
        _positive(panel, lags * walk.every, displacements[:, place], **look, label=label)
    last = np.flatnonzero(positive)[-1]
    panel.set_yscale("log")
    bounds = panel.get_ylim()  # the guides go on below all that was measured
    for power, dots, label in ((1, (1, 1.5), "∝ t: diffusion"), (2, (3, 2, 1, 2), "∝ t²: steady drift")):
        guide = means[last] * (times / times[last]) ** power
        panel.plot(times, guide, **_GUIDE, linestyle=(0, dots), label=label)
    panel.set_xscale("log")
    panel.set_ylim(bounds)
    return []


def _displacements(series: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return lags in rows, and the mean over all starts t of (x_{t+lag} - x_t)^2. Shapes (T, k) -> (L,), (L, k)."""
    most = (len(series) - 1) // 2
    if most < 1:
        return np.empty(0), np.empty((0, series.shape[1]))
    lags = np.unique(np.round(np.geomspace(1, most, 40)).astype(int))
    found = [((series[lag:] - series[:-lag]) ** 2).mean(axis=0) for lag in lags]
    return lags.astype(np.float64), np.array(found)


def _draw_autocorrelation(walk: _Walk, tables: Tables, panel: Axes) -> Sequence[str]:
    from sgdline.analysis.autocorrelation import autocorrelation

    panel.set_xlabel("lag (updates)")
    panel.set_ylabel("correlation")
    series = walk.even(walk.projections())
    series = series[len(series) // 2 :]
    if len(series) < 8 or not np.isfinite(series).any():
        raise NoDataError("too few rows for a correlation" if len(walk.eigenvalues) else _NO_EIGENVECTOR, tables)
    most = (len(series) - 1) // 2
    places = np.unique(np.round(np.geomspace(1, most, 28)).astype(int))
    lags = (places * walk.every).astype(np.float64)
    found = autocorrelation(series, places)
    dots: dict[str, Any] = {"linestyle": "", "marker": "o", "markersize": 2.8}
    panel.plot([], [], **dots, color="#333333", label="measured correlation")
    every_lag = np.arange(1.0, min(lags[-1], _LONGEST_MODEL) + 1)
    modelled, lowest = False, float(np.nanmin(found))
    for place, look in walk.looks().items():
        panel.plot(lags, found[:, place], **dots, color=look["color"])
        predicted = _model_correlation(float(walk.relative_lr[place]), every_lag, momentum=walk.momentum)
        if predicted is not None:
            panel.plot(every_lag, predicted, color=look["color"], linewidth=0.9, linestyle=(0, (4, 1.5)), zorder=1.5)
            modelled, lowest = True, min(lowest, float(np.nanmin(predicted)))
    if modelled:
        name = r"model: $(1 - \mathrm{lr}\,\lambda)^{\mathrm{lag}}$" if walk.momentum == 0.0 else "model (momentum)"
        panel.plot([], [], **_MODEL, label=name)
    panel.axhline(0.0, color="#999999", linewidth=0.6)
    panel.set_xscale("log")
    panel.set_ylim(max(-1.05, min(-0.35, 1.1 * lowest)), 1.05)
    return [f"over the last {len(series):,} rows"]


def _model_correlation(relative_lr: float, lags: FloatArray, *, momentum: float | None) -> FloatArray | None:
    from sgdline.quadratic_model import autocorrelation, momentum_autocorrelation

    if momentum is None or not 0 < relative_lr < 2 * (1 + momentum):
        return None
    if momentum == 0.0:
        return autocorrelation(relative_lr, lag=lags)
    found: FloatArray = momentum_autocorrelation(relative_lr, momentum=momentum, lags=int(lags[-1]))
    return found[..., lags.astype(int)]


def _draw_twins(model: _Model | None, walk: _Walk, tables: Tables, panel: Axes) -> Sequence[str]:
    panel.set_xlabel("updates since t₀")
    panel.set_ylabel("squared distance (length²)")
    twin, rejoined = walk.column("twin_squared_distance"), walk.column("rejoined_squared_distance")
    if not (np.isfinite(twin) & (twin > 0)).any():
        raise NoDataError("no twin was followed", tables)
    own, again = ((walk.projections(name) ** 2).sum(axis=1) for name in ("twin_projections", "rejoined_projections"))
    _positive(panel, walk.elapsed, twin, **_TWIN, label="other batches throughout")
    _positive(panel, walk.elapsed, rejoined, **_REJOINED, label="the run's batches again from half-way on")
    count = len(walk.eigenvalues)
    stiff = f"the {count} eigenvectors" if count != 1 else "the eigenvector"
    if count:
        thin = {"linewidth": 0.8, "alpha": 0.75}
        _positive(panel, walk.elapsed, own, **{**_TWIN, **thin}, label=f"other batches, along {stiff}")
        _positive(panel, walk.elapsed, again, **{**_REJOINED, **thin}, label=f"again the same, along {stiff}")
        predicted = _contraction(walk)
        if predicted is not None:
            _positive(panel, *predicted, **_MODEL, label="model: dᵢ² shrinks by (1 - lr·λᵢ)² per update")
    if model is not None and np.isfinite(model.variances).all():
        level = 2 * float(model.variances.sum())
        dotted: dict[str, Any] = {"color": "#D55E00", "linestyle": (0, (1, 1.5)), "linewidth": 1.3}
        panel.axhline(level, **dotted, label=f"model: 2 Σ Vᵢ along {stiff}")
    panel.axvline(walk.rejoins_after, color="#999999", linewidth=0.7)
    panel.set_yscale("log")
    measured = np.concatenate([twin, rejoined, own, again])
    measured = measured[np.isfinite(measured) & (measured > 0)]
    # The model's curve goes on below all that was measured.
    panel.set_ylim(0.3 * float(np.quantile(measured, 0.001)), 5.0 * float(measured.max()))
    lost = int(np.isnan(twin).sum())
    notes = [f"a twin diverged: {style.counted(lost, 'row')} without it"] if lost else []
    if walk.momentum is None:
        return [*notes, "no contraction drawn: there is no theory of this update rule"]
    return (
        [*notes, "no contraction drawn: with momentum it depends on the velocity as well"] if walk.momentum else notes
    )


def _positive(panel: Axes, times: FloatArray, values: FloatArray, **look: Any) -> None:
    with np.errstate(invalid="ignore"):
        panel.plot(times, np.where(values > 0, values, np.nan), **look)


def _contraction(walk: _Walk) -> tuple[FloatArray, FloatArray] | None:
    """Return times and the model's squared distance of the rejoined twin along the eigenvectors; None if unknown."""
    apart = walk.projections("rejoined_projections")
    known = np.flatnonzero(np.isfinite(apart).all(axis=1))
    if walk.momentum != 0.0 or not known.size:
        return None
    first = known[0]
    since = walk.elapsed[first:] - walk.elapsed[first]
    powers = (1.0 - walk.relative_lr) ** (2 * since[:, None])
    return walk.elapsed[first:], (powers * apart[first] ** 2).sum(axis=1)


def _draw_variances(model: _Model | None, walk: _Walk, tables: Tables, panel: Axes) -> Sequence[str]:
    panel.set_xlabel("lr · eigenvalue")
    panel.set_ylabel("variance (length²)")
    rows = walk.late(walk.projections())
    if len(rows) < 2 or not np.isfinite(rows).any():
        raise NoDataError("too few rows for a variance" if len(walk.eigenvalues) else _NO_EIGENVECTOR, tables)
    spread = rows.var(axis=0, ddof=1)
    shown = (spread > 0) & (walk.relative_lr > 0)
    panel.plot(walk.relative_lr[shown], spread[shown], "o", color="#000000", markersize=4.0, label="measured variance")
    notes = ["eigenvectors did not converge"] if walk.not_converged else []
    left = int((~shown).sum())
    notes += [f"{style.counted(left, 'direction')} not positive, not drawn"] if left else []
    panel.set_xscale("log")
    panel.set_yscale("log")
    if model is None:
        return [*notes, "no spectrum was measured to predict it from", f"over {len(rows):,} rows"]
    looks = (
        (model.variances, "#D55E00", "s", "model: batches with replacement"),
        (model.epochwise, "#0072B2", "v", "model: each sample once an epoch"),
    )
    for values, color, marker, label in looks:
        known = shown & np.isfinite(values)
        if known.any():
            hollow: dict[str, Any] = {"linestyle": "", "markersize": 5.0, "markerfacecolor": "none"}
            panel.plot(walk.relative_lr[known], values[known], color=color, marker=marker, **hollow, label=label)
    return [*notes, f"over {len(rows):,} rows; model: spectrum of update {model.step:,}, by rank"]
