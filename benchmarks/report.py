"""README.md from the results of any number of devices. A number that was not measured is not printed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

Document = dict[str, Any]

NETWORKS = ("resnet20", "tiny_resnet", "mlp")
WAYS = {
    "reference": "published way",
    "grid_simplest": "same grid, simplest plan",
    "grid": "same grid",
    "adaptive_0.003": "adaptive, 3e-3",
    "adaptive_0.001": "adaptive, 1e-3",
    "adaptive_0.0003": "adaptive, 3e-4 (default)",
}
ADAPTIVE = ("adaptive_0.003", "adaptive_0.001", "adaptive_0.0003")
LARGEST_MEAN_ERROR = 1e-4  # nats, of adaptive lines whose speed counts


def number(value: float | None, digits: int = 3) -> str:
    """Return a number for a table; a dash if there is none."""
    if value is None:
        return "-"
    if value and not 1e-3 <= abs(value) < 1e7:
        return f"{value:.2g}"
    rounded = float(f"{value:.{digits}g}")
    return f"{rounded:,.0f}" if abs(rounded) >= 10 ** (digits - 1) else f"{rounded:g}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def render(documents: Sequence[Document]) -> str:
    """Return the whole page.

    Args:
        documents: The results, one of each device.
    """
    parts = [_HEAD]
    if any(document.get(name, {}).get("quick") for document in documents for name in document):
        parts.append("**Some of these numbers come from a run with --quick: tiny sizes, of no meaning.**")
    parts += ["## Targets", targets(documents)]
    for document in documents:
        parts += [f"## {_name(document)}", environment(document)]
        parts += [text for section in SECTIONS for text in section(document)]
    parts += [_METHOD]
    return "\n\n".join(parts) + "\n"


# --- targets ----------------------------------------------------------------------------------------------------------


def targets(documents: Sequence[Document]) -> str:
    """Return the table of targets with one column per device."""
    rows = []
    for label, find, on_cpu, on_gpu, unit in _TARGETS:
        cells = [label]
        for document in documents:
            value = find(document)
            bound = on_cpu if document["environment"]["device"] == "cpu" else on_gpu
            cells.append(_verdict(value, bound, unit))
        rows.append(cells)
    return table(["target (CPU / GPU)", *(_name(document) for document in documents)], rows)


def _name(document: Document) -> str:
    about = document["environment"]
    return f"cpu ({about['cpu']})" if about["device"] == "cpu" else str(about["device"])


def _verdict(value: float | None, bound: tuple[str, float] | None, unit: str) -> str:
    if value is None:
        return "-"
    if math.isnan(value):
        return "mean error above 1e-4: not met"
    text = f"{number(value)}{unit}"
    if bound is None:
        return text
    relation, limit = bound
    met = value >= limit if relation == ">=" else value <= limit
    return f"{text}: {'met' if met else 'not met'}"


def _ratio(case: Document, way: str) -> float | None:
    found: float | None = case.get("ways", {}).get(way, {}).get("ratio", {}).get("median")
    return found


def _best_adaptive(case: Document) -> float | None:
    """Return the best ratio of the adaptive ways whose mean error is small enough; NaN if none is, None if unknown."""
    ratios = []
    if not any(way in case.get("errors", {}) for way in ADAPTIVE):
        return None
    for way in ADAPTIVE:
        error = case.get("errors", {}).get(way, {}).get("mean")
        ratio = _ratio(case, way)
        if error is not None and ratio is not None and error <= LARGEST_MEAN_ERROR:
            ratios.append(ratio)
    return max(ratios, default=math.nan)


def _least_small(document: Document) -> float | None:
    found = [_best_adaptive(document[name]) for name in ("tiny_resnet", "mlp") if name in document]
    ratios = [ratio for ratio in found if ratio is not None]
    if len(ratios) < 2:
        return None
    return math.nan if any(map(math.isnan, ratios)) else min(ratios)


def _outside(document: Document) -> float | None:
    share = document.get("resnet20", {}).get("job", {}).get("shares_outside", {}).get("200")
    return None if share is None else 100 * share


def _published_minutes(document: Document) -> float | None:
    case = document.get("resnet20", {})
    hours = case.get("published", {}).get("hours", {}).get(ADAPTIVE[-1])
    return None if hours is None else 60 * hours


def _check_share(document: Document) -> float | None:
    rows = document.get("checks", {}).get("rows", [])
    return next((100 * median(row["shares"]) for row in rows if row["network"] == "resnet20"), None)


def _beside_landscapes(of: Callable[[list[float]], float]) -> Callable[[Document], float | None]:
    """Return how to find a ratio to loss-landscapes over all networks."""

    def found(document: Document) -> float | None:
        rows = document.get("landscapes", {}).get("rows", [])
        return of([row["ratio"]["median"] for row in rows]) if rows else None

    return found


def _fits(document: Document) -> float | None:
    found = document.get("tables", {}).get("fit_seconds")
    return None if found is None else max(found.values())


def _storage(document: Document) -> float | None:
    found = document.get("tables", {}).get("bytes_per_line")
    return None if found is None else found["pickle_grid"] / found["table_adaptive"]


def _column(document: Document) -> float | None:
    found = document.get("tables", {}).get("column_seconds")
    return None if found is None else max(layout["train_loss"] for layout in found.values())


_Bound = tuple[str, float] | None
_TARGETS: list[tuple[str, Callable[[Document], float | None], _Bound, _Bound, str]] = [
    (
        "resnet20, same grid, times the published way: at least 2.5 / 20",
        lambda document: _ratio(document.get("resnet20", {}), "grid"),
        (">=", 2.5),
        (">=", 20.0),
        "x",
    ),
    (
        "resnet20, adaptive with a mean error of at most 1e-4 nats: at least 15 / 100",
        lambda document: _best_adaptive(document.get("resnet20", {})),
        (">=", 15.0),
        (">=", 100.0),
        "x",
    ),
    (
        "small networks, adaptive likewise, the slower of the two: at least 20",
        _least_small,
        (">=", 20.0),
        (">=", 20.0),
        "x",
    ),
    ("a job of 200 lines, outside forward passes: at most 5 % / 10 %", _outside, ("<=", 5.0), ("<=", 10.0), " %"),
    (
        "the same positions, times loss-landscapes: at least 1 for each network",
        _beside_landscapes(min),
        (">=", 1.0),
        (">=", 1.0),
        "x",
    ),
    ("likewise, median over networks: at least 1", _beside_landscapes(median), (">=", 1.0), (">=", 1.0), "x"),
    ("checks of network and copy per line of resnet20: at most 5 %", _check_share, ("<=", 5.0), ("<=", 5.0), " %"),
    (
        "the published experiment, adaptive, extrapolated: at most 10 minutes on a GPU",
        _published_minutes,
        None,
        ("<=", 10.0),
        " min",
    ),
    ("fits of 10,000 lines, degrees 1 to 4: below 1 s", _fits, ("<=", 1.0), ("<=", 1.0), " s"),
    ("tables against float64 pickles: at least 10 times smaller", _storage, (">=", 10.0), (">=", 10.0), "x"),
    ("one column of 10,000 lines: below 0.2 s", _column, ("<=", 0.2), ("<=", 0.2), " s"),
]


# --- sections of one device -------------------------------------------------------------------------------------------


def environment(document: Document) -> str:
    """Return a paragraph about machine and software."""
    found = document["environment"]
    gpu = f"CUDA {found['cuda']}, cuDNN {found['cudnn']}, " if found["cuda"] else ""
    text = (
        f"{found['cpu']}, {found['cores']} cores, {found['threads']} threads at most; torch {found['torch']}, {gpu}"
        f"Python {found['python']}, numpy {found['numpy']}, pyarrow {found['pyarrow']}, {found['os']}."
    )
    facts = "; ".join(found["torch_config"])
    measured = sorted(
        {f"{part['date']} at commit {part['commit'] or 'unknown'}" for part in document.values() if "commit" in part}
    )
    return f"{text} torch's build: {facts}. Measured {', '.join(measured)}."


def _cases(document: Document) -> list[tuple[str, Document]]:
    return [(name, document[name]) for name in NETWORKS if name in document]


def _describe(name: str, found: Document) -> str:
    case = found["case"]
    images = found["source"].replace("_", " ")
    text = (
        f"`{name}`, {found['parameters']:,} parameters, {case['train']:,} + {case['validation']:,} images ({images}), "
        f"chunks of {case['batch_size']}, updates {case['first']} and later."
    )
    if found["source"] != case["source"]:
        text += (
            f" **The images are noise: {case['source']} was not there.** Times hold, the shape of the lines, hence "
            "evaluations and errors of adaptive lines, does not."
        )
    return text


def _spread(found: Document, *, digits: int = 3) -> str:
    low, high = number(found["min"], digits), number(found["max"], digits)
    return f"{number(found['median'], digits)} ({low} to {high})"


def lines(document: Document) -> list[str]:
    """Return one table per network."""
    parts = ["### Lines"] if _cases(document) else []
    for name, found in _cases(document):
        rows = []
        for way, label in WAYS.items():
            if way not in found["ways"]:
                continue
            own = found["ways"][way]
            error = found["errors"].get(way, {})
            evaluations = number(own["evaluations_per_line"])
            if own["derived"]:
                evaluations += "; time derived"
            elif own["evaluations_timed"] < own["evaluations_per_line"] and not way.startswith("adaptive"):
                evaluations += f", {number(own['evaluations_timed'])} timed"
            rows.append(
                [
                    label,
                    _spread(own["seconds_per_line"]),
                    str(own["seconds_per_line"]["count"]),
                    number(own["samples_per_second"]),
                    "1" if way == "reference" else _spread(own["ratio"]),
                    evaluations,
                    number(error.get("mean"), 2),
                    number(error.get("max"), 2),
                ]
            )
        head = ["way", "seconds a line", "lines", "samples/s", "times the published way", "evaluations"]
        parts += [_describe(name, found), table([*head, "mean error, nats", "largest error"], rows), _notes(found)]
    return parts


def _notes(found: Document) -> str:
    threads = ", ".join(f"{count}: {number(seconds)} s" for count, seconds in found["reference_threads"].items())
    errors = found["errors"]
    dense = "float64" if errors["exact"] else "the plan's own precision (float64 takes too long here)"
    plan = ", ".join(f"{key} {value}" for key, value in found["plan"].items())
    odd = sorted({s for way in ADAPTIVE for s in found["ways"].get(way, {}).get("status", []) if s not in ("ok", None)})
    peak = {key: number(value / 2**20) for key, value in found["peak_bytes"].items()}
    notes = [
        f"Published way, seconds a position by threads: {threads}; the faster is the yardstick.",
        f"Errors against {errors['positions']} equally spaced positions in {dense}, {errors['lines']} lines.",
        f"Largest difference of mean losses between the published way and the same grid: "
        f"{number(found['largest_difference'], 2)} nats.",
        f"Plan, chosen for {found['planned_lines']} lines in {number(found['planning_seconds'])} s: {plan}; its error "
        f"against float64: {number(found['precision_error'], 2)}.",
        f"Notes of the trial: {'; '.join(found['plan_notes'])}.",
        f"Memory beyond the imports: published way {peak['reference']} MiB, engine {peak['engine']} MiB.",
    ]
    if odd:
        notes.append(f"Some lines have the status {', '.join(odd)}: one ring only, on all sides.")
    return "\n".join(f"- {note}" for note in notes)


def roofline(document: Document) -> list[str]:
    """Return how far the engine is from the speed of a large matrix product."""
    rows = []
    for name, found in _cases(document):
        roof = found["roofline"]
        peak = roof["peak_multiply_adds_per_second"][roof["precision"]]
        for way, speed in roof["multiply_adds_per_second"].items():
            label = WAYS[way] if way == "reference" else f"{WAYS[way]}, {roof['precision']}"
            cells = [f"`{name}`, {label}", number(roof["multiply_adds_per_image"] / 1e6), number(2 * speed / 1e9)]
            ratio = _ratio(found, way)
            at_limit = None if ratio is None or way == "reference" else ratio * peak / speed
            cells += [number(2 * peak / 1e9), f"{number(100 * speed / peak)} %", number(at_limit)]
            rows.append(cells)
    head = ["", "million multiply-adds an image", "GFLOP/s", "GFLOP/s of a matrix product", "share"]
    head.append("times the published way at that limit")
    return ["### Distance from the device's limit", table(head, rows)] if rows else []


def job(document: Document) -> list[str]:
    """Return the share of a job outside of forward passes."""
    found = document.get("resnet20", {}).get("job")
    if found is None:
        return []
    fixed = found["fixed_seconds"]
    shares = "; ".join(
        f"{count} lines: {number(100 * share)} %{'' if int(count) == found['lines'] else ' (computed)'}"
        for count, share in found["shares_outside"].items()
    )
    rows = [
        ["imports", number(fixed["imports"])],
        ["loading images, network, checkpoint", number(fixed["loading"])],
        ["first pass: compiling, recording", number(fixed["first_pass"])],
        ["per line, outside forward passes (the update itself, positions, means, writing)",
         number(found["seconds_per_line_outside"])],
        ["per line, forward passes", number(found["seconds_per_line_inside"])],
    ]  # fmt: skip
    text = f"`probe_segment` on `resnet20`, {found['lines']} lines. Share outside forward passes: {shares}."
    return ["### A job", text, table(["part", "seconds"], rows)]


def published(document: Document) -> list[str]:
    """Return what the published experiment would take."""
    found = document.get("resnet20", {}).get("published")
    if found is None:
        return []
    rows = [[WAYS[way], number(found["hours"][way])] for way in WAYS if way in found["hours"]]
    text = (
        f"Extrapolated, not run: {found['lines']:,} lines of ResNet-20, {found['samples_per_position']:,} samples a "
        "position, on one such device, from the measured samples/s and evaluations; one ring, no training."
    )
    return ["### The published experiment", text, table(["way", "hours"], rows)]


def scaling(document: Document) -> list[str]:
    """Return seconds per line over samples, positions and parameters."""
    found = document.get("scaling")
    if found is None:
        return []
    rows = [
        [f"`{row['network']}`", row["grows"], row["size"], f"{row['parameters']:,}", f"{row['samples']:,}",
         str(row["positions"]), number(row["seconds"])]
        for row in found["rows"]
    ]  # fmt: skip
    head = ["network", "what grows", "size", "parameters", "samples", "positions", "seconds a line"]
    text = "Small networks, chunks of 64, four to a pass, one CPU thread, median."
    return ["### How it grows", text, table(head, rows)]


def checks(document: Document) -> list[str]:
    """Return what holding the copy against the network itself costs, once a line."""
    found = document.get("checks")
    if found is None:
        return []
    rows = [
        [f"`{row['network']}`", f"{row['parameters']:,}", f"{row['samples']:,}", number(row["line_seconds"]),
         number(row["check_seconds"]),
         f"{number(100 * median(row['shares']))} % "
         f"({number(100 * min(row['shares']))} to {number(100 * max(row['shares']))})"]
        for row in found["rows"]
    ]  # fmt: skip
    head = ["network", "parameters", "samples", "seconds a line", "seconds a check", "share of a line"]
    text = (
        "Once a line some samples are computed by the copy and by the network itself; where chunks share a pass, a "
        "meter holds one of them against the network instead. In turn with lines of "
        f"{found['rows'][0]['positions']} positions; median and range of {len(found['rows'][0]['shares'])} pairs."
    )
    return ["### Checks", text, table(head, rows)]


def tables(document: Document) -> list[str]:
    """Return fits, storage and reading."""
    found = document.get("tables")
    if found is None:
        return []
    count, fits, columns, size = found["lines"], found["fit_seconds"], found["column_seconds"], found["bytes_per_line"]
    rows = [
        [f"`fit_polynomial`, {count:,} lines x {found['positions']} positions, degrees 1 to 4",
         f"{number(fits['fit_polynomial'])} s"],
        ["`fit_lines` likewise, from table to table, adaptive", f"{number(fits['fit_lines_adaptive'])} s"],
        ["`fit_lines` likewise, from table to table, grid", f"{number(fits['fit_lines_grid'])} s"],
        *(
            [f"reading `{name}` of {count:,} lines, {layout}", f"{number(seconds)} s"]
            for layout, own in columns.items()
            for name, seconds in own.items()
        ),
        ["table, adaptive", f"{number(size['table_adaptive'])} bytes a line"],
        ["table, grid", f"{number(size['table_grid'])} bytes a line"],
        ["float64 pickle of the grid, same columns", f"{number(size['pickle_grid'])} bytes a line"],
        ["float64 pickle of the grid, every sample's loss", f"{number(size['pickle_samples'])} bytes a line"],
        ["pickle / table, adaptive", f"{number(size['pickle_grid'] / size['table_adaptive'])}"],
        ["pickle / table, grid", f"{number(size['pickle_grid'] / size['table_grid'])}"],
        ["pickle of every sample / table, adaptive", f"{number(size['pickle_samples'] / size['table_adaptive'])}"],
    ]  # fmt: skip
    return ["### Fits and tables", table(["what", "value"], rows)]


def landscapes(document: Document) -> list[str]:
    """Return how long the same positions take loss-landscapes and a meter."""
    found = document.get("landscapes")
    if found is None:
        return []
    rows = [
        [f"`{row['network']}`", f"{row['parameters']:,}", f"{row['samples']:,}", _spread(row["theirs"]),
         _spread(row["ours"]), _spread(row["ratio"]), number(row["first_line_seconds"]),
         number(row["largest_difference"], 2), number(row["loss_range"], 2)]
        for row in found["rows"]
    ]  # fmt: skip
    head = ["network", "parameters", "samples", "loss-landscapes, seconds a line", "LineMeter, seconds a line"]
    head += ["times loss-landscapes", "first line, with the trial", "largest difference, nats", "range of losses"]
    text = (
        f"The same {found['rows'][0]['positions']} positions by `linear_interpolation` of loss-landscapes "
        f"{found['version']} and by `LineMeter(resolution=...)`, in turn; eval mode, the faster metric of one pass or "
        f"of chunks. Median, least and largest of {found['rows'][0]['ratio']['count']} lines."
    )
    return ["### Beside loss-landscapes", text, table(head, rows)]


SECTIONS: tuple[Callable[[Document], list[str]], ...] = (
    lines,
    landscapes,
    roofline,
    job,
    published,
    scaling,
    checks,
    tables,
)

_HEAD = """\
# Benchmarks

How fast sgdline measures lines, against the published sampler's way in the same run on the same machine. This page is
made by `make bench` from the files in `results/`, one per kind of device; do not edit it. Where there is no `make`:
`PYTHONPATH=src python benchmarks/bench.py`, `--help` for options."""

_METHOD = """\
## How it was measured

- **The published way** (`reference.py`) is written from the paper's description: 169 irregular positions, parameters
  moved in place by increments, one batch at a time, eager, contiguous weights, torch's defaults (on a GPU: TF32 in
  convolutions), every sample's loss copied to the host. It differs in its own favour: samples lie on the device
  already, and a line has one ring.
- **Same grid** is the line probe on 167 positions and the step itself, with the plan that `plan_probe` chose;
  *simplest plan* is one chunk at a time, eager. **Adaptive** is the line probe with Chebyshev panels at three
  tolerances.
- All ways measure the same lines of a real run: training set, validation set and the update's own batch at each
  position, BatchNorm in train mode, interval 0.5, one ring.
- Published way and engine live in two processes, since a job tunes its memory allocator and its kernels and the
  published way does not. Only one works at a time. They take turns line by line, so that a drift of the machine hits
  all alike; the first line warms up and does not count. Ratios are taken line by line. Numbers are medians, with
  least and largest value in brackets.
- The published way is timed with one and with all threads and keeps the faster setting; the plan chooses its own
  threads from the same number.
- **loss-landscapes** (`landscapes.py`) and the meter live in two processes likewise and take turns line by line. Its
  faster metric (all samples in one pass, or chunks) is the yardstick, and copying its networks is not timed. The meter
  is timed with its checks; its trial is part of the first line, which does not count.
- The error of an adaptive line is the difference between its interpolant and losses measured on a dense grid.
- Memory is the process's peak resident memory less that after its imports; on a GPU, torch's peak of allocated
  memory.
- GFLOP/s count two for each multiply-add of convolutions and linear layers, and nothing else.
- The job is the real `probe_segment` with a clock around its forward passes. *First pass* is what the first line took
  longer than the others, evaluation by evaluation.

## Limits

- One machine of each kind, one run of each part. Other processors, other builds of torch and busy neighbours give
  other numbers; ratios within a run move less than seconds.
- `evaluations ..., n timed`: a whole line would take too long there. n positions were timed and scaled by their
  number. `time derived`: a looser tolerance stops earlier on the same nodes; its time is that of the tighter one,
  scaled by evaluations.
- The released sampler also loads and augments its batches at every position, which is not counted.
- Fits and tables are measured on made-up smooth lines with noise, files in the page cache.
- The published experiment is extrapolated; its lines may need more or fewer evaluations than the few measured here."""
