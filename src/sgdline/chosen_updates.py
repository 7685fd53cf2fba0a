"""Which updates of a run a probe with `every`, `epochs` and `updates` measures (no torch)."""

from __future__ import annotations

from collections.abc import Collection


def is_chosen(
    step: int, *, every: int, epochs: Collection[int] | None, updates: int | None, updates_per_epoch: int
) -> bool:
    """Return whether an update is to be measured.

    Args:
        step: The update, from 0.
        every: Every n-th update of the run: 0, n, 2n, ...
        epochs: Of these epochs only, counted from 1; of all if None.
        updates: Of each epoch only the first so many updates; all if None.
        updates_per_epoch: Updates of an epoch.
    """
    epoch, position = divmod(step, updates_per_epoch)
    return step % every == 0 and (epochs is None or epoch + 1 in epochs) and (updates is None or position < updates)


def any_chosen(
    steps: int, *, every: int, epochs: Collection[int] | None, updates: int | None, updates_per_epoch: int
) -> bool:
    """Return whether a run of so many updates has one that is to be measured, without going through them.

    Args:
        steps: Updates of the run.
        every: As for `is_chosen`.
        epochs: As for `is_chosen`.
        updates: As for `is_chosen`.
        updates_per_epoch: As for `is_chosen`.
    """
    if epochs is None:
        return steps > 0  # update 0
    length = updates_per_epoch if updates is None else min(updates, updates_per_epoch)
    starts = [(epoch - 1) * updates_per_epoch for epoch in epochs]
    # The first multiple of `every` from the start of an epoch on.
    return any(-(-start // every) * every < min(start + length, steps) for start in starts)
