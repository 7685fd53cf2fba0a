"""Published numbers of walk: tables 1 to 3, as papers.md 5.3 has them.

The paper's "+-" is so small against the means that it looks like a variance; it is kept as it was printed.
"""

from __future__ import annotations

from collections.abc import Iterator

from sgdline.claims.judging.summary import Published

INTERVALS = 450  # of an epoch on CIFAR-10, papers.md 5.1
_VGG11, _RESNET56, _MLP = "VGG-11, CIFAR-10", "ResNet-56, CIFAR-10", "MLP, MNIST"
_TINY = "VGG-11, Tiny-ImageNet"

BARRIERS = "intervals of an epoch with a barrier"
HEIGHT, SPREAD = "mean height H, nats", "what is printed after +- of H"

# Network -> epoch -> barriers: table 1.
_BARRIERS = {
    _VGG11: {1: 0, 10: 0, 25: 5, 100: 13},
    _RESNET56: {1: 0, 10: 0, 25: 2, 100: 23},
    _MLP: {1: 0, 10: 3, 25: 5},
}
# Network -> learning rate -> epoch -> height H, and what the paper has after "+-": tables 2 and 3.
_HEIGHTS = {
    _VGG11: {
        0.1: {1: (0.0625, 1.2e-3), 10: (0.0199, 4.8e-4), 25: (0.0104, 2.2e-5), 100: (0.0025, 3.1e-6)},
        0.05: {1: (0.0102, 3.8e-5), 10: (0.0050, 2.8e-5), 25: (0.0035, 1.7e-5), 100: (0.0011, 1.0e-6)},
    },
    _RESNET56: {
        0.3: {1: (0.0380, 5.9e-4), 10: (0.0131, 4.5e-4), 25: (0.0094, 1.3e-5), 100: (0.0017, 1.0e-5)},
        0.15: {1: (0.0084, 5.2e-5), 10: (0.0034, 3.2e-5), 25: (0.0020, 7.2e-6), 100: (0.0013, 6.7e-6)},
    },
    _TINY: {
        0.5: {1: (0.028, 1.0e-3), 10: (0.213, 1.5e-3), 25: (0.187, 1.9e-3), 100: (9.8e-5, 2.0e-9)},
        0.1: {1: (0.0039, 5.2e-5), 10: (0.163, 2.6e-5), 25: (0.116, 0.013), 100: (1.1e-5, 3.6e-11)},
    },
}


def _numbers() -> Iterator[Published]:
    for network, barriers in _BARRIERS.items():
        for epoch, number in barriers.items():
            yield Published(
                quantity=BARRIERS,
                value=number,
                setting=network,
                series=f"epoch {epoch}",
                evidence="text",
                where="table 1",
            )
        if network != _MLP:  # how many intervals an epoch of MNIST has is not known
            share = sum(barriers.values()) / (INTERVALS * len(barriers))
            setting = f"{network}, epochs {', '.join(map(str, barriers))}"
            yield Published(
                quantity="share of intervals with a barrier",
                value=share,
                setting=setting,
                evidence="text",
                where="table 1",
                claim="W2",
                derived=True,
            )
    for network, rates in _HEIGHTS.items():
        where = "table 3" if network == _TINY else "table 2"
        for lr, epochs in rates.items():
            for epoch, (height, spread) in epochs.items():
                for quantity, value in ((HEIGHT, height), (SPREAD, spread)):
                    yield Published(
                        quantity=quantity,
                        value=value,
                        setting=f"{network}, lr {lr:g}",
                        series=f"epoch {epoch}",
                        evidence="text",
                        where=where,
                    )
        larger, smaller = (rates[lr] for lr in sorted(rates, reverse=True))
        # Two rates have a rank correlation of 1 or -1.
        assert all(larger[epoch][0] > smaller[epoch][0] for epoch in larger)
        yield Published(
            quantity="rank correlation of learning rate and mean height H, median over epochs",
            value=1.0,
            setting=f"{network}, lr {' and '.join(f'{lr:g}' for lr in rates)}",
            evidence="text",
            where=where,
            claim="W5",
            derived=True,
        )


PUBLISHED = tuple(_numbers())
