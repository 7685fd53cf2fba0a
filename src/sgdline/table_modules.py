"""Where kinds of tables are declared (no pyarrow): those of a probe or a toy beside it, all others together."""

from __future__ import annotations

from functools import cache
from pathlib import Path

_ROOT = Path(__file__).parent
# A module `table` has the name of its folder, any other one its own.
_HOMES = ("tables/kinds/[!_]*.py", "probes/*/table.py", "toys/*/table.py")


@cache
def table_modules() -> dict[str, str]:
    """Return the modules of all kinds of tables, below this package, by the names of the kinds, sorted."""
    found = {}
    for home in _HOMES:
        for file in _ROOT.glob(home):
            module = file.relative_to(_ROOT).with_suffix("").parts
            found[module[-2] if module[-1] == "table" else module[-1]] = ".".join(module)
    return dict(sorted(found.items()))
