"""ReLU networks that learn a smaller one from few samples, with step sizes that are small or large."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sgdline.toys import _relu_nets
from sgdline.toys._relu_nets import FloatArray, Layer, Problem, Start
from sgdline.toys.base import StepSizes
from sgdline.toys.teacher_student.options import TeacherStudentOptions
from sgdline.toys.teacher_student.table import TEACHER_STUDENT

_TEST_SAMPLES = 1000


@dataclass(frozen=True)
class Setting:
    """One published experiment."""

    samples: int
    teacher: tuple[int, ...]  # widths, inputs and output included
    student: tuple[int, ...]
    biases: bool
    scales: tuple[float, ...]  # standard deviation of the student's first weights, by layer
    unit_teacher: bool  # its hidden weights have length 1, its output weights are signs
    seed: int  # of the published chain; the data have the next one
    log10_iterations: float
    runs: tuple[StepSizes, ...]

    @property
    def parameters(self) -> int:
        """Number of the student's parameters."""
        return sum((inputs + self.biases) * units for inputs, units in itertools.pairwise(self.student))


def _run(lr: float, decay_at: float | None = None, decay_factor: float = 1.0, **warm_up: float) -> StepSizes:
    return StepSizes(lr=lr, decay_at=decay_at, decay_factor=decay_factor, **warm_up)


# papers.md 4.3.
SETTINGS = {
    "two_layer": Setting(
        samples=15,
        teacher=(2, 3, 1),
        student=(2, 20, 1),
        biases=False,
        scales=(0.5, 0.0),
        unit_teacher=True,
        seed=0,
        log10_iterations=4.15,
        runs=(_run(0.13), _run(0.455, 0.1, 2.0), _run(0.455, 0.3, 4.0), _run(0.455, 0.5, 5.0)),
    ),
    "three_layer": Setting(
        samples=50,
        teacher=(5, 2, 2, 1),
        student=(5, 10, 10, 1),
        biases=True,
        scales=(0.8, 0.8, 0.8),
        unit_teacher=False,
        seed=5,
        log10_iterations=4.0,
        runs=(
            _run(0.011),
            _run(0.04, 0.1, 3.5, warm_up=6.0, warm_up_exponent=0.5),
            _run(0.04, 0.3, 2.5, warm_up=6.0, warm_up_exponent=0.5),
            _run(0.04, 0.5, 5.0, warm_up=6.0, warm_up_exponent=0.5),
        ),
    ),
}


@dataclass(frozen=True)
class Resolved:
    """What a toy's options leave to its network."""

    seed: int
    log10_iterations: float
    runs: tuple[StepSizes, ...]


def resolved(options: TeacherStudentOptions) -> Resolved:
    """Return what the options say, and the published values of their network in place of nulls."""
    published = SETTINGS[options.network]
    return Resolved(
        seed=published.seed if options.seed is None else options.seed,
        log10_iterations=(published.log10_iterations if options.log10_iterations is None else options.log10_iterations),
        runs=published.runs if options.runs is None else options.runs,
    )


def draw_problem(network: str, *, seed: int) -> tuple[Problem, FloatArray]:
    """Draw the samples and the teacher, and let the teacher label the samples.

    Args:
        network: Of `SETTINGS`.
        seed: Of the data, the published chain's seed plus one.

    Returns:
        The problem, in float64 with the values of float32, and the weights of the teacher's first layer, (units, d).

    Source: papers.md 4.3. Lengths, teacher and labels are computed in float32 by torch, as in the released code: the
    published chain of the second run of two layers is sensitive to the last bits of the labels.
    """
    import torch
    from torch.nn.functional import linear

    setting = SETTINGS[network]
    dimension = setting.teacher[0]
    legacy, generator = np.random.RandomState(seed), torch.Generator().manual_seed(seed)
    drawn = [
        torch.from_numpy(legacy.standard_normal((count, dimension))).float()
        for count in (setting.samples, _TEST_SAMPLES)
    ]
    inputs = [points / points.norm(dim=1, keepdim=True) for points in drawn]
    teacher = _draw_net(generator, setting.teacher, biases=setting.biases, scales=[1.0] * (len(setting.teacher) - 1))
    weights = [torch.from_numpy(weight) for weight, _ in teacher]
    if setting.unit_teacher:
        weights = [*(weight / weight.norm(dim=1, keepdim=True) for weight in weights[:-1]), weights[-1].sign()]
    labels = []
    for points in inputs:
        values = points
        for place, (weight, (_, bias)) in enumerate(zip(weights, teacher, strict=True)):
            values = linear(values, weight, None if bias is None else torch.from_numpy(bias))
            values = torch.relu(values) if place < len(weights) - 1 else values
        labels.append(values[:, 0].double().numpy())
    train_inputs, test_inputs = (points.double().numpy() for points in inputs)
    problem = Problem(
        inputs=train_inputs,
        targets=labels[0],
        rank_inputs=test_inputs[: setting.parameters],
        test_inputs=test_inputs,
        test_targets=labels[1],
    )
    return problem, weights[0].double().numpy()


def start_of(network: str, seed: int) -> Start:
    """Draw the student's first parameters of a seed.

    Source: papers.md 4.3.
    """
    import torch

    setting = SETTINGS[network]
    generator = torch.Generator().manual_seed(seed)
    return _draw_net(generator, setting.student, biases=setting.biases, scales=setting.scales)


def _draw_net(generator: Any, widths: Sequence[int], *, biases: bool, scales: Sequence[float]) -> Start:
    """Draw what all layers' constructors draw, then the weights, layer by layer."""
    import torch

    layers = list(itertools.pairwise(widths))
    defaults = [_relu_nets.linear_defaults(generator, inputs, units, bias=biases) for inputs, units in layers]
    return [
        ((scale * torch.randn(units, inputs, generator=generator)).numpy(), bias)
        for (inputs, units), scale, bias in zip(layers, scales, defaults, strict=True)
    ]


def simulate(options: TeacherStudentOptions) -> dict[str, list[Any]]:
    """Train the student with every schedule and several starts.

    Args:
        options: Of the toy.

    Returns:
        dict: Columns of the table `teacher_student`.

    Source: papers.md 4.3, fig_two_layer and fig_three_layer.
    """
    network, own = options.network, resolved(options)
    # ASSUME: all chains learn the same teacher from the same samples.
    problem, directions = draw_problem(network, seed=own.seed + 1)

    def more(iteration: int, evaluation: int, layers: Sequence[Layer]) -> dict[str, list[Any]]:
        return {} if evaluation else {"teacher": [directions.ravel().tolist()] * len(layers[0].weight)}

    rows = _relu_nets.simulate_runs(
        problem, options, runs=own.runs, seed=own.seed,
        iterations=_relu_nets.iterations_of(own.log10_iterations),
        start_of=lambda seed: start_of(network, seed), more=more,
    )  # fmt: skip
    return {name: [row.get(name) for row in rows] for name in TEACHER_STUDENT.schema.names}
