"""From tables to pictures: one module per figure, found by its file.

A figure ``paper/name`` lives in ``sgdline/figures/paper/name.py`` and holds

- ``SPEC``, a `FigureSpec`: which tables of a run it reads, or which toy it draws;
- ``draw(tables, *, settings)``, which returns a matplotlib figure. Where the spec says `compares`, both are lists with
  one entry per run.

A figure of the user's is named by an entry, see `sgdline.figures.base.Figure`; it works wherever an id does.

Reading names and specs imports no matplotlib, so that a workflow can ask for all of them at its start.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sgdline.declare.registry import is_entry
from sgdline.errors import SgdlineError
from sgdline.figures.base import draw_own, own_spec, own_specs
from sgdline.figures.spec import FigureSpec

if TYPE_CHECKING:
    from types import ModuleType

    import pyarrow as pa
    from matplotlib.figure import Figure

__all__ = ["FigureSpec", "available", "plot_comparison", "plot_figure", "spec", "specs", "tables_by_run"]

_ROOT = Path(__file__).parent

# Fixed, and without a date: equal tables give equal bytes.
_PDF_FACTS = {"Creator": "sgdline", "Producer": "sgdline", "CreationDate": None, "ModDate": None}
_PNG_FACTS = {"Software": "sgdline"}
_PNG_DPI = 200


def available() -> list[str]:
    """Return the ids of all figures, sorted, by their files; files that begin with ``_`` are shared helpers."""
    return list(_available())


@cache  # asked for once per figure at every start of a workflow
def _available() -> tuple[str, ...]:
    files = (file for file in _ROOT.glob("[!_]*/*.py") if not file.name.startswith("_"))
    return tuple(sorted(f"{file.parent.name}/{file.stem}" for file in files))


def spec(figure_id: str) -> FigureSpec:
    """Return what a figure says about itself, without importing matplotlib.

    Args:
        figure_id: One of `available()`, or the entry of a figure of the user's.

    Raises:
        SgdlineError: If there is no such figure; the message names the nearest one.
    """
    if is_entry(figure_id):
        return own_spec(figure_id)
    found = _module(figure_id).SPEC
    if not isinstance(found, FigureSpec) or found.id != figure_id:
        raise TypeError(f"SPEC of figure {figure_id!r} must be a FigureSpec of that id, got {found!r}")
    return found


def specs(config: Mapping[str, Any]) -> dict[str, FigureSpec]:
    """Return all figures by their ids: the package's, and those that a configuration names by entry.

    Args:
        config: A checked configuration.

    Raises:
        EntryError: If a figure of the user's can no longer be imported.
    """
    return package_specs() | own_specs(config)


def package_specs() -> dict[str, FigureSpec]:
    """Return all figures of the package by their ids."""
    return {figure: spec(figure) for figure in available()}


def plot_figure(
    figure_id: str,
    tables: Mapping[str, str | Path],
    *,
    settings: Mapping[str, Any],
    pdf: str | Path,
    png: str | Path,
) -> None:
    """Read the tables of a run or of a toy, draw one figure and put its PDF and PNG in place.

    Args:
        figure_id: One of `available()`, or the entry of a figure of the user's.
        tables: Kind of table -> file; at least the kinds that the figure's spec names; optional ones may be left out.
        settings: The run: experiment, dataset, model, lr, batch_size, seed, steps, the config blocks
            `optimizer`, `schedule` and `start_from`, and of the blocks `analysis` and `probes` the entries that the
            figure's spec names. Or the toy: its name as `toy`, and its settings.
        pdf: Vector picture to write.
        png: The same picture as pixels, 200 dpi.

    Raises:
        SgdlineError: If the figure is unknown, a table is missing or damaged, or a figure of the user's draws nothing.
        ValueError: If `tables` lacks a kind that the figure reads.
    """
    _plot(figure_id, _read(figure_id, tables), settings=settings, pdf=pdf, png=png)


def plot_comparison(
    figure_id: str,
    tables: Sequence[Mapping[str, str | Path]],
    *,
    settings: Sequence[Mapping[str, Any]],
    pdf: str | Path,
    png: str | Path,
) -> None:
    """Read the tables of several runs, draw one figure that compares them and put its PDF and PNG in place.

    Args:
        figure_id: As for `plot_figure`; its spec says `compares`.
        tables: As for `plot_figure`, one mapping per run.
        settings: As for `plot_figure`, one mapping per run.
        pdf: As for `plot_figure`.
        png: As for `plot_figure`.

    Raises:
        SgdlineError: As for `plot_figure`.
        ValueError: As for `plot_figure`.
    """
    _plot(figure_id, [_read(figure_id, own) for own in tables], settings=settings, pdf=pdf, png=png)


def tables_by_run(figure_id: str, tables: Mapping[str, Sequence[str | Path]]) -> list[dict[str, str | Path]]:
    """Return the files of each run, as `plot_comparison` wants them, from lists by kind.

    Tables of one run lie in one folder. Every run has those that the figure needs; some may have its optional ones.

    Args:
        figure_id: As for `plot_figure`; its spec says `compares`.
        tables: Kind of table -> files, in the order of the runs; at least the kinds that the figure's spec names.
    """
    folders = [Path(path).parent for path in tables[spec(figure_id).tables[0]]]
    by_folder = {kind: {Path(path).parent: path for path in paths} for kind, paths in tables.items()}
    return [{kind: paths[folder] for kind, paths in by_folder.items() if folder in paths} for folder in folders]


def _read(figure_id: str, tables: Mapping[str, str | Path]) -> dict[str, pa.Table]:
    # Imported lazily: naming and listing figures must stay free of pyarrow's and matplotlib's import time.
    from sgdline.tables import kind_at, read_table

    entry = spec(figure_id)
    missing = [kind for kind in entry.tables if kind not in tables]
    if missing:
        raise ValueError(f"tables of figure {figure_id!r} must hold {list(entry.tables)}, got none for {missing}")
    wanted = [*entry.tables, *(kind for kind in entry.optional_tables if kind in tables)]
    # Sample losses can be larger than the memory, and no figure draws them as they are.
    kinds = [kind_at(tables[name], name) for name in wanted]
    columns = {kind.name: [name for name in kind.schema.names if name != "sample_loss"] for kind in kinds}
    return {kind.name: read_table(tables[kind.name], kind, columns=columns[kind.name]) for kind in kinds}


def _plot(figure_id: str, tables: Any, *, settings: Any, pdf: str | Path, png: str | Path) -> None:
    from matplotlib.figure import Figure as Picture

    from sgdline.figures import style

    draw: Callable[..., Figure] = partial(draw_own, figure_id) if is_entry(figure_id) else _module(figure_id).draw
    with style.applied():
        figure = draw(tables, settings=settings)
        if not isinstance(figure, Picture):
            raise SgdlineError(
                f"draw of {figure_id} must return a matplotlib Figure, got {type(figure).__name__}. Return the figure."
            )
        try:
            style.settle(figure)
            _save(figure, Path(pdf), Path(png))
        finally:
            figure.clear()


def _module(figure_id: str) -> ModuleType:
    names = available()
    if figure_id not in names:
        import difflib

        nearest = difflib.get_close_matches(figure_id, names, n=1, cutoff=0.0)
        raise SgdlineError(
            f"figures must be names of known figures, got {figure_id!r}. The nearest name is {nearest[0]!r}."
        )
    return importlib.import_module(f"{__name__}.{figure_id.replace('/', '.')}")


def _save(figure: Figure, pdf: Path, png: Path) -> None:
    """Write both pictures beside their targets and move them only when both are whole."""
    kinds: list[tuple[Path, dict[str, Any]]] = [
        (pdf, {"format": "pdf", "metadata": _PDF_FACTS}),
        (png, {"format": "png", "metadata": _PNG_FACTS, "dpi": _PNG_DPI}),
    ]
    unfinished = [target.with_name(target.name + ".writing") for target, _ in kinds]
    try:
        for (target, options), beside in zip(kinds, unfinished, strict=True):
            target.parent.mkdir(parents=True, exist_ok=True)
            figure.savefig(beside, **options)
        for (target, _), beside in zip(kinds, unfinished, strict=True):
            beside.replace(target)
    finally:
        for beside in unfinished:
            beside.unlink(missing_ok=True)
