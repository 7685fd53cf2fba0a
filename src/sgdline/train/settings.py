"""Settings of one training, as the workflow hands them to its job (no torch)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from sgdline.declare.registry import name_of
from sgdline.declare.run_facts import Fault, RunFacts
from sgdline.declare.vocabulary import Ge, Le, OfKind, Pattern, Words
from sgdline.losses.base import Loss
from sgdline.train.rules.base import UpdateRule
from sgdline.train.schedules.base import Schedule

Entry = Annotated[
    str,
    Pattern(r"^([A-Za-z_]\w*(\.[A-Za-z_]\w*)*|[\w./-]+\.py):[A-Za-z_]\w*$"),
    Words("package.module:factory or folder/file.py:factory"),
]


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """A network."""

    entry: Entry
    """The function or class that builds the network."""
    kwargs: dict[str, Any] = field(default_factory=dict)
    """Arguments for it."""


@dataclass(frozen=True, kw_only=True)
class LabelNoiseOptions:
    """Random labels in the training batches."""

    probability: Annotated[float, Ge(0), Le(1)] = 0.0
    """Probability p; 0: no noise."""
    schedule: Literal["constant", "inverted_cosine", "piecewise"] = "constant"
    """Probability over the run: `constant`; `inverted_cosine`: from 0 up to p; `piecewise`: p, from half of the run on
    p/10, from three quarters on p/100."""

    def faults(self, run: RunFacts) -> Iterator[Fault]:
        """Yield label noise where nothing is trained, or where the update rule does not take it."""
        where, got = ("probability",), f"got {self.probability:g}"
        if not self.probability:
            return
        if run.imports_lines:
            yield Fault(where, f"must be 0 where lines are imported, {got}. Nothing is trained there.")
        elif run.rule is not None and not run.rule.takes_noise:
            yield Fault(
                where,
                f"must be 0 when the optimizer is {name_of(type(run.rule))}, {got}. It does not declare takes_noise: "
                "its steps may come from measured losses, which must be true ones. Use sgd, or set it to 0.",
            )


@dataclass(frozen=True, kw_only=True)
class AugmentationOptions:
    """Changes of the training images, drawn anew for each batch."""

    crop_padding: Annotated[int, Ge(0), Le(256)] = 0
    """Pixels of black padding on each side before a random crop to the old size; 0: no crop."""
    flip: bool = False
    """Mirror left to right with probability 1/2."""


@dataclass(frozen=True, kw_only=True)
class StartingPoint:
    """Where a run that continues another one starts.

    Attributes:
        training: The run that it continues.
        step: The update of that run before which it starts.
    """

    training: TrainingSettings
    step: int


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """What a training depends on, apart from the prepared data set: the configuration's blocks, and facts of the run.

    Attributes:
        model: The network.
        lr: Learning rate, in the unit that `lr_unit` names.
        lr_unit: What learning rates are multiples of: 1, or the inverse of the sharpness where the run starts.
        batch_size: Samples per batch.
        micro_batch: Samples that share a forward pass; None: all of a batch.
        seed: Of initialisation, batch order, augmentation and masks.
        steps: Number of updates.
        segments: [first update, update after the last one] of each part.
        threads: CPU threads of the job.
        drop_last: Whether the incomplete last batch of an epoch is left out.
        loss: Declaration of the loss.
        optimizer: Declaration of the update rule.
        schedule: Declaration of the schedule.
        label_noise: Random labels in the batches.
        augmentation: Changes of the images in the batches.
        start_from: Where the run starts; None: at random parameters.
    """

    model: ModelOptions
    lr: float
    lr_unit: Literal["absolute", "sharpness"] = "absolute"
    batch_size: int
    micro_batch: int | None = None
    seed: int
    steps: int
    segments: tuple[tuple[int, int], ...]
    threads: int = 1
    drop_last: bool = True
    loss: Annotated[Loss, OfKind("loss", tag="name", default="cross_entropy")]
    optimizer: Annotated[UpdateRule, OfKind("update_rule", tag="name", default="sgd")]
    schedule: Annotated[Schedule, OfKind("schedule", tag="name", default="constant")]
    label_noise: LabelNoiseOptions = LabelNoiseOptions()
    augmentation: AugmentationOptions = AugmentationOptions()
    start_from: StartingPoint | None = None

    @property
    def in_sharpness(self) -> bool:
        """Whether learning rates are multiples of the inverse of the sharpness where the run starts."""
        return self.lr_unit == "sharpness"

    @property
    def chunk_size(self) -> int:
        """Samples that share a forward pass: those of a batch, or of a micro-batch where that is smaller."""
        return self.batch_size if self.micro_batch is None else min(self.batch_size, self.micro_batch)
