"""What a probe declares (no torch).

A probe is a folder of this package: `options.py` declares what the config calls it by, `probe.py` measures
(`sgdline.probes.probe`), `table.py` is the kind of table that it fills.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from sgdline.declare.registry import Declared, name_of
from sgdline.declare.run_facts import Fault, RunFacts
from sgdline.declare.vocabulary import Ge, Gt, Le, Lt

if TYPE_CHECKING:
    from sgdline.data.images import ImageData
    from sgdline.engine.plan import Plan
    from sgdline.engine.plan_options import PlanOptions
    from sgdline.probes.probe import Probe
    from sgdline.train.loop import Trainer
    from sgdline.train.settings import TrainingSettings


@dataclass(frozen=True, kw_only=True)
class ProbeOptions(Declared, ABC):
    """Options of a probe; each probe derives its own in `sgdline.probes.<name>.options`."""

    # The whole run is one segment, whatever the experiment's `segments`: rows need earlier updates, or the run's end.
    sequential: ClassVar[bool] = False
    # Directions of other batches are made of the run's own: the update rule must be linear in the gradient.
    needs_linear_rule: ClassVar[bool] = False

    # Whether the probe can do without a network: it takes lines that were measured elsewhere.
    takes_imported_lines: ClassVar[bool] = False

    @abstractmethod
    def due(self, step: int, *, updates_per_epoch: int) -> bool:
        """Return whether an update is to be measured.

        Args:
            step: The update, from 0.
            updates_per_epoch: Updates of an epoch of the run.
        """

    @abstractmethod
    def measured_by(self) -> type[Probe[Any]]:
        """Return the class of the probe; imports its module lazily, as that needs torch."""

    def probe(self, trainer: Trainer, images: ImageData, run: TrainingSettings, plan: Plan) -> Probe[Any]:
        """Return what measures a run with these options.

        Args:
            trainer: The run to measure.
            images: Its data set.
            run: Its training slice.
            plan: How to make forward passes; most probes make plain ones.
        """
        return self.measured_by()(trainer, images, run, self, plan)

    def faults(self, run: RunFacts) -> Iterator[Fault]:
        """Yield what is wrong with the options in this experiment, and no bound can say.

        Args:
            run: The experiment; what is at fault in it is left out.
        """
        if self.needs_linear_rule and run.rule is not None and not run.rule.linear_in_gradient:
            yield Fault(
                (),
                f"must have an optimizer that declares linear_in_gradient, got {name_of(type(run.rule))}. Only there "
                "is the direction of another batch known. Remove the probe, or use sgd.",
            )


@dataclass(frozen=True, kw_only=True)
class EveryOptions(ProbeOptions):
    """Options of a probe that measures every n-th update."""

    every: Annotated[int, Ge(1)] = 100
    """Measure at updates 0, n, 2n, ..."""

    def due(self, step: int, *, updates_per_epoch: int) -> bool:
        """Return whether an update is to be measured."""
        return step % self.every == 0


class PlannedOptions(ProbeOptions):
    """Options of a probe whose forward passes are made by a plan, which rule plan_probe chooses once per run.

    Each probe declares these fields itself: their defaults differ. What plans are tried on is said by its module
    `sgdline.probes.<name>.trial`, in a function `trial(trainer, images, run, options, update)`. The options do not
    import that module: a change of how plans are chosen must not measure anything again.
    """

    # Entries that say how forward passes are made, not what is measured: the measuring job reads the plan instead.
    planning: ClassVar[tuple[str, ...]] = ("precision", "precision_tolerance", "check_slope", "memory_gb", "plan")

    if TYPE_CHECKING:
        batch_norm: Literal["train", "eval"]
        augment: bool
        precision: str
        precision_tolerance: float
        check_slope: bool
        memory_gb: Literal["auto"] | float
        plan: PlanOptions


@dataclass(frozen=True, kw_only=True)
class OfImages(ProbeOptions):
    """Options of a probe that is measured on the first of the training images."""

    samples: Annotated[int, Ge(1)] | None = None
    """The first so many training images; `null`: all."""

    def faults(self, run: RunFacts) -> Iterator[Fault]:
        """Yield what is wrong: there may be fewer images."""
        yield from super().faults(run)
        images = run.training_images
        if images is not None and self.samples is not None and self.samples > images:
            hint = "Lower it, or set it to null." if type(self).samples is None else "Lower it."
            yield Fault(
                ("samples",),
                f"must be at most the training images of {run.dataset} ({images}), got {self.samples}. {hint}",
            )


@dataclass(frozen=True, kw_only=True)
class MeasuresValidation(ProbeOptions):
    """Options of a probe that measures the validation set as well."""

    validation: bool = True
    """Measure the validation set as well, if there is one."""


@dataclass(frozen=True, kw_only=True)
class MeasuresWithAugmentation(ProbeOptions):
    """Options of a probe whose images may be augmented."""

    augment: bool = False
    """Augment the measuring set, with draws that stay fixed."""

    def faults(self, run: RunFacts) -> Iterator[Fault]:
        """Yield what is wrong: the experiment may have no augmentation."""
        yield from super().faults(run)
        if self.augment and run.augments is False:
            yield Fault(
                ("augment",), "must be false without an augmentation, got true. Set crop_padding or flip as well."
            )


@dataclass(frozen=True, kw_only=True)
class MeasuresInChunks(ProbeOptions):
    """Options of a probe that goes through its images in chunks of the run's batch size, or of its micro-batches."""

    batch_norm: Literal["train", "eval"] = "train"
    """Statistics of each chunk (`train`) or the running ones (`eval`)."""

    def faults(self, run: RunFacts) -> Iterator[Fault]:
        """Yield what is wrong: BatchNorm in train mode has no statistics in a chunk of one sample."""
        from sgdline.declare.faults import Index, path_words

        yield from super().faults(run)
        if self.batch_norm == "eval" or run.imports_lines:
            return
        probe = path_words(("probes", run.name_of(self)))
        rule = f"must not leave a chunk of one sample when {probe}.batch_norm is train"
        # Number of samples, what they are, the key that sets the number, and the numbers that it could be.
        measured: list[tuple[int, str, str, list[int]]] = []
        images = run.training_images
        if isinstance(self, OfImages):
            count, words = (images or 0, "train images") if self.samples is None else (self.samples, "samples")
            if images is None or count <= images:
                measured.append((count, words, f"{probe}.samples", [count - 1 or 2]))
        else:
            splits = ["train", *(["validation"] if isinstance(self, MeasuresValidation) and self.validation else [])]
            for split in splits:
                count = run.images.get(split, 0)
                most = run.most_images.get(split, count + 1)
                others = [other for other in (count - 1, count + 1) if 0 < other <= most]
                measured.append((count, f"{split} images", f"datasets.{run.dataset}.{split}", others))
        for position, batch_size in run.batch_sizes.items():
            size = run.chunk_size(batch_size)
            if size is None:
                continue
            key = ("batch_size", Index(position)) if size == batch_size else ("micro_batch",)
            other_size = "another batch size" if size == batch_size else "another micro_batch"
            if size == 1:
                advice = f"Use a batch of 2 or more, or set {probe}.batch_norm: eval."
                yield Fault(key, f"{rule}, got 1. {advice}", of_experiment=True)
                continue
            for count, words, setting, others in measured:
                if count % size == 1:
                    choice = f"{setting} to {' or '.join(map(str, others))}" if others else f"{probe}.batch_norm: eval"
                    advice = f"Set {choice}{f', or use {other_size}' if count > 1 else ''}."
                    left = f"which leaves one of the {count} {words} over"
                    yield Fault(key, f"{rule}, got {size}, {left}. {advice}", of_experiment=True)
            if batch_size % size == 1:
                left = f"which leaves one of the {batch_size} samples of a batch over"
                yield Fault(key, f"{rule}, got {size}, {left}. Use {other_size}.", of_experiment=True)
            last = images % batch_size if images is not None and run.drop_last is False else 0
            if last % size == 1:
                left = f"which leaves one of the {last} samples of an epoch's last batch over"
                advice = f"Set drop_last: true, or use {other_size if last > 1 else 'another batch size'}."
                yield Fault(key, f"{rule}, got {size}, {left}. {advice}", of_experiment=True)


@dataclass(frozen=True, kw_only=True)
class HessianOptions(MeasuresWithAugmentation, MeasuresInChunks, OfImages):
    """Options of a probe of Hessian-vector products."""

    batch_norm: Literal["train", "eval"] = "train"
    """Statistics of each chunk (`train`) or the running ones (`eval`); norms are far larger in `eval`."""


@dataclass(frozen=True, kw_only=True)
class EigenpairOptions(HessianOptions):
    """Options of a probe that searches for the largest eigenvalues of the Hessian and their eigenvectors."""

    searched: ClassVar[str]  # the option that says for how many

    tolerance: Annotated[float, Gt(0), Lt(1)] = 0.001
    """Largest residual norm(H v - lambda v), relative to the largest absolute eigenvalue."""
    max_products: Annotated[int, Ge(52), Le(1000000)] = 300
    """Hessian-vector products at most."""

    def faults(self, run: RunFacts) -> Iterator[Fault]:
        """Yield what is wrong: Lanczos may need more products."""
        from sgdline.engine.lanczos_budget import smallest_budget

        yield from super().faults(run)
        count = getattr(self, self.searched)
        if self.max_products < smallest_budget(count):
            yield Fault(
                ("max_products",),
                f"must be at least {smallest_budget(count)} for {count} {self.searched}, got {self.max_products}. "
                f"Raise it, or ask for fewer {self.searched}.",
            )
