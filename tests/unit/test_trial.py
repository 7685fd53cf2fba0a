"""The trial takes what is right and fast, and says what it left out; what it must not take is never faster."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from networks import Uncopyable, cross_entropy, images, make_network, unit_direction
from torch import Tensor, nn

from sgdline.engine.lines import LineEngine, mean_losses
from sgdline.engine.plan import Plan, PlanReport
from sgdline.engine.plan_options import PlanOptions
from sgdline.engine.trial import Subject, Wishes, Work, activation_bytes, choose_plan
from sgdline.errors import SgdlineError


class _Closure(nn.Module):
    """Its forward pass is a function made around the original: a copy computes with the original's weights."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(64, 10)
        head = self.head
        self.compute = lambda pictures: head(pictures.flatten(1))

    def forward(self, pictures: Tensor) -> Tensor:
        return self.compute(pictures)


def chosen(
    network: nn.Module, *, interval: float = 0.5, count: int = 72, pinned: Mapping[str, Any] | None = None, **asked: Any
) -> PlanReport:
    inputs, targets = images(count)
    subject = Subject(
        model=network,
        loss=cross_entropy,
        batch_norm="train",
        inputs=inputs,
        targets=targets,
        chunk_size=16,
        mask_seeds=list(range(5)),
        direction=unit_direction(network),
        interval=interval,
    )
    wishes = Wishes(pinned=PlanOptions(**(pinned or {})), **asked)
    return choose_plan(subject, wishes, Work(lines=10, positions=20, samples=count))


@pytest.mark.parametrize("name", ["mlp", "resnet", "batch_norm_3d_and_1d", "group_norm", "tied", "frozen"])
def test_the_choice_gives_the_losses_of_the_plain_way(name: str) -> None:
    network = make_network(name)
    report = chosen(network)
    assert not report.plan.in_place
    assert not report.plan.reseed
    assert report.precision_error is not None
    assert report.precision_error <= 3e-5
    assert report.samples_per_second is not None
    results = []
    for plan in (report.plan, Plan(in_place=True)):
        engine = LineEngine(network, cross_entropy, batch_norm="train", plan=plan)
        measured = engine.prepare(*images(72), chunk_size=16, mask_seeds=[0] * 5)
        with engine.line(unit_direction(network)) as line:
            results.append(mean_losses(line.losses([-0.3, 0.0, 0.2], measured)))
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["mlp_dropout", "functional_dropout", "mobilenet_dropout"])
def test_networks_with_random_masks_go_chunk_by_chunk(name: str) -> None:
    report = chosen(make_network(name))
    assert report.plan.reseed
    assert (report.plan.chunks_per_pass, report.plan.positions_per_pass, report.plan.compiled) == (1, 1, False)
    assert any("random numbers" in note for note in report.notes)


def test_a_layer_that_mixes_samples_is_found_out() -> None:
    report = chosen(make_network("own_normalisation"))
    assert report.plan.chunks_per_pass == 1
    assert any("chunks_per_pass 2 left out: its losses differ" in note for note in report.notes)


class _OnlySingle(nn.Module):
    """Converts its inputs itself and so does not run in float64."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(64, 10)

    def forward(self, pictures: Tensor) -> Tensor:
        return self.head(pictures.flatten(1).float())


class _Chancy(nn.Module):
    """Draws from the system, which nobody seeds: a number for each output, as one alone may come twice."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(64, 10)

    def forward(self, pictures: Tensor) -> Tensor:
        outputs = self.head(pictures.flatten(1))
        noise = torch.frombuffer(bytearray(secrets.token_bytes(outputs.numel())), dtype=torch.uint8)
        return outputs + noise.view_as(outputs) / 64


def test_a_network_that_knows_no_float64_stays_in_float32(caplog: pytest.LogCaptureFixture) -> None:
    report = chosen(_OnlySingle(), interval=1e-6)
    assert (report.plan.precision, report.precision_error) == ("float32", None)
    assert "parameters lose" in caplog.text
    with pytest.raises(SgdlineError, match="must fit the network"):
        chosen(_OnlySingle(), precision="float64")


def test_randomness_of_other_kinds_is_told(caplog: pytest.LogCaptureFixture) -> None:
    torch.manual_seed(0)
    chosen(_Chancy())
    assert "no seed determines" in caplog.text


@pytest.mark.slow
def test_a_pinned_compilation_is_tried_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    assert chosen(make_network("mlp"), pinned={"compiled": True, "positions_per_pass": 1}).plan.compiled


@pytest.mark.parametrize("wrong", [False, True])
def test_compiled_code_of_a_forced_precision_is_held_against_the_plain_losses(
    monkeypatch: pytest.MonkeyPatch, wrong: bool
) -> None:
    def compiled(network: nn.Module) -> Callable[[Tensor], Tensor]:
        # Right in float32, where the search tries it.
        return lambda pictures: network(pictures) * (2.0 if wrong and torch.is_autocast_enabled("cpu") else 1.0)

    monkeypatch.setattr("sgdline.engine.network._compiled", compiled)
    pinned = {"compiled": True, "positions_per_pass": 1}
    report = chosen(make_network("mlp"), precision="bfloat16", pinned=pinned)
    assert (report.plan.precision, report.plan.compiled) == ("bfloat16", not wrong)
    assert any("compiled or recorded bfloat16 left out: its losses differ" in note for note in report.notes) == wrong


@pytest.mark.parametrize("interval", [1e-4, 0.5])
@pytest.mark.parametrize("kind", [Uncopyable, _Closure])
def test_a_network_whose_copy_is_no_copy_is_measured_in_place(kind: type[nn.Module], interval: float) -> None:
    torch.manual_seed(0)
    network = kind()
    report = chosen(network, interval=interval)
    assert report.plan == Plan(in_place=True)
    assert any("copy" in note for note in report.notes)
    with pytest.raises(SgdlineError, match="must fit the network"):
        chosen(network, pinned={"chunks_per_pass": 2, "reseed": False})
    assert chosen(network, pinned={"threads": 1}).plan == Plan(in_place=True, threads=1)


def test_the_memory_budget_bounds_what_goes_through_at_once() -> None:
    network = make_network("resnet")
    needed, _ = activation_bytes(network, images(16)[0])
    report = chosen(network, memory_gb=16 * 1.5 * needed / 2**30)
    assert report.plan.chunks_per_pass * report.plan.positions_per_pass == 1
    assert sum("GiB of activations" in note for note in report.notes) >= 2


def test_pinned_entries_are_taken_as_they_stand() -> None:
    pinned = {"chunks_per_pass": 3, "positions_per_pass": 1, "statistics": "split", "threads": 1, "compiled": False}
    plan = chosen(make_network("resnet"), pinned=pinned, precision="float32").plan
    assert {key: plan.to_json()[key] for key in pinned} == pinned


def test_precision_is_shown_or_forced() -> None:
    network = make_network("mlp")
    report = chosen(network)
    assert any(note.startswith("bfloat16 left out: differs from float64") for note in report.notes)
    assert chosen(network, precision="float64").plan.precision == "float64"
    # What is forced is taken whatever its error, which is told.
    for pinned in ({}, {"threads": 1}):
        forced = chosen(network, precision="bfloat16", pinned=pinned)
        assert forced.plan.precision == "bfloat16"
        assert forced.precision_error is not None
        assert 1e-5 < forced.precision_error < 0.1
        assert any("bfloat16 differs from float64" in note for note in forced.notes)
    assert chosen(network, precision="float64", precision_tolerance=1e-9).plan.precision == "float64"
    # Nothing but float64 itself is this close to float64.
    assert chosen(network, precision_tolerance=1e-12).plan.precision == "float64"


def test_a_tiny_line_asks_for_float64() -> None:
    report = chosen(make_network("mlp"), interval=1e-6)
    assert report.plan.precision == "float64"
    assert any("float32 parameters lose" in note for note in report.notes)


def test_a_forced_float32_warns_of_a_tiny_line(caplog: pytest.LogCaptureFixture) -> None:
    assert chosen(make_network("mlp"), interval=1e-6, precision="float32").plan.precision == "float32"
    assert "float32 parameters lose" in caplog.text


def test_a_diverged_network_still_gets_a_plan() -> None:
    network = make_network("mlp")
    with torch.no_grad():
        next(network.parameters()).mul_(float("nan"))
    assert isinstance(chosen(network).plan, Plan)
