"""From the JSON of a job's params to the declaration that was checked at the start of the workflow."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from sgdline.declare.registry import declaration
from sgdline.declare.vocabulary import OfKind

T = TypeVar("T")


def build(declaration: type[T], settings: T | Mapping[str, Any]) -> T:
    """Return a declaration filled with checked settings; what they leave out has its default.

    Args:
        declaration: A frozen dataclass, see `sgdline.declare.vocabulary`.
        settings: What `sgdline.declare.walker` has passed, as JSON gives it back; what is built already stays.

    Raises:
        TypeError: If a setting is unknown, or one without a default is missing.
    """
    if not isinstance(settings, Mapping):
        return settings
    known: Any = declaration
    hints = _hints(known)
    return declaration(**{key: _built(hints.get(key, Any), entry) for key, entry in settings.items()})


@cache
def _hints(declaration: Any) -> dict[str, Any]:
    names = {field.name for field in fields(declaration)}
    return {name: hint for name, hint in get_type_hints(declaration, include_extras=True).items() if name in names}


def build_thing(kind: str, settings: Mapping[str, Any], *, tag: str) -> Any:
    """Return the declaration of the variant that a block names, filled with the block's other settings.

    Args:
        kind: One of `sgdline.declare.registry.KINDS`.
        settings: A block that `sgdline.declare.walker` has passed.
        tag: The key of the block that holds the name.
    """
    others = {key: entry for key, entry in settings.items() if key != tag}
    return build(declaration(kind, settings[tag]), others)


def _built(hint: Any, value: Any) -> Any:
    if get_origin(hint) is Annotated:
        inner, *marks = get_args(hint)
        kinds = [mark for mark in marks if isinstance(mark, OfKind)]
        if kinds and kinds[0].tag is not None and isinstance(value, Mapping):
            return build_thing(kinds[0].kind, {kinds[0].tag: kinds[0].default, **value}, tag=kinds[0].tag)
        if kinds and kinds[0].tag is None:
            return {name: build(declaration(kinds[0].kind, name), block) for name, block in value.items()}
        return _built(inner, value)
    arguments = get_args(hint)
    if get_origin(hint) in (Union, types.UnionType):
        if value is None:
            return None
        if isinstance(value, Mapping | list | tuple):
            kind = dict if isinstance(value, Mapping) else tuple
            fitting = next((argument for argument in arguments if _holds(argument, kind)), Any)
            return _built(fitting, value)
        return value
    if get_origin(hint) is tuple:
        inner = arguments[0]
        return tuple(_built(inner, entry) for entry in value)
    if get_origin(hint) is dict:
        return {key: _built(arguments[1], entry) for key, entry in value.items()}
    if isinstance(hint, type) and is_dataclass(hint):
        return build(hint, value)
    return value


def _holds(hint: Any, kind: type) -> bool:
    hint = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    return get_origin(hint) is kind or (kind is dict and isinstance(hint, type) and is_dataclass(hint))
