"""What a part of an experiment may ask of the rest of it when it is checked (no torch)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sgdline.declare.faults import KeyPath

if TYPE_CHECKING:
    from sgdline.losses.base import Loss
    from sgdline.probes.base import ProbeOptions
    from sgdline.train.rules.base import UpdateRule

ROUNDING = 1e-9  # relative; 0.3 / 3 must count as 0.1


@dataclass(frozen=True)
class Fault:
    """What is wrong with a thing that declares itself, found by the thing.

    Attributes:
        path: The key at fault, from the block of the thing; with `of_experiment` from the experiment's block.
        text: Follows the key path in the message: `must be <rule>, got <value>. <How to fix it>.`
        of_experiment: Whether the key is one of the experiment.
    """

    path: KeyPath
    text: str
    of_experiment: bool = False


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """An experiment around a thing; what is at fault, or not known before data are read, is None or left out.

    Attributes:
        dataset: Name of the data set.
        images: Split -> its number of images; splits of an unknown size are left out.
        most_images: Split -> the most images that its source has for it; left out where that is not known.
        learning_rates: Position in the experiment's list -> rate.
        batch_sizes: Position in the experiment's list -> samples.
        micro_batch: Samples of a part of a batch; None for whole batches.
        steps: Number of updates.
        threads: CPU threads of a job.
        drop_last: Whether the incomplete last batch of an epoch is left out.
        augments: Whether the training images are augmented.
        imports_lines: Whether the lines were measured elsewhere, so that nothing is trained.
        rule: The declaration of the update rule.
        loss: The declaration of the loss.
        probes: Declarations of the probes by name.
        incomplete: Keys of the experiment that leave out something at fault, for rules that need to know all of it.
    """

    dataset: str | None = None
    images: Mapping[str, int] = field(default_factory=dict)
    most_images: Mapping[str, int] = field(default_factory=dict)
    learning_rates: Mapping[int, float] = field(default_factory=dict)
    batch_sizes: Mapping[int, int] = field(default_factory=dict)
    micro_batch: int | None = None
    steps: int | None = None
    threads: int | None = None
    drop_last: bool | None = None
    augments: bool | None = None
    imports_lines: bool = False
    rule: UpdateRule | None = None
    loss: Loss | None = None
    probes: Mapping[str, ProbeOptions] = field(default_factory=dict)
    incomplete: frozenset[str] = frozenset()

    @property
    def training_images(self) -> int | None:
        """Number of the training images, at least 1; None if it is not known."""
        return self.images.get("train") or None

    def sizes_of_batches(self) -> list[int]:
        """Return the samples of the batches that a run may see, those of incomplete batches included."""
        sizes = list(self.batch_sizes.values())
        if self.drop_last is False and self.training_images is not None:
            sizes += [self.training_images % size for size in sizes if self.training_images % size]
        return sizes

    def chunk_size(self, batch_size: int) -> int | None:
        """Return how many samples share a forward pass: those of a batch, or of a part of it; None if not known."""
        if "micro_batch" in self.incomplete:
            return None
        return batch_size if self.micro_batch is None else min(batch_size, self.micro_batch)

    def name_of(self, probe: object) -> str:
        """Return the name under which one of the probes is declared."""
        return next(name for name, options in self.probes.items() if options is probe)
