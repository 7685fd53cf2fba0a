"""Strategies against loops written from papers.md, line by line and number by number; the released rules as well."""

import itertools
import math

import numpy as np
import pytest
from line_tables import write_line_table
from scipy.interpolate import BarycentricInterpolator

from sgdline.analysis.metrics import measure_lines
from sgdline.analysis.strategies import measure_strategies, rows_by_strategy
from sgdline.tables import read_table

R, INTERVAL, MU, EVERY, AVERAGE = 0.006, 0.5, 0.1, 3, 2
COUNT = 14
SAMPLES, BATCH = 96, 32
LRS = [0.05, 0.3, 2.0]
NAMES = {
    "optimum",
    "direction_batch_minimum",
    "fbpal",
    "fbpal_sgd_lr",
    "fbpal_sgd_step",
    "sgd_original",
    "sgd_0.05",
    "sgd_0.3",
    "sgd_2",
    "pal",
}

LAYOUTS = {
    "panels": {"panels": [(1 + index // 5, 1 + index % 3) for index in range(COUNT)], "nodes": 17},
    "grid": {"positions": "grid"},
}


def curves(seed, *, shift=0.0):
    """Skewed bowls, some of them falling along the whole line, some concave at 0."""
    draw = np.random.default_rng(seed)
    parameters = zip(
        2.0 / (1 + np.arange(COUNT)) + draw.uniform(0, 0.1, COUNT),
        draw.uniform(-0.1, 0.25, COUNT) + shift,
        draw.uniform(1, 6, COUNT),
        draw.uniform(-2, 2, COUNT),
        draw.uniform(0, 0.6, COUNT),
        strict=True,
    )
    return [
        lambda s, f=floor, m=place, a=bend, k=skew, w=wave: (
            f + a * (s - m) ** 2 / (1 + np.exp(-k * s)) + w * np.cos(9 * s - 1)
        )
        for floor, place, bend, skew, wave in parameters
    ]


def exact_slope(function):
    h = 1e-4
    near = [float(function(np.array([j * h]))[0]) for j in (-1, 1)]
    return (near[1] - near[0]) / (2 * h)


@pytest.fixture(params=LAYOUTS)
def tables(request, tmp_path):
    batch = curves(1, shift=0.1)
    draw = np.random.default_rng(3)
    status = ["ok"] * COUNT
    status[4], status[7] = "unresolved", "edge"
    line = write_line_table(
        tmp_path / "line.arrow",
        curves(0),
        direction_batch=batch,
        # As with momentum: neither the slope of b nor its norm.
        direction_batch_slope=[exact_slope(b) + draw.normal(0, 0.1) for b in batch],
        direction_norm=draw.uniform(0.2, 6.0, COUNT),
        status=status,
        provenance={"samples": SAMPLES, "batch_size": BATCH},
        **LAYOUTS[request.param],
    )
    measure_lines(line, tmp_path / "metrics.arrow", window=0.2, resolution=R, provenance={})

    def run(*, compat):
        measure_strategies(
            line,
            tmp_path / "metrics.arrow",
            tmp_path / "strategies.arrow",
            interval=INTERVAL,
            resolution=R,
            sgd_lr=LRS,
            pal_measuring_step=MU,
            fbpal_every=EVERY,
            fbpal_average=AVERAGE,
            compat=compat,
            provenance={},
        )
        rows = rows_by_strategy(read_table(tmp_path / "strategies.arrow", "line_strategies"))
        found = {name: own.to_pylist() for name, own in rows.items()}
        metrics = read_table(tmp_path / "metrics.arrow", "line_metrics").to_pylist()
        return read_table(line, "line").to_pylist(), metrics, found

    return run


def value(row, losses, s):
    """One line at one position: scipy's barycentric formula on its panel, or a straight line between grid points."""
    nodes, known = row["positions"], row[losses]
    if not nodes[0] <= s <= nodes[-1]:
        return math.nan
    edges = row["panel_edges"] or None
    if edges is None:
        return float(np.interp(s, nodes, known))
    low, high = next((a, b) for a, b in itertools.pairwise(edges) if a <= s <= b)
    own = [index for index, node in enumerate(nodes) if low <= node <= high]
    return float(BarycentricInterpolator([nodes[i] for i in own], [known[i] for i in own])(s))


def naive_pal(slope, at_zero, at_mu):
    a = (at_mu - at_zero - slope * MU) / MU**2
    if not math.isfinite(a) or not math.isfinite(slope):
        return 0.0
    if a > 0 and slope < 0:
        return -slope / (2 * a)
    if a <= 0 and slope < 0:
        return MU
    return 0.0


class NaiveReuse:
    """FBPAL&SGD's book, one line after the other."""

    def __init__(self):
        self.line, self.values, self.in_use = -1, [], math.nan

    def next(self, fbpal):
        self.line += 1
        if (self.line in (0, 1) or self.line % EVERY == 0) and math.isfinite(fbpal):
            self.in_use = fbpal
            if self.line >= EVERY:
                self.values.append(fbpal)
                latest = self.values[-AVERAGE:]
                self.in_use = sum(latest) / len(latest)
        return self.in_use


def check(row, *, step, improvement, distance, available, status, tolerance):
    expected = {
        "step_length": step,
        "improvement": improvement,
        "relative_improvement": improvement / (available + 1e-7),
        "distance": distance,
    }
    assert row["status"] == status
    for name, number in expected.items():
        if math.isnan(number):
            assert row[name] is None, (row, name)
        else:
            bound = tolerance / (available + 1e-7) if name == "relative_improvement" else tolerance
            assert row[name] == pytest.approx(number, abs=bound, rel=1e-7), (row, name)


def test_clean_strategies_are_those_of_a_loop(tables):
    lines, metrics, found = tables(compat=False)
    assert set(found) == NAMES
    rates, lengths = NaiveReuse(), NaiveReuse()
    seen = set()
    for index, (line, metric) in enumerate(zip(lines, metrics, strict=True)):
        own = {name: rows[index] for name, rows in found.items()}
        usable = line["status"] in ("ok", "edge")
        slope = line["direction_batch_slope"]
        at_zero, batch_at_zero = value(line, "train_loss", 0.0), value(line, "direction_batch_loss", 0.0)
        fbpal = naive_pal(metric["train_slope"], at_zero, value(line, "train_loss", MU)) if usable else math.nan
        rate, length = rates.next(fbpal / abs(slope)), lengths.next(fbpal)
        if not usable:
            for row in own.values():
                assert list(row.values())[2:] == [None] * 4 + [line["status"]]
            continue
        optimum = metric["minimum_position_vertex"]
        steps = {
            "optimum": optimum,
            "direction_batch_minimum": metric["direction_batch_minimum_position"],
            "fbpal": fbpal,
            "fbpal_sgd_lr": rate * abs(slope),
            "fbpal_sgd_step": length,
            "sgd_original": line["step_length"],
            **{f"sgd_{lr:g}": -lr * slope for lr in LRS},
            "pal": naive_pal(slope, batch_at_zero, value(line, "direction_batch_loss", MU)),
        }
        lowest = min(metric["minimum_loss"], value(line, "train_loss", optimum))
        for name, step in steps.items():
            loss = line["step_train_loss"] if name == "sgd_original" else value(line, "train_loss", step)
            status = "ok" if math.isfinite(loss) else "out_of_range"
            seen.add(status)
            check(
                own[name],
                step=step,
                improvement=at_zero - loss,
                distance=optimum - step,
                available=at_zero - lowest,
                status=status,
                tolerance=1e-9,
            )
    assert seen == {"ok", "out_of_range"}


def naive_sampler(line):
    """The released sampler's positions of one line, ring by ring, and its losses there: f, then b."""
    low, high = line["positions"][0], line["positions"][-1]
    points = []
    for ring in range(10):
        for k in range(200):
            left, right = -(ring + 1) * INTERVAL + k * R, ring * INTERVAL + k * R
            if left < -ring * INTERVAL - 1e-9 and low - 1e-12 <= left <= high + 1e-12:
                points.append((left, None))
            if right < (ring + 1) * INTERVAL - 1e-9 and low - 1e-12 <= right <= high + 1e-12:
                points.append((right, None))
    measured = [
        (
            s,
            value(line, "train_loss", min(max(s, low), high)),
            value(line, "direction_batch_loss", min(max(s, low), high)),
        )
        for s, _ in points
    ]
    measured.append((line["step_length"], line["step_train_loss"], line["step_direction_batch_loss"]))
    measured.sort()
    return [list(column) for column in zip(*measured, strict=True)]


def naive_argmin(values):
    best = 0
    for index, entry in enumerate(values):
        if entry < values[best]:
            best = index
    return best


def naive_nearest(positions, s):
    best = 0
    for index, position in enumerate(positions):
        if abs(position - s) < abs(positions[best] - s):
            best = index
    return best


def naive_slope(positions, losses):
    """Second-order difference for unequal spacing at 0, from its two neighbours."""
    zero = naive_nearest(positions, 0.0)
    h, k = positions[zero] - positions[zero - 1], positions[zero + 1] - positions[zero]
    before, here, after = losses[zero - 1 : zero + 2]
    return (h * h * after + (k * k - h * h) * here - k * k * before) / (h * k * (h + k))


def test_compat_strategies_are_those_of_the_released_rules(tables):
    lines, _, found = tables(compat=True)
    assert set(found) == NAMES
    rates, lengths = NaiveReuse(), NaiveReuse()
    clamped = 0
    for index, line in enumerate(lines):
        own = {name: rows[index] for name, rows in found.items()}
        positions, full, batch = naive_sampler(line)
        stacked = [(SAMPLES * f + BATCH * b) / (SAMPLES + BATCH) for f, b in zip(full, batch, strict=True)]
        if line["status"] not in ("ok", "edge"):
            rates.next(math.nan)
            lengths.next(math.nan)
            assert {row["status"] for row in own.values()} == {line["status"]}
            continue
        zero, ahead = naive_nearest(positions, 0.0), naive_nearest(positions, MU)
        slope, batch_slope = naive_slope(positions, stacked), naive_slope(positions, batch)
        fbpal = naive_pal(slope, stacked[zero], stacked[ahead])
        lowest = naive_argmin(stacked)
        steps = {
            "optimum": positions[lowest],
            "direction_batch_minimum": positions[naive_argmin(batch)],
            "fbpal": fbpal,
            "fbpal_sgd_lr": rates.next(fbpal / abs(batch_slope)) * abs(batch_slope),
            "fbpal_sgd_step": lengths.next(fbpal),
            "sgd_original": line["step_length"],
            **{f"sgd_{lr:g}": -lr * batch_slope for lr in LRS},
            "pal": naive_pal(batch_slope, batch[zero], batch[ahead]),
        }
        for name, step in steps.items():
            clamped += not positions[0] <= step <= positions[-1]
            check(
                own[name],
                step=step,
                improvement=stacked[zero] - stacked[naive_nearest(positions, step)],
                distance=positions[lowest] - step,
                available=stacked[zero] - stacked[lowest],
                status="ok",
                tolerance=1e-8,
            )
    assert clamped
