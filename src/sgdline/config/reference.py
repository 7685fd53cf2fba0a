"""The manual's tables and the editors' schema, made from the declarations: `python -m sgdline.config.reference`."""

from __future__ import annotations

from pathlib import Path

from sgdline.config.declarations import Configuration
from sgdline.declare.manual import editor_schema, with_tables
from sgdline.declare.schema import parts_of

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
    return {_MANUAL: with_tables(manual, parts_of(Configuration)), _SCHEMA: editor_schema(Configuration)}


if __name__ == "__main__":
    for file, text in reference_files().items():
        _ROOT.joinpath(file).parent.mkdir(exist_ok=True)
        _ROOT.joinpath(file).write_text(text, encoding="utf-8")
