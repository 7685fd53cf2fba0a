"""What a claim declares."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from sgdline.declare.registry import Declared
from sgdline.declare.vocabulary import MinLen, NameOf, Unique

if TYPE_CHECKING:
    import pyarrow as pa

Relation = Literal["<", "<=", ">", ">=", "from"]
ExperimentName = Annotated[str, NameOf("experiments", "an experiment", "experiments")]


@dataclass(frozen=True, kw_only=True)
class ClaimOptions(Declared, ABC):
    """A claim: one number of each run, held against a threshold.

    A claim derives its own class in `sgdline.claims.<name>`, or in a file of the user's. Its module imports neither
    torch nor pyarrow at its top: the check of a configuration reads it.
    """

    experiments: Annotated[tuple[ExperimentName, ...], MinLen(1), Unique()]
    """Names of the experiments whose runs are judged."""

    reads: ClassVar[tuple[str, ...]]  # kinds of tables of a run, such as trace or line_metrics
    number: ClassVar[str]  # what is computed, in words
    meaning: ClassVar[str]  # what holds where the number is within the threshold; a sentence of the summary
    relation: ClassVar[Relation]
    threshold: ClassVar[float | tuple[float, float]]  # two for "from"; may be a field, which makes it an option

    @abstractmethod
    def value(self, tables: Mapping[str, pa.Table]) -> tuple[float, int]:
        """Return the number of one run, NaN where it does not exist, and how many rows it rests on.

        Args:
            tables: The kinds that `reads` names -> table of the run.
        """
