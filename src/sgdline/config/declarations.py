"""What a configuration holds, key by key: its defaults, bounds and meanings (no torch).

Probes and toys declare their own options, see `sgdline.probes.base` and `sgdline.toys.base`. What no bound can say is
checked by `sgdline.config._resolve`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any, Literal

from sgdline.analysis.kinds.base import Analysis
from sgdline.declare.schema import JsonSchema, schema_of
from sgdline.declare.vocabulary import Ge, Gt, Keys, Le, Lt, MaxLen, MinLen, OfKind, Pattern, Unique, Words
from sgdline.probes.base import ProbeOptions
from sgdline.toys.base import FigureId, FigureIds, LearningRate, ToyOptions

Name = Annotated[
    str,
    Pattern("^[A-Za-z0-9][A-Za-z0-9_-]*$"),
    MaxLen(64),
    Words('a name used in file names, letters, digits, "_" and "-" only'),
]
SplitSize = Annotated[Annotated[int, Ge(0)] | Literal["all"], Words("a number of images, or all")]
ChannelConstants = Annotated[
    Literal["auto", "none"] | Annotated[tuple[float, ...], MinLen(1)],
    Words("auto, none, or a list of one number per channel"),
]
BatchSize = Annotated[Annotated[int, Ge(1)] | Literal["all"], Words("a number of samples, or all")]
Entry = Annotated[
    str,
    Pattern(r"^([A-Za-z_]\w*(\.[A-Za-z_]\w*)*|[\w./-]+\.py):[A-Za-z_]\w*$"),
    Words("package.module:factory or folder/file.py:factory"),
]


@dataclass(frozen=True, kw_only=True)
class RandomImages:
    """Seeded noise of any shape, for benchmarks."""

    images: Annotated[int, Ge(1), Le(100000000)] = 2048
    """Images."""
    classes: Annotated[int, Ge(2), Le(100000)] = 10
    """Classes."""
    channels: Annotated[int, Ge(1), Le(1000)] = 3
    """Channels."""
    size: Annotated[int, Ge(1), Le(8192)] = 32
    """Pixels a side."""
    seed: Annotated[int, Ge(0)] = 0
    """Seed of the noise."""


@dataclass(frozen=True, kw_only=True)
class DatasetOptions:
    """A named draw of images from a source."""

    source: Literal["digits", "fashion_mnist", "mnist", "cifar10", "cifar100", "svhn", "image_folder", "random"]
    """Where the images come from."""
    train: SplitSize
    """Images to train on; they are the measuring set of the full-batch loss as well."""
    validation: SplitSize = 0
    """Images of the validation set, taken from the source's training images."""
    test: SplitSize = "all"
    """Images of the test set."""
    split: Literal["random", "sequential", "stratified"] = "random"
    """`random`: a seeded draw; `stratified`: a seeded draw with the classes' shares in each split; `sequential`: the
    source's order, the first images train, the last of the training images validate."""
    split_seed: Annotated[int, Ge(0)] = 42
    """Seed of that draw."""
    image_size: Annotated[int, Ge(1), Le(8192)] | None = None
    """Resize to that many pixels a side; `null`: as it comes."""
    channels: Literal[1, 3] | None = None
    """Convert to grey (1) or repeat grey (3); `null`: as it comes."""
    mean: ChannelConstants = "auto"
    """Subtracted per channel, pixels being in [0, 1]."""
    std: ChannelConstants = "auto"
    """Pixels are divided by it, per channel."""
    path: Annotated[str, MinLen(1)] | None = None
    """Folder of an `image_folder`; must be `null` for other sources."""
    random: RandomImages = RandomImages()
    """What a `random` source makes; ignored otherwise."""


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """A network."""

    entry: Entry
    """The function or class that builds the network."""
    kwargs: dict[str, Any] = field(default_factory=dict)
    """Arguments for it."""


@dataclass(frozen=True, kw_only=True)
class NoiseOptions:
    """Isotropic noise in the gradient."""

    factor: Annotated[float, Ge(0), Le(1e30)] = 0.0
    """Times v_max; 0: no noise."""
    reading: Literal["variance", "standard_deviation"] = "variance"
    """What factor * v_max is of the noise; `standard_deviation`: as in the released code."""
    batch_size: Annotated[Literal["auto"] | Annotated[int, Ge(1)], Words("a number of samples, or auto")] = "auto"
    """Samples of the mini-batches after v_max; `auto`: the run's batch size, 100 where that is the whole training set.
    """


@dataclass(frozen=True, kw_only=True)
class PalOptions:
    """PAL: each step ends in the vertex of a parabola through two losses of its batch."""

    beta: Annotated[float, Ge(0), Lt(1)] = 0.4
    """Share of the last direction that is added to the gradient."""
    adaptation: Annotated[float, Gt(0), Le(1000000)] = 1.6666666666666667
    """What the minimum of the parabola is multiplied by."""
    max_step: Annotated[float, Gt(0), Le(1000000)] = 3.16
    """Longest step (length)."""


@dataclass(frozen=True, kw_only=True)
class FbpalSgdOptions:
    """FBPAL&SGD: now and then a parabola of the full-batch loss, SGD in between."""

    every: Annotated[int, Ge(1)] = 100
    """Measure the full-batch parabola at updates 0, 1, n, 2n, ..."""
    average: Annotated[int, Ge(1)] = 15
    """Values in the mean that is used from update n on, the last ones measured from there on."""
    reuse: Literal["lr", "step_length"] = "lr"
    """What is carried to the next update: the learning rate (`lr`) or the length of the step (`step_length`)."""


@dataclass(frozen=True, kw_only=True)
class OptimizerOptions:
    """The update rule of an experiment."""

    name: Literal["sgd", "pal", "fbpal_sgd"] = "sgd"
    """Update rule, see below."""
    momentum: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Heavy ball, m_t = momentum * m_{t-1} + g_t (no dampening, no Nesterov); must be 0 for `pal`."""
    weight_decay: Annotated[float, Ge(0), Le(1e30)] = 0.0
    """Adds weight_decay * theta_t to the gradient; must be 0 for `pal`."""
    gradient: Literal["mean", "sum"] = "mean"
    """`mean` over the samples of a batch; `sum`: the sum of the mean gradients of its micro-batches, as in the released
    code of `walk`; `sgd` with a `micro_batch` that divides every batch only, and not beside `mline`."""
    noise: NoiseOptions = NoiseOptions()
    """Isotropic noise on every gradient, see below; `sgd` only."""
    pal: PalOptions = PalOptions()
    """Options of `pal`."""
    fbpal_sgd: FbpalSgdOptions = FbpalSgdOptions()
    """Options of `fbpal_sgd`."""


@dataclass(frozen=True, kw_only=True)
class CyclicalOptions:
    """Schedule cyclical."""

    lowest: Annotated[float, Ge(0), Lt(1)] = 0.1
    """The rate at updates 0, period, 2 period, ..., in units of `lr`; half a period later it is `lr`."""
    period: Annotated[int, Ge(2)] = 100
    """Updates of a cycle."""


@dataclass(frozen=True, kw_only=True)
class TrapezoidOptions:
    """Schedule trapezoid."""

    warmup: Annotated[int, Ge(0)] = 0
    """Updates over which the rate rises linearly to `lr`, from lr / warmup."""
    cooldown: Annotated[int, Ge(0)] = 0
    """Updates at the end over which it falls linearly, to lr / cooldown at the last one."""


@dataclass(frozen=True, kw_only=True)
class EquivalentOptions:
    """Schedule equivalent."""

    average: Literal["ema", "swa", "two_point"] = "ema"
    """What the last iterate is to be."""
    parameter: Annotated[float, Ge(0)] = 0.99
    """Decay of `ema`, number of iterates of `swa`, distance in updates of `two_point`."""
    spacing: Annotated[int, Ge(1)] = 1
    """Updates between two iterates of `swa`."""
    relative_lr: Annotated[float, Gt(0), Lt(2)] = 0.1
    """The product a = lr * h for the one curvature h for which the schedule is exact; all its steps are within bounds
    up to 1."""


@dataclass(frozen=True, kw_only=True)
class PiecewiseOptions:
    """Schedule piecewise."""

    large_phase: Annotated[float, Gt(0), Lt(0.9)] = 0.5
    """Share f of the run with large steps; with x = (t + 1)/steps they are taken while x < f."""
    warmup: Literal["none", "linear", "power", "exponential"] = "none"
    """Growth of the rate over that phase: `none`; `linear`: lr (1 + (factor - 1) x/0.5); `power`: lr (1 + (100
    x)^exponent); `exponential`: lr base^(100 x). The peak is its value at x = f."""
    factor: Annotated[float, Gt(0)] = 1.0
    """Of `linear`: the growth that is reached at half of the run."""
    exponent: Annotated[float, Gt(0), Lt(1)] = 0.5
    """Of `power`."""
    base: Annotated[float, Gt(1)] = 1.05
    """Of `exponential`."""
    compat: bool = False
    """For `none` and `linear` the released code's rule instead: rates after the phase come from factor * lr * f/0.5,
    whatever the peak; without a warm-up they are lr/50, lr/16.7 and lr/10 for f = 0.1, 0.3, 0.5."""


@dataclass(frozen=True, kw_only=True)
class ScheduleOptions:
    """How the learning rate goes along the run."""

    name: Literal[
        "constant", "step", "cyclical", "trapezoid", "equivalent", "piecewise", "cosine", "inverted_cosine"
    ] = "constant"
    """`constant`; `step`: multiply the learning rate at milestones; `cyclical`: triangles between a lowest rate and
    `lr`; `trapezoid`: up, flat and down to 0; `equivalent`: the rates whose last iterate is an average of the iterates
    at `lr`; `piecewise`: a phase of large steps, then peak/10 and from 90 % of the run on peak/100; `cosine`: lr (1 +
    cos(pi x))/2, x = (t + 1)/steps; `inverted_cosine`: `lr` less that."""
    milestones: Annotated[tuple[Annotated[int, Ge(1)], ...], Unique()] = ()
    """Updates from which on the learning rate is multiplied; for `step` only."""
    factor: Annotated[float, Gt(0)] = 0.1
    """The multiplier."""
    cyclical: CyclicalOptions = CyclicalOptions()
    """Options of `cyclical`."""
    trapezoid: TrapezoidOptions = TrapezoidOptions()
    """Options of `trapezoid`."""
    equivalent: EquivalentOptions = EquivalentOptions()
    """Options of `equivalent`."""
    piecewise: PiecewiseOptions = PiecewiseOptions()
    """Options of `piecewise`."""


@dataclass(frozen=True, kw_only=True)
class LabelNoiseOptions:
    """Random labels in the training batches."""

    probability: Annotated[float, Ge(0), Le(1)] = 0.0
    """Probability p; 0: no noise."""
    schedule: Literal["constant", "inverted_cosine", "piecewise"] = "constant"
    """Probability over the run: `constant`; `inverted_cosine`: from 0 up to p; `piecewise`: p, from half of the run on
    p/10, from three quarters on p/100."""


@dataclass(frozen=True, kw_only=True)
class AugmentationOptions:
    """Changes of the training images, drawn anew for each batch."""

    crop_padding: Annotated[int, Ge(0), Le(256)] = 0
    """Pixels of black padding on each side before a random crop to the old size; 0: no crop."""
    flip: bool = False
    """Mirror left to right with probability 1/2."""


@dataclass(frozen=True, kw_only=True)
class StartOptions:
    """The run of another experiment, with the same model and seed, that a run continues."""

    experiment: str
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
    fbpal_every: Annotated[int, Ge(1)] = 100
    """FBPAL&SGD measures, for this n, a full-batch parabola on the lines 0, 1, n, 2n, ... of the measured ones; the
    values of lines 0 and 1 are used up to line n - 1 only (lines)."""
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
    distance_first: Annotated[int, Ge(2)] = 50
    """Lines in the first panel of the distance matrix (lines)."""
    distance_every: Annotated[int, Ge(1)] = 10
    """Take every n-th line in its second panel (lines)."""
    smoothing: Annotated[int, Ge(1)] = 25
    """Lines in the moving average of curves over the run (lines)."""
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


@dataclass(frozen=True, kw_only=True)
class ExperimentOptions:
    """Runs of each network with each learning rate, batch size and seed, and what is measured along them."""

    dataset: str
    """Name of the data set."""
    models: Annotated[tuple[str, ...], MinLen(1), Unique()]
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
    optimizer: OptimizerOptions = OptimizerOptions()
    """Update rule."""
    schedule: ScheduleOptions = ScheduleOptions()
    """How the learning rate goes along the run."""
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
    figures: FigureIds = ()
    """What is drawn."""


@dataclass(frozen=True, kw_only=True)
class ComparisonOptions:
    """A figure over the runs of several experiments."""

    figure: FigureId
    """What is drawn."""
    experiments: Annotated[tuple[str, ...], MinLen(1), Unique()]
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
    """The experiments and toys to run."""
    datasets: Annotated[dict[str, DatasetOptions], Keys(Name), MinLen(1)]
    """Data sets by name."""
    models: Annotated[dict[str, ModelOptions], Keys(Name), MinLen(1)]
    """Networks by name."""
    experiments: Annotated[dict[str, ExperimentOptions], Keys(Name), MinLen(1)]
    """Experiments by name."""
    comparisons: Annotated[dict[str, ComparisonOptions], Keys(Name)] = field(default_factory=dict)
    """Figures over the runs of several experiments, by name."""
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
