"""Emulated batch sizes against loops over lines, sets, samples and positions, written from papers.md alone."""

import itertools
import math

import numpy as np
import pytest
from sample_lines import sample_line, write_sample_lines
from scipy.interpolate import BarycentricInterpolator

from sgdline.analysis.batch_sizes import draw_orders, measure_batch_sizes
from sgdline.tables import read_table

N, B, SEED, MU, LR = 40, 6, 5, 0.115, 0.3
SIZES = [2, 3, 6, 11, 24]
INTERVAL, RESOLUTION = 0.5, 0.03
LAYOUTS = {
    "panels": "panels",
    "grid": "grid",
    "irregular": np.sort(np.append(np.random.default_rng(1).uniform(-0.5, 0.5, 60), 0.0)),
}


def curves(count, *, seed, slope):
    """Return samples with wavy bowls, no polynomials."""
    draw = np.random.default_rng(seed)
    c, b, a, k = (
        draw.uniform(1, 3, count),
        draw.normal(slope, 1.5, count),
        draw.uniform(1, 9, count),
        draw.normal(0, 1, count),
    )
    return lambda s: (
        c + b * s[:, None] + a * s[:, None] ** 2 / (1 + np.exp(-3 * k * s[:, None])) + 0.05 * np.sin(5 * s[:, None] + k)
    )


def make_lines(layout):
    draw = np.random.default_rng(8)
    lines = []
    for index in range(4):
        size = B if index < 3 else 4  # the last batch of an epoch
        rows = draw.permutation(N)[:size]
        batch = curves(size, seed=50 + index, slope=-2.5)
        lines.append(
            sample_line(
                curves(N, seed=index, slope=-0.4), batch, step=3 * index, rows=rows if index != 1 else None,
                layout=layout, lr=LR, step_length=[0.31, 0.74, 0.006, 0.2][index],
                status="edge" if index == 2 else "ok",
            )
        )  # fmt: skip
    return lines


@pytest.fixture(params=LAYOUTS)
def lines(request):
    return make_lines(LAYOUTS[request.param])


def measured(folder, lines, *, compat):
    line, metrics = write_sample_lines(folder, lines)
    measure_batch_sizes(
        line, metrics, folder / "sizes.arrow", batch_size=B, seed=SEED, interval=INTERVAL, resolution=RESOLUTION,
        pal_measuring_step=MU, batch_sizes=SIZES, batch_draws=3, compat=compat, provenance={},
    )  # fmt: skip
    vertices = read_table(metrics, "line_metrics")
    minima = dict(zip(vertices["step"].to_pylist(), vertices["minimum_position_vertex"].to_pylist(), strict=True))
    return read_table(folder / "sizes.arrow", "line_batch_sizes").to_pylist(), minima


def value_at(line, losses, s):
    """Return one curve at one position: polynomial on its panel, or a chord."""
    nodes = line["positions"]
    if not nodes[0] <= s <= nodes[-1]:
        return math.nan
    edges = line["panel_edges"]
    if not len(edges):
        return float(np.interp(s, nodes, losses))
    for left, right in itertools.pairwise(edges):
        if left <= s <= right:
            own = (nodes >= left) & (nodes <= right)
            return float(BarycentricInterpolator(nodes[own], losses[own])(s))
    raise AssertionError


def middle_slope(s, f):
    """Return the second-order difference at the middle of three positions (M3)."""
    h, k = s[1] - s[0], s[2] - s[1]
    return (h * h * f[2] + (k * k - h * h) * f[1] - k * k * f[0]) / (h * k * (h + k))


def five_points(positions, losses):
    """Return slope and curvature at 0 of M3's operator on the five positions around 0."""
    zero = int(np.flatnonzero(np.abs(positions) < 1e-12)[0])
    s, f = positions[zero - 2 : zero + 3], losses[zero - 2 : zero + 3]
    slopes = [middle_slope(s[j : j + 3], f[j : j + 3]) for j in range(3)]
    return slopes[1], middle_slope(s[1:4], slopes)


def clean_derivatives(line, losses):
    """Return slope and curvature at 0; on panels those of the polynomial through 0 and four nodes on each side."""
    nodes = line["positions"]
    if not len(line["panel_edges"]):
        return five_points(nodes, losses)
    zero = int(np.flatnonzero(nodes == 0.0)[0])
    own = slice(zero - 4, zero + 5)
    fitted = np.polynomial.Polynomial.fit(nodes[own], losses[own], 8)
    return fitted.deriv(1)(0.0), fitted.deriv(2)(0.0)


def pal(slope, at_zero, at_mu):
    """Return the PAL step of M6."""
    a = (at_mu - at_zero - slope * MU) / MU**2
    if slope < 0 and a > 0:
        return -slope / (2 * a)
    return MU if slope < 0 else 0.0


def sample_curves(line):
    nodes = line["positions"]
    samples = line["sample_loss"].astype(float).reshape(nodes.size, -1).T
    batch = line["direction_batch_sample_loss"].astype(float).reshape(nodes.size, -1).T
    return list(samples), list(batch)


def clean_sets(line, samples, batch):
    """Yield selection, batch size, draw and the curves of the set (M13)."""
    known = [] if line["direction_batch_rows"] is None else line["direction_batch_rows"].tolist()
    rest = [row for row in range(len(samples)) if row not in known]
    own, others = draw_orders(SEED, line["step"], draws=3, batch=len(batch), rest=len(rest))
    for size in SIZES:
        for draw in range(1 if size == len(batch) else 3):
            chosen = [batch[i] for i in (own[draw][:size] if size < len(batch) else range(len(batch)))]
            chosen += [samples[rest[i]] for i in others[draw][: max(size - len(batch), 0)]]
            assert len(chosen) == size
            yield "random", size, draw, chosen
    yield "all", len(samples), 0, samples


def close(found, expected, tolerance):
    assert (found is None) == math.isnan(expected), (found, expected)
    if found is not None:
        assert found == pytest.approx(expected, rel=tolerance, abs=tolerance)


def test_clean_numbers_are_those_of_a_loop(tmp_path, lines):
    table, minima = measured(tmp_path, lines, compat=False)
    found = iter(table)
    outside = 0
    for line in lines:
        samples, batch = sample_curves(line)
        for selection, size, draw, chosen in clean_sets(line, samples, batch):
            row = next(found)
            assert (row["step"], row["selection"]) == (line["step"], selection)
            assert (row["batch_size"], row["draw"], row["status"]) == (size, draw, "ok")
            mean = np.array([sum(curve[p] for curve in chosen) / len(chosen) for p in range(len(line["positions"]))])
            zero = int(np.flatnonzero(np.abs(line["positions"]) < 1e-12)[0])
            slope, curvature = clean_derivatives(line, mean)
            close(row["slope"], slope, 1e-9)
            close(row["curvature"], curvature, 1e-6)
            close(row["loss_at_zero"], mean[zero], 1e-12)
            spread = [(curve[zero] - mean[zero]) ** 2 for curve in chosen]
            close(row["loss_variance"], sum(spread) / len(spread), 1e-12)
            steps = {"sgd": -LR * slope, "pal": pal(slope, mean[zero], value_at(line, mean, MU))}
            for name, s in steps.items():
                gain = value_at(line, line["train_loss"], 0.0) - value_at(line, line["train_loss"], s)
                outside += math.isnan(gain)
                close(row[f"{name}_step_length"], s, 1e-9)
                close(row[f"{name}_improvement"], gain, 1e-8)
                close(row[f"{name}_distance"], minima[line["step"]] - s, 1e-9)
    assert next(found, None) is None
    assert outside > 0


def released_grid(line):
    """Return the released positions: both halves of I, without its end, and s_sgd (papers.md L9)."""
    left, right = [], []
    s = 0
    while -INTERVAL + s * RESOLUTION < -1e-12:
        left.append(-INTERVAL + s * RESOLUTION)
        s += 1
    s = 0
    while s * RESOLUTION < INTERVAL - 1e-12:
        right.append(s * RESOLUTION)
        s += 1
    inside = [s for s in left + right if line["positions"][0] <= s <= line["positions"][-1]]
    return np.array(sorted([*inside, line["step_length"]]))


def nearest(positions, s):
    best = 0
    for index, position in enumerate(positions):
        if abs(position - s) < abs(positions[best] - s):
            best = index
    return best


def released_curve(line, losses, positions, *, at_step=math.nan):
    """Read a curve at the released positions; the sampler measured the step itself."""
    read = [value_at(line, losses, s) for s in positions]
    return np.array(
        [
            at_step if s == line["step_length"] and not math.isnan(at_step) else v
            for s, v in zip(positions, read, strict=True)
        ]
    )


def released_sets(line, samples, batch, positions):
    slopes = [five_points(positions, released_curve(line, curve, positions))[0] for curve in batch]
    steepest = sorted(range(len(batch)), key=lambda i: slopes[i])
    _, others = draw_orders(SEED, line["step"], draws=1, batch=len(batch), rest=len(samples))
    for size in SIZES:
        if size < len(batch):  # papers.md L18
            yield "steepest", size, [batch[i] for i in steepest[:size]]
        else:
            yield "random", size, batch + [samples[i] for i in others[0][: size - len(batch)]]
    yield "all", len(samples), samples + batch  # papers.md L11


def test_compat_numbers_are_those_of_a_loop(tmp_path, lines):
    table, _ = measured(tmp_path, lines, compat=True)
    found = iter(table)
    clamped = 0
    for line in lines:
        samples, batch = sample_curves(line)
        positions = released_grid(line)
        zero, mu = nearest(positions, 0.0), nearest(positions, MU)
        full, own = (
            released_curve(line, line[name], positions, at_step=line[f"step_{name}"])
            for name in ("train_loss", "direction_batch_loss")
        )
        stacked = (len(samples) * full + len(batch) * own) / (len(samples) + len(batch))
        lowest = min(range(len(positions)), key=lambda i: (stacked[i], i))
        for selection, size, chosen in released_sets(line, samples, batch, positions):
            row = next(found)
            assert (row["step"], row["selection"]) == (line["step"], selection)
            assert (row["batch_size"], row["draw"], row["status"]) == (size, 0, "ok")
            mean = released_curve(line, sum(chosen) / len(chosen), positions)
            slope, curvature = five_points(positions, mean)
            close(row["slope"], slope, 1e-9)
            close(row["curvature"], curvature, 1e-7)
            close(row["loss_at_zero"], mean[zero], 1e-10)
            at_zero = [value_at(line, curve, 0.0) for curve in chosen]
            close(row["loss_variance"], float(np.var(at_zero)), 1e-10)
            executed = selection == "random" and size == len(batch)
            steps = {
                "sgd": line["step_length"] if executed else -LR * slope,
                "pal": pal(slope, mean[zero], mean[mu]),  # papers.md L21
            }
            for name, s in steps.items():
                clamped += s > positions[-1]
                close(row[f"{name}_step_length"], s, 1e-9)
                close(row[f"{name}_improvement"], stacked[zero] - stacked[nearest(positions, s)], 1e-9)  # L20
                close(row[f"{name}_distance"], positions[lowest] - s, 1e-9)
    assert next(found, None) is None
    assert clamped > 0


def test_a_step_on_a_released_position_leaves_no_curvature(tmp_path):
    # papers.md L9: the position is there twice, and the second difference divides by its spacing.
    line = sample_line(
        curves(N, seed=0, slope=-0.4), curves(B, seed=1, slope=-2), rows=range(B), step_length=RESOLUTION
    )
    table, _ = measured(tmp_path, [line], compat=True)
    assert {row["curvature"] for row in table} == {None}
    assert None not in {row[name] for row in table for name in ("slope", "loss_at_zero", "sgd_improvement")}
    clean, _ = measured(tmp_path, [line], compat=False)
    assert None not in {row["curvature"] for row in clean}
