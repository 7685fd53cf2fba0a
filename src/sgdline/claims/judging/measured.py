"""What claims are read from: runs and toys with their settings and tables (no torch)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated

import pyarrow as pa

from sgdline.analysis.divergence import diverged_at
from sgdline.claims.base import Key
from sgdline.declare.vocabulary import OfKind
from sgdline.tables import kind_at, provenance, read_table
from sgdline.toys.base import ToyOptions
from sgdline.train.rules.base import UpdateRule
from sgdline.train.schedules.base import Schedule
from sgdline.train.settings import LabelNoiseOptions


@dataclass(frozen=True, kw_only=True)
class Start:
    """The run that another one continues, and the update of it before which that one starts."""

    experiment: str
    lr: float
    batch_size: int | None  # None: the continuing run's own
    step: int


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """What claims may know of a run beside its tables, the same for every paper."""

    experiment: str
    model: str
    lr: float  # in the unit that lr_unit names
    batch_size: int
    seed: int
    dataset: str
    steps: int
    optimizer: Annotated[UpdateRule, OfKind("update_rule", tag="name", default="sgd")]
    schedule: Annotated[Schedule, OfKind("schedule", tag="name", default="constant")]
    start_from: Start | None
    label_noise: LabelNoiseOptions
    lr_unit: str  # absolute, or sharpness: lr is a multiple of 1/lambda_max at the run's start
    whole_batches: bool  # every batch is the whole training set

    @property
    def continued(self) -> bool:
        """Whether the run started from another run's parameters."""
        return self.start_from is not None


class Tables(Mapping[str, pa.Table]):
    """Tables by kind; a file is read when it is first asked for.

    Args:
        entries: Kind -> file, or the table itself.
    """

    def __init__(self, entries: Mapping[str, str | Path | pa.Table]) -> None:
        self._entries = dict(entries)
        self._parts: dict[tuple[str, ...], pa.Table] = {}

    def __getitem__(self, kind: str) -> pa.Table:
        found = self._entries[kind]
        if isinstance(found, str | Path):
            found = self._entries[kind] = read_table(found, kind_at(found, kind))
        return found

    def columns(self, kind: str, names: Sequence[str]) -> pa.Table:
        """Return some columns of a table, whose others may be larger than the memory."""
        found, part = self._entries[kind], (kind, *names)
        if not isinstance(found, str | Path):
            return found.select(names)
        if part not in self._parts:
            self._parts[part] = read_table(found, kind_at(found, kind), columns=names)
        return self._parts[part]

    def __contains__(self, kind: object) -> bool:
        return kind in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


@dataclass(frozen=True, kw_only=True, eq=False)
class MeasuredTables:
    """Tables of one run, the trace among them."""

    tables: Tables

    @cached_property
    def diverged_at(self) -> int | None:
        """The update at which the run ended at a useless loss, see `sgdline.analysis.divergence`; None: it did not."""
        return diverged_at(self.tables["trace"])

    @property
    def diverged(self) -> bool:
        """Whether the run ended at a useless loss."""
        return self.diverged_at is not None


@dataclass(frozen=True, kw_only=True, eq=False)
class MeasuredRun(MeasuredTables):
    """A run with its settings and its tables."""

    settings: RunSettings

    @property
    def order(self) -> tuple[str, str, float, int, int]:
        """What runs are sorted by."""
        own = self.settings
        return own.experiment, own.model, own.lr, own.batch_size, own.seed

    @cached_property
    def key(self) -> Key:
        """What names the run; of imported lines the learning rate is that of the files, the config's is a label."""
        own = self.settings
        imported: float | None = provenance(self.tables["trace"]).get("imported_lr")
        lr = own.lr if imported is None else imported
        return Key(own.experiment, own.model, lr, own.batch_size, own.seed)


@dataclass(frozen=True, kw_only=True, eq=False)
class MeasuredToy:
    """A toy with its options and its table."""

    name: str
    kind: str
    options: ToyOptions
    tables: Tables  # one of the kind

    @property
    def table(self) -> pa.Table:
        """What was simulated."""
        return self.tables[self.kind]
