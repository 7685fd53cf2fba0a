"""What a part of an experiment may ask of the rest of it when it is checked (no torch)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from sgdline.declare.faults import KeyPath


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
        learning_rates: Position in the experiment's list -> rate.
        batch_sizes: Position in the experiment's list -> samples.
        micro_batch: Samples of a part of a batch; None for whole batches.
        steps: Number of updates.
        threads: CPU threads of a job.
        drop_last: Whether the incomplete last batch of an epoch is left out.
        augments: Whether the training images are augmented.
        imports_lines: Whether the lines were measured elsewhere, so that nothing is trained.
        rule: The declaration of the update rule, see `sgdline.train.rules.base`.
        probes: Declarations of the probes by name.
        at_fault: Keys of the experiment that are at fault.
    """

    dataset: str | None = None
    images: Mapping[str, int] = field(default_factory=dict)
    learning_rates: Mapping[int, float] = field(default_factory=dict)
    batch_sizes: Mapping[int, int] = field(default_factory=dict)
    micro_batch: int | None = None
    steps: int | None = None
    threads: int | None = None
    drop_last: bool | None = None
    augments: bool | None = None
    imports_lines: bool = False
    rule: Any = None
    probes: Mapping[str, Any] = field(default_factory=dict)
    at_fault: Collection[str] = ()

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

    def chunk_size(self, batch_size: int) -> int:
        """Return how many samples share a forward pass: those of a batch, or of a part of it."""
        return batch_size if self.micro_batch is None else min(batch_size, self.micro_batch)
