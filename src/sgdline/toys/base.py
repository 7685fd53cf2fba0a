"""What a toy declares, and types of options that several toys share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from sgdline.declare.faults import Index
from sgdline.declare.registry import Declared
from sgdline.declare.run_facts import Fault
from sgdline.declare.vocabulary import Ge, Gt, Le, Lt, MaxLen, MinLen, Unique, Words
from sgdline.figures.base import FigureChoices

if TYPE_CHECKING:
    from sgdline.tables import Columns, Kind

LearningRate = Annotated[float, Gt(0), Le(1e30)]
Coordinate = Annotated[float, Ge(-1e6), Le(1e6)]
# Of the quadratic model: lr times an eigenvalue. Smaller ones would take too many updates to forget the start.
RelativeLr = Annotated[float, Ge(0.0005), Lt(2)]
EmaDecays = Annotated[tuple[Annotated[float, Ge(0), Le(0.9999)], ...], MaxLen(6), Unique()]
UpdateCounts = Annotated[tuple[Annotated[int, Ge(1), Le(100_000)], ...], MaxLen(20), Unique()]
IndexSeeds = Annotated[tuple[Annotated[int, Ge(0), Le(2**32 - 1)], ...], MinLen(1), MaxLen(1000), Unique()]


@dataclass(frozen=True, kw_only=True)
class ToyOptions(Declared):
    """Options of a toy; each toy derives its own in `sgdline.toys.<name>.options`."""

    figures: FigureChoices = ()
    """What is drawn."""

    def faults(self) -> Iterator[Fault]:
        """Yield what is wrong with the options together, and no bound can say."""
        yield from ()

    def simulate(self) -> Columns:
        """Return the columns of the toy's table. Every draw comes from generators that the options seed."""
        raise NotImplementedError(f"{type(self).__name__} must define simulate(self)")

    def table(self) -> Kind:
        """Return the kind of the toy's table: for a toy of this package the one in the module `table` beside it."""
        from sgdline.tables import kind_of

        package, _, module = type(self).__module__.rpartition(".")
        if module != "options":
            raise NotImplementedError(f"{type(self).__name__} must define table(self)")
        return kind_of(package.rpartition(".")[2])


@dataclass(frozen=True, kw_only=True)
class DiagonalOptions(ToyOptions):
    """The published regression of diagonal linear networks."""

    samples: Annotated[int, Ge(1), Le(100000)] = 80
    """Number n of samples, normal inputs."""
    dimensions: Annotated[int, Ge(1), Le(2000)] = 200
    """Dimension d of the inputs."""
    nonzero: Annotated[int, Ge(1)] = 20
    """Entries of the sparse solution that are not 0."""
    test_samples: Annotated[int, Ge(1), Le(100000)] = 1000
    """For the test loss; the first 2d of them for the rank."""
    data_seed: Annotated[int, Ge(0), Le(4294967295)] = 0
    """Seed of the data."""
    start: Annotated[float, Ge(1e-06), Le(1000000)] = 0.1
    """Entries of u; v starts at 0."""
    updates: Annotated[int, Ge(1), Le(10000000)] = 100001
    """Number of updates T."""

    def faults(self) -> Iterator[Fault]:
        """Yield what is wrong with the options together."""
        if self.nonzero > self.dimensions:
            yield Fault(("nonzero",), f"must be at most dimensions = {self.dimensions}, got {self.nonzero}. Lower it.")


@dataclass(frozen=True, kw_only=True)
class Descent:
    """A descent of diagonal linear networks."""

    method: Literal["sgd", "gd"]
    """`sgd`: one sample a step; `gd`: all of them."""
    lr: LearningRate
    """Learning rate."""
    decay_at: Annotated[float, Gt(0), Lt(1)] | None = None
    """Share of the run after which the step is divided; `null`: never."""
    decay_factor: Annotated[float, Ge(1), Le(1e30)] = 1.0
    """What it is divided by."""


@dataclass(frozen=True, kw_only=True)
class ExtraDescent:
    """A descent with what else the released code can do."""

    method: Literal["sgd", "gd", "normalised_gd", "n_sam", "one_sam"]
    """`sgd`: one sample a step; `gd`: all of them; `normalised_gd`: steps of length lr; `n_sam`, `one_sam`: SAM over
    all samples, or over each one."""
    lr: Annotated[float, Gt(0)]
    """Learning rate."""
    decay_at: Annotated[float, Gt(0), Lt(1)] | None = None
    """Share of the run after which the step is divided; `null`: never."""
    decay_factor: Annotated[float, Ge(1)] = 1.0
    """What it is divided by."""
    rho: Annotated[float, Gt(0)] | None = None
    """How far the ascent of SAM goes, in gradients; `null`: no SAM."""
    weight_decay: Annotated[float, Gt(0), Lt(1)] | None = None
    """Weight decay; `null`: none."""
    balancedness: Annotated[float, Gt(0), Lt(1)] | None = None
    """Rate at which u and v are made alike in size; `null`: not at all."""


@dataclass(frozen=True, kw_only=True)
class StepSizes:
    """A constant learning rate, or a large one that is divided once."""

    lr: LearningRate
    """Learning rate."""
    decay_at: Annotated[float, Gt(0), Lt(1)] | None = None
    """Share of the run after which it is divided; `null`: never."""
    decay_factor: Annotated[float, Ge(1), Le(1e30)] = 1.0
    """What it is divided by."""
    warm_up: Annotated[float, Gt(0), Le(1e6)] = 1.0
    """Iterations until the full learning rate."""
    warm_up_exponent: Annotated[float, Gt(0), Le(100)] = 1.0
    """Power of the warm-up: 1 is linear."""


def decay_faults(key: str, entries: Sequence[Descent | ExtraDescent | StepSizes]) -> Iterator[Fault]:
    """Yield what is wrong with the decays of step sizes.

    Args:
        key: Option that lists them.
        entries: Its entries.
    """
    for place, entry in enumerate(entries):
        if entry.decay_at is None and entry.decay_factor != 1.0:
            yield Fault(
                (key, Index(place), "decay_factor"),
                f"must be 1 without decay_at, got {entry.decay_factor:g}. Say when the step is divided: decay_at.",
            )


DescentSettings = Annotated[
    tuple[Annotated[Descent, Words("a mapping with method, lr and, if need be, decay_at and decay_factor")], ...],
    MinLen(1),
    MaxLen(9),
    Unique(),
]
ExtraDescentSettings = Annotated[
    tuple[
        Annotated[
            ExtraDescent,
            Words(
                "a mapping with method, lr and, if need be, decay_at, decay_factor, rho, weight_decay and balancedness"
            ),
        ],
        ...,
    ],
    MinLen(1),
    MaxLen(9),
    Unique(),
]
