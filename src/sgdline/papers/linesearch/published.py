"""Published numbers of linesearch: read off the plots of its supplement, as papers.md 2.4 has them (+-3 %).

Those of claims C3 and C3-PAL are computed from the accumulated improvements, the exponent of C4 from the ratios of
slopes, by the claims' definitions. Of ResNet-20, the network of the main text, little is at hand. All networks had
4,000 images of CIFAR-10 and batches of 128.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import log
from statistics import linear_regression
from typing import Any

from sgdline.claims.judging.summary import Published

RESNET18, MOBILENET, RESNET20 = "ResNet-18, CIFAR-10", "MobileNetV2, CIFAR-10", "ResNet-20, CIFAR-10"
_RUNS = ((RESNET18, 0.0), (RESNET18, 0.9), (MOBILENET, 0.0), (MOBILENET, 0.9))

# What figures, captions and the page call the quantities.
IMPROVEMENT = "accumulated improvement, nats"
DISTANCE = "accumulated absolute distance from the optimum, lengths"
SHARE = "share of the optimum's accumulated improvement"
RATIO = "s_opt/||m_t||, a learning rate"
CONSECUTIVE = "distance of consecutive lines, nats"
FIRST, LATER = "largest distance among the first lines, nats", "largest distance among later lines, nats"
USUAL = "distance around which later lines concentrate, nats"
MAE = "mean absolute error of the fit of degree {degree}, nats"
SLOPE = "slope on a fixed line over that of batches of 128"
GAIN_SGD, GAIN_PAL = "accumulated improvement of SGD 0.1, nats", "accumulated improvement of PAL, nats"

# Strategies as in tables line_strategies; the rate of the run is 0.1 everywhere, `sgd_adapted` the one shown beside it.
# (Network, momentum, adapted rate, figure) -> strategy -> accumulated improvement, nats.
_IMPROVEMENTS = {
    (RESNET18, 0.0, 0.05, "supplement, figure 5"): {
        "optimum": 205, "fbpal": 197, "sgd_adapted": 194, "pal": 170, "direction_batch_minimum": 109,
        "sgd_original": 36,
    },
    (MOBILENET, 0.0, 0.05, "supplement, figure 6"): {
        "optimum": 193, "fbpal": 185, "sgd_adapted": 185, "pal": 160, "direction_batch_minimum": 91,
        "sgd_original": 41,
    },
    (RESNET18, 0.9, 0.05, "supplement, figure 7"): {
        "optimum": 48, "fbpal": 38, "sgd_adapted": 30, "pal": 16, "direction_batch_minimum": -47, "sgd_original": 16,
    },
    (MOBILENET, 0.9, 0.07, "supplement, figure 8"): {
        "optimum": 47, "fbpal": 37, "sgd_adapted": 21, "pal": 12, "direction_batch_minimum": -9, "sgd_original": 17,
    },
}  # fmt: skip
# The same -> strategy -> accumulated absolute distance from the optimum, lengths.
_DISTANCES = {
    (RESNET18, 0.0, 0.05, "supplement, figure 5"): {
        "sgd_original": 1130, "direction_batch_minimum": 1050, "pal": 640, "sgd_adapted": 505, "fbpal": 400,
    },
    (MOBILENET, 0.0, 0.05, "supplement, figure 6"): {
        "sgd_original": 870, "direction_batch_minimum": 800, "pal": 440, "sgd_adapted": 255, "fbpal": 275,
    },
    (RESNET18, 0.9, 0.05, "supplement, figure 7"): {
        "sgd_original": 1430, "direction_batch_minimum": 3150, "pal": 1520, "sgd_adapted": 1400, "fbpal": 720,
    },
    (MOBILENET, 0.9, 0.07, "supplement, figure 8"): {
        "sgd_original": 700, "direction_batch_minimum": 1580, "pal": 860, "sgd_adapted": 610, "fbpal": 820,
    },
}  # fmt: skip
# Of the runs in `_RUNS`, at the start and at the end: supplement, figures 1 and 2; 3 and 4.
_CONSECUTIVE = ((0.1, 2e-3), (1e-2, 7e-4), (0.1, 2e-3), (5e-3, 1e-3))
_ERRORS: dict[int, tuple[tuple[float | tuple[float, float], ...], ...]] = {
    1: ((0.07, 2e-3), (0.03, 5e-4), (0.055, 2e-3), (0.012, 3e-4)),
    2: ((5.5e-3, (2e-4, 1e-3)), (1e-3, 5e-5), (2.7e-3, 2e-4), (7e-4, 1e-5)),
}
# The same: bounds for the first and for later lines, and a usual value. Without momentum they are in the text.
_BOUNDS = ((1.2, 0.4, 0.005), (2.7, 0.06), (0.55, 0.6, 0.01), (1.7, 0.09))
# Network, momentum and figure -> when -> ratio s_opt/||m_t||, from where to where.
_RATIOS: dict[tuple[str, float, str], dict[str, float | tuple[float, float]]] = {
    (RESNET20, 0.0, "figure 6"): {"whole run": 0.05},
    (RESNET18, 0.0, "supplement, figure 5"): {"to line 3,000": 0.05, "later": (0.2, 0.6)},
    (MOBILENET, 0.0, "supplement, figure 6"): {"start": 0.05, "end": 0.1},
    (RESNET18, 0.9, "supplement, figure 7"): {"whole run": 0.07},
    (MOBILENET, 0.9, "supplement, figure 8"): {"whole run": 0.07},
}
# Batch size -> D_B / D_128 on a fixed line at the end of the run, ResNet-18 without momentum: supplement, figure 9.
_SLOPES = {32: 4.0, 64: 2.0, 128: 1.0, 256: 0.5, 512: 0.27, 1024: 0.14, 2048: 0.075}
_FULL_SLOPE = (0.045, 0.05)
_OWN_SIZE = 128
# Network and figure -> quantity -> batch sizes -> accumulated improvement, nats, from where to where.
_BY_SIZE: dict[tuple[str, str], dict[str, dict[str, float | tuple[float, float]]]] = {
    (RESNET18, "supplement, figure 9"): {
        GAIN_SGD: {"32": -445, "64": -222, "128": 36, "256 to 2048": (140, 190)},
        GAIN_PAL: {"32": 148, "64": 152, "128": 170, "larger": 195},
    },
    (MOBILENET, "supplement, figure 10"): {
        GAIN_SGD: {"32": -150, "64": -70, "128": 41, "256": 180, "512": 170, "1024": 142, "2048": 119},
        GAIN_PAL: {"32 to 2048": (160, 185)},
    },
}


def _numbers() -> Iterator[Published]:
    for quantity, plots in ((IMPROVEMENT, _IMPROVEMENTS), (DISTANCE, _DISTANCES)):
        for (network, momentum, lr, where), totals in plots.items():
            for strategy, total in totals.items():
                yield _number(quantity, total, setting_of(network, momentum, lr), strategy, where)
    for (network, momentum, lr, where), gain in _IMPROVEMENTS.items():
        setting = setting_of(network, momentum, lr)
        for strategy, total in gain.items():
            yield _number(SHARE, total / gain["optimum"], setting, strategy, where, derived=True)
        # The run's own rate is a fixed learning rate of plain SGD only, see C3.
        fixed = [gain["sgd_adapted"], *([gain["sgd_original"]] if momentum == 0.0 else [])]
        upper, direction = min(gain["fbpal"], max(fixed)), gain["direction_batch_minimum"]
        for claim, gap in (
            ("C3", upper - direction),
            ("C3-PAL", min(upper - gain["pal"], gain["pal"] - direction)),
        ):
            quantity = "gap in the order of the strategies, over the optimum's improvement"
            yield _number(quantity, gap / gain["optimum"], setting, "", where, derived=True, claim=claim)
    for place, (network, momentum) in enumerate(_RUNS):
        setting, figure = setting_of(network, momentum), 1 if network == RESNET18 else 2
        where, evidence = f"supplement, figure {figure}", "plot" if momentum else "text"
        for quantity, bound in zip((FIRST, LATER, USUAL), _BOUNDS[place], strict=False):
            yield _number(quantity, bound, setting, "", where, evidence=evidence)
        for when, value in zip(("start", "end"), _CONSECUTIVE[place], strict=True):
            yield _number(CONSECUTIVE, value, setting, when, where)
        for degree, errors in _ERRORS.items():
            for when, found in zip(("start", "end"), errors[place], strict=True):
                yield from _span(MAE.format(degree=degree), found, setting, when, f"supplement, figure {figure + 2}")
    for (network, momentum, where), ratios in _RATIOS.items():
        for when, found in ratios.items():
            yield from _span(RATIO, found, setting_of(network, momentum), when, where)
    setting, where = setting_of(RESNET18, 0.0), "supplement, figure 9"
    for size, ratio in _SLOPES.items():
        yield _number(SLOPE, ratio, setting, str(size), where)
    yield from _span(SLOPE, _FULL_SLOPE, setting, "full batch", where)
    for (network, where), by_size in _BY_SIZE.items():
        for quantity, gains in by_size.items():
            for sizes, found in gains.items():
                yield from _span(quantity, found, setting_of(network, 0.0), sizes, where)
    larger = [size for size in _SLOPES if size >= _OWN_SIZE]
    exponent = linear_regression(list(map(log, larger)), [log(_SLOPES[size]) for size in larger]).slope
    quantity, where = "exponent of the slope on a fixed line as a power of the batch size", "supplement, figure 9"
    yield _number(quantity, exponent, setting, "", where, derived=True, claim="C4")


def _number(
    quantity: str, value: float, setting: str, series: str, where: str, *, evidence: Any = "plot", **more: Any
) -> Published:
    return Published(
        quantity=quantity, value=value, setting=setting, series=series, where=where, evidence=evidence, **more
    )


def _span(quantity: str, found: float | tuple[float, float], *where: str) -> Iterator[Published]:
    """Yield a number, or the two ends of a range."""
    for value in found if isinstance(found, tuple) else (found,):
        yield _number(quantity, value, *where)


def name_of(network: str) -> str:
    """Return a network without its data set."""
    return network.partition(",")[0]


def setting_of(network: str, momentum: float, lr: float | None = None) -> str:
    """Return what a number was measured on: the network, its data set, the learning rates, the momentum."""
    rates = "lr 0.1" if lr is None else f"lr 0.1 beside {lr:g}"
    return f"{network}, {rates}, momentum {momentum:g}"


PUBLISHED = tuple(_numbers())
