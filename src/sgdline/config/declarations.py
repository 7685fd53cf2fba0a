"""What a configuration holds, key by key: its defaults, bounds and meanings (no torch).

Things with names declare their own options, see `sgdline.declare.registry`. What no bound can say is checked by methods
`faults` of declarations, what holds between blocks by `sgdline.config.resolve`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Literal

from sgdline.analysis.kinds.base import Analysis
from sgdline.claims.base import ClaimOptions, ExperimentName
from sgdline.data.sources.base import Source
from sgdline.declare.faults import Index
from sgdline.declare.run_facts import ROUNDING, Fault, RunFacts
from sgdline.declare.schema import JsonSchema, schema_of
from sgdline.declare.vocabulary import Ge, Gt, Keys, Le, MaxLen, MinLen, NameOf, OfKind, Pattern, Unique, Words
from sgdline.figures.base import FigureChoice, FigureChoices
from sgdline.losses.base import Loss
from sgdline.losses.cross_entropy import CrossEntropy
from sgdline.probes.base import ProbeOptions
from sgdline.probes.line.options import LineOptions
from sgdline.toys.base import LearningRate, ToyOptions
from sgdline.train.rules.base import UpdateRule
from sgdline.train.rules.sgd import Sgd
from sgdline.train.schedules.base import Schedule
from sgdline.train.schedules.constant import Constant
from sgdline.train.settings import AugmentationOptions, LabelNoiseOptions, ModelOptions
from sgdline.workflow.layout import format_lr

Name = Annotated[
    str,
    Pattern("^[A-Za-z0-9][A-Za-z0-9_-]*$"),
    MaxLen(64),
    Words('a name used in file names, letters, digits, "_" and "-" only'),
]
# A number of lines, or `auto`: by the number of those that were measured (`sgdline.analysis.by_lines`).
Lines = Annotated[Literal["auto"] | Annotated[int, Ge(1)], Words("a number of lines, or auto")]
BatchSize = Annotated[Annotated[int, Ge(1)] | Literal["all"], Words("a number of samples, or all")]


@dataclass(frozen=True, kw_only=True)
class StartOptions:
    """The run of another experiment, with the same model and seed, that a run continues."""

    experiment: ExperimentName
    """Whose run."""
    lr: LearningRate
    """Learning rate of that run."""
    batch_size: Annotated[Annotated[int, Ge(1)] | Literal["all"] | None, Words("a number of samples, all, or null")] = (
        None
    )
    """Batch size of that run; `null`: that of the run itself."""
    step: Annotated[int, Ge(0)] | None = None
    """The update before which to start; `null`: after its last one."""


@dataclass(frozen=True, kw_only=True)
class AnalysisOptions:
    """How the measured lines are evaluated."""

    window: Annotated[float, Gt(0)] = 0.2
    """Half-width around 0 within which lines are fitted and compared (length)."""
    degrees: Annotated[tuple[Annotated[int, Ge(1), Le(8)], ...], MinLen(1), Unique()] = (1, 2, 3, 4)
    """Degrees of the polynomials to fit."""
    sgd_lr: Annotated[
        tuple[Annotated[Literal["auto"] | LearningRate, Words("a learning rate, or auto")], ...], MinLen(1), Unique()
    ] = ("auto",)
    """Learning rates of plain SGD to compare with the run's own; `auto`: the median of s_opt/abs(D_b) over the middle
    half of the run."""
    pal_measuring_step: Annotated[float, Gt(0), Le(1000000)] = 0.1
    """Where PAL and FBPAL read the second point of their parabola (length)."""
    fbpal_every: Lines = "auto"
    """FBPAL&SGD measures, for this n, a full-batch parabola on the lines 0, 1, n, 2n, ... of the measured ones; the
    values of lines 0 and 1 are used up to line n - 1 only; `auto`: the square root of the number of measured lines, 100
    of 10,000 (lines)."""
    fbpal_average: Annotated[int, Ge(1)] = 15
    """Values in the mean that FBPAL&SGD uses from line n on, the last ones found from there on."""
    batch_sizes: Annotated[
        Literal["auto"] | Annotated[tuple[Annotated[int, Ge(2)], ...], MinLen(1), Unique()],
        Words("a list of batch sizes, or auto"),
    ] = "auto"
    """Sizes to emulate from the losses of the samples; `auto`: a quarter of the run's batch to 16 times it (samples).
    """
    batch_draws: Annotated[int, Ge(1), Le(10000)] = 8
    """Random subsets of each size and line."""
    same_position_degrees: Annotated[tuple[Annotated[int, Ge(1), Le(8)], ...], MinLen(1), Unique()] = (1, 2, 3, 4, 5)
    """Degrees of the polynomials to fit to the lines of `mline`."""
    compat: bool = False
    """Strategies and batch sizes by the rules of the released code (docs/differences.md)."""
    distance_first: Annotated[Literal["auto"] | Annotated[int, Ge(2)], Words("a number of lines, or auto")] = "auto"
    """Lines in the first panel of the distance matrix; `auto`: a third of the measured ones, at most 50 (lines)."""
    distance_every: Lines = "auto"
    """Take every n-th line in its second panel; `auto`: one for each 1,000 measured lines, 10 for 10,000 (lines)."""
    smoothing: Lines = "auto"
    """Lines in the moving average of curves over the run; `auto`: an eighth of the measured ones, odd, at most 25. A
    figure without measured lines counts updates (lines)."""
    figure_lines: Annotated[tuple[Annotated[float, Ge(0), Le(1)], ...], MinLen(1), MaxLen(6)] = (0.001, 0.4, 0.8)
    """Which lines to draw, as fractions of the run."""
    figure_updates: Annotated[int, Ge(1)] = 50
    """How many of an epoch's measured updates the trajectories of `walk` show, from its first on (updates)."""
    extra: Annotated[
        dict[str, Analysis],
        OfKind("analysis", own=True),
        Words("a mapping from entries of your own analyses, folder/file.py:Name, to their options"),
    ] = field(default_factory=dict)
    """Analyses of your own, by entry, with their options; their tables are made with all others."""

    def faults(self, run: RunFacts) -> Iterator[Fault]:
        """Yield what is wrong: the window must fit the lines, and the degrees of the polynomials the window."""
        line = run.probes.get("line")
        if not isinstance(line, LineOptions):
            return
        interval, resolution = line.interval, line.resolution
        if self.window > interval * (1 + ROUNDING):
            yield Fault(
                ("window",),
                f"must be at most the line probe's interval ({interval}), got {self.window}. Lines are known up to "
                "there only.",
            )
            return
        if self.window < 2 * resolution * (1 - ROUNDING):
            yield Fault(
                ("window",),
                f"must be at least twice the line probe's resolution ({format_lr(2 * resolution)}), got {self.window}. "
                "Widen it or make probes.line.resolution finer.",
            )
            return
        points = 2 * math.floor(self.window / resolution * (1 + ROUNDING)) + 1
        degrees = {
            "degrees": self.degrees,
            "same_position_degrees": self.same_position_degrees if "mline" in run.probes else (),
        }
        for key, entries in degrees.items():
            for position, degree in enumerate(entries):
                if degree >= points:
                    yield Fault(
                        (key, Index(position)),
                        f"must be below the number of grid points in the window ({points}), got {degree}. Widen "
                        "analysis.window or make probes.line.resolution finer.",
                    )


@dataclass(frozen=True, kw_only=True)
class ExperimentOptions:
    """Runs of each network with each learning rate, batch size and seed, and what is measured along them."""

    dataset: Annotated[str, NameOf("datasets", "a data set", "data sets")]
    """Name of the data set."""
    models: Annotated[tuple[Annotated[str, NameOf("models", "a model", "models")], ...], MinLen(1), Unique()]
    """Names of the networks."""
    lr: Annotated[tuple[LearningRate, ...], MinLen(1)]
    """Learning rates."""
    batch_size: Annotated[tuple[BatchSize, ...], MinLen(1), Unique()]
    """Samples per batch, and per chunk of the measuring set; `all`: every training image, which is gradient descent."""
    micro_batch: Annotated[int, Ge(2)] | None = None
    """Compute larger batches in parts of so many samples, see micro-batches."""
    lr_unit: Literal["absolute", "sharpness"] = "absolute"
    """What learning rates are multiples of: `absolute`: 1; `sharpness`: 1/lambda_max, the largest eigenvalue of the
    full-batch Hessian where the run starts, measured by a job of its own (rule `measure_sharpness`); gradient descent
    is at the edge of stability at 2."""
    seed: Annotated[tuple[Annotated[int, Ge(0)], ...], MinLen(1), Unique()]
    """Seeds of initialisation, batch order, augmentation and masks."""
    steps: Annotated[int, Ge(1), Le(100000000)]
    """Number of updates."""
    segments: Annotated[int, Ge(1), Le(100000)] = 1
    """Equal parts of the run, probed as independent jobs; the results do not depend on it."""
    threads: Annotated[int, Ge(1), Le(1024)] = 1
    """CPU threads of one training or probing job; one is fastest for small networks."""
    drop_last: bool = True
    """Leave out the incomplete last batch of an epoch."""
    loss: Annotated[Loss, OfKind("loss", tag="name", default="cross_entropy")] = field(default_factory=CrossEntropy)
    """What is minimised, and what all probes measure."""
    optimizer: Annotated[UpdateRule, OfKind("update_rule", tag="name", default="sgd")] = field(default_factory=Sgd)
    """Update rule: its `name`, or an entry, and its options."""
    schedule: Annotated[Schedule, OfKind("schedule", tag="name", default="constant")] = field(default_factory=Constant)
    """How the learning rate goes along the run: the `name` of a schedule, or an entry, and its options."""
    label_noise: LabelNoiseOptions = LabelNoiseOptions()
    """Random labels in the training batches."""
    augmentation: AugmentationOptions = AugmentationOptions()
    """Changes of the training images, drawn anew for each batch."""
    replay_tolerance: Annotated[float, Ge(0)] = 0.0
    """Largest difference allowed between the parameters at the end of a replayed segment and the next checkpoint."""
    start_from: Annotated[
        StartOptions | None, Words("null, or a mapping with experiment, lr and, if need be, batch_size and step")
    ] = None
    """The run of another experiment to go on from, see continued runs."""
    import_lines: Annotated[str, MinLen(1)] | None = None
    """Folder of `line_data_<step>.pickle` files: the lines were measured elsewhere, nothing is trained; see
    docs/importing.md."""
    probes: Annotated[dict[str, ProbeOptions], OfKind("probe")] = field(default_factory=dict)
    """What is measured along the run; a probe that is not named is not measured."""
    analysis: AnalysisOptions = AnalysisOptions()
    """How the measured lines are evaluated."""
    figures: FigureChoices = ()
    """What is drawn."""


@dataclass(frozen=True, kw_only=True)
class ComparisonOptions:
    """A figure over the runs of several experiments."""

    figure: FigureChoice
    """What is drawn."""
    experiments: Annotated[tuple[ExperimentName, ...], MinLen(1), Unique()]
    """Names of the experiments."""


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """All of a configuration."""

    results: Annotated[str, MinLen(1)] = "results"
    """Folder for everything that the workflow writes."""
    data_dir: Annotated[str, MinLen(1)] = "data"
    """Folder in which downloaded data sets lie."""
    download: bool = False
    """Fetch missing data sets from their official sites."""
    run: Literal["all"] | Annotated[tuple[Name, ...], MinLen(1), Unique()] = "all"
    """The experiments and toys to run, by their names; the name of a paper runs all that its figures draw."""
    datasets: Annotated[
        dict[
            str,
            Annotated[
                Source,
                OfKind("source", tag="source"),
                Words("a mapping with the key source, which names a module of sgdline.data.sources"),
            ],
        ],
        Keys(Name),
        MinLen(1),
    ]
    """Data sets by name."""
    models: Annotated[dict[str, ModelOptions], Keys(Name), MinLen(1)]
    """Networks by name."""
    experiments: Annotated[dict[str, ExperimentOptions], Keys(Name), MinLen(1)]
    """Experiments by name."""
    comparisons: Annotated[dict[str, ComparisonOptions], Keys(Name)] = field(default_factory=dict)
    """Figures over the runs of several experiments, by name."""
    claims: Annotated[dict[str, ClaimOptions], OfKind("claim")] = field(default_factory=dict)
    """Claims that are judged on runs, by name or entry, see docs/extending.md."""
    toys: Annotated[
        dict[
            str,
            Annotated[
                ToyOptions,
                OfKind("toy", tag="toy"),
                Words("a mapping with the key toy, which names a module of sgdline.toys"),
            ],
        ],
        Keys(Name),
    ] = field(default_factory=dict)
    """Simulations without a network, by name."""


@cache
def configuration_schema() -> JsonSchema:
    """Return the JSON schema that a configuration is checked with."""
    return schema_of(Configuration)
