"""What a probe declares."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sgdline.declare.registry import Declared
from sgdline.declare.run_facts import Fault, RunFacts


@dataclass(frozen=True, kw_only=True)
class ProbeOptions(Declared):
    """Options of a probe; each probe derives its own in `sgdline.probes.<name>.options`."""

    def faults(self, run: RunFacts) -> Iterator[Fault]:
        """Yield what is wrong with the options in this experiment, and no bound can say.

        Args:
            run: The experiment; what is at fault in it is left out.
        """
        yield from ()
