"""Options of the probe `own_direction`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from sgdline.declare.vocabulary import Ge, Le, MinLen, Unique, Words
from sgdline.probes.base import ProbeOptions


@dataclass(frozen=True, kw_only=True)
class OwnDirectionOptions(ProbeOptions):
    """Gradient norms of fresh batches of several sizes, and the full-batch gradient beside them."""

    every: Annotated[int, Ge(1)] = 100
    """Positions: updates 0, n, 2n, ..."""
    batch_sizes: Annotated[
        Literal["auto"] | Annotated[tuple[Annotated[int, Ge(2)], ...], MinLen(2), Unique()],
        Words("a list of at least two batch sizes, or auto"),
    ] = "auto"
    """Sizes of the batches; `auto`: the powers of 2 from 8 to 2,048 that the training set holds."""
    draws: Annotated[int, Ge(2), Le(1000000)] = 32
    """Batches of each size."""
