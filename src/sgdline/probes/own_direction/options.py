"""Options of the probe `own_direction`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from sgdline.declare.vocabulary import Ge, Le, MinLen, Unique, Words
from sgdline.probes.base import EveryOptions

if TYPE_CHECKING:
    from sgdline.probes.own_direction.probe import OwnDirectionProbe


@dataclass(frozen=True, kw_only=True)
class OwnDirectionOptions(EveryOptions):
    """Gradient norms of fresh batches of several sizes, and the full-batch gradient beside them."""

    batch_sizes: Annotated[
        Literal["auto"] | Annotated[tuple[Annotated[int, Ge(2)], ...], MinLen(2), Unique()],
        Words("a list of at least two batch sizes, or auto"),
    ] = "auto"
    """Sizes of the batches; `auto`: the powers of 2 from 8 to 2,048 that the training set holds."""
    draws: Annotated[int, Ge(2), Le(1000000)] = 32
    """Batches of each size."""

    def measured_by(self) -> type[OwnDirectionProbe]:
        """Return the class of the probe."""
        from sgdline.probes.own_direction.probe import OwnDirectionProbe

        return OwnDirectionProbe
