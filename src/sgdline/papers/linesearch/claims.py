"""The core claims of linesearch, on every run with lines.

All claims take the lines of a run in the order of their steps, T of them. Lines that are not resolved do not count.

Source: papers.md 2.4, core claims.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sgdline.analysis.batch_sizes import batch_slopes
from sgdline.analysis.columns import as_floats, finite, measurable, median
from sgdline.analysis.power_law import fit_power_law
from sgdline.analysis.strategies import common_improvement, middle_half
from sgdline.claims.base import Claim, EachRun, Value
from sgdline.claims.judging.measured import MeasuredTables
from sgdline.tables import provenance

OF_EVERY_RUN = True

_FIRST_LINES = 50  # C6
_LEAST_LINES = 66  # C6: below, the first lines and the last quarter overlap
_LEAST_RATIOS = 4  # C2
_LEAST_SHARE = 0.9  # C3


def parabolic(run: MeasuredTables) -> Value:
    """Return the median over lines of MAE_2 / MAE_1, the mean absolute residuals of the fits of degree 2 and 1 (M12).

    Lines without both fits, or with MAE_1 = 0, do not count.
    """
    fits = run.tables["line_fits"]
    straight, parabola = mae_by_step(fits, 1), mae_by_step(fits, 2)
    ratios = [parabola[step] / error for step, error in straight.items() if error > 0 and step in parabola]
    return Value(median(np.array(ratios)), len(ratios), "no line has fits of degrees 1 and 2")


def mae_by_step(line_fits: pa.Table, degree: int) -> dict[int, float]:
    """Return the residual of every line that is resolved, by step."""
    rows = zip(*(line_fits.column(name).to_pylist() for name in ("step", "degree", "mae", "status")), strict=True)
    return {step: mae for step, fitted, mae, status in rows if fitted == degree and mae is not None and status == "ok"}


def constant_ratio(run: MeasuredTables) -> Value:
    """Return the factor from the median ratio M10 that its quartiles lie within, over the middle half of the lines.

    The middle half are the lines with indices T//4 to T - T//4 - 1. The factor is max(q75/median, median/q25), and
    infinite where q25 or the median is not positive.
    """
    ratios = as_floats(run.tables["line_metrics"], "line_search_ratio")
    middle = finite(ratios[middle_half(len(ratios))])
    factor = math.nan
    if middle.size >= _LEAST_RATIOS:
        low, central, high = (float(value) for value in np.quantile(middle, [0.25, 0.5, 0.75]))
        factor = max(high / central, central / low) if low > 0 else math.inf
    reason = f"{_LEAST_RATIOS} ratios needed in the middle half of the lines, {middle.size} measured"
    return Value(factor, middle.size, reason)


def strategy_order(run: MeasuredTables) -> Value:
    """Return min(FBPAL, best) - direction batch of the accumulated improvements, over that of the optimum.

    Improvements are accumulated over the lines on which all of these have a value, at least 90 % of those that could be
    measured. Best is, in hindsight, the largest of the learning rates that the analysis compares and, for plain SGD
    with a constant rate, the run's own. That the optimum gains most holds by construction.
    """
    return _gap(run, lambda total, upper: upper - total["direction_batch_minimum"], beside=())


def pal_order(run: MeasuredTables) -> Value:
    """Return min(min(FBPAL, best) - PAL, PAL - direction batch) over the optimum, on the lines that PAL has as well.

    PAL on a small batch is known to fail (papers.md section 8), so its place is reported apart.
    """
    return _gap(
        run,
        lambda total, upper: min(upper - total["pal"], total["pal"] - total["direction_batch_minimum"]),
        beside=("pal",),
    )


def _gap(run: MeasuredTables, gap: Callable[[dict[str, float], float], float], *, beside: Sequence[str]) -> Value:
    """Return a gap between accumulated improvements over that of the optimum.

    Args:
        run: Any run with lines.
        gap: From the improvements and min(FBPAL, best) to the gap.
        beside: Further strategies that it needs.
    """
    strategies = run.tables["line_strategies"]
    rates = provenance(strategies).get("sgd_lr", {})
    known = dict.fromkeys(strategies.column("strategy").to_pylist())
    fixed = [name for name, lr in rates.items() if lr is not None and name in known]
    if not fixed:
        return Value(math.nan, 0, "no fixed learning rate is compared")
    totals, lines = common_improvement(strategies, ["optimum", "fbpal", "direction_batch_minimum", *fixed, *beside])
    status = strategies.filter(pc.equal(strategies["strategy"], "optimum"))["status"].to_pylist()
    # Lines on which a step ends beyond the measured range are its worst ones: a sum without many of them says nothing.
    if lines < max(_LEAST_SHARE * sum(value in ("ok", "out_of_range", "no_step") for value in status), 1):
        return Value(math.nan, 0, f"strategies share fewer than {_LEAST_SHARE:.0%} of the lines")
    if not totals["optimum"] > 0:
        return Value(math.nan, 0, "the optimum gains nothing")
    upper = min(totals["fbpal"], max(totals[name] for name in fixed))
    return Value(gap(totals, upper) / totals["optimum"], lines)


def inverse_batch_size(run: MeasuredTables) -> Value:
    """Return the exponent of |D_B| as a power of B on a fixed line, the median over lines (M13, random samples).

    It is fitted over the batch sizes from the run's own upwards, the full batch left out.
    """
    if "line_batch_sizes" not in run.tables:
        return Value(math.nan, 0, "losses of samples were not kept")
    sizes, slopes = batch_slopes(run.tables["line_batch_sizes"])
    if len(sizes) < 3:
        return Value(math.nan, 0, f"3 batch sizes needed from the run's own upwards, {len(sizes)} measured")
    exponents = finite(np.array([fit_power_law(sizes, own).exponent for own in slopes], dtype=np.float64))
    return Value(median(exponents), exponents.size, "no line has a power law")


def step_follows_gradient(run: MeasuredTables) -> Value:
    """Return Pearson's correlation of s_opt (vertex, M1) with ||g_t||, over lines of status ok and edge."""
    trace, metrics = run.tables["trace"], run.tables["line_metrics"]
    norm_at = dict(zip(trace.column("step").to_pylist(), as_floats(trace, "gradient_norm").tolist(), strict=True))
    norms = np.array([norm_at.get(step, math.nan) for step in metrics.column("step").to_pylist()], dtype=float)
    minima = as_floats(metrics, "minimum_position_vertex")
    used = measurable(metrics) & np.isfinite(minima) & np.isfinite(norms)
    lines = int(used.sum())
    if lines < 3:
        return Value(math.nan, lines, f"3 lines with a minimum and a gradient norm needed, {lines} measured")
    if not (np.ptp(minima[used]) > 0 and np.ptp(norms[used]) > 0):
        return Value(math.nan, lines, "minima or gradient norms are all equal")
    return Value(float(np.corrcoef(minima[used], norms[used])[0, 1]), lines)


def shapes_settle(run: MeasuredTables) -> Value:
    """Return the median consecutive distance (M11) of the last T//4 lines over that of the first 50 lines.

    Pairs of lines of status ok and edge count. The two parts must not overlap, and the second median must be positive.
    """
    metrics = run.tables["line_metrics"]
    distances = as_floats(metrics, "consecutive_distance")
    counts = measurable(metrics)
    distances[~(counts & np.append(counts[1:], True))] = np.nan  # of a pair both lines count
    lines = len(distances)
    first, last = finite(distances[:_FIRST_LINES]), finite(distances[lines - lines // 4 :])
    pairs = first.size + last.size
    if lines < _LEAST_LINES:
        return Value(math.nan, pairs, f"{_LEAST_LINES} lines needed, {lines} measured")
    if not (first.size and last.size):
        return Value(math.nan, pairs, "no two consecutive lines are resolved at the start or at the end")
    if not median(first) > 0:
        return Value(math.nan, pairs, "the first lines are all alike")
    return Value(median(last) / median(first), pairs)


CLAIMS = (
    Claim(
        name="C1",
        number="Median MAE of the parabola over MAE of the straight line",
        meaning="the full-batch loss along update directions is close to a parabola",
        relation="<",
        threshold=0.2,
        about=EachRun(reads=("line_fits",)),
        value=parabolic,
    ),
    Claim(
        name="C2",
        number="Quartiles of s_opt/||m_t|| within this factor of the median, middle half of the run",
        meaning="one fixed learning rate makes SGD an almost exact line search on the full-batch loss",
        relation="<=",
        threshold=2.0,
        about=EachRun(reads=("line_metrics",)),
        value=constant_ratio,
    ),
    Claim(
        name="C3",
        number="Gap from the direction batch's minimum up to FBPAL and the best fixed lr, over the optimum's gain",
        meaning="the full-batch parabola and one fixed learning rate gain more than the direction batch's own minimum",
        relation=">",
        threshold=0.0,
        about=EachRun(reads=("line_strategies",)),
        value=strategy_order,
    ),
    Claim(
        name="C3-PAL",
        number="Smaller of PAL's gaps to its neighbours in the order of C3, over the optimum's gain",
        meaning="PAL gains less than these two and more than the direction batch's own minimum",
        relation=">",
        threshold=0.0,
        about=EachRun(reads=("line_strategies",)),
        value=pal_order,
    ),
    Claim(
        name="C4",
        number="Exponent of abs(D_B) as a power of the batch size on a fixed line",
        meaning="on a fixed line the slope falls as one over the batch size",
        relation="from",
        threshold=(-1.1, -0.8),
        about=EachRun(reads=("line_metrics",), optional=("line_batch_sizes",)),
        value=inverse_batch_size,
    ),
    Claim(
        name="C5",
        number="Correlation of s_opt with the gradient norm",
        meaning="the full-batch minimum lies farther out where the gradient is larger",
        relation=">",
        threshold=0.5,
        about=EachRun(reads=("line_metrics",)),
        value=step_follows_gradient,
    ),
    Claim(
        name="C6",
        number="Consecutive line distance, last quarter over first 50 lines",
        meaning="line shapes differ much at the start and little at the end",
        relation="<=",
        threshold=0.1,
        about=EachRun(reads=("line_metrics",)),
        value=shapes_settle,
    ),
)
