"""How many images of each class a stratified split takes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]


def share_out(counts: Counts, sizes: Sequence[int]) -> Counts:
    """Round the classes' shares of several disjoint splits to whole images: largest remainders, all splits at once.

    Split k should have `sizes[k] * counts[c] / sum(counts)` images of class c. Each number is rounded up or down, each
    split keeps its size, and no class gives more images than it has. Among all such roundings this one rounds up where
    the sum of the remainders is largest. For one split that is the method of largest remainders; for several,
    rounding each by itself could take an image twice.

    Args:
        counts: Images per class. Shape (C,).
        sizes: Images per split, at most sum(counts) together. Length K.

    Returns:
        Images per split and class. Shape (K, C).

    Cost: one search over all classes per number that is rounded up: a fifth of a second for 1,000 classes, half a
    minute for 20,000.
    """
    exact = np.array(sizes, dtype=np.int64)[:, None] * counts[None, :]
    shares, remainders = exact // counts.sum(), exact % counts.sum()
    spare = counts - shares.sum(axis=0)
    raised = np.zeros(shares.shape, dtype=bool)
    for split, missing in enumerate(np.array(sizes) - shares.sum(axis=1)):
        for _ in range(missing):
            _raise_one(split, raised, remainders, spare)
    rounded: Counts = shares + raised
    return rounded


def _raise_one(split: int, raised: npt.NDArray[np.bool_], remainders: Counts, spare: Counts) -> None:
    """Round up one more class of a split, by the best augmenting path of a flow from splits to classes.

    The split takes a class with a spare image, or a class of another split, which then takes another one likewise.
    """
    rows = range(len(raised))
    impossible = np.iinfo(np.int64).min
    open_for = ~raised & (remainders > 0)
    # Best gain of a path from the split to each row, and the step that led there: the row before and its new class.
    gains = {split: 0}
    steps: dict[int, tuple[int, int]] = {}
    for _ in rows:
        for taker in list(gains):
            for giver in rows:
                if giver == taker:
                    continue
                change = np.where(open_for[taker] & raised[giver], remainders[taker] - remainders[giver], impossible)
                best = int(change.argmax())
                gain = gains[taker] + int(change[best])
                if change[best] > impossible and gain > gains.get(giver, impossible):
                    gains[giver], steps[giver] = gain, (taker, best)
    ends = {}
    for row, gain in gains.items():
        change = np.where(open_for[row] & (spare > 0), remainders[row], 0)
        best = int(change.argmax())
        if change[best] > 0:
            ends[row] = (gain + int(change[best]), best)
    row = max(ends, key=lambda end: ends[end][0])
    taken = ends[row][1]
    spare[taken] -= 1
    raised[row, taken] = True
    while row != split:
        taker, passed_on = steps[row]
        raised[row, passed_on] = False
        raised[taker, passed_on] = True
        row = taker
