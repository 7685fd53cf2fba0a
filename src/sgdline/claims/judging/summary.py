"""What a paper adds to its claims: tables of runs for a reader, and its own numbers (no numpy, no pyarrow)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from sgdline.claims.base import Claim

if TYPE_CHECKING:
    from sgdline.claims.judging.measured import MeasuredRun, MeasuredToy


@dataclass(frozen=True, kw_only=True)
class Published:
    """One number of a paper.

    Attributes:
        quantity: What it is, in words.
        value: The number, in the unit that `quantity` names.
        setting: Network, data set and step sizes that it belongs to.
        series: Which of several in this setting: a strategy, an epoch, a length of the large-step phase.
        evidence: How we know it, see papers.md: text, plot, code (printed by the released code),
            small (a probe of ours).
        where: Figure or table of the paper.
        claim: Short name of the claim whose number it is; empty for others.
        derived: Whether it was computed from numbers of the paper, by the claim's definition.
        model: What is judged must have this model for the number to be shown beside it; None: any.
    """

    quantity: str
    value: float
    setting: str
    series: str = ""
    evidence: Literal["text", "plot", "code", "small"]
    where: str
    claim: str = ""
    derived: bool = False
    model: str | None = None

    @property
    def text(self) -> str:
        """The number with its evidence, its setting and its place."""
        tag = f"{self.evidence}, derived" if self.derived else self.evidence
        return f"{self.value:.3g} [{tag}] {self.setting}, {self.where}"


@dataclass(frozen=True, kw_only=True)
class RunTable:
    """A table of a paper's page.

    Attributes:
        title: Its heading.
        header: Names of the columns beside those that name a run.
        rows: From a run to the cells of its rows; none where it has nothing to show.
    """

    title: str
    header: tuple[str, ...]
    rows: Callable[[MeasuredRun], Iterable[Sequence[str]]]


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a paper's page shows beside its claims.

    Attributes:
        title: Heading of the page.
        reads: Kinds of tables of a run without which it is not shown.
        optional: Kinds that are read where a run has them.
        tables: Of the runs of each experiment.
        note: A paragraph for the whole page.
        notes: From the runs of an experiment to lines about them.
        over_seeds: Columns of the tables over seeds: name -> from the runs that differ in their seed only to a cell.
        toy: From a toy to lines about it.
    """

    title: str
    reads: tuple[str, ...] = ("trace",)
    optional: tuple[str, ...] = ()
    tables: tuple[RunTable, ...] = ()
    note: str = ""
    notes: Callable[[Sequence[MeasuredRun]], Sequence[str]] = lambda runs: ()
    over_seeds: Mapping[str, Callable[[Sequence[MeasuredRun]], str]] = field(default_factory=dict)
    toy: Callable[[MeasuredToy], Sequence[str]] = lambda toy: ()


@dataclass(frozen=True, kw_only=True)
class Judged:
    """Claims that are judged together: a paper's, or one of the configuration.

    Attributes:
        name: The paper, or "own".
        claims: Its claims.
        of_every_run: Whether they are judged on every run that makes their tables, drawn by the paper's figures or not.
        summary: What its page shows beside them.
        published: The paper's own numbers.
    """

    name: str
    claims: tuple[Claim[Any], ...]
    of_every_run: bool = False
    summary: Summary
    published: tuple[Published, ...] = ()

    def published_for(self, claim: str, models: Iterable[str]) -> str:
        """Return the paper's numbers of a claim in one text; empty where it gives none.

        Args:
            claim: Its short name.
            models: Of what is judged.
        """
        known = set(models)
        return "; ".join(
            number.text
            for number in self.published
            if number.claim == claim and (number.model is None or number.model in known)
        )
