"""Fits, table sizes and reading, on made-up lines: smooth curves with noise of one part in ten million."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from cases import INTERVAL, PUBLISHED_SAMPLES, RESOLUTION
from measuring import median

from sgdline.analysis.curves import common_grid
from sgdline.analysis.fits import fit_lines, fit_polynomial
from sgdline.interpolation import chebyshev_nodes
from sgdline.tables import TableWriter, read_table

CHUNKS = 31  # of 128 samples: the published full batch
ADAPTIVE_NODES = (17, 33)  # in turn: both occur about equally often for ResNet-20
DEGREES = (1, 2, 3, 4)
_PICKLED = ("positions", "train_loss", "direction_batch_loss", "validation_loss", "chunk_loss")


def made_up_lines(count: int, *, adaptive: bool) -> Iterator[dict[str, Any]]:
    """Yield rows of the table `line`."""
    draws = np.random.default_rng(0)
    for step in range(count):
        nodes = chebyshev_nodes(ADAPTIVE_NODES[step % 2], -INTERVAL, INTERVAL)
        s = nodes if adaptive else common_grid(INTERVAL, RESOLUTION)
        place, bend, skew, norm = draws.uniform([0.0, 1.0, -2.0, 0.5], [0.2, 6.0, 2.0, 1.5])
        curve = bend * (s - place) ** 2 / (1 + 0.3 * np.exp(-skew * s)) + 0.02 * np.sin(9 * s) + 0.5

        def noisy(values: Any) -> Any:
            return values * (1 + draws.normal(0.0, 1e-7, np.shape(values)))

        chunks = curve[:, None] + draws.normal(0, 0.1, CHUNKS) + draws.normal(0, 0.2, CHUNKS) * s[:, None]
        yield {
            "step": step,
            "epoch": step / CHUNKS,
            "lr": 0.1,
            "direction_norm": norm,
            "step_length": 0.1 * norm,
            "direction_batch_slope": -norm * draws.uniform(0.9, 1.1),
            "panel_edges": np.array([-INTERVAL, INTERVAL]) if adaptive else np.empty(0),
            "positions": s,
            "train_loss": noisy(curve),
            "direction_batch_loss": noisy(curve - 0.3 * s),
            "validation_loss": noisy(curve + 0.1),
            "chunk_loss": noisy(chunks).astype(np.float32).reshape(-1),
            "step_train_loss": draws.uniform(),
            "step_direction_batch_loss": draws.uniform(),
            "interpolation_error": draws.uniform(1e-6, 1e-3) if adaptive else None,
            "direction_batch_interpolation_error": draws.uniform(1e-5, 1e-2) if adaptive else None,
            "evaluations": len(s) + 1,
            "rings": 1,
            "status": "ok",
        }


def measure_tables(folder: Path, *, lines: int, repeats: int) -> dict[str, Any]:
    """Return seconds of fits and reading, and bytes per line of tables and pickles.

    Args:
        folder: Where to write.
        lines: Number of lines.
        repeats: Of each timing; the median counts. Files are in the page cache.
    """

    def seconds(call: Callable[[], Any]) -> float:
        times = []
        for _ in range(repeats + 1):
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
        return median(times[1:])

    fits: dict[str, float] = {}
    columns: dict[str, dict[str, float]] = {}
    bytes_per_line: dict[str, float] = {}
    for layout in ("adaptive", "grid"):
        path = folder / f"{layout}.arrow"
        with TableWriter(path, "line", provenance={"made": "up"}) as writer:
            for row in made_up_lines(lines, adaptive=layout == "adaptive"):
                writer.append([row])
            writer.finish()
        bytes_per_line[f"table_{layout}"] = path.stat().st_size / lines
        columns[layout] = {
            name: seconds(partial(read_table, path, "line", columns=[name])) for name in ("train_loss", "chunk_loss")
        }
        options: dict[str, Any] = {"window": INTERVAL, "resolution": RESOLUTION, "degrees": DEGREES, "provenance": {}}
        fits[f"fit_lines_{layout}"] = seconds(partial(fit_lines, path, folder / "fits.arrow", **options))
    grid = common_grid(INTERVAL, RESOLUTION)
    losses = np.stack([row["train_loss"] for row in made_up_lines(lines, adaptive=False)])
    fits["fit_polynomial"] = seconds(lambda: [fit_polynomial(grid, losses, degree=degree) for degree in DEGREES])
    pickled = [
        len(pickle.dumps({name: np.asarray(row[name], dtype=np.float64) for name in _PICKLED}, protocol=5))
        for row in made_up_lines(min(lines, 100), adaptive=False)
    ]
    bytes_per_line["pickle_grid"] = sum(pickled) / len(pickled)
    bytes_per_line["pickle_samples"] = float(len(pickle.dumps(np.zeros((len(grid), PUBLISHED_SAMPLES)), protocol=5)))
    return {
        "lines": lines,
        "positions": len(grid),
        "adaptive_nodes": list(ADAPTIVE_NODES),
        "degrees": list(DEGREES),
        "fit_seconds": fits,
        "column_seconds": columns,
        "bytes_per_line": bytes_per_line,
    }
