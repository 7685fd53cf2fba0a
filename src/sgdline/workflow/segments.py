"""Updates of a run, cut into segments and picked by probes."""

from __future__ import annotations

from itertools import pairwise

from sgdline.errors import SgdlineError


def measured_steps(steps: int, every: int) -> range:
    """Return the updates whose line is measured: 0, every, 2 * every, ... below `steps`."""
    return range(0, steps, every)


def segment_bounds(steps: int, segments: int) -> list[tuple[int, int]]:
    """Cut the updates 0 .. steps - 1 into equal parts.

    Args:
        steps: Number of updates.
        segments: Number of parts, from 1 to `steps`.

    Returns:
        list[tuple[int, int]]: First update and the one after the last, per part. Lengths differ by one at most.

    Raises:
        SgdlineError: If there are more segments than updates, or none.
    """
    if not 1 <= segments <= steps:
        raise SgdlineError(
            f"segments must be from 1 to steps ({steps}), got {segments}. A segment holds at least one update."
        )
    edges = [steps * part // segments for part in range(segments + 1)]
    return list(pairwise(edges))
