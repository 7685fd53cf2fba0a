"""Random draws are those of the network's own precision in every precision of the measurement."""

from __future__ import annotations

import pytest
import torch
from networks import cross_entropy, images, unit_direction
from torch import Tensor, nn
from torch.nn import functional

from sgdline.engine.draws import DrawsIn
from sgdline.engine.lines import LineEngine
from sgdline.engine.plan import Plan


def _waves(x: Tensor) -> Tensor:
    """Return complex values of the precision of a network, whatever autocast makes of its outputs."""
    return torch.fft.fft(x.float() if x.dtype == torch.bfloat16 else x)


def _in_part(x: Tensor) -> Tensor:
    noise = torch.zeros_like(x)
    noise[:, :20].normal_()
    noise[:, 20::3].uniform_()
    return x + noise


DRAWS = {
    "dropout": lambda x: functional.dropout(x, 0.4),
    "native_dropout": lambda x: torch.native_dropout(x, 0.4, train=True)[0],
    "alpha_dropout": lambda x: functional.alpha_dropout(x, 0.2, training=True),
    "noise": lambda x: x + 0.5 * torch.randn_like(x),
    "noise_of_a_dtype": lambda x: x + torch.rand(x.shape, dtype=x.dtype),
    "complex_noise": lambda x: x + torch.randn_like(_waves(x)).imag.to(x.dtype),
    "complex_noise_of_a_dtype": lambda x: x + torch.randn(x.shape, dtype=_waves(x).dtype).real.to(x.dtype),
    "noise_in_part": _in_part,
    "noise_turned": lambda x: x + torch.empty_like(x).t().normal_().t(),
    "noise_repeated": lambda x: x + torch.normal(torch.zeros(1, 32, dtype=x.dtype).expand(len(x), 32), 0.5),
    "in_place": lambda x: x + torch.empty_like(x).uniform_(),
    "random_slopes": lambda x: functional.rrelu(x, training=True),
}


class _Drawing(nn.Module):
    def __init__(self, draw: str) -> None:
        super().__init__()
        self.body, self.head, self.draw = nn.Linear(64, 32), nn.Linear(32, 10), draw

    def forward(self, pictures: Tensor) -> Tensor:
        return self.head(DRAWS[self.draw](self.body(pictures.flatten(1))))


@pytest.mark.parametrize("own", [torch.float32, torch.float64])
@pytest.mark.parametrize("draw", sorted(DRAWS))
def test_a_line_has_the_draws_of_the_step_in_every_precision(draw: str, own: torch.dtype) -> None:
    network = _Drawing(draw).to(own)
    inputs, targets = images(40)
    losses = {}
    for precision in ("float32", "float64", "bfloat16"):
        engine = LineEngine(network, cross_entropy, batch_norm="train", plan=Plan(precision=precision))
        measured = engine.prepare(inputs.to(own), targets, chunk_size=16, mask_seeds=[1, 2, 3])
        with engine.line(unit_direction(network)) as line:
            losses[precision] = line.losses([0.0, 0.3], measured).double()
    torch.testing.assert_close(losses["float64"], losses["float32"], rtol=0, atol=1e-5)
    torch.testing.assert_close(losses["bfloat16"], losses["float32"], rtol=0, atol=0.1)


def test_gradients_belong_to_the_draws() -> None:
    for draw in (DRAWS["random_slopes"], DRAWS["native_dropout"]):
        gradients = []
        for dtype in (torch.float32, torch.float64):
            torch.manual_seed(3)
            values = torch.linspace(-1.0, 1.0, 24).to(dtype).requires_grad_()
            with torch.random.fork_rng(devices=[]), DrawsIn(torch.float32):
                (found,) = torch.autograd.grad(draw(values).sum(), values)
            gradients.append(found.double())
        torch.testing.assert_close(*gradients, rtol=0, atol=1e-6)
