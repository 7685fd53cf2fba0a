"""What a declaration says of a value beside its type: bounds of `annotated_types`, and a few of our own.

A declaration is a frozen dataclass with keyword-only fields. An attribute docstring below a field is its one line of
meaning. A field is of type `bool`, `int`, `float`, `str`, `Literal`, `tuple[T, ...]`, `dict[str, T]`, another
declaration, or a union of such types; `dict[str, Any]` is a mapping that is left open.
"""

from __future__ import annotations

from dataclasses import dataclass

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen

__all__ = [
    "Ge", "Gt", "Keys", "Le", "Lt", "MaxLen", "MinLen", "NameOf", "OfKind", "Pattern", "Shared", "Unique", "Words",
]  # fmt: skip


@dataclass(frozen=True)
class Unique:
    """No entry of a list comes twice."""


@dataclass(frozen=True)
class Pattern:
    """A text matches a regular expression, somewhere."""

    expression: str


@dataclass(frozen=True)
class Words:
    """What a message says a value must be; made from type and bounds if it is not given."""

    text: str


@dataclass(frozen=True)
class Keys:
    """Names in a mapping are values of a type of text."""

    of: object


@dataclass(frozen=True)
class NameOf:
    """A text is the name of a block in a section of the configuration.

    Attributes:
        section: Key of the section.
        one: What a message calls one of its blocks, with its article.
        many: What a message calls several of them.
    """

    section: str
    one: str
    many: str


@dataclass(frozen=True)
class OfKind:
    """Declarations of one kind (see `sgdline.declare.registry`): a mapping from name to options, or one of them.

    Attributes:
        kind: The kind.
        tag: The key of a block that says which one it is of; None for a mapping whose keys are the names.
        default: The one that a block without the tag is of; None if the tag must be given.
        own: Whether only entries, things of the user's, may be named.
    """

    kind: str
    tag: str | None = None
    default: str | None = None
    own: bool = False


@dataclass(frozen=True)
class Shared:
    """A field that is no entry of its block: a job finds there the options of the same kind's thing of that name.

    Attributes:
        without: Entries that it does not take over; they keep their defaults.
    """

    without: tuple[str, ...] = ()
