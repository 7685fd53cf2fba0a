"""From declarations to what people and editors read: tables of options, and the JSON schema of a configuration file."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields
from typing import Any

from sgdline.declare import registry
from sgdline.declare.faults import literal_words
from sgdline.declare.schema import JsonSchema, schema_of
from sgdline.declare.walker import dereferenced, rule_words

_OTHERS = re.compile(r"<!-- others: (\w+) -->\n.*?<!-- end -->", re.DOTALL)
_TABLE = re.compile(r"<!-- options: (\w+)(?: beyond (\w+))? -->\n.*?<!-- end -->", re.DOTALL)


@dataclass(frozen=True)
class Option:
    """One key of a block, in words."""

    key: str
    meaning: str
    default: str  # as YAML; empty if the key is required
    allowed: str


def options_of(declaration: type) -> list[Option]:
    """Return the options of a declaration, in its order.

    Args:
        declaration: A frozen dataclass, see `sgdline.declare.vocabulary`.
    """
    document = schema_of(declaration, described=True)
    found = []
    for key, part in document["properties"].items():
        block = dereferenced(part, document)
        whole = "properties" in block or ("additionalProperties" in block and block["type"] == "object")
        allowed = "see below" if whole else rule_words(part, document)
        found.append(
            Option(key, part.get("description", ""), _yaml(part["default"]) if "default" in part else "", allowed)
        )
    return found


def markdown(declaration: type, *, beyond: type | None = None) -> str:
    """Return the options of a declaration as a table.

    Args:
        declaration: A frozen dataclass.
        beyond: Leave out the options that this base of it has as well.
    """
    known = [] if beyond is None else options_of(beyond)
    rows = ["| key | meaning | default | allowed |", "|---|---|---|---|"]
    for option in options_of(declaration):
        if option in known:
            continue
        default = f"`{option.default}`" if option.default else "*required*"
        rows.append(f"| `{option.key}` | {_unstopped(option.meaning)} | {default} | {option.allowed} |")
    return "\n".join(row.replace("\n", " ") for row in rows)


def with_tables(text: str, declarations: Mapping[str, type]) -> str:
    """Return a page with its tables made anew: each is between `<!-- options: Name -->` and `<!-- end -->`.

    Between `<!-- others: kind -->` and `<!-- end -->` are the things of a kind that the page has no table for.
    `<!-- options: Name beyond Base -->` leaves out the options that Base has as well.

    Args:
        text: The page, Markdown.
        declarations: By the name of the class.

    Raises:
        KeyError: If the page names a class that is not among them.
    """
    bare = _OTHERS.sub(lambda m: f"<!-- others: {m[1]} -->\n<!-- end -->", text)
    shown = {m[1] for m in _TABLE.finditer(bare)}

    def made_anew(table: re.Match[str]) -> str:
        name, base = table.groups()
        beyond = None if base is None else declarations[base]
        head = table[0].partition("\n")[0]
        return f"{head}\n{markdown(declarations[name], beyond=beyond)}\n<!-- end -->"

    page = _TABLE.sub(made_anew, bare)
    return _OTHERS.sub(lambda m: f"<!-- others: {m[1]} -->\n{_others(m[1], shown)}<!-- end -->", page)


def _others(kind: str, shown: Collection[str]) -> str:
    """Return sections on the things of a kind whose declarations are not among those shown."""
    known = {name: registry.declaration(kind, name) for name in registry.names(kind)}
    base: Any = registry.base(kind)
    sections: list[str] = []
    found: Any
    for name, found in known.items():
        if found.__name__ in shown:
            continue
        said, own = inspect.cleandoc(found.__doc__ or "").partition("\n")[0], len(fields(found)) > len(fields(base))
        sections.append(f"\n#### {name}\n\n{said}\n" + (f"\n{markdown(found, beyond=base)}\n" if own else ""))
    return "".join([*sections, "\n"] if sections else [])


def editor_schema(declaration: type) -> str:
    """Return the JSON schema for editors; in an overlay no key is required but what says of which kind a block is."""

    def loosened(schema: JsonSchema) -> JsonSchema:
        parts = schema.get("properties", {})
        tags = [key for key in schema.get("required", []) if "const" in parts[key] or parts[key].get("pattern") == ":"]
        kept = {key: entry for key, entry in schema.items() if key not in ("required", "minProperties", "x-words")}
        return {**kept, **({"required": tags} if tags else {})}

    return json.dumps(_mapped(schema_of(declaration, described=True), loosened), indent=2) + "\n"


def _mapped(value: Any, change: Callable[[JsonSchema], JsonSchema]) -> Any:
    if isinstance(value, dict):
        return change({key: _mapped(entry, change) for key, entry in value.items()})
    return [_mapped(entry, change) for entry in value] if isinstance(value, list) else value


def _unstopped(text: str) -> str:
    return text if text.endswith("...") else text.removesuffix(".")


def _yaml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_yaml(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_yaml(entry) for entry in value) + "]"
    if isinstance(value, float):
        text = repr(value)
        return text if "e" not in text or "." in text else text.replace("e", ".0e")
    return literal_words(value)
