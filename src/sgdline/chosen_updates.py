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
