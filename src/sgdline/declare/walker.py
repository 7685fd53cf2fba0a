"""Walk a value along the JSON schema: fill in defaults and note every fault in plain words.

It understands what `sgdline.declare.schema` exports; the tests compare the verdicts with those of the jsonschema
package. Three rules are stricter than JSON schema, because YAML is looser than JSON:
a whole number must not be written as a float, numbers must be finite, and texts hold no control characters.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sgdline.declare.faults import (
    Faults,
    Index,
    KeyPath,
    listed,
    literal_words,
    name_hint,
    nearest,
    number_hint,
    value_words,
)
from sgdline.declare.registry import KINDS, declaration, is_entry
from sgdline.declare.schema import schema_of
from sgdline.entries import EntryError
from sgdline.errors import cause_words
from sgdline.extras import extra_packages

with extra_packages():
    import yaml

Schema = Mapping[str, Any]

# The loader in C is eight times as fast; not every build of PyYAML has it.
SAFE_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_LARGEST_INTEGER = 2**63 - 1  # what tables and seeds can hold
_DEEPEST = 20  # levels inside a free mapping such as kwargs
_MOST_LISTED = 20  # names of a tagged union in a message
_MOST_ENTRIES = 10_000  # in one; a few lines of YAML with aliases can stand for more than any memory
_TYPE_WORDS = {
    "object": "a mapping (key: value)",
    "array": "a list",
    "string": "a text",
    "boolean": "true or false",
    "integer": "a whole number",
    "number": "a number",
    "null": "null",
}
# Keys whose meaning is often guessed wrong; told with every fault at such a key.
_KEY_HINTS = {
    "interval": "It is a half-width around 0: 0.5 measures from -0.5 to 0.5.",
    "window": "It is a half-width around 0: 0.2 compares lines from -0.2 to 0.2.",
}


def load_yaml(text: str) -> Any:
    """Return what YAML reads in a text: plain values, lists and mappings only."""
    return yaml.load(text, Loader=SAFE_LOADER)  # a safe loader


@dataclass(frozen=True)
class _Variants:
    """What a block with a tag is, and what it might have been.

    Attributes:
        chosen: The variant that it is of.
        others: Schemas of the other variants, by their names.
        key: The tag.
    """

    chosen: str
    others: Mapping[str, Schema]
    key: str

    def having(self, key: Any) -> str:
        """Return which other variants have a key that this one has not, in words, unless they are many or none."""
        having = [name for name, branch in self.others.items() if key in branch["properties"]]
        return f"It is an option of {listed(having)}." if 1 <= len(having) <= 3 else ""


class Walker:
    """Fills in and checks values against one schema document; faults go to `faults`.

    What is at fault is left out of the result (in a list: replaced by None), so that later checks see only sound
    values.
    """

    def __init__(
        self,
        document: Schema,
        faults: Faults,
        *,
        names: Mapping[str, Collection[str]] | None = None,
        own: str | None = None,
    ) -> None:
        """Take the schema.

        Args:
            document: The whole of it.
            faults: Takes the faults.
            names: Section of the configuration -> names of its blocks; those of other sections are not checked.
            own: Entry of the user's declaration that the document is the schema of, whose defaults may be at fault.
        """
        self._document = document
        self._faults = faults
        self._names = names or {}
        self._own = own
        self._entries_left = 0  # of the free mapping that is being copied

    def walk(self, value: Any, schema: Schema, path: KeyPath) -> tuple[bool, Any]:
        """Return whether `value` has the right shape, and the value with its defaults filled in."""
        schema = self._dereferenced(schema)
        if "oneOf" in schema:
            if "x-tag" in schema and isinstance(value, Mapping):
                return self._walk_variant(value, schema, path)
            fitting = [branch for branch in map(self._dereferenced, schema["oneOf"]) if _fits_kind(value, branch)]
            if len(fitting) == 1:
                return self.walk(value, fitting[0], path)
            return self._refuse(value, schema, path)
        if not _fits_kind(value, schema):
            return self._refuse(value, schema, path)
        if isinstance(value, Mapping):
            return True, self._walk_mapping(value, schema, path)
        if isinstance(value, list | tuple):
            return self._walk_list(list(value), schema, path)
        if isinstance(value, str):
            return self._check_text(value, schema, path)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return self._check_number(value, schema, path)
        return True, value

    def _walk_variant(
        self, value: Mapping[Any, Any], schema: Schema, path: KeyPath
    ) -> tuple[bool, dict[str, Any] | None]:
        """Walk a tagged union: one key of the mapping says which of several kinds it is."""
        key = schema["x-tag"]
        branches = map(self._dereferenced, schema["oneOf"])
        known = {
            branch["properties"][key]["const"]: branch for branch in branches if "const" in branch["properties"][key]
        }
        rule = {"enum": list(known), "x-kind": schema["x-kind"]}
        if len(known) > _MOST_LISTED:
            rule["x-words"] = f"the name of a {KINDS[schema['x-kind']].words} that sgdline describe lists, or an entry"
        chosen = value.get(key, schema.get("x-default"))
        if chosen is None and key not in value:
            self._faults.add((*path, key), f"is missing. It must be {self._words(rule)}.")
        elif is_entry(chosen):
            return self._walk_entry(value, schema["x-kind"], chosen, path, key)
        elif not _fits_kind(chosen, rule):
            self._refuse(chosen, rule, (*path, key))
        else:
            others = _Variants(chosen, {name: branch for name, branch in known.items() if name != chosen}, key)
            return True, self._walk_mapping({key: chosen, **value}, known[chosen], path, others=others)
        return False, None

    def _is_tag(self, value: Any, schema: Schema) -> bool:
        """Return whether a value is the name of a variant of a tagged union, or an entry."""
        tags = [self._dereferenced(branch)["properties"][schema["x-tag"]] for branch in schema["oneOf"]]
        return is_entry(value) or value in [tag["const"] for tag in tags if "const" in tag]

    def _walk_entry(
        self, value: Any, kind: str, entry: str, path: KeyPath, key: str | None
    ) -> tuple[bool, dict[str, Any] | None]:
        """Walk the block of a thing of the user's, along the schema of its own declaration."""
        here = path if key is None else (*path, key)
        try:
            schema = schema_of(declaration(kind, entry))
            json.dumps(schema)  # defaults too: they go into the params of jobs
        except EntryError as error:
            self._faults.add(here, error.rule)
            return False, None
        except Exception as error:  # what an annotation or a default of the user's can raise is open
            got = f"{value_words(entry)}: {cause_words(error)}"
            self._faults.add(here, f"must declare options of known types, got {got}. Correct its fields.")
            return False, None
        if key is not None and key in schema["properties"]:
            self._faults.add(
                here, f"must not declare an option called {key}, which names the thing. Rename the option."
            )
            return False, None
        if key is not None:
            schema = {**schema, "properties": {key: {"type": "string"}, **schema["properties"]}}
        return Walker(schema, self._faults, names=self._names, own=entry).walk(value, schema, path)

    def _words(self, schema: Schema) -> str:
        return rule_words(schema, self._document)

    def _dereferenced(self, schema: Schema) -> Schema:
        return dereferenced(schema, self._document)

    def _walk_mapping(
        self, value: Mapping[Any, Any], schema: Schema, path: KeyPath, *, others: _Variants | None = None
    ) -> dict[str, Any]:
        """Walk a mapping; `others` are the variants that it is not, for hints."""
        known = schema.get("properties", {})
        free = schema.get("additionalProperties")
        if free is None and not known:
            return self._copy_free_mapping(value, path)
        resolved: dict[str, Any] = {}
        for key, part in known.items():
            part = self._dereferenced(part)
            if key in value:
                sound, entry = self.walk(value[key], part, (*path, key))
                if sound:
                    resolved[key] = entry
            elif "default" in part:
                resolved[key] = self._default(part, (*path, key))
            elif key in schema.get("required", []):
                self._faults.add((*path, key), f"is missing. It must be {self._words(part)}.")
        for key, raw in value.items():
            if isinstance(key, str) and key in known:
                continue
            if "x-kind" in schema and is_entry(key):
                sound, entry = self._walk_entry(raw, schema["x-kind"], key, (*path, key), None)
                if sound:
                    resolved[key] = entry
                continue
            if not isinstance(free, Mapping):
                if "x-kind" in schema and not known:
                    rule = f"must be an entry, folder/file.py:Name, got {value_words(key)}."
                    self._faults.add((*path, key), f"{rule} {_own_hint(key)}".rstrip())
                    continue
                own = _own_hint(key) if "x-kind" in schema else ""
                fault = f"is not a known key. {own}" if own else self._unknown_key(key, known, others, path)
                self._faults.add((*path, key), fault)
                continue
            self._check_name(key, schema, path)
            sound, entry = self.walk(raw, free, (*path, key))
            if sound and isinstance(key, str):
                resolved[key] = entry
        if len(value) < schema.get("minProperties", 0):
            self._faults.add(path, "must have at least one entry, got an empty mapping.")
        return resolved

    def _default(self, part: Schema, path: KeyPath) -> Any:
        if self._own is None:
            return self.walk(part["default"], part, path)[1]
        found = Faults()
        value = Walker(self._document, found, names=self._names).walk(part["default"], part, path)[1]
        if found.any():
            got = f"got {value_words(part['default'])}, which is not {self._words(part)}"
            self._faults.add(path, f"must have a default that keeps its own rule, {got}. Correct {self._own}.")
        return value

    def _unknown_key(self, key: Any, known: Mapping[str, Schema], others: _Variants | None, path: KeyPath) -> str:
        if others is None:
            return f"is not a known key. {self._key_hint(key, known)}"
        hint = "" if nearest(key, known) else others.having(key)
        if not hint:
            return f"is not a known key of {others.chosen}. {self._key_hint(key, known)}"
        here, named = self._faults.place_of((*path, key)), self._faults.place_of((*path, others.key))
        if here is not None and named is not None and here.source != named.source:
            stays = f"{named} changes {others.key} only, so the block's other keys stay."
            hint += f" {stays} Write it under a new name in {path[0]}."
        return f"is not a known key of {others.chosen}. {hint}"

    def _check_name(self, key: Any, schema: Schema, path: KeyPath) -> None:
        rule = self._dereferenced(schema.get("propertyNames", {}))
        if isinstance(key, str):
            self._check_text(key, rule, (*path, key))
        else:
            self._faults.add(
                (*path, key),
                f"must have {self._words(rule) if rule else 'a text'} as its key, got {value_words(key)}. "
                + _quotes_hint(key),
            )

    def _key_hint(self, key: Any, known: Mapping[str, Schema]) -> str:
        near = nearest(key, known)
        if isinstance(key, str) and (near is None or near.casefold() != key.casefold()):
            home = self._home_of(key, known)
            if home is not None:
                return f"Did you mean '{home}.{key}'? It belongs under {home!r}."
        return name_hint(key, known, kind="keys here")

    def _home_of(self, key: str, known: Mapping[str, Schema]) -> str | None:
        """Return the block below `known` where a key belongs that is on the wrong level."""
        for name, part in known.items():
            block = self._dereferenced(part)
            below = block.get("properties", {})
            if "x-tag" in block:
                variants = [self._dereferenced(branch)["properties"] for branch in block["oneOf"]]
                below = {option: kind for variant in variants for option, kind in variant.items()}
            if key in below:
                return name
            deeper = self._home_of(key, below)
            if deeper is not None:
                return f"{name}.{deeper}"
        return None

    def _copy_free_mapping(self, value: Mapping[Any, Any], path: KeyPath) -> dict[str, Any]:
        self._entries_left = _MOST_ENTRIES
        copied = self._copy_free(value, path, around=())
        if self._entries_left < 0:
            self._faults.add(path, f"must have at most {_MOST_ENTRIES} entries, got more. Shorten it.")
        return copied if isinstance(copied, dict) and self._entries_left >= 0 else {}

    def _copy_free(self, value: Any, path: KeyPath, *, around: tuple[int, ...]) -> Any:
        """Copy a value that the schema leaves open; it still has to fit into JSON, for the tables' metadata."""
        self._entries_left -= 1
        if self._entries_left < 0:
            return None
        # YAML can build a list that contains itself; `around` holds the ids of what encloses the value.
        if id(value) in around or len(around) > _DEEPEST:
            self._faults.add(path, f"must not be nested more than {_DEEPEST} levels deep, got more. Make it flatter.")
            return None
        inside = (*around, id(value)) if isinstance(value, Mapping | list | tuple) else around
        if isinstance(value, Mapping):
            copied = {}
            for key, entry in value.items():
                if not isinstance(key, str):
                    self._faults.add(
                        (*path, key), f"must have a text as its key, got {value_words(key)}. {_quotes_hint(key)}"
                    )
                else:
                    copied[key] = self._copy_free(entry, (*path, key), around=inside)
            return copied
        if isinstance(value, list | tuple):
            return [self._copy_free(entry, (*path, Index(i)), around=inside) for i, entry in enumerate(value)]
        if isinstance(value, float) and not math.isfinite(value):
            self._faults.add(path, f"must be a finite number, got {value_words(value)}.")
        elif isinstance(value, int) and abs(value) > _LARGEST_INTEGER:
            self._faults.add(path, f"must be at most {_LARGEST_INTEGER}, got {value_words(value)}.")
        elif value is not None and not isinstance(value, str | int | float):
            self._faults.add(
                path,
                f"must be a text, a number, true, false, null, a list or a mapping, got {value_words(value)}. "
                + _quotes_hint(value),
            )
            return None
        return value

    def _walk_list(self, value: list[Any], schema: Schema, path: KeyPath) -> tuple[bool, Any]:
        least, most = schema.get("minItems", 0), schema.get("maxItems", math.inf)
        if not least <= len(value) <= most:
            bound = f"at least {least}" if len(value) < least else f"at most {most}"
            entries = "entry" if bound == "at least 1" else "entries"
            self._faults.add(path, f"must have {bound} {entries}, got {len(value) or 'an empty list'}.")
        resolved: list[Any] = []
        for position, entry in enumerate(value):
            sound, item = self.walk(entry, schema.get("items", {}), (*path, Index(position)))
            if sound and schema.get("uniqueItems") and item in resolved:
                self._faults.add(
                    (*path, Index(position)),
                    f"must differ from the entries before it, got {value_words(entry)} twice. Remove one of them.",
                )
            resolved.append(item if sound else None)
        return True, resolved

    def _check_text(self, value: str, schema: Schema, path: KeyPath) -> tuple[bool, Any]:
        if "enum" in schema or "const" in schema:
            return True, value  # _fits_kind has compared it
        if len(value) > schema.get("maxLength", math.inf):
            self._faults.add(path, f"must have at most {schema['maxLength']} characters, got {len(value)}. Shorten it.")
            return False, None
        printable = value.isprintable()
        if printable and len(value) >= schema.get("minLength", 0) and re.search(schema.get("pattern", ""), value):
            return self._check_reference(value, schema, path)
        rule = self._words(schema) if printable else "a text on one line, without control characters"
        mended = re.sub(r"[^A-Za-z0-9_-]+", "_", value).strip("_-")
        fits = "pattern" in schema and bool(mended) and re.search(schema["pattern"], mended)
        hint = f" Did you mean {mended!r}?" if fits else ""
        if not hint and _is_file(value) and ".py:" in rule:
            hint = f" Add a colon and the name: {value}:name."
        self._faults.add(path, f"must be {rule}, got {value_words(value)}.{hint}")
        return False, None

    def _check_reference(self, value: str, schema: Schema, path: KeyPath) -> tuple[bool, Any]:
        """Check a text that names a block of another section, if it does."""
        section = schema.get("x-names")
        known = self._names.get(section) if isinstance(section, str) else None
        if known is None or value in known:
            return True, value
        others = [name for name in known if path[:2] != (section, name)]  # a block does not name itself
        hint = name_hint(value, others, kind=schema["x-called"])
        self._faults.add(path, f"must be {self._words(schema)}, got {value_words(value)}. {hint}")
        return False, None

    def _check_number(self, value: int | float, schema: Schema, path: KeyPath) -> tuple[bool, Any]:
        if "enum" in schema or "const" in schema:
            return True, value
        sound = (
            value >= schema.get("minimum", -math.inf)
            and value <= schema.get("maximum", math.inf)
            and value > schema.get("exclusiveMinimum", -math.inf)
            and value < schema.get("exclusiveMaximum", math.inf)
        )
        if not sound or not math.isfinite(value if isinstance(value, float) else 0.0):
            return self._refuse(value, schema, path)
        if isinstance(value, int) and abs(value) > _LARGEST_INTEGER:
            self._faults.add(path, f"must be at most {_LARGEST_INTEGER}, got {value_words(value)}.")
            return False, None
        # `1` and `1.0` are one number, and so are 0.0 and -0.0: equal settings give equal slices.
        return True, float(value) + 0.0 if schema.get("type") == "number" else value

    def _refuse(self, value: Any, schema: Schema, path: KeyPath) -> tuple[bool, Any]:
        rule, got = self._words(schema), value_words(value)
        kinds = _kinds(schema) | {kind for branch in schema.get("oneOf", []) for kind in _kinds(branch)}
        allowed = [
            entry
            for part in [schema, *schema.get("oneOf", [])]
            for entry in [*part.get("enum", []), *([part["const"]] if "const" in part else [])]
        ]
        place = self._faults.place_of(path)
        on_command_line = place is not None and place.line is None
        hint = _command_line_hint(value, kinds, path) if on_command_line else ""
        if not hint and isinstance(value, str) and kinds & {"integer", "number"}:
            written = number_hint(value, whole="number" not in kinds)
            if written is not None:
                got = f"the text {got}; write {written}"
                if re.search("[eE]", value):
                    hint = "YAML takes a number with an exponent for a text unless it has a dot and a signed exponent."
                else:
                    hint = "Without quotes."
        if not hint and allowed and "x-kind" in schema:
            hint = _own_hint(value)
        if not hint and isinstance(value, str):
            near = nearest(value, [entry for entry in allowed if isinstance(entry, str)])
            hint = f"Did you mean {near!r}?" if near is not None else ""
        if not hint and isinstance(value, float) and value.is_integer() and "integer" in kinds | _kinds_of(allowed):
            hint = f"Write {int(value)}." if abs(value) < 2**63 else ""
        if not hint and "x-tag" in schema and value is None and "x-default" not in schema:
            hint = f"Write its keys below it, {schema['x-tag']} among them."
        if not hint and "x-tag" in schema and self._is_tag(value, schema):
            hint = f"Write {{{schema['x-tag']}: {value}}}."
        if not hint and "array" in kinds and isinstance(value, str | int | float) and not isinstance(value, bool):
            hint = _list_hint(value)
        if not hint and kinds == {"string"}:
            hint = _quotes_hint(value)
        fillable = "object" in kinds and not schema.get("required") and not schema.get("minProperties")
        if not hint and value is None and fillable and path:
            hint = "Write {} to have its defaults, or indent its keys below it."
        if not hint and "propertyNames" in schema and isinstance(value, list) and path:
            hint = f"Give each entry a name: {{a_name: {_flow_words(value)}}}."
        hint = " ".join(part for part in (hint, _KEY_HINTS.get(path[-1], "") if path else "") if part)
        self._faults.add(path, f"must be {rule}, got {got}.{' ' + hint if hint else ''}")
        return False, None


def dereferenced(schema: Schema, document: Schema) -> Schema:
    """Return a part of a schema with what its `$ref` names in the place of it."""
    reference = schema.get("$ref")
    if reference is None:
        return schema
    target: Any = document
    for part in reference.removeprefix("#/").split("/"):
        target = target[part]
    siblings = {key: entry for key, entry in schema.items() if key != "$ref"}
    return {**dereferenced(target, document), **siblings}


def _is_file(value: Any) -> bool:
    return isinstance(value, str) and value.endswith(".py")


def _own_hint(value: Any) -> str:
    """Return how to name a thing of one's own, where its file alone is given in the place of an entry."""
    return f"A thing of your own is named by its file and its class: {value}:Name." if _is_file(value) else ""


def rule_words(schema: Schema, document: Schema) -> str:
    """Return what a value must be, as messages and the manual say it."""
    schema = dereferenced(schema, document)
    if "x-words" in schema:
        return str(schema["x-words"])
    if "const" in schema:
        return literal_words(schema["const"])
    if "enum" in schema:
        allowed = [literal_words(entry) for entry in schema["enum"]]
        return allowed[0] if len(allowed) == 1 else f"one of {listed(allowed)}"
    if "x-tag" in schema:
        return _TYPE_WORDS["object"]
    if "oneOf" in schema:
        return ", or ".join(rule_words(branch, document) for branch in schema["oneOf"])
    words = listed([_TYPE_WORDS[kind] + _bound_words(schema, kind) for kind in sorted(_kinds(schema))])
    if "items" in schema:
        words += f", each entry {rule_words(schema['items'], document)}"
    if schema.get("minLength"):
        words += " that is not empty"
    if "pattern" in schema:
        words += " of the form that config/README.md shows"
    return words


def _kinds(schema: Schema) -> frozenset[str]:
    kind = schema.get("type", [])
    return frozenset([kind] if isinstance(kind, str) else kind)


def _kinds_of(values: list[Any]) -> frozenset[str]:
    return frozenset("integer" for value in values if isinstance(value, int) and not isinstance(value, bool))


def _fits_kind(value: Any, schema: Schema) -> bool:
    """Tell whether a value is of the schema's type, or equals its constant; no bounds are checked."""
    if "x-tag" in schema:
        return isinstance(value, Mapping)
    if "const" in schema or "enum" in schema:
        allowed = schema["enum"] if "enum" in schema else [schema["const"]]
        # Python's 1 == True == 1.0 must not count.
        return any(type(value) is type(entry) and value == entry for entry in allowed)
    kinds = _kinds(schema)
    whole = isinstance(value, int) and not isinstance(value, bool)
    return (
        not kinds
        or ("object" in kinds and isinstance(value, Mapping))
        or ("array" in kinds and isinstance(value, list | tuple))
        or ("string" in kinds and isinstance(value, str))
        or ("boolean" in kinds and isinstance(value, bool))
        or ("integer" in kinds and whole)
        or ("number" in kinds and (whole or isinstance(value, float)))
        or ("null" in kinds and value is None)
    )


def _bound_words(schema: Schema, kind: str) -> str:
    if kind not in ("integer", "number"):
        return ""
    low, above = schema.get("minimum"), schema.get("exclusiveMinimum")
    high, below = schema.get("maximum"), schema.get("exclusiveMaximum")
    if above is not None:
        words = f" above {above}"
    elif low is not None:
        words = f" of at least {low}" if high is None and below is None else f" from {low}"
    else:
        words = ""
    if high is not None:
        words += f" and at most {high}" if above is not None else f" to {high}" if low is not None else f" up to {high}"
    elif below is not None:
        words += f" to below {below}"
    return words


def _quotes_hint(value: Any) -> str:
    if isinstance(value, bool):
        return "YAML reads yes, no, on, off, true and false as truth values; put the word in quotes."
    if value is None:
        return "YAML reads null, ~ and an empty value as nothing; write a text."
    if isinstance(value, Mapping | list | tuple):
        return ""
    return "Put it in quotes if it is meant as a text."


def _command_line_hint(value: Any, kinds: frozenset[str], path: KeyPath) -> str:
    """Return what to write after --config, whose values are read by rules of their own (Snakemake strips quotes)."""
    key = path[0]
    if len(path) > 1 or kinds & {"object"}:
        # What is inside of brackets is a text for Snakemake, numbers and null too.
        return "--config reads it as a text. Write it into a YAML file and add that with --configfile."
    if kinds == {"boolean"}:
        return f"Write --config {key}=True or {key}=False."
    if isinstance(value, bool | int | float):
        written = "read as a truth value" if isinstance(value, bool) else "read as a number"
        if "array" in kinds:
            return f"--config {key}=NAME is {written} if Python knows it as one; write --config {key}='[NAME]'."
        return f"--config {key}=NAME is {written} if Python knows it as one; write --config {key}=./NAME."
    return ""


def _list_hint(value: Any) -> str:
    """Return how to write a single value as a list, if it is plainly one."""
    word = value if isinstance(value, str) else value_words(value)
    if re.fullmatch(r"\[.*[^\]]|\[|[^\[]*\]", word):
        return "Write both brackets, as in [one, two]."
    return f"Write [{word}]." if re.fullmatch(r"[\w./+-][\w./+: -]{0,58}", word) else ""


def _flow_words(entries: list[Any]) -> str:
    """Return the first of some entries on one line, if it is short enough."""
    first = entries[0] if entries and isinstance(entries[0], Mapping) else None
    pairs = [
        f"{key}: {entry}" for key, entry in (first or {}).items() if isinstance(key, str) and isinstance(entry, str)
    ]
    return f"{{{', '.join(pairs)}}}" if first and len(pairs) == len(first) and len(str(pairs)) < 80 else "{...}"
