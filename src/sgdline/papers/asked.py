"""Figures as a configuration names them: by kind, by an id of a paper, by an entry, alone or with options."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, cast

from sgdline.declare.build import build
from sgdline.declare.faults import ConfigError, Faults, Index, KeyPath, name_hint, value_words
from sgdline.declare.registry import declaration, is_entry, names
from sgdline.declare.schema import schema_of
from sgdline.declare.walker import Walker
from sgdline.entries import EntryError
from sgdline.figures import base
from sgdline.figures.base import Figure
from sgdline.papers.base import PaperFigure, figure_ids
from sgdline.workflow.layout import figure_folder

Named = str | Mapping[str, Any]  # what a configuration holds


@dataclass(frozen=True)
class Asked:
    """A figure that a configuration asks for.

    Attributes:
        named: How the configuration calls it: its kind, its id, or its entry.
        block: `name` of the kind, or the entry, and its options: what a job builds the figure from.
        folder: Of its pictures, below that of all figures.
        caption: What it shows, in words.
        toy_settings: What the settings of the toy that it draws must be.
    """

    named: str
    block: Mapping[str, Any]
    folder: str
    caption: str
    toy_settings: Mapping[str, Any]

    @cached_property
    def figure(self) -> Figure:
        """The figure."""
        return built(self.block)

    @property
    def is_of(self) -> str | None:
        """The paper whose figure it is; None of a kind or an entry."""
        return None if is_entry(self.named) or "/" not in self.named else self.named.partition("/")[0]


def built(block: Mapping[str, Any]) -> Figure:
    """Return a figure.

    Args:
        block: `name` of the kind, or the entry, and its options.

    Raises:
        EntryError: If an entry cannot be imported, or names no figure.
        KeyError: If there is no such kind.
    """
    options = {key: value for key, value in block.items() if key != "name"}
    return cast(Figure, build(declaration("figure", block["name"]), options))


def known() -> list[str]:
    """Return the kinds of figures and the ids of all papers."""
    return [*names("figure"), *figure_ids()]


def asked(named: Named) -> Asked:
    """Return the figure that a configuration names.

    Args:
        named: A kind, an id, an entry, or a mapping with `name`, a kind or an entry, and options.

    Raises:
        EntryError: If an entry cannot be imported, or names no figure.
        KeyError: If there is no such figure.
    """
    return _asked(named if isinstance(named, str) else json.dumps(named))


@cache
def _asked(text: str) -> Asked:
    """Return what `asked` does; takes a mapping as JSON."""
    of_paper = figure_ids().get(text)
    if of_paper is not None:
        wrong = _wrong_with(of_paper)
        if wrong:
            place = f"FIGURES of sgdline/papers/{text.partition('/')[0]}/figures.py"
            rule = f"must be a sound figure of its paper, got {text}: {wrong} Correct it in {place}."
            raise EntryError(rule, subject=f"The figure {text}")
        block: dict[str, Any] = {"name": of_paper.kind, **of_paper.options}
        kind = cast("type[Figure]", declaration("figure", of_paper.kind))
        words = f"{base.caption(kind)}\n\n{inspect.cleandoc(of_paper.caption)}"
        needed = {**kind.toy_settings, **of_paper.toy_settings}
        return Asked(text, block, figure_folder(text), words, needed)
    block = json.loads(text) if text.startswith("{") else {"name": text}
    named = block["name"]
    declared = cast("type[Figure]", declaration("figure", named))
    folder = figure_folder(block.get("called") or named)
    return Asked(named, block, folder, base.caption(declared), declared.toy_settings)


def _wrong_with(of_paper: PaperFigure) -> str | None:
    """Return the first fault of what a paper says of a figure; None of a sound one."""
    if of_paper.kind not in names("figure"):
        hint = name_hint(of_paper.kind, names("figure"), kind="kinds")
        return f"its kind must be the name of a kind of figure, got {value_words(of_paper.kind)}. {hint}"
    declared, faults = cast("type[Figure]", declaration("figure", of_paper.kind)), Faults()
    schema = schema_of(declared)
    _, options = Walker(schema, faults).walk(of_paper.options, schema, ("options",))
    if not faults.any():
        for fault in build(declared, options).faults():
            faults.add(("options", *fault.path), fault.text)
    try:
        faults.raise_if_any()
    except ConfigError as error:
        return error.faults[0]
    return None


def figures_named(config: Any) -> Iterator[tuple[KeyPath, Named]]:
    """Yield the figures that a configuration names, each with its place; what has another form is passed over."""
    for section in ("experiments", "toys"):
        for name, block in _blocks(config, section):
            listed = block.get("figures")
            for place, figure in enumerate(listed if isinstance(listed, list | tuple) else ()):
                if isinstance(figure, str | Mapping):
                    yield (section, name, "figures", Index(place)), figure
    for name, block in _blocks(config, "comparisons"):
        if isinstance(block.get("figure"), str | Mapping):
            yield ("comparisons", name, "figure"), block["figure"]


def _blocks(config: Any, section: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    blocks = config.get(section)
    for name, block in blocks.items() if isinstance(blocks, Mapping) else ():
        if isinstance(block, Mapping):
            yield name, block
