"""The core claims of linesearch as numbers with a verdict, for one run.

A claim compares one number of a run with a threshold. All of them take the lines of a run in the order of their
steps, T of them:

C1  A parabola describes the lines, a straight line does not: the median over lines of MAE_2 / MAE_1 (mean absolute
    residuals of the fits of degree 2 and 1, M12) is below 0.2. Lines without both fits, or with MAE_1 = 0, do not
    count.
C2  One learning rate fits all lines: over the middle half of the lines (indices T//4 to T - T//4 - 1) the quartiles
    of the ratio M10 lie within a factor 2 of its median, q25 >= median/2 and q75 <= 2*median. The value is
    max(q75/median, median/q25); infinite where q25 or the median is not positive. At least 4 ratios are needed.
C3  The order of the strategies, each by its accumulated improvement over the lines on which all of them have a value:
    FBPAL and the best fixed learning rate gain more than the direction batch's own minimum. Best, in hindsight, is the
    largest of the learning rates that the analysis compares and, for plain SGD with a constant rate, the run's own.
    The value is min(FBPAL, best) - direction batch, over the optimum's improvement, and must be above 0. (That the
    optimum gains most holds by construction.) These lines must be at least 90 % of those that could be measured.
C3-PAL  Where PAL stands in that order, on the lines that it has as well: min(min(FBPAL, best) - PAL, PAL - direction
    batch) over the optimum's improvement is above 0. Reported apart: PAL on a small batch is known to fail
    (papers.md section 8).
C4  A larger batch acts like a smaller learning rate: the exponent of abs(D_B) as a power of B on a fixed line, fitted
    on every line over the batch sizes from the run's own upwards, the full batch left out (M13, random samples); the
    median over lines lies from -1.1 to -0.8. The value is that median. At least 3 batch sizes are needed, and the loss
    of every sample.
C5  The full-batch minimum lies farther out where the gradient is larger: Pearson's correlation of s_opt (vertex, M1)
    with ||g_t|| is above 0.5. Lines of status ok and edge count. At least 3 lines, and neither series constant.
C6  Line shapes settle: the median consecutive distance (M11) of the last T//4 lines is at most 0.1 times that of the
    first 50 lines. Pairs of lines of status ok and edge count. The two parts must not overlap (T >= 66), and the
    second median must be positive.

A claim whose number does not exist is undetermined, and so is every claim of a run that diverged: its lines are
those of another, shorter run. The value stays where it exists.

Source: papers.md 2.4, core claims.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sgdline.analysis.batch_sizes import batch_slopes
from sgdline.analysis.claims.judging import Claim, Statement, judge
from sgdline.analysis.claims.pages import finite, median
from sgdline.analysis.columns import as_floats, measurable
from sgdline.analysis.divergence import diverged_at
from sgdline.analysis.power_law import fit_power_law
from sgdline.analysis.strategies import common_improvement, middle_half
from sgdline.tables import provenance

PAPER = "linesearch"


def _statement(
    claim: str, number: str, meaning: str, relation: str, threshold: float | tuple[float, float]
) -> Statement:
    return Statement(PAPER, claim, number, meaning, relation, threshold)


STATEMENTS: dict[str, Statement] = {
    statement.claim: statement
    for statement in (
        _statement(
            "C1",
            "Median MAE of the parabola over MAE of the straight line",
            "the full-batch loss along update directions is close to a parabola",
            "<",
            0.2,
        ),
        _statement(
            "C2",
            "Quartiles of s_opt/||m_t|| within this factor of the median, middle half of the run",
            "one fixed learning rate makes SGD an almost exact line search on the full-batch loss",
            "<=",
            2.0,
        ),
        _statement(
            "C3",
            "Gap from the direction batch's minimum up to FBPAL and the best fixed lr, over the optimum's gain",
            "the full-batch parabola and one fixed learning rate gain more than the direction batch's own minimum",
            ">",
            0.0,
        ),
        _statement(
            "C3-PAL",
            "Smaller of PAL's gaps to its neighbours in the order of C3, over the optimum's gain",
            "PAL gains less than these two and more than the direction batch's own minimum",
            ">",
            0.0,
        ),
        _statement(
            "C4",
            "Exponent of abs(D_B) as a power of the batch size on a fixed line",
            "on a fixed line the slope falls as one over the batch size",
            "from",
            (-1.1, -0.8),
        ),
        _statement(
            "C5",
            "Correlation of s_opt with the gradient norm",
            "the full-batch minimum lies farther out where the gradient is larger",
            ">",
            0.5,
        ),
        _statement(
            "C6",
            "Consecutive line distance, last quarter over first 50 lines",
            "line shapes differ much at the start and little at the end",
            "<=",
            0.1,
        ),
    )
}
_FIRST_LINES = 50  # C6
_LEAST_SHARE = 0.9  # C3


def claim_parabolic(line_fits: pa.Table) -> Claim:
    """Return C1: median over lines of MAE_2 / MAE_1, below 0.2."""
    straight, parabola = mae_by_step(line_fits, 1), mae_by_step(line_fits, 2)
    ratios = [parabola[step] / error for step, error in straight.items() if error > 0 and step in parabola]
    return judge(STATEMENTS["C1"], median(np.array(ratios)), observations=len(ratios))


def claim_constant_ratio(line_metrics: pa.Table) -> Claim:
    """Return C2: quartiles of M10 within a factor 2 of the median over the middle half of the run's lines."""
    ratios = as_floats(line_metrics, "line_search_ratio")
    middle = finite(ratios[middle_half(len(ratios))])
    factor = math.nan
    if middle.size >= 4:
        low, central, high = (float(value) for value in np.quantile(middle, [0.25, 0.5, 0.75]))
        factor = max(high / central, central / low) if low > 0 else math.inf
    return judge(STATEMENTS["C2"], factor, observations=middle.size)


def claim_order(line_strategies: pa.Table) -> tuple[Claim, Claim]:
    """Return C3 and C3-PAL: the order of the strategies by their accumulated improvement."""
    rates = provenance(line_strategies).get("sgd_lr", {})
    known = dict.fromkeys(line_strategies.column("strategy").to_pylist())
    fixed = [name for name, lr in rates.items() if lr is not None and name in known]
    needed = ["optimum", "fbpal", "direction_batch_minimum"]
    if not fixed:
        return (
            judge(STATEMENTS["C3"], math.nan, observations=0),
            judge(STATEMENTS["C3-PAL"], math.nan, observations=0),
        )
    totals, lines = _shared_gains(line_strategies, [*needed, *fixed])
    order = math.nan
    if lines:
        upper = min(totals["fbpal"], max(totals[name] for name in fixed))
        order = (upper - totals["direction_batch_minimum"]) / totals["optimum"]
    totals, pal_lines = _shared_gains(line_strategies, [*needed, *fixed, "pal"])
    pal = math.nan
    if pal_lines:
        upper = min(totals["fbpal"], max(totals[name] for name in fixed))
        pal = min(upper - totals["pal"], totals["pal"] - totals["direction_batch_minimum"]) / totals["optimum"]
    return (
        judge(STATEMENTS["C3"], order, observations=lines),
        judge(STATEMENTS["C3-PAL"], pal, observations=pal_lines),
    )


def _shared_gains(line_strategies: pa.Table, needed: Sequence[str]) -> tuple[dict[str, float], int]:
    """Return what strategies gain on the lines that all of them have, and how many lines these are.

    None if they are too few: lines on which a step ends beyond the measured range are its worst ones, and a sum
    without many of them would say nothing.
    """
    gains, lines = common_improvement(line_strategies, needed)
    status = line_strategies.filter(pc.equal(line_strategies["strategy"], "optimum"))["status"].to_pylist()
    measured = sum(value in ("ok", "out_of_range", "no_step") for value in status)
    if lines < _LEAST_SHARE * measured or not gains["optimum"] > 0:
        return gains, 0
    return gains, lines


def claim_inverse_batch_size(line_batch_sizes: pa.Table | None) -> Claim:
    """Return C4: the exponent of |D_B| against B on a fixed line, from -1.1 to -0.8; None: no losses of samples."""
    exponents = np.empty(0)
    if line_batch_sizes is not None:
        sizes, slopes = batch_slopes(line_batch_sizes)
        if len(sizes) >= 3:
            exponents = finite(np.array([fit_power_law(sizes, own).exponent for own in slopes], dtype=np.float64))
    return judge(STATEMENTS["C4"], median(exponents), observations=exponents.size)


def claim_step_follows_gradient(line_metrics: pa.Table, trace: pa.Table) -> Claim:
    """Return C5: correlation of s_opt with the gradient norm over the run, above 0.5."""
    norm_at = dict(zip(trace.column("step").to_pylist(), as_floats(trace, "gradient_norm").tolist(), strict=True))
    norms = np.array([norm_at.get(step, math.nan) for step in line_metrics.column("step").to_pylist()], dtype=float)
    minima = as_floats(line_metrics, "minimum_position_vertex")
    used = measurable(line_metrics) & np.isfinite(minima) & np.isfinite(norms)
    correlation = math.nan
    if used.sum() >= 3 and np.ptp(minima[used]) > 0 and np.ptp(norms[used]) > 0:
        correlation = float(np.corrcoef(minima[used], norms[used])[0, 1])
    return judge(STATEMENTS["C5"], correlation, observations=int(used.sum()))


def claim_shapes_settle(line_metrics: pa.Table) -> Claim:
    """Return C6: median consecutive distance of the last quarter over that of the first 50 lines, at most 0.1."""
    distances = as_floats(line_metrics, "consecutive_distance")
    counts = measurable(line_metrics)
    distances[~(counts & np.append(counts[1:], True))] = np.nan  # of a pair both lines count
    quarter = len(distances) // 4
    first = finite(distances[:_FIRST_LINES])
    last = finite(distances[len(distances) - quarter :])
    change = math.nan
    if len(distances) - quarter >= _FIRST_LINES and quarter and median(first) > 0:
        change = median(last) / median(first)
    return judge(STATEMENTS["C6"], change, observations=first.size + last.size)


def run_claims(
    *,
    trace: pa.Table,
    line_fits: pa.Table,
    line_metrics: pa.Table,
    line_strategies: pa.Table,
    line_batch_sizes: pa.Table | None = None,
) -> tuple[Claim, ...]:
    """Return the claims C1 to C6 of one run.

    Args:
        trace: Table of kind `trace`.
        line_fits: Table of kind `line_fits`, with the degrees 1 and 2 (else C1 is undetermined).
        line_metrics: Table of kind `line_metrics`.
        line_strategies: Table of kind `line_strategies`.
        line_batch_sizes: Table of kind `line_batch_sizes`; None if the run kept no losses of samples.

    Source: papers.md 2.4; definitions in the docstring of this module.
    """
    claims = (
        claim_parabolic(line_fits),
        claim_constant_ratio(line_metrics),
        *claim_order(line_strategies),
        claim_inverse_batch_size(line_batch_sizes),
        claim_step_follows_gradient(line_metrics, trace),
        claim_shapes_settle(line_metrics),
    )
    if diverged_at(trace) is None:
        return claims
    return tuple(dataclasses.replace(claim, verdict="undetermined") for claim in claims)


def mae_by_step(line_fits: pa.Table, degree: int) -> dict[int, float]:
    """Return the residual of every line that is resolved, by step."""
    rows = zip(*(line_fits.column(name).to_pylist() for name in ("step", "degree", "mae", "status")), strict=True)
    return {step: mae for step, fitted, mae, status in rows if fitted == degree and mae is not None and status == "ok"}
