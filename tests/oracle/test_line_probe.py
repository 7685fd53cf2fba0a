"""The line probe against a naive loop in float64, written from papers.md 2.2 alone.

The naive loop trains a float64 copy of the network by hand, cuts the measuring set itself, and evaluates every
position with a fresh copy of the parameters. It shares no code with the engine but the random draws' seeds.
"""

from __future__ import annotations

import copy
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from small_runs import RESNET, line_settings, prepare_digits, probe_segment, training_settings
from torch import nn

from sgdline.data.augmentation import augment
from sgdline.data.batches import BatchOrder
from sgdline.data.images import load_images
from sgdline.engine.plan import Plan, PlanReport, write_plan
from sgdline.models.loading import build_model
from sgdline.probes.gather import gather_segments
from sgdline.seeds import derive_seed, generator
from sgdline.tables import provenance, read_table
from sgdline.train.run import train_run

MODELS: dict[str, dict[str, Any]] = {
    "mlp": {"entry": "sgdline.models:mlp", "kwargs": {"hidden": [16]}},
    "mlp_dropout": {"entry": "sgdline.models:mlp", "kwargs": {"hidden": [16], "dropout": 0.3}},
    "resnet": RESNET,
}
STEPS = 7


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """90 training images in batches of 32: the last chunk has 26."""
    return prepare_digits(tmp_path_factory.mktemp("dataset"), train=90)


def probe_settings(
    model: str, *, momentum: float = 0.0, segments: int = 1, augmented: bool = False, **line: Any
) -> dict[str, Any]:
    edges = [STEPS * part // segments for part in range(segments + 1)]
    training = training_settings(
        momentum=momentum,
        model=MODELS[model],
        lr=0.2,
        seed=3,
        steps=STEPS,
        segments=[list(part) for part in pairwise(edges)],
        drop_last=True,
        augmentation={"crop_padding": 1 if augmented else 0, "flip": augmented},
    )
    line = {"every": 3, "augment": augmented, "interval": 0.3, "max_rings": 2, "sample_losses": True} | line
    return line_settings(training, **line)


def measure(dataset: Path, folder: Path, settings: dict[str, Any], plan: Plan | None = None) -> pa.Table:
    if plan is not None:
        write_plan(folder / "plan.json", PlanReport(plan))
    training = settings["training"]
    train_run(dataset, trace=folder / "trace.arrow", checkpoints=folder / "checkpoints", settings=training, facts={})
    parts = []
    for segment in range(len(training.segments)):
        parts.append(folder / f"segment{segment}.arrow")
        probe_segment(
            dataset,
            folder / "checkpoints",
            plan=None if plan is None else folder / "plan.json",
            output=parts[-1],
            settings=settings,
            segment=segment,
            facts={},
        )
    gather_segments(parts, output=folder / "line.arrow", kind="line")
    return read_table(folder / "line.arrow", "line")


def naive_lines(dataset: Path, settings: dict[str, Any]) -> dict[int, dict[str, Any]]:
    """Train in float64 and return for each measured update a function position -> losses."""
    training = settings["training"]
    images = load_images(dataset, device="cpu")
    inputs, targets = images.train.inputs.double(), images.train.targets
    augmentation = asdict(training.augmentation)

    def augmented(pictures: torch.Tensor, purpose: str, index: int = 0) -> torch.Tensor:
        draws = generator(training.seed, purpose, index)
        return augment(pictures, **augmentation, fill=images.black.double(), generator=draws)

    measured = {"train": inputs, "validation": images.validation.inputs.double()}
    if settings["settings"]["augment"]:
        measured = {part: augmented(x, f"probe_augmentation_{part}") for part, x in measured.items()}
    seed, size = training.seed, training.batch_size
    network = build_model(
        training.model.entry,
        training.model.kwargs,
        input_shape=images.image_shape,
        num_classes=images.num_classes,
        seed=derive_seed(seed, "initialisation"),
    ).double()
    order = BatchOrder(len(targets), batch_size=size, seed=seed, drop_last=True)
    buffer: list[torch.Tensor] | None = None
    lines: dict[int, dict[str, Any]] = {}
    for step in range(training.steps):
        rows = order.indices(step)
        batch_inputs = augmented(inputs[rows], "augmentation", step)
        network.train()
        torch.manual_seed(derive_seed(seed, "dropout", step))
        loss = nn.CrossEntropyLoss()(network(batch_inputs), targets[rows])
        gradients = torch.autograd.grad(loss, list(network.parameters()))
        decayed = [g + 0.01 * p.detach() for g, p in zip(gradients, network.parameters(), strict=True)]
        if buffer is None:
            buffer = decayed
        else:
            momentum = training.optimizer.momentum
            buffer = [momentum * m + g for m, g in zip(buffer, decayed, strict=True)]
        norm = sum(float((m**2).sum()) for m in buffer) ** 0.5
        if step % settings["settings"]["every"] == 0:
            lines[step] = {
                "network": copy.deepcopy(network),
                "direction": [-m / norm for m in buffer],
                "norm": norm,
                "slope": -sum(float((m * g).sum()) for m, g in zip(buffer, gradients, strict=True)) / norm,
                "inputs": batch_inputs,
                "targets": targets[rows],
            }
        with torch.no_grad():
            for parameter, m in zip(network.parameters(), buffer, strict=True):
                parameter -= training.lr * m
    for step, line in lines.items():

        def losses(
            position: float,
            x: torch.Tensor,
            y: torch.Tensor,
            mask: int,
            line: dict[str, Any] = line,
        ) -> torch.Tensor:
            moved = copy.deepcopy(line["network"])
            moved.train(settings["settings"]["batch_norm"] == "train")
            torch.manual_seed(mask)
            with torch.no_grad():
                for parameter, d in zip(moved.parameters(), line["direction"], strict=True):
                    parameter += position * d
                return nn.CrossEntropyLoss(reduction="none")(moved(x), y)

        def full(position: float, part: str = "train", losses: Any = losses) -> torch.Tensor:
            labels = images.train.targets if part == "train" else images.validation.targets
            purpose = "probe_masks" if part == "train" else "probe_masks_validation"
            pieces = []
            for index, first in enumerate(range(0, len(labels), size)):
                x = measured[part][first : first + size]
                y = labels[first : first + size]
                pieces.append(losses(position, x, y, derive_seed(seed, purpose, index)))
            return torch.cat(pieces)

        def batch(position: float, line: dict[str, Any] = line, step: int = step, losses: Any = losses) -> float:
            mask = derive_seed(seed, "dropout", step)
            return float(losses(position, line["inputs"], line["targets"], mask).mean())

        line["full"], line["batch"] = full, batch
    return lines


@pytest.mark.parametrize("batch_norm", ["train", "eval"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("model", sorted(MODELS))
def test_grid_lines_agree_with_the_naive_loop(
    dataset: Path, tmp_path: Path, model: str, momentum: float, batch_norm: str
) -> None:
    # Augmentation in training and probe goes with momentum, to keep the number of cases down.
    settings = probe_settings(model, momentum=momentum, augmented=momentum > 0, batch_norm=batch_norm, max_rings=1)
    table = measure(dataset, tmp_path, settings)
    naive = naive_lines(dataset, settings)
    assert table["step"].to_pylist() == sorted(naive) == [0, 3, 6]
    for row in table.to_pylist():
        line = naive[row["step"]]
        positions = row["positions"]
        np.testing.assert_allclose(positions, np.arange(-3, 4) * 0.1, rtol=0, atol=0)
        samples = np.array(row["sample_loss"]).reshape(len(positions), 90)
        chunks = np.array(row["chunk_loss"]).reshape(len(positions), 3)
        for index, position in enumerate(positions):
            exact = line["full"](position).numpy()
            assert abs(row["train_loss"][index] - exact.mean()) < 1e-5
            assert abs(row["direction_batch_loss"][index] - line["batch"](position)) < 1e-5
            assert abs(row["validation_loss"][index] - float(line["full"](position, "validation").mean())) < 1e-5
            np.testing.assert_allclose(samples[index], exact, atol=2e-4)
            np.testing.assert_allclose(
                chunks[index], [exact[:32].mean(), exact[32:64].mean(), exact[64:].mean()], atol=2e-5
            )
        assert abs(row["direction_norm"] - line["norm"]) < 1e-4 * line["norm"]
        assert abs(row["direction_batch_slope"] - line["slope"]) < 1e-4 * max(1, abs(line["slope"]))
        assert row["step_length"] == pytest.approx(0.2 * row["direction_norm"], rel=1e-12)
        assert abs(row["step_train_loss"] - float(line["full"](row["step_length"]).mean())) < 1e-5
        assert abs(row["step_direction_batch_loss"] - line["batch"](row["step_length"])) < 1e-5


@pytest.mark.parametrize("model", ["mlp", "resnet"])
def test_adaptive_lines_are_as_good_as_reported(dataset: Path, tmp_path: Path, model: str) -> None:
    # 90 samples make rough curves: between the nodes the error can be somewhat larger than at them.
    from sgdline.analysis.curves import LineCurves, common_grid

    settings = probe_settings(model, positions="adaptive", tolerance=1e-3, sample_losses=False)
    table = measure(dataset, tmp_path, settings)
    naive = naive_lines(dataset, settings)
    grid = common_grid(0.3, 0.02)
    curves = LineCurves.from_table(table, "train_loss").at(grid)
    for row, curve in zip(table.to_pylist(), curves, strict=True):
        exact = np.array([float(naive[row["step"]]["full"](position).mean()) for position in grid])
        error = np.abs(curve - exact)
        assert error.max() <= max(2 * row["interpolation_error"], 1e-5)
        assert error.mean() <= max(row["interpolation_error"] / 2, 1e-5)
        assert row["evaluations"] < len(grid)


def test_batch_loss_at_zero_is_the_trace(dataset: Path, tmp_path: Path) -> None:
    table = measure(dataset, tmp_path, probe_settings("mlp_dropout"))
    trace = read_table(tmp_path / "trace.arrow", "trace")
    batch_loss = dict(zip(trace["step"].to_pylist(), trace["batch_loss"].to_pylist(), strict=True))
    for row in table.to_pylist():
        at_zero = row["direction_batch_loss"][row["positions"].index(0.0)]
        assert abs(at_zero - batch_loss[row["step"]]) < 1e-6


@pytest.mark.parametrize("model", ["mlp_dropout", "resnet"])
def test_any_number_of_segments_gives_the_same_rows(dataset: Path, tmp_path: Path, model: str) -> None:
    tables = []
    for segments in (1, 3, STEPS):
        folder = tmp_path / str(segments)
        table = measure(dataset, folder, probe_settings(model, momentum=0.9, segments=segments, max_rings=1))
        assert provenance(table)["replay_drift"] == 0.0
        tables.append(table.replace_schema_metadata(None))
    assert tables[0].num_rows == 3
    assert tables[1].equals(tables[0])
    assert tables[2].equals(tables[0])


@pytest.mark.parametrize("validation", [True, False])
@pytest.mark.parametrize("statistics", ["split", "view"])
def test_all_sets_in_one_pass_give_the_rows_of_sets_alone(
    dataset: Path, tmp_path: Path, statistics: str, validation: bool
) -> None:
    # 90 + 40 images and batches of 32: whole chunks share a pass, ends of 26 and 8 have their own.
    settings = probe_settings("resnet", augmented=True, validation=validation)
    plan = Plan(reseed=False, chunks_per_pass=3, statistics=statistics)
    joined = measure(dataset, tmp_path / "joined", settings, plan).to_pylist()
    alone = measure(dataset, tmp_path / "alone", settings).to_pylist()
    assert len(joined) == len(alone) == 3
    for ours, theirs in zip(joined, alone, strict=True):
        for column, value in theirs.items():
            if value is None or isinstance(value, str):
                assert ours[column] == value
            else:
                np.testing.assert_allclose(ours[column], value, atol=1e-4 if "sample" in column else 1e-5)


def test_the_batch_in_a_shared_pass_is_that_of_its_update_in_float64_too(dataset: Path, tmp_path: Path) -> None:
    settings = probe_settings("resnet")
    rows = {}
    for name, chunks in (("joined", 3), ("alone", 1)):
        plan = Plan(precision="float64", reseed=False, chunks_per_pass=chunks)
        rows[name] = measure(dataset, tmp_path / name, settings, plan)
    for column in ("direction_batch_loss", "train_loss", "validation_loss"):
        for ours, theirs in zip(*(rows[name][column].to_pylist() for name in ("joined", "alone")), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-10)


def test_a_smaller_last_batch_is_measured_apart(dataset: Path, tmp_path: Path) -> None:
    settings = probe_settings("resnet", every=1)
    settings["training"] = replace(settings["training"], drop_last=False)
    plan = Plan(reseed=False, chunks_per_pass=3)
    joined = measure(dataset, tmp_path / "joined", settings, plan)
    alone = measure(dataset, tmp_path / "alone", settings)
    for column in ("direction_batch_loss", "train_loss", "validation_loss"):
        for ours, theirs in zip(joined[column].to_pylist(), alone[column].to_pylist(), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("model", ["mlp", "resnet"])
def test_a_network_measured_in_place_gives_the_rows_of_a_copy(dataset: Path, tmp_path: Path, model: str) -> None:
    # It moves along the line itself: the step starts from where the line did, not from its last position.
    settings = probe_settings(model, every=1)
    moved = measure(dataset, tmp_path / "moved", settings, Plan(in_place=True))
    copied = measure(dataset, tmp_path / "copied", settings, Plan())
    assert moved.num_rows == STEPS
    for column in ("train_loss", "direction_batch_loss", "validation_loss", "step_train_loss"):
        for ours, theirs in zip(moved[column].to_pylist(), copied[column].to_pylist(), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5)


@pytest.mark.parametrize("positions", ["grid", "adaptive"])
@pytest.mark.parametrize(
    "plan",
    [
        Plan(reseed=False, chunks_per_pass=3),
        Plan(reseed=False, chunks_per_pass=2),
        Plan(reseed=False, positions_per_pass=4, statistics="view"),
    ],
    ids=["together", "chunks", "positions"],
)
def test_segments_and_reused_losses_leave_no_trace(dataset: Path, tmp_path: Path, plan: Plan, positions: str) -> None:
    # At every update a line: the loss at the step is the next line's at 0, except at the start of a segment.
    tables = []
    for segments in (1, 4):
        folder = tmp_path / str(segments)
        settings = probe_settings("resnet", momentum=0.9, segments=segments, every=1, positions=positions)
        tables.append(measure(dataset, folder, settings, plan).replace_schema_metadata(None))
    assert tables[0].num_rows == STEPS
    assert tables[1].equals(tables[0])
    if plan.positions_per_pass == 1:
        rows = tables[0].to_pylist()
        for row, after in pairwise(rows):
            assert after["train_loss"][after["positions"].index(0.0)] == row["step_train_loss"]


def test_the_same_settings_give_the_same_bytes(dataset: Path, tmp_path: Path) -> None:
    for name in ("first", "second"):
        measure(dataset, tmp_path / name, probe_settings("resnet", segments=2, positions="adaptive"))
    names = ["trace.arrow", "line.arrow", "segment1.arrow", "checkpoints/step00000007.safetensors"]
    for name in names:
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes(), name
