"""Schedules with a phase of large steps, and random labels: closed forms, and runs without them as they were."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_runs import prepare_digits, training_settings

from sgdline.config import ConfigError, resolve_config
from sgdline.data.images import load_images
from sgdline.declare.build import build
from sgdline.train.label_noise import LabelNoise
from sgdline.train.loop import Trainer
from sgdline.train.schedules.cosine import Cosine
from sgdline.train.schedules.inverted_cosine import InvertedCosine
from sgdline.train.schedules.piecewise import Piecewise
from sgdline.train.settings import LabelNoiseOptions
from sgdline.workflow.layout import RunKey
from sgdline.workflow.slices import probe_slice, training_slice

CPU = torch.device("cpu")
RUN = RunKey("one", "mlp", "0.5", 16, 1)


def rates(lr: float, *, steps: int = 100, compat: bool = False, **changes: Any) -> list[float]:
    schedule = Piecewise(**{"large_phase": 0.3, "compat": compat, **changes}).rates(lr, steps=steps)
    return [schedule(step) for step in range(steps)]


# -- schedules ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("share", "peak"), [(0.1, 1.22), (0.3, 3.24), (0.5, 8.60)])
@pytest.mark.parametrize("compat", [False, True])
def test_an_exponential_warm_up_has_the_published_peaks(share: float, peak: float, compat: bool) -> None:
    found = rates(0.75, steps=1000, large_phase=share, warmup="exponential", compat=compat)
    end = round(1000 * share)
    assert found[0] == pytest.approx(0.75 * 1.05**0.1)
    assert found[end - 2] == pytest.approx(0.75 * 1.05 ** (100 * (end - 1) / 1000))
    assert [found[end - 1], found[-1]] == pytest.approx([peak / 10, peak / 100], rel=2e-3)
    assert found[898] == found[end - 1]
    assert found[899] == pytest.approx(found[end - 1] / 10)


@pytest.mark.parametrize(("share", "released"), [(0.1, 1 / 50), (0.3, 1 / 16.6667), (0.5, 1 / 10)])
def test_without_a_warm_up_the_clean_rule_falls_to_a_tenth_and_the_released_one_does_not(
    share: float, released: float
) -> None:
    end = round(100 * share)
    for warmup in ("none", "linear"):
        for compat, expected in ((False, 0.1), (True, released)):
            found = rates(2.0, large_phase=share, warmup=warmup, compat=compat)
            assert found[: end - 1] == pytest.approx([2.0] * (end - 1))
            assert found[end - 1 : 89] == pytest.approx([2.0 * expected] * (90 - end), rel=1e-4)
            assert found[89:] == pytest.approx([0.2 * expected] * 11, rel=1e-4)


def test_a_linear_warm_up_ends_where_the_decay_begins() -> None:
    found = rates(1.0, steps=10, warmup="linear", factor=6.0)
    assert found[:2] == pytest.approx([1 + 5 * 0.1 / 0.5, 1 + 5 * 0.2 / 0.5])
    assert found[2:] == pytest.approx([0.4] * 6 + [0.04] * 2)  # the peak 1 + 5 * 0.3 / 0.5 is 4
    released = rates(1.0, steps=10, warmup="linear", factor=6.0, compat=True)
    assert released[2:] == pytest.approx([0.36] * 6 + [0.036] * 2)


def test_a_power_warm_up() -> None:
    found = rates(1.0, steps=10, warmup="power", exponent=0.5)
    assert found[0] == pytest.approx(1 + math.sqrt(10))
    assert found[2] == pytest.approx((1 + math.sqrt(30)) / 10)


@pytest.mark.parametrize("steps", [7, 10, 30, 100, 937, 1000])
@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7])
def test_the_phases_are_as_long_as_exact_fractions_say(steps: int, share: float) -> None:
    found = rates(1.0, steps=steps, large_phase=share)
    large = math.ceil(steps * round(10 * share) / 10) - 1  # (t + 1) / steps < share
    assert found.count(1.0) == max(large, 0)
    assert sum(math.isclose(rate, 0.01) for rate in found) == steps - math.ceil(0.9 * steps) + 1


def test_cosine_and_inverted_cosine() -> None:
    falling, rising = (made.rates(2.0, steps=8) for made in (Cosine(), InvertedCosine()))
    assert falling(3) == pytest.approx(1.0)
    assert falling(7) == pytest.approx(0.0, abs=1e-15)
    assert [falling(step) + rising(step) for step in range(8)] == pytest.approx([2.0] * 8)


# -- label noise -------------------------------------------------------------------------------------------------------


def noise(probability: float, schedule: str = "constant", *, seed: int = 3, classes: int = 4) -> LabelNoise:
    options = build(LabelNoiseOptions, {"probability": probability, "schedule": schedule})
    return LabelNoise(options, steps=200, classes=classes, seed=seed)


def test_labels_change_as_often_as_the_binomial_says() -> None:
    targets = torch.arange(1000) % 4
    random = noise(0.3)
    counts = np.array([(random.applied(targets, step=step) != targets).sum() for step in range(200)])
    expected = 0.3 * (1 - 1 / 4)  # the new label may be the old one
    assert counts.mean() == pytest.approx(1000 * expected, rel=0.01)
    assert counts.var() == pytest.approx(1000 * expected * (1 - expected), rel=0.3)
    drawn = torch.cat([noise(1.0).applied(targets, step=step) for step in range(20)])
    assert torch.bincount(drawn, minlength=4).double().div(len(drawn)).tolist() == pytest.approx([0.25] * 4, abs=0.01)


def test_labels_are_a_function_of_seed_and_update() -> None:
    targets = torch.arange(64) % 4
    late_first = [noise(0.5).applied(targets, step=step) for step in (7, 2)]
    assert torch.equal(noise(0.5).applied(targets, step=2), late_first[1])
    assert not torch.equal(*late_first)
    assert not torch.equal(noise(0.5, seed=4).applied(targets, step=2), late_first[1])
    assert torch.equal(targets, torch.arange(64) % 4)


def test_the_probability_follows_its_schedule() -> None:
    assert [noise(0.4).probability(step) for step in (0, 199)] == [0.4, 0.4]
    rising = noise(0.4, "inverted_cosine")
    assert [rising.probability(step) for step in (99, 199)] == pytest.approx([0.2, 0.4])
    falling = noise(0.4, "piecewise")
    found = [falling.probability(step) for step in (0, 98, 99, 148, 149, 199)]
    assert found == pytest.approx([0.4, 0.4, 0.04, 0.04, 0.004, 0.004])


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_digits(tmp_path_factory.mktemp("dataset"), train=90)


def trainer_of(dataset: Path, **changes: Any) -> Trainer:
    return Trainer(training_settings(**changes), load_images(dataset, device=CPU), device=CPU)


def test_a_run_trains_on_random_labels_and_on_its_own_without(dataset: Path) -> None:
    plain, noisy = trainer_of(dataset), trainer_of(dataset, label_noise={"probability": 0.5, "schedule": "constant"})
    for step in range(4):
        clean, other = plain.batch(step), noisy.batch(step)
        assert torch.equal(clean.inputs, other.inputs)
        assert torch.equal(clean.rows, other.rows)
        assert (clean.mask_seed, len(other.targets)) == (other.mask_seed, 32 if step < 2 else len(clean.targets))
        assert not torch.equal(clean.targets, other.targets)
    images = load_images(dataset, device=CPU)
    assert torch.equal(noisy._train.targets, images.train.targets)  # the data set keeps its labels


def test_weight_decay_is_on_all_parameters(dataset: Path) -> None:
    """BatchNorm's scales and all biases included (papers.md P7)."""
    trainer = trainer_of(dataset, momentum=0.0, weight_decay=0.25)
    update = next(trainer.updates(0, 1))
    assert torch.allclose(update.direction - update.gradient, 0.25 * trainer.vector.value, atol=1e-6)


# -- configuration -----------------------------------------------------------------------------------------------------


def resolved(**changes: Any) -> dict[str, Any]:
    experiment = {"dataset": "digits", "models": ["mlp"], "lr": [0.5], "batch_size": [16], "seed": [1], "steps": 40}
    return resolve_config(
        {
            "datasets": {"digits": {"source": "digits", "train": 100}},
            "models": {"mlp": {"entry": "sgdline.models:mlp"}},
            "experiments": {"one": experiment | changes},
        },
    )


def fault(**changes: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        resolved(**changes)
    [text] = caught.value.faults
    return text


def test_slices_hold_the_options_in_use() -> None:
    config = resolved(label_noise={"probability": 0.2}, schedule={"name": "piecewise", "large_phase": 0.1})
    found = training_slice(config, RUN)
    assert found["label_noise"] == {"probability": 0.2, "schedule": "constant"}
    assert found["schedule"] == {
        "name": "piecewise", "large_phase": 0.1, "warmup": "none",
        "factor": 1.0, "exponent": 0.5, "base": 1.05, "compat": False,
    }  # fmt: skip


def test_the_probes_have_a_default_for_every_key() -> None:
    config = resolved(probes={"feat": {}, "jac": {}})
    assert probe_slice(config, RUN, "feat")["settings"] == {
        "every": 100, "layers": ["*"], "samples": None, "units": 1000, "threshold": 0.95, "rank_tolerance": 1e-4,
    }  # fmt: skip
    found = probe_slice(config, RUN, "jac")["settings"]
    assert found == {"every": 100, "samples": 100, "tolerance": 1e-4}


@pytest.mark.parametrize(
    ("changes", "key", "words"),
    [
        ({"label_noise": {"probability": 1.5}}, "label_noise.probability", "from 0 to 1"),
        ({"label_noise": {"probability": 0.1}, "optimizer": {"name": "pal"}}, "label_noise.probability", "pal"),
        ({"schedule": {"name": "piecewise", "large_phase": 0.9}}, "schedule.large_phase", "below 0.9"),
        ({"schedule": {"name": "piecewise", "warmup": "cubic"}}, "schedule.warmup", "exponential"),
        ({"probes": {"feat": {"samples": 101}}}, "probes.feat.samples", "at most the training images of digits (100)"),
        ({"probes": {"jac": {"samples": 101}}}, "probes.jac.samples", "got 101"),
        ({"probes": {"feat": {"layers": []}}}, "probes.feat.layers", "at least"),
        ({"probes": {"feat": {"threshold": 2}}}, "probes.feat.threshold", "1"),
    ],
)
def test_faults_are_told(changes: dict[str, Any], key: str, words: str) -> None:
    text = fault(**changes)
    assert text.startswith(f"experiments.one.{key} must ")
    assert words in text, text
