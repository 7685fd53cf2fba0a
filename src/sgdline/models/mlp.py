"""Multi-layer perceptrons."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from torch import nn

from sgdline.models._layers import InputShape, fraction, whole_number


def mlp(
    *,
    input_shape: InputShape,
    num_classes: int,
    hidden: Sequence[int] = (500, 350),
    batch_norm: bool = True,
    dropout: float = 0.0,
) -> nn.Module:
    """Linear layers with BatchNorm and ReLU behind each hidden one (573 060 parameters by default on 1x28x28).

    Args:
        input_shape: Channels, height and width of one image; images are flattened.
        num_classes: Number of logits.
        hidden: Units of the hidden layers, none for a linear model.
        batch_norm: Put BatchNorm between linear layer and ReLU.
        dropout: Rate behind each ReLU.

    Returns:
        The network, in train mode, drawn from torch's global generator by the framework's rule.

    Raises:
        ValueError: If an argument is out of range.

    Source: walk; papers.md section 6.
    """
    if not isinstance(hidden, list | tuple):
        raise ValueError(f"hidden must be a list of whole numbers, got {hidden!r}")
    fraction("dropout", dropout)
    layers: list[nn.Module] = [nn.Flatten()]
    units = prod(input_shape)
    for count in hidden:
        layers.append(nn.Linear(units, whole_number("hidden", count)))
        if batch_norm:
            layers.append(nn.BatchNorm1d(count))
        layers.append(nn.ReLU())
        if dropout:
            layers.append(nn.Dropout(dropout))
        units = count
    layers.append(nn.Linear(units, num_classes))
    return nn.Sequential(*layers)
