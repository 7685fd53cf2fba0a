"""Claims of a configuration: what they must say, and that their experiments make what they read."""

from __future__ import annotations

import sys
from dataclasses import fields
from functools import partial
from typing import Any, get_args

from sgdline.claims.base import Relation
from sgdline.config._asked import made_soundly
from sgdline.config._draft import Draft, sound_entries
from sgdline.config._figures import check_tables
from sgdline.declare.build import build
from sgdline.declare.faults import listed, value_words
from sgdline.declare.registry import are_texts, declaration, label

_SAID = ("reads", "number", "meaning", "relation", "threshold")


def check_claims(draft: Draft) -> None:
    """Note claims that share a folder or do not say what they are, and experiments that do not make their tables."""
    labels: dict[str, str] = {}
    for name, block in draft.blocks("claims").items():
        twin = labels.setdefault(label(name).casefold(), name)
        if twin != name:
            rule = f"must have another name than {twin} in more than upper and lower case, got {label(name)}."
            draft.faults.add(("claims", name), f"{rule} Rename it.")
        claim: Any = declaration("claim", name)
        wrong = _unsaid(claim)
        if not wrong and not draft.faults.under(("claims", name)):
            claim = made_soundly(partial(build, claim, block), name, ("claims", name), draft.faults)
            wrong = claim and _wrong_with(claim)
        if wrong:
            draft.faults.add(("claims", name), wrong)
        if wrong or claim is None:
            continue
        for position, experiment in sound_entries(block.get("experiments"), str):
            check_tables(draft, claim.reads, name, experiment, ("claims", name, "experiments", position))


def _unsaid(claim: Any) -> str | None:
    """Return what a claim does not say of itself."""
    options = {field.name for field in fields(claim)}
    missing = [key for key in _SAID if not hasattr(claim, key) and (key not in options or key == "reads")]
    if missing:
        return f"must declare {', '.join(missing)}, got a claim without. Add it as a ClassVar."
    kinds = claim.reads
    if not kinds or not are_texts(kinds):
        got = f'got {value_words(kinds)}. Write for example reads: ClassVar = ("trace",).'
        return f"must declare reads as a tuple of kinds of tables, {got}"
    return None


def _wrong_with(claim: Any) -> str | None:
    """Return what a claim with its options says wrongly."""
    for key in ("number", "meaning"):
        if not isinstance(getattr(claim, key), str):
            return f"must declare {key} as a text, got {value_words(getattr(claim, key))}. Correct it."
    relation, threshold = claim.relation, claim.threshold
    if relation not in get_args(Relation):
        return f"must have a relation of {listed(get_args(Relation))}, got {value_words(relation)}. Correct it."
    if relation != "from":
        sound, rule = _is_number(threshold), "a number"
    else:
        sound, rule = isinstance(threshold, tuple) and len(threshold) == 2, "two numbers, (lowest, highest),"
        sound = sound and all(map(_is_number, threshold)) and threshold[0] <= threshold[1]
    if sound:
        return None
    return f"must have {rule} as its threshold with the relation {relation}, got {value_words(threshold)}. Correct it."


def _is_number(value: object) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return abs(value) <= sys.float_info.max
