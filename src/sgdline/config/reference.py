"""The manual's tables and the editors' schema, made from the declarations: `python -m sgdline.config.reference`."""

from __future__ import annotations

import inspect
import re
import textwrap
from pathlib import Path

from sgdline.analysis.kinds.base import Analysis
from sgdline.config.declarations import Configuration
from sgdline.data.sources.base import Source
from sgdline.declare import registry
from sgdline.declare.faults import name_hint
from sgdline.declare.manual import editor_schema, options_of, with_tables
from sgdline.declare.schema import parts_of
from sgdline.errors import SgdlineError, cause_words
from sgdline.figures.base import Figure, PanelSheet
from sgdline.papers.asked import asked
from sgdline.papers.base import figure_ids

_ROOT = Path(__file__).parents[3]
_MANUAL = Path("config/README.md")
_SCHEMA = Path("workflow/schemas/config.schema.json")


def reference_files(root: str | Path = _ROOT) -> dict[Path, str]:
    """Return the files that follow from the declarations, with what they should hold.

    Args:
        root: A checkout of the project.

    Returns:
        File, relative to the root -> text.
    """
    manual = Path(root, _MANUAL).read_text(encoding="utf-8")
    return {
        _MANUAL: _with_figures(
            with_tables(manual, {**parts_of(Configuration), "Source": Source, "PanelSheet": PanelSheet})
        ),
        _SCHEMA: editor_schema(Configuration),
    }


_FIGURES = re.compile(r"<!-- figures: (\w+) -->\n.*?<!-- end -->", re.DOTALL)


def _with_figures(page: str) -> str:
    """Return a page with its lists of kinds of figures made anew, each between `<!-- figures: subject -->` and end."""
    return _FIGURES.sub(lambda m: f"<!-- figures: {m[1]} -->\n{_figure_rows(m[1])}\n<!-- end -->", page)


def _figure_rows(subject: str) -> str:
    common = {option.key for option in options_of(PanelSheet)}
    rows = []
    for name in registry.names("figure"):
        figure = asked(name).figure
        if figure.subject != subject:
            continue
        said = inspect.cleandoc(type(figure).__doc__ or "").partition("\n")[0].rstrip(".")
        read = [f"`{kind}`" for kind in ([figure.toy] if figure.toy else figure.reads) if kind != "trace"]
        own = [option for option in options_of(type(figure)) if option.key not in common]
        options = [f"`{option.key}` ({option.default}): {option.meaning.rstrip('.')}" for option in own]
        panels = ", ".join(f"`{panel}`" for panel in getattr(figure, "panels", ()))
        rows.append(f"| `{name}` | {said} | {', '.join(read) or '`trace`'} | {panels} | {'; '.join(options) or '-'} |")
    reads = "toy" if subject == "toy" else "reads"
    return "\n".join(
        [f"| name | shows | {reads} | panels | options of its own (default): meaning |", "|---|---|---|---|---|", *rows]
    )


def describe(name: str | None) -> str:
    """Return the options of a thing that declares itself, or all names.

    Args:
        name: Of a thing that declares itself or of a block of the configuration, or an entry; None for the names.

    Raises:
        SgdlineError: If there is no such thing.
    """
    named: dict[str, dict[str, type]] = {
        kind: {name: registry.declaration(kind, name) for name in registry.names(kind)} for kind in registry.KINDS
    }
    parts = parts_of(Configuration).values()
    own = {_block_name(part): part for part in parts if not issubclass(part, registry.Declared)}
    named["block"] = own
    if name is None:
        return "\n".join(f"{kind}: {', '.join(things) or 'none of the package'}" for kind, things in named.items())
    everything = {name: part for things in reversed(named.values()) for name, part in things.items()}
    if name in figure_ids():
        return f"{name}: {figure_ids()[name].kind}\n\n{asked(name).caption}"
    if not registry.is_entry(name) and name not in everything:
        hint = name_hint(name, everything, kind="names")
        rule = "NAME must be that of a thing that declares itself, or of a block of the configuration"
        raise SgdlineError(f"{rule}, got {name!r}. {hint}")
    found = registry.declared_by(name) if registry.is_entry(name) else everything[name]
    try:
        return _described(found)
    except Exception as error:
        if not registry.is_entry(name):
            raise
        rule = f"{name} must declare options of known types, got {cause_words(error)}"
        raise SgdlineError(f"{rule}. Correct its fields.") from error


def _described(found: type[registry.Declared]) -> str:
    lines = [inspect.cleandoc(found.__doc__ or "").partition("\n")[0], ""]
    if issubclass(found, Analysis):
        lines += [f"reads: {', '.join(found.reads)}", f"uses: {', '.join(found.uses) or 'no settings of the run'}"]
    if issubclass(found, Figure):
        what = [f"draws the toy {found.toy}"] if found.toy else [f"reads: {', '.join(found.reads)}"]
        also = [f"also, where they are: {', '.join(found.also)}"] if found.also else []
        uses = [f"uses of analysis: {', '.join(found.uses)}"] if found.uses else []
        panels = [f"panels: {', '.join(found.panels)}"] if issubclass(found, PanelSheet) and found.panels else []
        lines += [*what, *also, *uses, *panels]
    for option in options_of(found):
        default = f"default {option.default}" if option.default else "required"
        lines.append(f"{option.key}: {option.allowed} ({default})")
        lines += textwrap.wrap(option.meaning, 100, initial_indent="    ", subsequent_indent="    ")
    return "\n".join(lines)


def _block_name(part: type) -> str:
    """Return the name of a block as the configuration writes it: LabelNoiseOptions -> label_noise."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", part.__name__.removesuffix("Options")).lower()


if __name__ == "__main__":
    for file, text in reference_files().items():
        _ROOT.joinpath(file).parent.mkdir(exist_ok=True)
        _ROOT.joinpath(file).write_text(text, encoding="utf-8")
