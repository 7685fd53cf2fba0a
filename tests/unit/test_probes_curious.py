"""Probes of aligned gradients, stationarity and the spectrum: they leave the run as it was, and say what they lack."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from declared import made_probe
from small_runs import RESNET, prepare_digits, probe_segment, training_settings

from sgdline.config import ConfigError, resolve_config
from sgdline.config.declarations import configuration_schema
from sgdline.data.images import load_images
from sgdline.engine.lanczos_budget import smallest_budget
from sgdline.engine.plan import Plan
from sgdline.errors import SgdlineError
from sgdline.models.parameters import buffers_of
from sgdline.probes.alignment import probe as alignment
from sgdline.probes.gather import gather_segments
from sgdline.tables import provenance, read_table
from sgdline.train.loop import Trainer, Update
from sgdline.train.run import train_run
from sgdline.train.settings import TrainingSettings

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
STEPS = 9
HESSIAN: dict[str, Any] = {"samples": None, "batch_norm": "train", "augment": False}
HESSIAN |= {"tolerance": 1e-2, "max_products": 300}
BLOCKS: dict[str, dict[str, Any]] = {
    "alignment": {"every": 3, "batches": 2, "lags": [1, 3], "projection": "none"},
    "stationarity": {"start": 2, "every": 2, "eigenvectors": 2} | HESSIAN,
    "spectrum": {"every": 3, "eigenvalues": 3, "epochs": 2, "trace_draws": 2} | HESSIAN,
}
PROBES = ("alignment", "stationarity", "spectrum")
MODELS: dict[str, dict[str, Any]] = {
    "plain": {"entry": "sgdline.models:mlp", "kwargs": {"hidden": [2], "batch_norm": False}},
    "mlp_dropout": {"entry": "sgdline.models:mlp", "kwargs": {"hidden": [2], "dropout": 0.3}},
    "resnet": RESNET | {"kwargs": {"width": 2}},
    "averaging": {"entry": "networks:_Averaging", "kwargs": {}},
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """90 training images in chunks of 32, 32 and 26."""
    return prepare_digits(tmp_path_factory.mktemp("dataset"), train=90)


def settings(model: str = "plain", *, segments: int = 1, **changes: Any) -> TrainingSettings:
    edges = [STEPS * part // segments for part in range(segments + 1)]
    bounds = [list(bound) for bound in pairwise(edges)]
    return training_settings(model=MODELS[model], steps=STEPS, segments=bounds, **changes)


def trainer_of(dataset: Path, training: TrainingSettings) -> tuple[Trainer, Any]:
    images = load_images(dataset, device=CPU)
    return Trainer(training, images, device=CPU), images


def train(dataset: Path, folder: Path, training: TrainingSettings) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    paths = {"trace": folder / "trace.arrow", "checkpoints": folder / "checkpoints"}
    train_run(dataset, **paths, settings=training, facts={})


def probed(dataset: Path, folder: Path, kind: str, training: TrainingSettings, **changes: Any) -> Any:
    """Probe all segments of a trained run; a sequential probe has one."""
    block = {"training": training, "probe": kind, "settings": BLOCKS[kind] | changes, "replay_tolerance": 0.0}
    paths = []
    for segment in range(len(training.segments) if kind == "spectrum" else 1):
        paths.append(folder / f"{kind}{segment}.arrow")
        options = {"output": paths[-1], "settings": block, "segment": segment, "facts": {}}
        probe_segment(dataset, folder / "checkpoints", **options)
    gather_segments(paths, output=folder / f"{kind}.arrow", kind=kind)
    return read_table(folder / f"{kind}.arrow", kind)


def seen(trainer: Trainer, measuring: Any) -> Iterator[tuple[Update, list[dict[str, Any]]]]:
    """Step through a run as sgdline.probes.segment does."""
    if hasattr(measuring, "begin"):
        measuring.begin(trainer.checkpoint(0))
    for update in trainer.updates(0, STEPS):
        measuring.observe(update)
        yield update, measuring.measure(update) if measuring.due(update.step) else []


@pytest.mark.parametrize(
    ("kind", "model"),
    [
        *((kind, model) for kind in sorted(PROBES) for model in ("averaging", "mlp_dropout", "plain")),
        ("alignment", "resnet"),
        ("stationarity", "resnet"),
    ],
)
def test_a_measured_run_is_the_unmeasured_one_bit_for_bit(dataset: Path, kind: str, model: str) -> None:
    training = settings(model, augmentation={"crop_padding": 1, "flip": True})
    alone, _ = trainer_of(dataset, training)
    trainer, images = trainer_of(dataset, training)
    measuring = made_probe(kind, trainer, images, training, BLOCKS[kind], Plan())
    rows = []
    for update, (own, found) in zip(alone.updates(0, STEPS), seen(trainer, measuring), strict=True):
        rows += found
        assert torch.equal(update.gradient, own.gradient)
        assert torch.equal(update.direction, own.direction)
        assert update.batch_loss == own.batch_loss
        modes = [module.training for module in trainer.model.modules()]
        assert all(modes)
    assert torch.equal(trainer.vector.value, alone.vector.value)
    for name, buffer in buffers_of(alone.model).items():
        assert torch.equal(buffer, buffers_of(trainer.model)[name])
    assert rows
    assert all(row["status"] in ("ok", "not_converged") for row in rows)


@pytest.mark.parametrize("kind", sorted(PROBES))
def test_random_generators_stay_where_they_are(dataset: Path, kind: str) -> None:
    training = settings("mlp_dropout")
    trainer, images = trainer_of(dataset, training)
    measuring = made_probe(kind, trainer, images, training, BLOCKS[kind], Plan())
    run = seen(trainer, measuring)
    next(run)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    for update in trainer.updates(1, 2):  # seeds the generator itself
        before = torch.get_rng_state()
        measuring.observe(update)
        assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("kind", ["alignment", "stationarity"])
def test_an_interrupted_job_ends_with_the_same_table(dataset: Path, tmp_path: Path, kind: str) -> None:
    training = settings("mlp_dropout", segments=3)
    train(dataset, tmp_path, training)
    whole = probed(dataset, tmp_path, kind, training)
    owner = type(made_probe(kind, *trainer_of(dataset, training), training, BLOCKS[kind], Plan()))
    measure, count = owner.measure, 0

    def stopping(self: Any, update: Update) -> list[dict[str, Any]]:
        nonlocal count
        count += 1
        if count == 3:
            raise KeyboardInterrupt
        return measure(self, update)

    other = tmp_path / "again"
    other.mkdir()
    (tmp_path / "checkpoints").rename(other / "checkpoints")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, "measure", stopping)
        with pytest.raises(KeyboardInterrupt):
            probed(dataset, other, kind, training)
        found = probed(dataset, other, kind, training)
    assert found.equals(whole)
    assert count > 3
    assert whole["step"].to_pylist()[-1] == (6 if kind == "alignment" else STEPS)
    assert provenance(whole)["replay_drift"] == 0.0


@pytest.mark.slow
def test_any_number_of_segments_gives_the_same_spectrum(dataset: Path, tmp_path: Path) -> None:
    tables = []
    for segments in (1, 3):
        training = settings("mlp_dropout", segments=segments)
        train(dataset, tmp_path / str(segments), training)
        tables.append(probed(dataset, tmp_path / str(segments), "spectrum", training).replace_schema_metadata(None))
    assert tables[0]["step"].to_pylist() == [0, 3, 6]
    assert tables[1].equals(tables[0])


@pytest.mark.parametrize("kind", sorted(PROBES))
def test_a_run_that_diverges_has_its_rows(dataset: Path, tmp_path: Path, kind: str) -> None:
    training = settings(segments=3, lr=1e30, momentum=0.0)
    train(dataset, tmp_path, training)
    lost = provenance(read_table(tmp_path / "trace.arrow", "trace"))["diverged_at"]
    assert 0 < lost < 4
    changes = {"start": 0} if kind == "stationarity" else {}
    table = probed(dataset, tmp_path, kind, training, every=1, **changes)
    assert sorted(set(table["step"].to_pylist())) == list(range(lost))
    assert table["status"].to_pylist()[0] == "ok"


def test_a_twin_that_diverges_alone_leaves_nulls(dataset: Path) -> None:
    training = settings(momentum=0.0)
    trainer, images = trainer_of(dataset, training)
    measuring = made_probe("stationarity", trainer, images, training, BLOCKS["stationarity"] | {"every": 1}, Plan())
    rows = []
    for update, found in seen(trainer, measuring):
        rows += found
        if update.step == 3:
            assert measuring._twin is not None
            measuring._twin._trainer.vector.value[0] = math.nan
    rows += measuring.finish()
    assert rows[0]["step"] == 2
    with_twin = [row["step"] for row in rows if row.get("twin_squared_distance") is not None]
    assert with_twin == [2, 3]
    assert not any("rejoined_squared_distance" in row for row in rows)  # it would have left at update 5
    assert rows[-1]["squared_distance"] > 0


def test_rows_at_the_start_and_the_end(dataset: Path) -> None:
    training = settings()
    trainer, images = trainer_of(dataset, training)
    block = BLOCKS["stationarity"] | {"every": 4, "start": 3}
    measuring = made_probe("stationarity", trainer, images, training, block, Plan())
    rows = [row for _, found in seen(trainer, measuring) for row in found] + measuring.finish()
    assert [(row["step"], row["updates"]) for row in rows] == [(3, 0), (7, 4), (9, 6)]
    assert rows[0]["squared_distance"] == rows[0]["twin_squared_distance"] == 0.0
    assert [("eigenvalues" in row) for row in rows] == [True, False, False]
    assert len(rows[0]["eigenvalues"]) == len(rows[2]["projections"]) == 2
    assert measuring.facts()["rejoins_at"] == 6
    assert "rejoined_squared_distance" not in rows[0]
    assert rows[1]["rejoined_squared_distance"] > 0


def test_gradients_that_are_not_finite_or_zero(dataset: Path) -> None:
    training = settings()
    trainer, images = trainer_of(dataset, training)
    measuring = made_probe("alignment", trainer, images, training, BLOCKS["alignment"], Plan())
    updates = trainer.updates(0, STEPS)
    for update in updates:
        measuring.observe(update)
        if update.step == 3:
            break
    sound = measuring.measure(update)
    assert [row["status"] for row in sound] == ["ok", "ok"]
    trainer.vector.value[0] = math.nan
    measuring.observe(update)
    for row in measuring.measure(update):
        assert row["status"] == "non_finite"
        assert row["lag_cosines"] == [None, None]
        assert row["full_cosine"] is row["other_batches_cosine"] is None
    # Outputs that are far beyond doubt and right: no gradient is left.
    trainer.vector.value.zero_()
    trainer.vector.value[-10:] = torch.linspace(0, 2e6, 10)
    kept = trainer._train.targets.clone()
    for batch in (*measuring._batches, *measuring._chunks):
        batch.targets.fill_(9)
    measuring.observe(update)
    assert {row["status"] for row in measuring.measure(update)} == {"zero_gradient"}
    trainer._train.targets.copy_(kept)
    with pytest.raises(RuntimeError, match="has to be observed"):
        measuring.measure(next(updates))


def test_only_the_gradients_that_a_row_needs_are_measured_and_kept(
    dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = settings()
    trainer, images = trainer_of(dataset, training)
    count = 0
    original = alignment.batch_gradient

    def counted(*arguments: Any) -> Any:
        nonlocal count
        count += 1
        return original(*arguments)

    monkeypatch.setattr(alignment, "batch_gradient", counted)
    block = {"every": 4, "batches": 1, "lags": [1, 6], "projection": "none"}
    measuring = made_probe("alignment", trainer, images, training, block, Plan())
    measured, kept = [], []
    for _ in seen(trainer, measuring):
        measured.append(count)
        kept.append(sorted(measuring._kept))
    # Rows at 0, 4 and 8; they compare themselves with 3 and 7, and with 2 (and before the run's start).
    assert np.diff([0, *measured]).tolist() == [1, 0, 1, 1, 1, 0, 0, 1, 1]
    assert kept == [[0], [], [2], [2, 3], [2, 3, 4], [2], [2], [2, 7], [2, 7, 8]]


def test_auto_keeps_gradients_of_small_networks_whole(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = settings()
    trainer, images = trainer_of(dataset, training)
    auto = BLOCKS["alignment"] | {"projection": "auto"}
    assert made_probe("alignment", trainer, images, training, auto, Plan()).facts()["projection_dimensions"] is None
    monkeypatch.setattr(alignment, "_EXACT_UP_TO", trainer.vector.size - 1)
    facts = made_probe("alignment", trainer, images, training, auto, Plan()).facts()
    assert facts["projection_dimensions"] == 16_384
    assert facts["cosine_standard_error"] == 1 / 128


def test_a_network_too_small_for_its_eigenvalues_is_one_sentence(dataset: Path) -> None:
    training = settings()
    trainer, images = trainer_of(dataset, training)
    size = trainer.vector.size
    block = BLOCKS["spectrum"] | {"eigenvalues": size, "max_products": 10_000}
    with pytest.raises(SgdlineError, match=f"must be fewer than the network's {size} parameters"):
        made_probe("spectrum", trainer, images, training, block, Plan())
    with pytest.raises(SgdlineError, match="at least two whole batches"):
        made_probe("spectrum", trainer, images, replace(training, batch_size=60), BLOCKS["spectrum"], Plan())
    with pytest.raises(SgdlineError, match="max_products must be at least 54"):
        made_probe("spectrum", trainer, images, training, BLOCKS["spectrum"] | {"max_products": 53}, Plan())
    with pytest.raises(SgdlineError, match="start must be below the run's 9 updates"):
        made_probe("stationarity", trainer, images, training, BLOCKS["stationarity"] | {"start": 9}, Plan())


# -- config ------------------------------------------------------------------------------------------------------------


def faults_of(text: str) -> list[str]:
    config = yaml.safe_load((ROOT / "config/config.yaml").read_text(encoding="utf-8"))
    experiment = {"dataset": "digits", "models": ["mlp"], "lr": [0.1], "batch_size": [64], "seed": [1], "steps": 200}
    config |= {"experiments": {"e": experiment | yaml.safe_load(text)}, "comparisons": {}}
    try:
        resolve_config(config)
    except ConfigError as error:
        return list(error.faults)
    return []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "probes: {alignment: {lags: [1, 200]}}",
            "probes.alignment.lags[1] must be below the experiment's steps (200), got 200. Write lags without it.",
        ),
        ("probes: {alignment: {projection: some}}", "probes.alignment.projection must be "),
        (
            "probes: {stationarity: {start: 200}}",
            "probes.stationarity.start must be below the experiment's steps (200), got 200. Lower it.",
        ),
        (
            "probes: {spectrum: {eigenvalues: 40}}",
            "",
        ),
        (
            "probes: {spectrum: {eigenvalues: 40, max_products: 200}}",
            "probes.spectrum.max_products must be at least 213 for 40 eigenvalues, got 200. Raise it, or ask for fewer "
            "eigenvalues.",
        ),
        (
            "{batch_size: [600], probes: {spectrum: {}}}",
            "batch_size[0] must leave at least two whole batches of 1024 training images for the probe spectrum, got "
            "600. Lower it, or leave the probe out.",
        ),
        (
            "{batch_size: [33], probes: {stationarity: {}}}",
            "batch_size[0] must not leave a chunk of one sample when probes.stationarity.batch_norm is train, got 33, "
            "which leaves one of the 1024 train images over. Set probes.stationarity.samples to 1023, or use another "
            "batch size.",
        ),
        ("probes: {alignment: {}, stationarity: {}, spectrum: {}}", ""),
    ],
)
def test_a_fault_is_one_sentence(text: str, expected: str) -> None:
    faults = faults_of(text)
    if not expected:
        assert faults == []
    else:
        [fault] = faults
        assert fault.startswith(f"experiments.e.{expected}")


def test_the_schemas_smallest_budget_is_that_of_one_eigenvalue() -> None:
    for probe in ("StationarityOptions", "SpectrumOptions"):
        bounds = configuration_schema()["$defs"][probe]["properties"]["max_products"]
        assert bounds["minimum"] == smallest_budget(1)
