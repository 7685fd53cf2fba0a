"""What an analysis of a run declares (no torch, no numpy, no pyarrow)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from sgdline.declare.registry import Declared
from sgdline.declare.run_facts import Fault

if TYPE_CHECKING:
    import pyarrow as pa

    from sgdline.tables import Columns, Facts, Json, Kind

# What an analysis may use beside the keys of the experiment's `analysis`.
OF_THE_RUN = ("interval", "resolution", "steps", "batch_size", "seed")

Probes = Mapping[str, Mapping[str, Any]]
Files: TypeAlias = Mapping[str, str | Path]  # tables by their kinds
Settings: TypeAlias = "Mapping[str, Json]"
TableMaker: TypeAlias = Callable[..., None]


@dataclass(frozen=True, kw_only=True)
class Analysis(Declared):
    """An analysis: it makes one table of a run from others.

    It is made of every run that has the tables which it reads. The table has the name of the analysis: that of its
    module, or that of the class where an entry names it.

    Attributes:
        reads: Kinds of the tables that it reads: `trace`, those of probes, those of other analyses.
        uses: Settings that it uses: keys of the experiment's `analysis`; `interval` and `resolution` of the probe
            `line` (null without it); `steps`, `batch_size` and `seed` of the run.
        needs_stationary_theory: It is made only of runs whose update rule the theory of the stationary state covers.
    """

    reads: ClassVar[tuple[str, ...]] = ()
    uses: ClassVar[tuple[str, ...]] = ()
    needs_stationary_theory: ClassVar[bool] = False

    def tables(self, probes: Probes) -> tuple[str, ...] | None:
        """Return the kinds of the tables that it reads of a run; None if it is not made of the run.

        Args:
            probes: Settings of the run's probes by name.
        """
        return self.reads

    def faults(self) -> Iterator[Fault]:
        """Yield what is wrong with the options together, and no bound can say."""
        yield from ()

    def analyse(self, files: Files, output: str | Path, *, settings: Settings, provenance: Facts) -> None:
        """Make the table: read the others whole, ask `columns` for its content, and write it.

        Those that need parts of tables only, or rows one after the other, do all of it themselves.

        Args:
            files: The tables that it reads, by kind.
            output: The table to write.
            settings: The values of `uses`.
            provenance: Facts for the metadata; they join and override those of the first table.
        """
        from sgdline.analysis.by_lines import settled
        from sgdline.analysis.columns import inherited_provenance
        from sgdline.tables import kind_at, read_table, write_table

        tables = {kind: read_table(path, kind_at(path, kind)) for kind, path in files.items()}
        facts = inherited_provenance(next(iter(tables.values())), provenance)
        write_table(output, self.table(), self.columns(tables, settled(settings, tables)), provenance=facts)

    def columns(self, tables: Mapping[str, pa.Table], settings: Settings) -> pa.Table | Columns:
        """Return the content of the table; see `analyse`."""
        raise NotImplementedError(f"{type(self).__name__} must define columns(self, tables, settings), or analyse")

    def table(self) -> Kind:
        """Return the kind of the table: for an analysis of this package the one that has its name."""
        from sgdline.tables import kind_of

        package, _, name = type(self).__module__.rpartition(".")
        if package != "sgdline.analysis.kinds":
            raise NotImplementedError(f"{type(self).__name__} must define table(self)")
        return kind_of(name)


@dataclass(frozen=True, kw_only=True)
class MadeByFunction(Analysis, ABC):
    """An analysis that one function makes, from files to a file.

    The function is called with the files in the order of `reads`, with the output, and by keyword with the settings
    that the analysis uses and with `provenance`.
    """

    @abstractmethod
    def function(self) -> TableMaker:
        """Return what makes the table; imports its module lazily, as that needs numpy and pyarrow."""

    def analyse(self, files: Files, output: str | Path, *, settings: Settings, provenance: Facts) -> None:
        """Make the table."""
        self.function()(*(files[kind] for kind in self.reads), output, **settings, provenance=provenance)
