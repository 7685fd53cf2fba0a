"""From tables to pictures: one module per kind of figure, found by its file.

A kind of figure declares itself (`sgdline.figures.base.Figure`): which tables it reads, which options it takes, and how
it is drawn. Papers give kinds their ids (`sgdline.papers`); a figure of the user's is named by an entry.

Reading declarations imports no matplotlib, so that a workflow can ask for all of them at its start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sgdline.declare.registry import label
from sgdline.entries import own_faults_named
from sgdline.errors import SgdlineError
from sgdline.extras import extra_packages

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.figure import Figure as Picture

    from sgdline.figures.base import Figure

__all__ = ["plot_comparison", "plot_figure", "tables_by_run"]

# Fixed, and without a date: equal tables give equal bytes.
_PDF_FACTS = {"Creator": "sgdline", "Producer": "sgdline", "CreationDate": None, "ModDate": None}
_PNG_FACTS = {"Software": "sgdline"}
_PNG_DPI = 200


def plot_figure(
    figure: Figure,
    tables: Mapping[str, str | Path],
    *,
    settings: Mapping[str, Any],
    pdf: str | Path,
    png: str | Path,
) -> None:
    """Read the tables of a run or of a toy, draw one figure and put its PDF and PNG in place.

    Args:
        figure: One of a run or of a toy.
        tables: Kind of table -> file; at least the kinds that the figure reads; those of `also` may be left out.
        settings: The run: experiment, dataset, model, lr, batch_size, seed, steps, the config blocks
            `optimizer`, `schedule` and `start_from`, of the block `analysis` the entries that the figure uses, and of
            `probes` those whose tables it reads, at first or second hand. Or the toy: its name as `toy`, and its
            settings.
        pdf: Vector picture to write.
        png: The same picture as pixels, 200 dpi.

    Raises:
        SgdlineError: If a table is missing or damaged, or a figure of the user's draws nothing.
        ValueError: If `tables` lacks a kind that the figure reads.
    """
    read = _read(figure, tables)
    _plot(figure, read, settings=_settled(settings, read), pdf=pdf, png=png)


def plot_comparison(
    figure: Figure,
    tables: Sequence[Mapping[str, str | Path]],
    *,
    settings: Sequence[Mapping[str, Any]],
    pdf: str | Path,
    png: str | Path,
) -> None:
    """Read the tables of several runs, draw one figure that compares them and put its PDF and PNG in place.

    Args:
        figure: One that compares.
        tables: As for `plot_figure`, one mapping per run.
        settings: As for `plot_figure`, one mapping per run.
        pdf: As for `plot_figure`.
        png: As for `plot_figure`.

    Raises:
        SgdlineError: As for `plot_figure`.
        ValueError: As for `plot_figure`.
    """
    read = [_read(figure, own) for own in tables]
    every = [_settled(own, of_run) for own, of_run in zip(settings, read, strict=True)]
    _plot(figure, read, settings=every, pdf=pdf, png=png)


def tables_by_run(figure: Figure, tables: Mapping[str, Sequence[str | Path]]) -> list[dict[str, str | Path]]:
    """Return the files of each run, as `plot_comparison` wants them, from lists by kind.

    Tables of one run lie in one folder. Every run has those that the figure reads; some may have those of `also`.

    Args:
        figure: One that compares.
        tables: Kind of table -> files, in the order of the runs; at least the kinds that the figure reads.
    """
    folders = [Path(path).parent for path in tables[figure.reads[0]]]
    by_folder = {kind: {Path(path).parent: path for path in paths} for kind, paths in tables.items()}
    return [{kind: paths[folder] for kind, paths in by_folder.items() if folder in paths} for folder in folders]


def _read(figure: Figure, tables: Mapping[str, str | Path]) -> dict[str, pa.Table]:
    # Imported lazily: reading declarations must stay free of pyarrow's and matplotlib's import time.
    from sgdline.tables import kind_at, read_table

    needed = figure.reads if figure.toy is None else (label(figure.toy),)
    missing = [kind for kind in needed if kind not in tables]
    if missing:
        raise ValueError(f"tables of {type(figure).__name__} must hold {list(needed)}, got none for {missing}")
    wanted = [*needed, *(kind for kind in figure.also if kind in tables)]
    # Sample losses can be larger than the memory, and no figure draws them as they are.
    kinds = [kind_at(tables[name], name) for name in wanted]
    columns = {kind.name: [name for name in kind.schema.names if name != "sample_loss"] for kind in kinds}
    return {kind.name: read_table(tables[kind.name], kind, columns=columns[kind.name]) for kind in kinds}


def _settled(settings: Mapping[str, Any], tables: Mapping[str, pa.Table]) -> Mapping[str, Any]:
    """Return settings in which the options of `analysis` that go by the number of lines are numbers."""
    from sgdline.analysis.by_lines import settled

    return {**settings, "analysis": settled(settings["analysis"], tables)} if "analysis" in settings else settings


def _plot(figure: Figure, tables: Any, *, settings: Any, pdf: str | Path, png: str | Path) -> None:
    with extra_packages():
        from matplotlib.figure import Figure as Picture

    from sgdline.figures.grammar import style

    with style.applied():
        with own_faults_named(f"draw of {type(figure).__name__}"):
            picture: object = figure.draw(tables, settings=settings)
        if not isinstance(picture, Picture):
            raise SgdlineError(
                f"draw of {type(figure).__name__} must return a matplotlib Figure, got {type(picture).__name__}. "
                "Return the figure."
            )
        _check_length(figure, picture)
        try:
            style.settle(picture)
            _save(picture, Path(pdf), Path(png))
        finally:
            picture.clear()


def _check_length(figure: Figure, picture: Picture) -> None:
    """Refuse a sheet as wide as a column that is longer than a page: nobody can print it."""
    from sgdline.figures.base import PanelSheet
    from sgdline.figures.grammar.sheet import LONGEST

    height = picture.get_figheight()
    if isinstance(figure, PanelSheet) and figure.width == "column" and height > LONGEST + 0.01:
        raise SgdlineError(
            f"width of {type(figure).__name__} must be page where all of its panels are drawn, got column: they are "
            f"{height:.1f} inches long, a page has {LONGEST:g}. Use width: page, or name one panel with panel:."
        )


def _save(figure: Picture, pdf: Path, png: Path) -> None:
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
