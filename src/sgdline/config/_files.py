"""Faults of configuration files that are gone once they are merged."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import yaml

from sgdline.config._faults import Faults, Index, KeyPath
from sgdline.config._schema import SAFE_LOADER


def check_files(paths: Collection[str | Path]) -> None:
    """Refuse files that say something twice: YAML would take the last without a word.

    Args:
        paths: The YAML files that Snakemake merges; what cannot be read is left to Snakemake.

    Raises:
        ConfigError: If a mapping has a key twice; its text lists all such keys, one line each.
    """
    faults = Faults()
    for path in paths:
        try:
            root = yaml.compose(Path(path).read_text(encoding="utf-8"), Loader=SAFE_LOADER)
        except (OSError, UnicodeDecodeError, yaml.YAMLError):
            continue
        _check_node(root, (), Path(path).name, faults, set())
    faults.raise_if_any()


def _check_node(node: yaml.Node | None, path: KeyPath, file: str, faults: Faults, seen: set[int]) -> None:
    if node is None or id(node) in seen:  # an alias stands for the very node that it names
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for position, entry in enumerate(node.value):
            _check_node(entry, (*path, Index(position)), file, faults, seen)
    elif isinstance(node, yaml.MappingNode):
        lines: dict[tuple[str, str], int] = {}
        for key, entry in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else None
            if name is not None and name != "<<":  # several anchors may be merged
                line = key.start_mark.line + 1
                before = lines.get((key.tag, name))
                lines[key.tag, name] = line
                if before is not None:
                    told = f"lines {before} and {line}" if before != line else f"line {line} twice"
                    faults.add((*path, name), f"must stand once, got it in {told} of {file}. Remove one of them.")
            _check_node(entry, (*path, name), file, faults, seen)
