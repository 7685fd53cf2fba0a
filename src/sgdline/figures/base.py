"""What a figure of the user's declares (no matplotlib, no pyarrow)."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, cast

from sgdline.declare.faults import Index, KeyPath
from sgdline.declare.registry import Declared, are_texts, declared_at, is_entry, label
from sgdline.entries import EntryError, working_directory_importable
from sgdline.figures.spec import FigureSpec

if TYPE_CHECKING:
    import matplotlib.figure


@dataclass(frozen=True, kw_only=True)
class Figure(Declared):
    """A figure: a picture of one run, of several runs, or of a toy.

    The docstring of the class, or else that of its file, is the caption. The module imports neither torch, matplotlib
    nor pyarrow at its top: the check of a configuration reads it.

    Attributes:
        reads: Kinds of the tables of a run that it draws: `trace`, those of probes, those of analyses.
        compares: It draws all runs of an entry of `comparisons` at once, and not one run of an experiment.
        toy: Name or entry of the toy that it draws, and no run; it then reads the toy's table and no other.
    """

    reads: ClassVar[tuple[str, ...]] = ()
    compares: ClassVar[bool] = False
    toy: ClassVar[str | None] = None

    def draw(self, tables: Any, *, settings: Any) -> matplotlib.figure.Figure:
        """Return the picture.

        Args:
            tables: Kind of table -> table, for the kinds that `reads` names, or for the name of the toy. A list of
                these, one for each run, where it `compares`.
            settings: What `sgdline.figures.plot_figure` says of a run or a toy; a list where it `compares`.
        """
        raise NotImplementedError(f"{type(self).__name__} must define draw(self, tables, *, settings)")


def own_spec(entry: str) -> FigureSpec:
    """Return what a figure that an entry names says about itself.

    Args:
        entry: folder/file.py:Name or package.module:Name.

    Raises:
        EntryError: If the entry names no figure that can be drawn.
    """
    figure, subject = _declared(entry), f"The figure {entry!r}"
    if figure.draw is Figure.draw:
        raise EntryError("must define draw(self, tables, *, settings), got none. Define it.", subject=subject)
    needed = [field.name for field in fields(figure) if field.default is field.default_factory is MISSING]
    if needed:
        rule = f"must have a default for every option, got none for {needed[0]}. A figure gets no options: give it one."
        raise EntryError(rule, subject=subject)
    reads = figure.reads
    if not are_texts(reads):
        rule = f'must read a tuple of kinds of tables, got {reads!r}. Write it as reads: ClassVar = ("trace",).'
        raise EntryError(rule, subject=subject)
    toy: object = figure.toy
    if not isinstance(toy, str | None):
        rule = f"must name the toy that it draws, or its entry, in a text, got {toy!r}. Write it in quotes."
        raise EntryError(rule, subject=subject)
    if figure.toy is not None and (reads or figure.compares):
        rule = "must draw either a toy or runs, got both. Leave out reads and compares, or toy."
        raise EntryError(rule, subject=subject)
    if figure.toy is None and not reads:
        rule = 'must read at least one table, got none. Write for example reads: ClassVar = ("trace",).'
        raise EntryError(rule, subject=subject)
    return FigureSpec(
        id=entry,
        title=label(entry),
        tables=reads if figure.toy is None else (label(figure.toy),),
        probes=reads,
        compares=figure.compares,
        toy=figure.toy,
    )


def own_caption(entry: str) -> str:
    """Return the caption of a figure that an entry names: the docstring of its class, or else of its file."""
    figure = _declared(entry)
    written = figure.__doc__ or ""
    if written.startswith(f"{figure.__name__}("):  # dataclasses write the signature where there is none
        written = sys.modules[figure.__module__].__doc__ or figure.__name__
    return inspect.cleandoc(written)


def draw_own(entry: str, tables: Any, *, settings: Any) -> Any:
    """Return what the method `draw` of a figure that an entry names returns."""
    figure = _declared(entry)()
    with working_directory_importable(entry):  # it may import modules beside its file while it draws
        return figure.draw(tables, settings=settings)


def figures_named(config: Any) -> Iterator[tuple[KeyPath, str]]:
    """Yield the figures that a configuration names, each with its place; what has another form is passed over."""
    for section in ("experiments", "toys"):
        for name, block in _blocks(config, section):
            listed = block.get("figures")
            for place, figure in enumerate(listed if isinstance(listed, list | tuple) else ()):
                if isinstance(figure, str):
                    yield (section, name, "figures", Index(place)), figure
    for name, block in _blocks(config, "comparisons"):
        if isinstance(block.get("figure"), str):
            yield ("comparisons", name, "figure"), block["figure"]


def _blocks(config: Any, section: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    blocks = config.get(section)
    for name, block in blocks.items() if isinstance(blocks, Mapping) else ():
        if isinstance(block, Mapping):
            yield name, block


def own_specs(config: Any) -> dict[str, FigureSpec]:
    """Return the figures that a checked configuration names by entry, by their entries.

    Raises:
        EntryError: If one of them can no longer be imported.
    """
    return {figure: own_spec(figure) for _, figure in figures_named(config) if is_entry(figure)}


def _declared(entry: str) -> type[Figure]:
    return cast(type[Figure], declared_at(entry, Figure, words="figure"))
