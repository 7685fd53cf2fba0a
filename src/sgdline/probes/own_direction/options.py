"""Options of the probe `own_direction`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from sgdline.declare.run_facts import Fault, RunFacts
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

    def faults(self, run: RunFacts) -> Iterator[Fault]:
        """Yield what is wrong: there may be too few images."""
        from sgdline.declare.faults import Index

        yield from super().faults(run)
        images = run.training_images
        if images is None:
            return
        if self.batch_sizes == "auto":
            if images < 16:
                yield Fault(
                    ("batch_sizes",),
                    f"must be a list for fewer than 16 training images, got auto and {images} of {run.dataset}. List "
                    "the sizes yourself.",
                )
            return
        for position, size in enumerate(self.batch_sizes):
            if size > images:
                yield Fault(
                    ("batch_sizes", Index(position)),
                    f"must be at most the training images of {run.dataset} ({images}), got {size}. Remove it.",
                )

    def measured_by(self) -> type[OwnDirectionProbe]:
        """Return the class of the probe."""
        from sgdline.probes.own_direction.probe import OwnDirectionProbe

        return OwnDirectionProbe
