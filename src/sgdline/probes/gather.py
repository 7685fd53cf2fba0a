"""Join the segments of a run's probe (no torch)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sgdline.tables import concatenate, kind_at, read_provenance


def gather_segments(segments: Sequence[str | Path], *, output: str | Path, kind: str) -> None:
    """Join the tables of a run's segments; the largest replay drift goes into the metadata.

    Args:
        segments: Tables in the order of their segments.
        output: Table to write.
        kind: Name of their kind.
    """
    declared = kind_at(segments[0], kind)
    drifts = [read_provenance(path, declared).get("replay_drift") for path in segments]
    known = [drift for drift in drifts if drift is not None]
    facts = {"replay_drift": max(known) if known else None, "start_digest": None}
    concatenate(segments, declared, output, facts=facts)
