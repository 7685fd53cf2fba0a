"""Options of the probe `feat`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from sgdline.declare.vocabulary import Ge, Le, Lt, MinLen, Unique
from sgdline.probes.base import EveryOptions, OfImages

if TYPE_CHECKING:
    from sgdline.probes.feat.probe import FeatProbe


@dataclass(frozen=True, kw_only=True)
class FeatOptions(OfImages, EveryOptions):
    """The features of a network along a run: how many units of a layer are active, and how many do the same."""

    sequential: ClassVar[bool] = True

    layers: Annotated[tuple[Annotated[str, MinLen(1)], ...], MinLen(1), Unique()] = ("*",)
    """Patterns of names of modules, compared part by part between the dots: `*` is for the modules of the top
    level, `stages.*` for those within `stages`. What flattens and what puts out the logits is left out unless named."""
    samples: Annotated[int, Ge(2)] | None = None
    """The first so many training images, not augmented; `null`: all."""
    units: Annotated[int, Ge(1), Le(1000000)] = 1000
    """Of a larger layer a random subset of so many units, drawn once per layer and run."""
    threshold: Annotated[float, Ge(0), Le(1)] = 0.95
    """Absolute correlation above which two units do the same; the last one of them stays."""
    rank_tolerance: Annotated[float, Ge(1e-07), Lt(1)] = 0.0001
    """Singular values above so much of the largest count for `rank`."""

    def measured_by(self) -> type[FeatProbe]:
        """Return the class of the probe."""
        from sgdline.probes.feat.probe import FeatProbe

        return FeatProbe
