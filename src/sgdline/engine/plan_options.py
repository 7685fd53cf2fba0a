"""Entries of a plan that a configuration pins (no torch)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from sgdline.declare.run_facts import Fault, RunFacts
from sgdline.declare.vocabulary import Ge, Le


@dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """Entries of a plan that are taken as they are; what is null is chosen by a trial."""

    threads: Annotated[int, Ge(1)] | None = None
    """CPU threads of the forward passes."""
    chunks_per_pass: Annotated[int, Ge(1), Le(100000)] | None = None
    """Chunks that share a forward pass, each with BatchNorm statistics of its own; as many as the training set has: all
    that is measured at a position goes in one pass."""
    positions_per_pass: Annotated[int, Ge(1), Le(100000)] | None = None
    """Positions along the line that share a forward pass."""
    statistics: Literal["split", "view"] | None = None
    """BatchNorm by its own kernel, chunk by chunk, or by centred sums over all chunks at once."""
    channels_last: bool | None = None
    """Convert convolution weights to this layout; weights that have it already keep it."""
    compiled: bool | None = None
    """Compile the network with torch.compile."""
    cuda_graphs: bool | None = None
    """Record each forward pass once and replay it; GPUs only."""
    reseed: bool | None = None
    """Seed torch's generators before each chunk, for dropout; `false`: the network draws nothing."""
    in_place: bool | None = None
    """Measure the network itself and not a copy, for networks that cannot be copied."""
    hooks: bool | None = None
    """Let the network's own forward hooks fire, because they change what it computes."""

    def pinned(self) -> dict[str, Any]:
        """Return the entries that are not null."""
        return {key: entry for key, entry in vars(self).items() if entry is not None}

    def faults(self, run: RunFacts, *, precision: str) -> Iterator[Fault]:
        """Yield what is wrong with the pinned entries; paths are from the block of the probe.

        Args:
            run: The experiment.
            precision: That of the probe.
        """
        if not self.pinned():
            return
        from sgdline.engine.plan import conflicts

        if self.threads is not None and run.threads is not None and self.threads > run.threads:
            yield Fault(
                ("plan", "threads"),
                f"must be at most the experiment's threads ({run.threads}), got {self.threads}. Raise threads of the "
                "experiment, which is what a job gets.",
            )
        for key, others, reason in conflicts(self, precision=precision):
            yield Fault(("plan", key), f"must be false beside {others}, got true. {reason}.")
