"""Where kinds of tables are declared: each in a module of its own, beside what makes it (no pyarrow)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

_ROOT = Path(__file__).parent
_HOMES = ("tables/kinds/[!_]*.py", "probes/[!_]*/table.py", "toys/[!_]*/table.py")


@cache
def table_modules() -> Mapping[str, str]:
    """Return the module of each kind of table by the kind's name, sorted."""
    files = [file for home in _HOMES for file in _ROOT.glob(home)]
    named = {file.parent.name if file.stem == "table" else file.stem: file for file in files}
    return {
        name: ".".join(["sgdline", *named[name].relative_to(_ROOT).with_suffix("").parts]) for name in sorted(named)
    }
