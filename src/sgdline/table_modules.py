"""Where kinds of tables are declared: each in a module of its own, beside what makes it (no pyarrow)."""

from __future__ import annotations

from functools import cache
from pathlib import Path

_ROOT = Path(__file__).parent
_HOMES = ("tables/kinds/[!_]*.py", "probes/[!_]*/table.py", "toys/[!_]*/table.py")


@cache
def table_modules() -> dict[str, str]:
    """Return the modules of all kinds of tables, below this package, by the names of the kinds, sorted."""
    found = {}
    for home in _HOMES:
        for file in _ROOT.glob(home):
            module = file.relative_to(_ROOT).with_suffix("").parts
            found[module[-2] if module[-1] == "table" else module[-1]] = ".".join(module)
    return dict(sorted(found.items()))
