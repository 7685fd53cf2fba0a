"""Published numbers of linesearch: read off the plots of its supplement, as papers.md 2.4 has them (+-3 %).

Those of claims C3 and C3-PAL are computed from the accumulated improvements, the exponent of C4 from the ratios of
slopes, by the claims' definitions. Numbers of ResNet-20, the network of the main text, are not at hand.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sgdline.claims.judging.summary import Published

_RESNET18, _MOBILENET = "ResNet-18, CIFAR-10", "MobileNetV2, CIFAR-10"

# Strategies as in tables line_strategies; the rate of the run is 0.1 everywhere, `sgd_adapted` the one shown beside it.
# (Network, momentum, adapted rate, figure) -> strategy -> accumulated improvement, nats.
_IMPROVEMENTS = {
    (_RESNET18, 0.0, 0.05, "supplement, figure 5"): {
        "optimum": 205, "fbpal": 197, "sgd_adapted": 194, "pal": 170, "direction_batch_minimum": 109,
        "sgd_original": 36,
    },
    (_MOBILENET, 0.0, 0.05, "supplement, figure 6"): {
        "optimum": 193, "fbpal": 185, "sgd_adapted": 185, "pal": 160, "direction_batch_minimum": 91,
        "sgd_original": 41,
    },
    (_RESNET18, 0.9, 0.05, "supplement, figure 7"): {
        "optimum": 48, "fbpal": 38, "sgd_adapted": 30, "pal": 16, "direction_batch_minimum": -47, "sgd_original": 16,
    },
    (_MOBILENET, 0.9, 0.07, "supplement, figure 8"): {
        "optimum": 47, "fbpal": 37, "sgd_adapted": 21, "pal": 12, "direction_batch_minimum": -9, "sgd_original": 17,
    },
}  # fmt: skip
# The same -> strategy -> accumulated absolute distance from the optimum, lengths.
_DISTANCES = {
    (_RESNET18, 0.0, 0.05, "supplement, figure 5"): {
        "sgd_original": 1130, "direction_batch_minimum": 1050, "pal": 640, "sgd_adapted": 505, "fbpal": 400,
    },
    (_MOBILENET, 0.0, 0.05, "supplement, figure 6"): {
        "sgd_original": 870, "direction_batch_minimum": 800, "pal": 440, "sgd_adapted": 255, "fbpal": 275,
    },
    (_RESNET18, 0.9, 0.05, "supplement, figure 7"): {
        "sgd_original": 1430, "direction_batch_minimum": 3150, "pal": 1520, "sgd_adapted": 1400, "fbpal": 720,
    },
    (_MOBILENET, 0.9, 0.07, "supplement, figure 8"): {
        "sgd_original": 700, "direction_batch_minimum": 1580, "pal": 860, "sgd_adapted": 610, "fbpal": 820,
    },
}  # fmt: skip
# Batch size -> D_B / D_128 on a fixed line at the end of the run, ResNet-18 without momentum: supplement, figure 9.
_SLOPES = {32: 4.0, 64: 2.0, 128: 1.0, 256: 0.5, 512: 0.27, 1024: 0.14, 2048: 0.075}
_OWN_SIZE = 128


def _numbers() -> Iterator[Published]:
    for quantity, plots in (
        ("accumulated improvement, nats", _IMPROVEMENTS),
        ("accumulated absolute distance from the optimum, lengths", _DISTANCES),
    ):
        for (network, momentum, lr, where), totals in plots.items():
            for strategy, total in totals.items():
                yield Published(
                    quantity=quantity,
                    value=total,
                    setting=_setting(network, momentum, lr),
                    series=strategy,
                    evidence="plot",
                    where=where,
                )
    for (network, momentum, lr, where), gain in _IMPROVEMENTS.items():
        # The run's own rate is a fixed learning rate of plain SGD only, see C3.
        fixed = [gain["sgd_adapted"], *([gain["sgd_original"]] if momentum == 0.0 else [])]
        upper, direction = min(gain["fbpal"], max(fixed)), gain["direction_batch_minimum"]
        for claim, gap in (
            ("C3", upper - direction),
            ("C3-PAL", min(upper - gain["pal"], gain["pal"] - direction)),
        ):
            yield Published(
                quantity="gap in the order of the strategies, over the optimum's improvement",
                value=gap / gain["optimum"],
                setting=_setting(network, momentum, lr),
                evidence="plot",
                where=where,
                claim=claim,
                derived=True,
            )
    where = "supplement, figure 9"
    for size, ratio in _SLOPES.items():
        yield Published(
            quantity=f"slope on a fixed line over that of batches of {_OWN_SIZE}",
            value=ratio,
            setting=_setting(_RESNET18, 0.0),
            series=f"batch size {size}",
            evidence="plot",
            where=where,
        )
    larger = [size for size in _SLOPES if size >= _OWN_SIZE]
    exponent = np.polyfit(np.log(larger), np.log([_SLOPES[size] for size in larger]), 1)[0]
    yield Published(
        quantity="exponent of the slope on a fixed line as a power of the batch size",
        value=float(exponent),
        setting=_setting(_RESNET18, 0.0),
        evidence="plot",
        where=where,
        claim="C4",
        derived=True,
    )


def _setting(network: str, momentum: float, lr: float | None = None) -> str:
    rates = "lr 0.1" if lr is None else f"lr 0.1 beside {lr:g}"
    return f"{network}, {rates}, momentum {momentum:g}"


PUBLISHED = tuple(_numbers())
