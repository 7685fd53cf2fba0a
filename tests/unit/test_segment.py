"""The comparison of a replayed segment with the next checkpoint."""

from __future__ import annotations

import math

import pytest
import torch

from sgdline.probes.segment import _drift
from sgdline.train.checkpoints import Checkpoint

NAN, INF = math.nan, math.inf


def checkpoint(parameters: list[float], buffer: list[float], momentum: list[float]) -> Checkpoint:
    return Checkpoint(
        step=3,
        parameters=torch.tensor(parameters),
        buffers={"statistics": torch.tensor(buffer)},
        rule={"momentum": torch.tensor(momentum)},
    )


def test_the_largest_difference_anywhere_counts() -> None:
    saved = checkpoint([1.0, 2.0], [3.0], [4.0])
    assert _drift(checkpoint([1.0, 2.0], [3.0], [4.0]), saved) == 0.0
    assert _drift(checkpoint([1.5, 2.0], [3.0], [4.0]), saved) == 0.5
    assert _drift(checkpoint([1.5, 2.0], [1.0], [4.0]), saved) == 2.0
    assert _drift(checkpoint([1.5, 2.0], [1.0], [-4.0]), saved) == 8.0


@pytest.mark.parametrize("wild", [NAN, INF, -INF])
def test_values_that_are_not_finite_agree_only_with_themselves(wild: float) -> None:
    saved = checkpoint([1.0, wild], [wild, 5.0], [wild])
    assert _drift(checkpoint([1.0, wild], [wild, 5.0], [wild]), saved) == 0.0
    assert _drift(checkpoint([1.0, wild], [wild, 2.0], [wild]), saved) == 3.0
    assert _drift(checkpoint([1.0, wild], [wild, 5.0], [0.0]), saved) == INF
    finite = checkpoint([1.0, 2.0], [3.0, 5.0], [4.0])
    assert _drift(checkpoint([1.0, 2.0], [wild, 5.0], [4.0]), finite) == INF
    assert _drift(checkpoint([INF], [0.0], [0.0]), checkpoint([-INF], [0.0], [0.0])) == INF
