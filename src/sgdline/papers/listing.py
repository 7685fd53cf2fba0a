"""Which figures there are, and which configurations draw them (no matplotlib, no pyarrow)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sgdline.declare.registry import names
from sgdline.declare.walker import load_yaml
from sgdline.errors import SgdlineError
from sgdline.papers.asked import asked, figures_named
from sgdline.papers.base import figures_of, papers


def listing(paper: str | None, *, folder: str | Path = "config") -> str:
    """Return a table: the figures of papers and the kinds of figures, and which files of a folder draw each.

    Args:
        paper: Whose figures; those of all papers, and the kinds, if None.
        folder: With configurations, in folders below it as well; one that does not exist draws nothing.

    Raises:
        SgdlineError: If there is no such paper.
    """
    if paper is not None and paper not in papers():
        raise SgdlineError(f"PAPER must be one of {', '.join(papers())}, got {paper!r}. Correct it, or leave it out.")
    drawn = _drawn(Path(folder))
    rows = [("figure", "kind", "drawn by")]
    for name in papers() if paper is None else [paper]:
        for figure, of_paper in figures_of(name).items():
            shown = {key: value for key, value in of_paper.options.items() if key not in ("title", "marks")}
            options = ", ".join(f"{key} {value}" for key, value in shown.items())
            kind = f"{of_paper.kind} ({options})" if options else of_paper.kind
            rows.append((f"{name}/{figure}", kind, ", ".join(drawn.get(f"{name}/{figure}", [])) or "-"))
    if paper is None:
        rows += [(kind, _subject(kind), ", ".join(drawn.get(kind, [])) or "-") for kind in names("figure")]
    widths = [max(len(row[place]) for row in rows) for place in (0, 1)]
    return "\n".join(f"{row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]}" for row in rows)


def _subject(kind: str) -> str:
    figure = asked(kind).figure
    words = {"run": "a run", "comparison": "runs compared", "toy": f"the toy {figure.toy}"}
    return f"by itself, of {words[figure.subject]}"


def _drawn(folder: Path) -> dict[str, list[str]]:
    """Return the files that draw a figure, by its name."""
    found: dict[str, list[str]] = {}
    for file in sorted(folder.rglob("*.yaml")):
        for name in dict.fromkeys(_named(file)):
            found.setdefault(name, []).append(file.relative_to(folder).as_posix())
    return found


def _named(file: Path) -> Iterator[str]:
    try:
        blocks = load_yaml(file.read_text(encoding="utf-8"))
    except Exception as error:
        raise SgdlineError(f"{file} must be readable YAML, got {error}. Correct it.") from error
    for _, figure in figures_named(blocks if isinstance(blocks, dict) else {}):
        name = figure if isinstance(figure, str) else figure.get("name")
        if isinstance(name, str):
            yield name
