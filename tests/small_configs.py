"""Parts of a configuration: who changes one entry of it checks what this entry has to do with, not all the rest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

_OTHERS = 4  # experiments, for a change that has to do with all of them


def part_of(config: Mapping[str, Any], paths: Iterable[tuple[Any, ...]]) -> dict[str, Any]:
    """Keep the experiments that entries at these paths have to do with, and comparisons of them."""
    experiments, comparisons = config["experiments"], config["comparisons"]
    waiting: list[str] = []
    for path in paths:
        kind, name = path[0] if path else None, path[1] if len(path) > 1 else None
        users = [
            each
            for each, block in experiments.items()
            if (kind == "datasets" and name == block["dataset"]) or (kind == "models" and name in block["models"])
        ]
        named = {"experiments": [name], "comparisons": comparisons.get(name, {}).get("experiments", [])}
        waiting += [each for each in named.get(kind, []) if each in experiments] or (users or [*experiments])[:_OTHERS]
    kept: set[str] = set()
    while waiting:
        name = waiting.pop()
        kept.add(name)
        start = experiments[name].get("start_from")
        waiting += [start["experiment"]] if start else []
    small = {
        **config,
        "experiments": {name: block for name, block in experiments.items() if name in kept},
        "comparisons": {name: block for name, block in comparisons.items() if set(block["experiments"]) <= kept},
    }
    if isinstance(config.get("run"), list):
        small["run"] = [name for name in config["run"] if name in kept or name in config["toys"]] or sorted(kept)
    return small
