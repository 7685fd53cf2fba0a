"""The form of a claim: a number of tables, held against a threshold (no numpy, no pyarrow)."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Generic, Literal, NamedTuple, TypeVar

from sgdline.declare.registry import Declared
from sgdline.declare.vocabulary import MinLen, NameOf, Unique
from sgdline.entries import own_faults_named
from sgdline.errors import SgdlineError

if TYPE_CHECKING:
    import pyarrow as pa

    from sgdline.claims.judging.measured import MeasuredRun, MeasuredToy

Relation = Literal["<", "<=", ">", ">=", "from"]
Threshold = float | tuple[float, float]  # two for the relation "from"
ExperimentName = Annotated[str, NameOf("experiments", "an experiment", "experiments")]
S = TypeVar("S")

DIVERGED = "the run diverged"


class Value(NamedTuple):
    """What a claim computes."""

    number: float  # NaN: it does not exist; infinity is a number
    observations: int  # lines, intervals, updates, batches or runs that it rests on
    reason: str = "the number does not exist"  # why, in a few words; nobody reads it where there is a number


class Key(NamedTuple):
    """What a claim is about. None: it compares over that key, or a toy has none."""

    experiment: str  # of a toy its name
    model: str
    lr: float | None
    batch_size: int | None
    seed: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject(Generic[S]):
    """One thing that claims are judged on: a run, runs compared, or the chains of one seed of a toy."""

    key: Key
    what: S  # a claim's function gets it
    runs: tuple[MeasuredRun, ...] = ()
    diverged: bool = False  # no claim about it is determined


class About(ABC, Generic[S]):
    """What a claim is about: it finds its subjects among the runs and toys of a paper.

    Attributes:
        reads: Kinds of tables that every run must have.
        optional: Kinds that are read where a run has them.
        toys: Kinds of toys.
    """

    reads: tuple[str, ...]
    optional: tuple[str, ...]
    toys: tuple[str, ...]

    @abstractmethod
    def subjects(self, runs: Sequence[MeasuredRun], toys: Sequence[MeasuredToy]) -> Iterator[Subject[S]]:
        """Yield the subjects, those that differ in their seed only one after the other.

        Args:
            runs: In the order of their keys.
            toys: In the order of the configuration.
        """

    def having(self, runs: Iterable[MeasuredRun]) -> list[MeasuredRun]:
        """Return the runs that have the tables that must be there."""
        return [run for run in runs if all(kind in run.tables for kind in self.reads)]


@dataclass(frozen=True, kw_only=True)
class EachRun(About["MeasuredRun"]):
    """Every run with the tables that are read. A run that diverged decides nothing: its tables are of a shorter run."""

    reads: tuple[str, ...]
    optional: tuple[str, ...] = ()
    toys: tuple[str, ...] = field(default=(), init=False)
    judges_diverged: bool = False

    def subjects(self, runs: Sequence[MeasuredRun], toys: Sequence[MeasuredToy]) -> Iterator[Subject[MeasuredRun]]:
        """Yield each run."""
        for run in self.having(runs):
            lost = run.diverged and not self.judges_diverged
            yield Subject(key=run.key, what=run, runs=(run,), diverged=lost)


@dataclass(frozen=True, kw_only=True)
class Compared(About[Sequence["MeasuredRun"]]):
    """Runs that are compared, of one experiment or of several.

    Attributes:
        groups: From runs, in the order of their keys, to those that are compared; the first of a group names it.
        over: Entries of `Key` in which they differ.
    """

    reads: tuple[str, ...]
    optional: tuple[str, ...] = ()
    toys: tuple[str, ...] = field(default=(), init=False)
    groups: Callable[[Sequence[MeasuredRun]], Iterable[Sequence[MeasuredRun]]]
    over: tuple[str, ...] = ()

    def subjects(
        self, runs: Sequence[MeasuredRun], toys: Sequence[MeasuredToy]
    ) -> Iterator[Subject[Sequence[MeasuredRun]]]:
        """Yield each group."""
        compared: dict[str, Any] = dict.fromkeys(self.over)
        found = [(group[0].key._replace(**compared), group) for group in self.groups(self.having(runs))]
        for key, group in sorted(found, key=lambda pair: [(value is not None, value or 0) for value in pair[0]]):
            yield Subject(key=key, what=group, runs=tuple(group))


@dataclass(frozen=True, kw_only=True)
class EachSeed(About[S]):
    """Every seed of a toy.

    Attributes:
        toys: Kinds of toys.
        seeds: From a toy to what its claims are about, by seed; nothing where its settings do not make them.
        model: What its networks are called; by default the toy's kind.
    """

    reads: tuple[str, ...] = field(default=(), init=False)
    optional: tuple[str, ...] = field(default=(), init=False)
    toys: tuple[str, ...]
    seeds: Callable[[MeasuredToy], Mapping[int, S]]
    model: Callable[[MeasuredToy], str] = lambda toy: toy.kind

    def subjects(self, runs: Sequence[MeasuredRun], toys: Sequence[MeasuredToy]) -> Iterator[Subject[S]]:
        """Yield each seed of each toy."""
        for toy in toys:
            if toy.kind in self.toys:
                for seed, chains in sorted(self.seeds(toy).items()):
                    yield Subject(key=Key(toy.name, self.model(toy), None, None, seed), what=chains)


@dataclass(frozen=True, kw_only=True)
class Claim(Generic[S]):
    """A claim: one number of a subject, held against a threshold.

    Attributes:
        name: Its short name.
        number: What is computed, in words.
        meaning: What holds where the number is within the threshold; a sentence of the summary.
        relation: Between number and threshold.
        threshold: Two numbers for the relation "from".
        about: What it is about, and the kinds of tables that it reads.
        value: From a subject to its number; None where the claim says nothing about it.
    """

    name: str
    number: str
    meaning: str
    relation: Relation
    threshold: Threshold
    about: About[S]
    value: Callable[[S], Value | None]


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
    threshold: ClassVar[Threshold]  # may be a field, which makes it an option
    judges_diverged: ClassVar[bool] = False  # whether a run that diverged has a verdict; else it is undetermined

    @abstractmethod
    def value(self, tables: Mapping[str, pa.Table]) -> Value | tuple[float, int]:
        """Return the number of one run, NaN where it does not exist, and how many rows it rests on.

        Args:
            tables: The kinds that `reads` names -> table of the run.

        Returns:
            A `Value`, which may say why there is no number; or number and rows alone.
        """

    def claim(self, name: str) -> Claim[MeasuredRun]:
        """Return the claim in the form that those of papers have."""
        return Claim(
            name=name,
            number=self.number,
            meaning=self.meaning,
            relation=self.relation,
            threshold=self.threshold,
            about=EachRun(reads=self.reads, judges_diverged=self.judges_diverged),
            value=self._value_of,
        )

    def _value_of(self, run: MeasuredRun) -> Value:
        tables = {kind: run.tables[kind] for kind in self.reads}
        with own_faults_named(f"value of the claim {type(self).__name__}"):
            found: object = self.value(tables)
        try:
            said = Value(*found)  # type: ignore[misc]  # what a method of the user's returns is open
            return Value(float(said.number), int(said.observations), str(said.reason))
        except (TypeError, ValueError) as error:
            got = type(found).__name__ if found is None or not isinstance(found, tuple) else repr(found)
            place = inspect.getsourcefile(type(self)) or type(self).__module__
            rule = f"value of the claim {type(self).__name__} must return a number and how many rows it rests on"
            raise SgdlineError(f"{rule}, got {got}. Correct it in {place}.") from error
