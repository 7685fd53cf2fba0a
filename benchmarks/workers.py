"""What runs in processes of its own, one at a time: preparation, the reference, the engine, a job, the scaling."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cases import INTERVAL, TOLERANCES, Case, dataset_block, line_block, training_settings
from measuring import median, memory_bytes
from reference import Samples, published_positions, sample_line
from torch import Tensor, nn

from sgdline.data.images import load_images
from sgdline.data.prepare import prepare_dataset
from sgdline.declare.build import build, build_thing
from sgdline.engine.hessian import cross_entropy
from sgdline.engine.lines import LineEngine
from sgdline.engine.network import MeasuringSet, Network
from sgdline.engine.plan import Plan, read_plan
from sgdline.engine.positions import measure_adaptively
from sgdline.errors import SgdlineError
from sgdline.interpolation import interpolate_panels
from sgdline.models import build_model, count_parameters, mlp, resnet20, tiny_resnet
from sgdline.probes.line.options import LineOptions
from sgdline.probes.line.probe import LineProbe
from sgdline.probes.planning import plan_probe
from sgdline.probes.segment import probe_segment
from sgdline.probes.settings import PlanSettings, ProbeSettings
from sgdline.runtime import keep_freed_memory, restore_tf32, set_tf32, set_threads, use_deterministic_kernels
from sgdline.train.checkpoints import load_checkpoint, save_checkpoint
from sgdline.train.loop import Trainer, Update

DATASET, CHECKPOINTS, PLAN, LINES = "dataset.arrow", "checkpoints", "plan.json", "lines.pt"


def the_device() -> torch.device:
    """Return the first GPU, or the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def synchronise() -> None:
    """Wait for the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def like_a_job(threads: int) -> None:
    """Set the process up as the workflow's jobs do."""
    set_threads(threads)
    keep_freed_memory()
    use_deterministic_kernels()


# --- preparation ------------------------------------------------------------------------------------------------------


def prepare(case: Case, folder: Path, *, lines: int, threads: int, data_dir: str) -> dict[str, Any]:
    """Write images, checkpoints, plan, and the lines for the reference.

    Args:
        case: What to prepare.
        folder: Where to.
        lines: Number of lines.
        threads: CPU threads.
        data_dir: Where downloaded data sets lie.
    """
    like_a_job(threads)
    source, problem = _prepare_images(case, folder / DATASET, data_dir=data_dir)
    device = the_device()
    images = load_images(folder / DATASET, device=device)
    last = case.first + case.every * lines
    bounds = sorted({0, case.first, case.first + case.every * case.job_lines, last})
    trainer = Trainer(training_settings(case, segments=[(0, last)], threads=threads), images, device=device)
    kept = []
    save_checkpoint(folder / CHECKPOINTS, trainer.checkpoint(0))
    start = time.perf_counter()
    for begin, end in pairwise(bounds):
        for update in trainer.updates(begin, end):
            if not update.finite:
                raise SgdlineError(f"The run must stay finite, got a non-finite loss at update {update.step}.")
            if update.step >= case.first and (update.step - case.first) % case.every == 0:
                kept.append(_line_of(trainer, update))
        save_checkpoint(folder / CHECKPOINTS, trainer.checkpoint(end))
    training_seconds = time.perf_counter() - start
    torch.save(kept, folder / LINES)
    found = {
        "source": source,
        "source_problem": problem,
        "parameters": count_parameters(trainer.model),
        "multiply_adds_per_image": multiply_adds(trainer.model, images.train.inputs[:2]),
        "updates": last,
        "training_seconds": training_seconds,
        "final_batch_loss": update.batch_loss,
    }
    return found | _plan(case, folder, threads=threads)


def _prepare_images(case: Case, path: Path, *, data_dir: str) -> tuple[str, str | None]:
    """Write the data set, noise of the same shape if it cannot be had; return the source and what was wrong."""

    def write(source: str) -> None:
        images = build_thing("source", dataset_block(case, source=source), tag="source")
        prepare_dataset(images, path, data_dir=data_dir, download=False, provenance={})

    try:
        write(case.source)
    except SgdlineError as error:
        write("random")
        return "random", str(error).split(". ")[0]
    return case.source, None


def _line_of(trainer: Trainer, update: Update) -> dict[str, Any]:
    """Return a line as the reference takes it: plain contiguous tensors by name."""
    unit = (update.direction.double() / -update.direction_norm).float()
    return {
        "step": update.step,
        "parameters": {n: p.detach().clone().contiguous() for n, p in trainer.model.named_parameters()},
        "direction": {n: p.clone().contiguous() for n, p in trainer.vector.split(unit).items()},
        "step_length": update.lr * update.direction_norm,
        "inputs": update.batch.inputs.clone().contiguous(),
        "targets": update.batch.targets.clone(),
    }


def _plan(case: Case, folder: Path, *, threads: int) -> dict[str, Any]:
    """Choose the plan as the rule plan_probe does; its notes go to the log only, so listen there."""
    block = line_block(case, resolution=None)
    block |= {"precision": "auto", "precision_tolerance": 3e-5, "check_slope": True, "memory_gb": "auto", "plan": {}}
    segments = [(0, case.lines_per_job * case.every)]
    training = training_settings(case, segments=segments, threads=threads)
    settings = PlanSettings(training=training, options=build(LineOptions, block))
    notes: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            text = record.getMessage()
            if text.startswith("Plan: "):
                notes.append(text.removeprefix("Plan: "))

    log = logging.getLogger("sgdline")
    log.setLevel(logging.INFO)
    listener = Listener()
    log.addHandler(listener)
    start = time.perf_counter()
    plan_probe(folder / DATASET, folder / CHECKPOINTS, output=folder / PLAN, settings=settings, threads=threads)
    seconds = time.perf_counter() - start
    log.removeHandler(listener)
    report = read_plan(folder / PLAN)
    return {
        "plan": report.plan.to_json(),
        "precision_error": report.precision_error,
        "plan_notes": notes,
        "planned_lines": case.lines_per_job,
        "planning_seconds": seconds,
    }


def multiply_adds(model: nn.Module, inputs: Tensor) -> int:
    """Return the multiply-adds of convolutions and linear layers for one image.

    Args:
        model: The network, left as it was.
        inputs: At least two images. Shape (n, ...).
    """
    count = 0

    def add(module: nn.Module, _: Any, output: Tensor) -> None:
        nonlocal count
        weight = module.weight  # each output value takes as many products as one row of the weight has entries
        count += output.numel() // len(inputs) * (weight.numel() // weight.shape[0])

    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_hook(add) for layer in layers]
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with torch.no_grad():
        model(inputs)
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])
    for hook in hooks:
        hook.remove()
    return count


# --- the reference ----------------------------------------------------------------------------------------------------


class Reference:
    """The published sampler on the prepared lines, in a process that nothing of sgdline has tuned."""

    def __init__(self, case: Case, folder: Path) -> None:
        self._baseline = memory_bytes()["now"]
        self._case = case
        device = the_device()
        images = load_images(folder / DATASET, device=device)
        self._train: Samples = images.train.inputs, images.train.targets
        self._validation: Samples = images.validation.inputs, images.validation.targets
        self._model = build_model(
            case.entry, case.kwargs, input_shape=images.image_shape, num_classes=images.num_classes, seed=1
        ).to(device)
        self._lines = torch.load(folder / LINES, map_location=device, weights_only=True)

    def choose_threads(self, *, most: int, repeats: int) -> dict[str, float]:
        """Return the seconds per position with one and with all threads, and stay with the faster."""
        seconds = {}
        for threads in sorted({1, most}):
            set_threads(threads)
            self._some(0, [0.0], batches=1)
            seconds[threads] = median([self._some(0, [0.0])["seconds"] for _ in range(repeats)])
        set_threads(min(seconds, key=lambda threads: seconds[threads]))
        return {str(threads): value for threads, value in seconds.items()}

    def measure(self, index: int, *, positions: int | None) -> dict[str, Any]:
        """Measure a prepared line at the first positions from 0 on, or at all of them."""
        chosen = published_positions(self._lines[index]["step_length"])
        if positions is not None:
            chosen = chosen[np.searchsorted(chosen, 0.0) :][:positions]
        return self._some(index, chosen.tolist())

    def _some(self, index: int, positions: list[float], *, batches: int | None = None) -> dict[str, Any]:
        line = self._lines[index]
        with torch.no_grad():
            for name, parameter in self._model.named_parameters():
                parameter.copy_(line["parameters"][name])
        rows = None if batches is None else batches * self._case.batch_size
        synchronise()
        start = time.perf_counter()
        found = sample_line(
            self._model,
            line["direction"],
            positions=positions,
            train=(self._train[0][:rows], self._train[1][:rows]),
            validation=(self._validation[0][:rows], self._validation[1][:rows]),
            direction_batch=(line["inputs"], line["targets"]),
            batch_size=self._case.batch_size,
        )
        synchronise()
        seconds = time.perf_counter() - start
        return {
            "step": line["step"],
            "seconds": seconds,
            "evaluations": len(positions),
            "samples": found.train.size + found.validation.size + found.direction_batch.size,
            "positions": positions,
            "means": found.train.astype(np.float64).mean(axis=1).tolist(),
        }

    def peak_bytes(self) -> int:
        """Return what the process needed at most beyond its imports (CPU), or on the GPU."""
        return _peak_bytes(self._baseline)


def _peak_bytes(baseline: int) -> int:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return memory_bytes()["peak"] - baseline


# --- the engine -------------------------------------------------------------------------------------------------------


class Engine:
    """The line probe on the same lines, set up as a job is."""

    def __init__(self, case: Case, folder: Path, *, lines: int, threads: int) -> None:
        self._baseline = memory_bytes()["now"]
        like_a_job(threads)
        self._case = case
        self._device = the_device()
        self._images = load_images(folder / DATASET, device=self._device)
        last = case.first + case.every * lines
        self._run = training_settings(case, segments=[(0, last)], threads=threads)
        self._trainer = Trainer(self._run, self._images, device=self._device)
        self._trainer.load(load_checkpoint(folder / CHECKPOINTS, case.first, device=self._device))
        self._updates: Iterator[Update] = self._trainer.updates(case.first, last)
        self._update: Update | None = None
        self._plan = read_plan(folder / PLAN).plan
        # The probe reads positions, spacing and tolerance anew for every line: one engine serves all ways.
        self._options = LineOptions(**line_block(case))
        self._probes = {"planned": self._probe(self._plan), "simplest": self._probe(Plan())}
        self._rows: dict[str, dict[str, Any]] = {}

    def _probe(self, plan: Plan) -> LineProbe:
        return LineProbe(self._trainer, self._images, self._run, self._options, plan)

    def _choose(self, **changes: Any) -> None:
        for probe in self._probes.values():
            probe.lines.options = replace(probe.lines.options, **changes)

    def next_line(self) -> int:
        """Go on to the next line and return its update."""
        for update in self._updates:
            if (update.step - self._case.first) % self._case.every == 0:
                self._update, self._rows = update, {}
                return update.step
        raise IndexError("no line is left")

    def measure(self, way: str, *, positions: str, spacing: float | None = None, tolerance: float | None = None) -> Any:
        """Measure the present line.

        Args:
            way: planned or simplest.
            positions: grid or adaptive.
            spacing: Of the grid.
            tolerance: Of adaptive positions.
        """
        self._choose(positions=positions, resolution=spacing, tolerance=tolerance)
        synchronise()
        start = time.perf_counter()
        [row] = self._probes[way].measure(self._update)  # type: ignore[arg-type]
        synchronise()
        seconds = time.perf_counter() - start
        if way == "planned":
            self._rows[_name_of(positions, tolerance)] = row
        return {"seconds": seconds, **self._cost(row)}

    def _cost(self, row: Mapping[str, Any]) -> dict[str, Any]:
        images, batch = self._images, len(self._update.batch.targets)  # type: ignore[union-attr]
        per_evaluation = len(images.train) + len(images.validation) + batch
        return {
            "step": row["step"],
            "evaluations": row["evaluations"],
            "samples": row["evaluations"] * per_evaluation,
            "status": row["status"],
        }

    def derive(self, *, tolerance: float) -> dict[str, Any] | None:
        """Return what the present line would have cost at a looser tolerance; None if its nodes do not tell.

        Positions are nested: a looser tolerance stops earlier on the same nodes, whose losses are known.
        """
        tight = self._rows[_name_of("adaptive", TOLERANCES[-1])]
        known = {
            s: [tight[column][index] for column in ("train_loss", "direction_batch_loss", "validation_loss")]
            for index, s in enumerate(tight["positions"].tolist())
        }

        def measure(positions: Any) -> Any:
            return np.array([known[s] for s in positions.tolist()]).T

        try:
            found = measure_adaptively(measure, interval=INTERVAL, tolerance=tolerance, max_rings=1)
        except KeyError:
            return None
        row = {
            "step": tight["step"],
            "positions": found.positions,
            "panel_edges": found.panel_edges,
            "train_loss": found.curves[0],
            "evaluations": len(found.positions) + 1,
            "status": found.status,
        }
        self._rows[_name_of("adaptive", tolerance)] = row
        return self._cost(row)

    def difference(self, positions: list[float], means: list[float]) -> float | None:
        """Return the largest difference between given mean losses and those of the present grid, nats."""
        row = self._rows[_name_of("grid", None)]
        ours, theirs = row["positions"], np.array(positions)
        found = [
            abs(row["train_loss"][index] - mean)
            for s, mean in zip(theirs, means, strict=True)
            for index in np.flatnonzero(np.abs(ours - s) < 1e-9)
        ]
        return float(max(found)) if found else None

    def check(self, *, exact: bool) -> dict[str, Any]:
        """Compare the interpolants of the present line's adaptive rows with a dense grid.

        Args:
            exact: Measure the grid in float64 with the paper's spacing; otherwise with the plan, more coarsely.
        """
        if exact:
            plan = Plan(reseed=self._plan.reseed) if self._plan.in_place else self._plan
            plan = plan.but(precision="float64", compiled=False, cuda_graphs=False)
            options = LineOptions(**line_block(self._case, positions="grid", validation=False))
            probe = LineProbe(self._trainer, self._images, self._run, options, plan)
            [dense] = probe.measure(self._update)  # type: ignore[arg-type]
        else:
            self._choose(positions="grid", resolution=self._case.checked_spacing)
            [dense] = self._probes["planned"].measure(self._update)  # type: ignore[arg-type]
        errors: dict[str, Any] = {"positions": len(dense["positions"])}
        for tolerance in TOLERANCES:
            name = _name_of("adaptive", tolerance)
            if name in self._rows:
                row = self._rows[name]
                curve = interpolate_panels(row["panel_edges"], row["positions"], row["train_loss"], dense["positions"])
                error = np.abs(curve - dense["train_loss"])
                errors[name] = {"mean": float(error.mean()), "max": float(error.max())}
        return errors

    def peak_bytes(self) -> int:
        """Return what the process needed at most beyond its imports (CPU), or on the GPU."""
        return _peak_bytes(self._baseline)

    def peak_speed(self, *, size: int) -> dict[str, float]:
        """Return the multiply-adds per second of a large matrix product, as the plan computes and in float32."""
        found = {}
        for precision in sorted({"float32", self._plan.precision}):
            dtype = {"float64": torch.float64, "bfloat16": torch.bfloat16}.get(precision, torch.float32)
            before = set_tf32(precision == "tf32")
            left, right = (torch.randn(size, size, device=self._device, dtype=dtype) for _ in range(2))
            times = []
            for _ in range(8):
                synchronise()
                start = time.perf_counter()
                torch.mm(left, right)
                synchronise()
                times.append(time.perf_counter() - start)
            restore_tf32(before)
            found[precision] = size**3 / min(times)
        return found


def _name_of(positions: str, tolerance: float | None) -> str:
    return positions if positions == "grid" else f"adaptive_{tolerance:g}"


# --- a job ------------------------------------------------------------------------------------------------------------


def run_job(case: Case, folder: Path, *, threads: int, started: float) -> dict[str, Any]:
    """Run probe_segment with its forward passes timed.

    Args:
        case: The case; it has been prepared.
        folder: Where.
        threads: CPU threads.
        started: time.time() when this process was asked for.
    """
    begin = time.perf_counter()
    imports = time.time() - started
    passes: list[float] = []  # seconds within forward passes, per line
    entered: list[float] = []
    plain_losses, plain_measure = Network.losses, LineProbe.measure

    def losses(network: Network, *arguments: Any, **options: Any) -> Tensor:
        synchronise()
        start = time.perf_counter()
        found = plain_losses(network, *arguments, **options)
        synchronise()
        passes[-1] += time.perf_counter() - start
        return found

    evaluations: list[int] = []

    def measure(probe: LineProbe, update: Update) -> list[dict[str, Any]]:
        entered.append(time.perf_counter())
        passes.append(0.0)
        rows = plain_measure(probe, update)
        evaluations.extend(row["evaluations"] for row in rows)
        return rows

    stop = case.first + case.every * case.job_lines
    run = training_settings(case, segments=[(0, case.first), (case.first, stop)], threads=threads)
    options = build(LineOptions, line_block(case, resolution=None))
    settings = ProbeSettings(training=run, options=options, replay_tolerance=0.0)
    try:
        Network.losses, LineProbe.measure = losses, measure  # type: ignore[method-assign]
        probe_segment(
            folder / DATASET,
            folder / CHECKPOINTS,
            plan=folder / PLAN,
            output=folder / "job.arrow",
            settings=settings,
            segment=1,
            facts={},
            threads=threads,
        )
    finally:
        Network.losses, LineProbe.measure = plain_losses, plain_measure  # type: ignore[method-assign]
    end = time.perf_counter()
    per_evaluation = median([s / n for s, n in zip(passes[1:], evaluations[1:], strict=True)])
    warm_up = max(passes[0] - evaluations[0] * per_evaluation, 0.0)
    lines = len(passes)
    inside = (sum(passes) - warm_up) / lines
    outside = (end - entered[0] - sum(passes)) / lines
    fixed = {"imports": imports, "loading": entered[0] - begin, "first_pass": warm_up}
    return {
        "lines": lines,
        "evaluations": evaluations,
        "fixed_seconds": fixed,
        "seconds_per_line_inside": inside,
        "seconds_per_line_outside": outside,
        "shares_outside": {str(n): _share(sum(fixed.values()), inside, outside, n) for n in (lines, 200)},
    }


def _share(fixed: float, inside: float, outside: float, lines: int) -> float:
    return (fixed + lines * outside) / (fixed + lines * (outside + inside))


# --- scaling ----------------------------------------------------------------------------------------------------------


def scaling(*, repeats: int, small: bool) -> list[dict[str, Any]]:
    """Return seconds per line of small networks as samples, positions or parameters grow, one CPU thread.

    Noise as images: the time does not depend on what they show.
    """
    like_a_job(1)
    samples = [64, 128] if small else [256, 512, 1024]
    positions = [5, 9] if small else [9, 17, 33, 65]
    networks: dict[str, list[tuple[str, nn.Module]]] = {}
    shape = {"input_shape": (1, 8, 8), "num_classes": 10}
    widths = [[64, 48], [128, 96]] if small else [[64, 48], [128, 96], [256, 192], [512, 384]]
    networks["mlp"] = [(f"hidden {hidden}", mlp(**shape, hidden=hidden)) for hidden in widths]
    channels = [4, 8] if small else [4, 8, 16]
    networks["tiny_resnet"] = [(f"width {width}", tiny_resnet(**shape, width=width)) for width in channels]
    found = []
    base = positions[1]
    for family, members in networks.items():
        first = members[0] if family == "mlp" else members[1]  # the sizes of the default configuration
        for count in samples:
            found.append(_scaled(family, "samples", *first, samples=count, positions=base, repeats=repeats))
        for count in positions:
            found.append(_scaled(family, "positions", *first, samples=samples[-1], positions=count, repeats=repeats))
        for member in members:
            found.append(_scaled(family, "parameters", *member, samples=samples[-1], positions=base, repeats=repeats))
    return found


def _scaled(
    family: str, grows: str, size: str, network: nn.Module, *, samples: int, positions: int, repeats: int
) -> dict[str, Any]:
    plan = Plan(reseed=False, chunks_per_pass=4)
    engine, direction, measured = _noise_line(network, samples=samples, chunk_size=64, plan=plan)
    where = np.linspace(-INTERVAL, INTERVAL, positions).tolist()
    times = []
    for _ in range(repeats + 1):
        synchronise()
        start = time.perf_counter()
        with engine.line(direction) as line:
            line.losses(where, measured)
        synchronise()
        times.append(time.perf_counter() - start)
    return {
        "network": family,
        "grows": grows,
        "size": size,
        "parameters": count_parameters(network),
        "samples": samples,
        "positions": positions,
        "seconds": median(times[1:]),
    }


# --- checks -----------------------------------------------------------------------------------------------------------


def checks(*, repeats: int, small: bool, threads: int) -> list[dict[str, Any]]:
    """Return what holding copy and plan against the network itself costs beside a line of 17 nodes, turn by turn.

    Noise as images: the time does not depend on what they show.
    """
    like_a_job(threads)
    rgb = {"input_shape": (3, 32, 32), "num_classes": 10}
    grey = {"input_shape": (1, 8, 8), "num_classes": 10}
    together = Plan(reseed=False, chunks_per_pass=16, statistics="view")
    networks = [
        ("mlp", mlp(**grey, hidden=[64, 48]), 64, 1024, together),
        ("tiny_resnet", tiny_resnet(**grey, width=8), 64, 1024, together),
        ("resnet20", resnet20(**rgb), 128, 512, Plan(reseed=False)),
    ]
    rows = []
    for name, network, chunk, samples, plan in networks:
        chunk, samples = (8, 16) if small else (chunk, samples)
        engine, direction, measured = _noise_line(network, samples=samples, chunk_size=chunk, plan=plan)
        where = np.linspace(-INTERVAL, INTERVAL, 3 if small else 17).tolist()
        times: dict[str, list[float]] = {"line": [], "check": []}
        for _ in range(repeats + 1):
            synchronise()
            start = time.perf_counter()
            with engine.line(direction) as line:
                found = line.losses(where, measured)
            synchronise()
            middle = time.perf_counter()
            if plan.chunks_per_pass == 1:
                engine.require_same()
            else:  # as LineMeter does
                first, here = measured.passes[0], found[len(where) // 2, :chunk]
                inputs, targets = first.inputs[:chunk], first.targets[:chunk]
                assert engine.network.fault_of_plan(here, inputs, targets, mask_seed=0) is None
            synchronise()
            times["line"].append(middle - start)
            times["check"].append(time.perf_counter() - middle)
        shares = [check / line for check, line in zip(times["check"][1:], times["line"][1:], strict=True)]
        rows.append(
            {
                "network": name,
                "parameters": count_parameters(network),
                "samples": samples,
                "positions": len(where),
                "line_seconds": median(times["line"][1:]),
                "check_seconds": median(times["check"][1:]),
                "shares": shares,
            }
        )
    return rows


def _noise_line(
    network: nn.Module, *, samples: int, chunk_size: int, plan: Plan
) -> tuple[LineEngine, dict[str, Tensor], MeasuringSet]:
    """Return an engine, a random unit direction and random images for a network."""
    device, draws = the_device(), torch.Generator().manual_seed(0)
    network.to(device)
    first = next(module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear))
    shape = (1, 8, 8) if isinstance(first, nn.Linear) or first.in_channels == 1 else (3, 32, 32)
    inputs = torch.randn(samples, *shape, generator=draws).to(device)
    targets = torch.randint(0, 10, (samples,), generator=draws).to(device)
    parts = {name: torch.randn(p.shape, generator=draws) for name, p in network.named_parameters()}
    norm = sum(float((part**2).sum()) for part in parts.values()) ** 0.5
    engine = LineEngine(network, cross_entropy, batch_norm="train", plan=plan)
    measured = engine.prepare(inputs, targets, chunk_size=chunk_size, mask_seeds=[0] * samples)
    return engine, {name: (part / norm).to(device) for name, part in parts.items()}, measured
