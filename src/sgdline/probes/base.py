"""What a probe declares."""

from __future__ import annotations

from dataclasses import dataclass

from sgdline.declare.registry import Declared


@dataclass(frozen=True, kw_only=True)
class ProbeOptions(Declared):
    """Options of a probe; each probe derives its own in `sgdline.probes.<name>.options`."""
