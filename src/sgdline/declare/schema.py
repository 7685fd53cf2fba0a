"""From declarations to JSON schema: for the check of a configuration, for editors and for the manual."""

from __future__ import annotations

import ast
import inspect
import textwrap
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from itertools import pairwise
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from sgdline.declare import registry
from sgdline.declare.vocabulary import (
    Ge,
    Gt,
    Keys,
    Le,
    Lt,
    MaxLen,
    MinLen,
    NameOf,
    OfKind,
    Pattern,
    Shared,
    Unique,
    Words,
)

JsonSchema = dict[str, Any]

_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null"}


def schema_of(declaration: type, *, described: bool = False) -> JsonSchema:
    """Return the JSON schema of a declaration: the one document holds those that it is made of, under `$defs`.

    Args:
        declaration: A frozen dataclass, see `sgdline.declare.vocabulary`.
        described: Take up the meaning of each field; reads sources.

    Returns:
        A schema of draft 2020-12. `x-words`, where given, is what a message says a value must be.

    Raises:
        TypeError: If a field is of a type that no schema is known for.
    """
    definitions: dict[str, JsonSchema] = {}
    whole = _Export(definitions, described=described).record(declaration)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **whole, "$defs": definitions}


def parts_of(declaration: type) -> dict[str, type]:
    """Return a declaration and all that it is made of, by the names of the classes."""
    export = _Export({}, described=False)
    export.record(declaration)
    return {declaration.__name__: declaration, **export.classes}


@cache
def meanings(declaration: type) -> Mapping[str, str]:
    """Return the one line of meaning of each field, from the docstrings below them, those of its bases included."""
    found: dict[str, str] = {}
    for part in reversed(declaration.__mro__):
        if not is_dataclass(part):
            continue
        tree = ast.parse(textwrap.dedent(inspect.getsource(part)))
        body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
        for statement, after in pairwise(body):
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                text = (
                    after.value.value if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) else None
                )
                if isinstance(text, str):
                    found[statement.target.id] = " ".join(text.split())
    return found


@cache
def shared_fields(declaration: type) -> Mapping[str, Shared]:
    """Return the fields that hold the options of another thing, see `sgdline.declare.vocabulary.Shared`."""
    hints = get_type_hints(declaration, include_extras=True)
    marks = {field.name: getattr(hints[field.name], "__metadata__", ()) for field in fields(declaration)}
    return {name: mark for name, found in marks.items() for mark in found if isinstance(mark, Shared)}


class _Export:
    def __init__(self, definitions: dict[str, JsonSchema], *, described: bool) -> None:
        self._definitions = definitions
        self._described = described
        self.classes: dict[str, type] = {}

    def record(self, declaration: type) -> JsonSchema:
        hints = get_type_hints(declaration, include_extras=True)
        said = meanings(declaration) if self._described else {}
        properties: dict[str, JsonSchema] = {}
        for field in fields(declaration):
            if field.name in shared_fields(declaration):
                continue
            part = self.of(hints[field.name])
            if field.name in said:
                part = {**part, "description": said[field.name]}
            default = _default(field)
            properties[field.name] = part if default is MISSING else {**part, "default": as_json(default)}
        required = [name for name, part in properties.items() if "default" not in part]
        whole: JsonSchema = {"type": "object", "additionalProperties": False, "properties": properties}
        if self._described and declaration.__doc__:
            whole["description"] = inspect.cleandoc(declaration.__doc__).partition("\n")[0]
        return {**whole, **({"required": required} if required else {})}

    def of(self, hint: Any) -> JsonSchema:
        if get_origin(hint) is Annotated:
            inner, *marks = get_args(hint)
            kinds = [mark for mark in marks if isinstance(mark, OfKind)]
            if kinds:
                return _marked(self._of_kind(kinds[0]), [mark for mark in marks if mark is not kinds[0]], self.of)
            return _marked(self.of(inner), marks, self.of)
        if hint in _TYPES:
            return {"type": _TYPES[hint]}
        if hint is Any:
            return {}
        origin, arguments = get_origin(hint), get_args(hint)
        if origin is Literal:
            return {"const": arguments[0]} if len(arguments) == 1 else {"enum": list(arguments)}
        if origin in (Union, types.UnionType):
            return self._union(arguments)
        if origin is tuple and len(arguments) == 2 and arguments[1] is ...:
            return {"type": "array", "items": self.of(arguments[0])}
        if origin is tuple and len(set(arguments)) == 1:
            count = len(arguments)
            return {"type": "array", "items": self.of(arguments[0]), "minItems": count, "maxItems": count}
        if origin is dict and arguments[0] is str:
            others = self.of(arguments[1])
            return {"type": "object", **({"additionalProperties": others} if others else {})}
        if isinstance(hint, type) and is_dataclass(hint):
            return self._reference(hint)
        raise TypeError(f"A declaration's field must be of a type that sgdline.declare knows, got {hint!r}.")

    def _union(self, arguments: tuple[Any, ...]) -> JsonSchema:
        branches = [self.of(argument) for argument in arguments]
        if {"type": "number"} in branches:  # every whole number is one
            branches = [branch for branch in branches if branch != {"type": "integer"}]
        nullable = {"type": "null"} in branches
        others = [branch for branch in branches if branch != {"type": "null"}]
        if nullable and len(others) == 1 and others[0].get("type") in ("integer", "number", "string", "boolean"):
            return {**others[0], "type": [others[0]["type"], "null"]}
        if nullable and len(others) == 1 and others[0].keys() <= {"enum", "const"}:
            return {"enum": [None, *others[0].get("enum", [others[0].get("const")])]}
        if len(others) == 1 and not nullable:
            return others[0]
        return {"oneOf": [*([{"type": "null"}] if nullable else []), *others]}

    def _of_kind(self, mark: OfKind) -> JsonSchema:
        known = {name: registry.declaration(mark.kind, name) for name in registry.names(mark.kind) if not mark.own}
        if mark.tag is None:
            parts = {name: self._reference(found) for name, found in known.items()}
            return {
                "type": "object",
                "x-kind": mark.kind,
                "additionalProperties": False,
                "properties": parts,
                "patternProperties": {":": {"type": "object"}},  # entries, which no file of ours knows
            }
        if mark.kind not in self._definitions:  # several blocks may hold things of one kind
            self._definitions[mark.kind] = {}
            self._definitions[mark.kind] = self._variants(mark, known)
        return {"$ref": f"#/$defs/{mark.kind}"}

    def _variants(self, mark: OfKind, known: Mapping[str, type]) -> JsonSchema:
        references = {name: self._reference(found) for name, found in known.items()}
        for name, reference in references.items():
            block = self._definitions[reference["$ref"].rpartition("/")[2]]
            if mark.tag in block["properties"]:
                continue  # this variant has been used before
            block["properties"] = {mark.tag: {"const": name}, **block["properties"]}
            if mark.default != name:
                block["required"] = [mark.tag, *block.get("required", [])]
        entry = {"type": "object", "properties": {mark.tag: {"type": "string", "pattern": ":"}}, "required": [mark.tag]}
        default = {} if mark.default is None else {"x-default": mark.default}
        return {"oneOf": [*references.values(), entry], "x-kind": mark.kind, "x-tag": mark.tag, **default}

    def _reference(self, declaration: type) -> JsonSchema:
        name = declaration.__name__
        while self.classes.get(name, declaration) is not declaration:
            name += "_"  # another one of that name
        if name not in self._definitions:
            self.classes[name] = declaration
            self._definitions[name] = {}  # a declaration that holds itself ends here
            self._definitions[name] = self.record(declaration)
        return {"$ref": f"#/$defs/{name}"}


def _marked(schema: JsonSchema, marks: list[Any], of: Callable[[Any], JsonSchema]) -> JsonSchema:
    found = dict(schema)
    listed = found.get("type") == "array"
    for mark in marks:
        match mark:
            case Ge(ge=bound):
                found["minimum"] = bound
            case Gt(gt=bound):
                found["exclusiveMinimum"] = bound
            case Le(le=bound):
                found["maximum"] = bound
            case Lt(lt=bound):
                found["exclusiveMaximum"] = bound
            case MinLen(min_length=least):
                found["minItems" if listed else "minProperties" if found.get("type") == "object" else "minLength"] = (
                    least
                )
            case MaxLen(max_length=most):
                found["maxItems" if listed else "maxLength"] = most
            case Unique():
                found["uniqueItems"] = True
            case Pattern(expression=expression):
                found["pattern"] = expression
            case Words(text=text):
                found["x-words"] = text
            case NameOf(section=section, one=one, many=many):
                found["x-names"], found["x-called"], found["x-words"] = section, many, f"the name of {one}"
            case Keys(of=names):
                found["propertyNames"] = of(names)
            case _:
                raise TypeError(f"A declaration's bound must be of sgdline.declare.vocabulary, got {mark!r}.")
    return found


def _default(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def as_json(value: Any, *, complete: bool = False) -> Any:
    """Return a value of a declaration as JSON knows it.

    Args:
        value: A declaration, or what one of its fields may hold.
        complete: Give entries that equal their defaults as well.
    """
    if is_dataclass(value) and not isinstance(value, type):
        entries = {field: getattr(value, field.name) for field in fields(value)}
        kept = {field.name: entry for field, entry in entries.items() if complete or entry != _default(field)}
        return {name: as_json(entry, complete=complete) for name, entry in kept.items()}
    if isinstance(value, tuple | list):
        return [as_json(entry, complete=complete) for entry in value]
    if isinstance(value, Mapping):
        return {key: as_json(entry, complete=complete) for key, entry in value.items()}
    return value
