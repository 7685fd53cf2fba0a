"""Lines in a loop of one's own: closed forms, a naive float64 loop, and a training that must not notice."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import cross_entropy, images, make_network, naive_losses, unit_direction
from torch import Tensor, nn

from sgdline.engine.plan import Plan
from sgdline.errors import SgdlineError
from sgdline.lines import LineMeter

README = Path(__file__).parents[2] / "README.md"


def squared(outputs: Tensor, targets: Tensor) -> Tensor:
    return ((outputs - targets) ** 2).squeeze(1)


def regression() -> tuple[nn.Linear, Tensor, Tensor]:
    torch.manual_seed(0)
    return nn.Linear(4, 1), torch.randn(60, 4), torch.randn(60, 1)


def closed_form(model: nn.Linear, direction: dict[str, Tensor], inputs: Tensor, targets: Tensor) -> tuple[float, ...]:
    """Mean of (r + s*v)^2 over samples: offset, slope and curvature, in float64."""
    residual = (model(inputs) - targets).detach().double().squeeze(1)
    along = (inputs.double() @ direction["weight"].double().T + direction["bias"].double()).squeeze(1)
    return float((residual**2).mean()), 2 * float((residual * along).mean()), 2 * float((along**2).mean())


def test_a_linear_regression_gives_its_exact_parabola() -> None:
    model, inputs, targets = regression()
    direction = unit_direction(model)
    offset, slope, curvature = closed_form(model, direction, inputs, targets)
    line = LineMeter(model, squared, inputs, targets, chunk_size=16).measure(direction)
    assert line.parabola.offset == pytest.approx(offset, rel=1e-6)
    assert line.parabola.slope == pytest.approx(slope, rel=1e-5)
    assert line.parabola.curvature == pytest.approx(curvature, rel=1e-4)
    assert line.parabola.mean_residual < 1e-6
    assert line.evaluations == len(line.positions) + 3  # looking for the interval
    inside = -slope / curvature
    assert line.positions[0] < inside < line.positions[-1]
    assert line.parabola.vertex == pytest.approx(inside, abs=1e-4)
    assert line.minimum_position == pytest.approx(inside, abs=1e-3)
    assert line.at([0.1])[0] == pytest.approx(offset + 0.1 * slope + 0.005 * curvature, rel=1e-6)
    assert np.isnan(line.at([line.positions[-1] + 1.0])[0])


def test_a_direction_of_any_length_and_the_negative_gradient_give_the_same_line() -> None:
    model, inputs, targets = regression()
    meter = LineMeter(model, squared, inputs, targets, plan=Plan(precision="float64"))
    squared(model(inputs), targets).mean().backward()
    by_gradient = meter.measure()
    longer = {name: -7.0 * p.grad for name, p in model.named_parameters() if p.grad is not None}
    np.testing.assert_allclose(meter.measure(longer).losses, by_gradient.losses, rtol=1e-6)
    norm = sum(float((p.grad.double() ** 2).sum()) for p in model.parameters() if p.grad is not None) ** 0.5
    assert by_gradient.parabola.slope == pytest.approx(-norm, rel=1e-5)


@pytest.mark.parametrize("length", [1e-6, 1e-7])
def test_a_tiny_line_is_not_flattened(length: float) -> None:
    # Parameters around 3 have neighbours 2.4e-7 apart in float32: such a line would be a staircase of some steps.
    model, inputs, targets = regression()
    with torch.no_grad():
        model.weight.add_(3.0)
    direction = unit_direction(model)
    _, slope, _ = closed_form(model.double(), direction, inputs.double(), targets.double())
    model.float()
    meter = LineMeter(model, squared, inputs, targets, interval=length, window=length, max_rings=1)
    line = meter.measure(direction)
    assert meter.report is not None
    assert meter.report.plan.precision == "float64"
    assert line.parabola.slope == pytest.approx(slope, rel=1e-5)
    coarse = LineMeter(
        model, squared, inputs, targets, interval=length, window=length, max_rings=1, plan=Plan(precision="float32")
    ).measure(direction)
    assert abs(coarse.parabola.slope / slope - 1) > 1e-3  # what would have been reported


@pytest.mark.parametrize("name", ["mlp", "resnet", "mlp_dropout", "tied", "frozen", "group_norm"])
def test_lines_agree_with_the_naive_loop(name: str) -> None:
    network = make_network(name)
    inputs, targets = images(50)
    meter = LineMeter(
        network, cross_entropy, inputs, targets, chunk_size=16, plan=Plan(), interval=0.5, resolution=0.25, max_rings=1
    )
    direction = unit_direction(network)
    line = meter.measure(direction)
    seeds = [part.mask_seed for part in meter._measured.passes]  # type: ignore[union-attr]
    for position, loss in zip(line.positions, line.losses, strict=True):
        exact = naive_losses(network, direction, position, inputs, targets, chunk_size=16, mask_seeds=seeds)
        assert loss == pytest.approx(float(exact.mean()), abs=1e-5)


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
def test_a_training_does_not_notice_its_meter(kind: type[torch.optim.Optimizer]) -> None:
    inputs, targets = images(64)
    finals = []
    for measured in (False, True):
        network = make_network("mlp_dropout")
        extra = {"momentum": 0.9, "lr": 0.05} if kind is torch.optim.SGD else {"lr": 0.005}
        optimizer = kind(network.parameters(), **extra)  # type: ignore[call-arg]
        meter = LineMeter(network, cross_entropy, inputs, targets, chunk_size=32)
        torch.manual_seed(5)
        for _ in range(4):
            optimizer.zero_grad()
            cross_entropy(network(inputs[:32]), targets[:32]).mean().backward()
            before = copy.deepcopy(network)
            if not measured:
                optimizer.step()
                continue
            line = meter.measure_step(optimizer)
            pairs = zip(network.parameters(), before.parameters(), strict=True)
            moved = [p.detach().double() - q.detach().double() for p, q in pairs]
            assert line.step_length == pytest.approx(float(sum((m**2).sum() for m in moved)) ** 0.5, rel=1e-9)
            assert line.step_loss == pytest.approx(float(line.at([line.step_length])[0]), abs=2e-3)
            assert line.step_loss is not None
        finals.append(network.state_dict())
    assert all(torch.equal(value, finals[1][key]) for key, value in finals[0].items())


@pytest.mark.parametrize(("gradient", "status"), [(0.0, "zero_direction"), (float("nan"), "non_finite")])
def test_a_step_without_a_direction_is_a_result(gradient: float, status: str) -> None:
    model, inputs, targets = regression()
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, gradient)
    line = LineMeter(model, squared, inputs, targets).measure_step(torch.optim.SGD(model.parameters(), lr=0.1))
    assert (line.status, line.evaluations, line.step_loss) == (status, 0, None)
    assert np.isnan(line.minimum_position)
    assert np.isnan(line.parabola.curvature)


def test_a_network_may_change_between_lines() -> None:
    network = make_network("mlp")
    inputs, targets = images(48)
    meter = LineMeter(network, cross_entropy, inputs, targets, chunk_size=16, mode="eval", plan=Plan())
    meter.measure(unit_direction(network))
    first = next(network.parameters())
    first.requires_grad_(False)
    with torch.no_grad():
        first.mul_(1.1)
    line = meter.measure(unit_direction(network))
    network.eval()
    with torch.no_grad():
        assert line.at([0.0])[0] == pytest.approx(float(cross_entropy(network(inputs), targets).mean()), abs=1e-6)


def test_a_parameter_without_gradient_does_not_move() -> None:
    model, inputs, targets = regression()
    squared(model(inputs), targets).mean().backward()
    model.register_parameter("unused", nn.Parameter(torch.ones(3)))
    line = LineMeter(model, squared, inputs, targets, interval=0.1).measure()
    assert line.status in ("ok", "edge")
    assert line.parabola.window == pytest.approx(0.04)
    assert np.isfinite(line.parabola.slope)


def test_wrong_calls_are_refused_in_one_sentence() -> None:
    model, inputs, targets = regression()
    with pytest.raises(SgdlineError, match="same samples"):
        LineMeter(model, squared, inputs, targets[:-1])
    with pytest.raises(SgdlineError, match="mode"):
        LineMeter(model, squared, inputs, targets, mode="batch")
    meter = LineMeter(model, squared, inputs, targets)
    with pytest.raises(SgdlineError, match="finite length above 0"):
        meter.measure()
    several = np.array([0.1, 0.2])
    for name in ("interval", "window", "tolerance", "resolution", "mode"):
        with pytest.raises(SgdlineError, match=f"^{name} must"):
            LineMeter(model, squared, inputs, targets, **{"interval": 0.5, name: several})  # type: ignore[arg-type]
    ones = torch.ones(60)
    for given in (ones * float("nan"), ones.to(torch.complex64), ones.to_sparse(), ones[:-1], -ones, [1.0] * 60):
        with pytest.raises(SgdlineError, match=r"^weights must"):
            LineMeter(model, squared, inputs, targets, weights=given)  # type: ignore[arg-type]
    wrong = {
        "check_slope": "no",
        "tolerance": -1,
        "chunk_size": 16.5,
        "window": 0.7,
        "max_rings": 0,
        "memory_gb": -1,
        "resolution": 2,
    }
    for name, value in {
        **wrong,
        "check_slope": "no",
        "loss": None,
        "model": squared,
        "inputs": inputs.numpy(),
        "targets": [1],
    }.items():
        with pytest.raises(SgdlineError, match=f"^{name} must"):
            LineMeter(
                **{"model": model, "loss": squared, "inputs": inputs, "targets": targets, "interval": 0.5, name: value}  # type: ignore[arg-type]
            )
    for given in (0, "0.5", True, float("nan")):
        with pytest.raises(SgdlineError, match=r"^interval must"):
            LineMeter(model, squared, inputs, targets, interval=given)  # type: ignore[arg-type]
    with pytest.raises(SgdlineError, match=r"^resolution must be at least"):
        LineMeter(model, squared, inputs, targets, interval=0.5, resolution=1e-300)
    nested = torch.nested.nested_tensor([torch.ones(2, 4), torch.ones(3, 4)], layout=torch.jagged)
    for given in (torch.utils.data.DataLoader(inputs), inputs.to_sparse(), nested):
        with pytest.raises(SgdlineError, match=r"^inputs must"):
            LineMeter(model, squared, given, targets)  # type: ignore[arg-type]
    with pytest.raises(SgdlineError, match=r"^direction must"):
        meter.measure([torch.ones(4)])  # type: ignore[arg-type]
    direction = unit_direction(model)
    for part in (direction["weight"].to_sparse(), direction["weight"].to("meta"), direction["weight"] * 1j):
        with pytest.raises(SgdlineError, match=r"^direction must"):
            meter.measure({**direction, "weight": part})
    with pytest.raises(SgdlineError, match=r"^direction must"):
        meter.measure({1: direction["bias"], **direction})  # type: ignore[dict-item]
    for length in ("a", [1.0], float("nan"), 0, float("inf"), True, 1j):
        with pytest.raises(SgdlineError, match=r"^step_length must"):
            meter.measure(direction, step_length=length)  # type: ignore[arg-type]
    line = meter.measure(direction, step_length=-0.1)
    assert line.step_loss == pytest.approx(line.at([-0.1])[0], abs=1e-6)
    with pytest.raises(SgdlineError, match=r"^positions must"):
        line.at("a")
    with pytest.raises(SgdlineError, match="lazy layer"):
        LineMeter(nn.LazyLinear(1), squared, inputs, targets)
    with pytest.raises(SgdlineError, match="whole parameters"):
        LineMeter(nn.Linear(4, 1, device="meta"), squared, inputs, targets)
    normalised = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 1))
    with pytest.raises(SgdlineError, match="at least two samples"):
        LineMeter(normalised, squared, inputs[:17], targets[:17], chunk_size=16, plan=Plan()).measure(
            unit_direction(normalised)
        )
    with pytest.raises(SgdlineError, match="one value per sample"):
        LineMeter(model, nn.MSELoss(), inputs, targets, plan=Plan()).measure(unit_direction(model))


def test_the_example_of_the_readme_runs(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    examples = [block for block in blocks if "LineMeter" in block]
    assert len(examples) == 1
    exec(compile(examples[0], str(README), "exec"), {"__name__": "example"})
    numbers = [float(text) for text in re.findall(r"-?\d+\.\d+", capsys.readouterr().out)]
    assert len(numbers) >= 10
    assert np.isfinite(numbers).all()
