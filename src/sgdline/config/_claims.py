"""Claims of a configuration: what they must say, and that their experiments make what they read."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any, get_args

from sgdline.claims.base import Relation
from sgdline.config._draft import Draft, sound_entries
from sgdline.config._figures import check_tables
from sgdline.declare.faults import listed, value_words
from sgdline.declare.registry import declaration, label

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
        wrong = _wrong_with(claim)
        if wrong:
            draft.faults.add(("claims", name), wrong)
            continue
        for position, experiment in sound_entries(block.get("experiments"), str):
            check_tables(draft, claim.reads, name, experiment, ("claims", name, "experiments", position))


def _wrong_with(claim: Any) -> str | None:
    """Return what a claim does not say of itself, or says wrongly."""
    options = {field.name for field in fields(claim)}
    missing = [key for key in _SAID if not hasattr(claim, key) and key not in options]
    if missing or not isinstance(claim.reads, tuple):
        what = f"{', '.join(missing)}" if missing else "reads as a tuple of kinds of tables"
        return f"must declare {what}, got a claim without. Add it as a ClassVar."
    relation, relations = claim.__dict__.get("relation", getattr(claim, "relation", None)), get_args(Relation)
    if "relation" not in options and relation not in relations:
        return f"must declare relation as one of {listed(relations)}, got {value_words(relation)}. Correct it."
    threshold = getattr(claim, "threshold", None)
    if "threshold" not in options and "relation" not in options:
        numbers = threshold if relation == "from" else (threshold,)
        count = 2 if relation == "from" else 1
        if not isinstance(numbers, tuple) or len(numbers) != count or not all(map(_is_number, numbers)):
            rule = "two numbers, (lowest, highest)," if relation == "from" else "a number"
            return f"must declare threshold as {rule} with the relation {relation}, got {value_words(threshold)}."
    return None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
