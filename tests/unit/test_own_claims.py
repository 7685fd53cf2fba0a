"""Claims of the user's in a configuration: what they must say of themselves."""

from __future__ import annotations

from pathlib import Path

import pytest
from judged_runs import a_run, lost_trace

from sgdline.claims.judging.job import Asked
from sgdline.claims.judging.pages import page
from sgdline.claims.judging.verdicts import judge_all
from sgdline.config import ConfigError, resolve_config
from sgdline.declare import registry
from sgdline.errors import SgdlineError

CLAIM = '''
from dataclasses import dataclass
from typing import ClassVar

from sgdline.claims.base import ClaimOptions


@dataclass(frozen=True, kw_only=True)
class Mine(ClaimOptions):
    """A claim."""

    reads: ClassVar = ("trace",)
    number: ClassVar = "the loss at the end"
    meaning: ClassVar = "The loss is small."
    relation: ClassVar = "<"
    threshold: float = 0.5
    """Largest loss."""

    def value(self, tables):
        return 0.0, 1
'''


def faults_of(folder: Path, old: str, new: str, **options: object) -> list[str]:
    assert old in CLAIM
    folder.joinpath("mine.py").write_text(CLAIM.replace(old, new))
    experiment = {
        "dataset": "digits", "models": ["mlp"], "lr": [0.1], "batch_size": [32], "seed": [1], "steps": 4,
    }  # fmt: skip
    config = {
        "datasets": {"digits": {"source": "digits", "train": 100}},
        "models": {"mlp": {"entry": "sgdline.models:mlp"}},
        "experiments": {"a": experiment},
        "claims": {"mine.py:Mine": {"experiments": ["a"], **options}},
    }
    try:
        resolve_config(config)
    except ConfigError as error:
        return [fault.removeprefix("claims['mine.py:Mine'] ") for fault in error.faults]
    return []


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    registry.declaration.cache_clear()
    return tmp_path


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("0.5", "2"),
        ('"<"', '">="'),
        ('relation: ClassVar = "<"\n    threshold: float = 0.5', 'relation: ClassVar = "from"\n    threshold = (0, 1)'),
    ],
)
def test_a_sound_claim_is_accepted(here: Path, old: str, new: str) -> None:
    assert faults_of(here, old, new) == []


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('reads: ClassVar = ("trace",)\n', "\n", "must declare reads, got a claim without."),
        ('("trace",)', '"trace"', "must declare reads as a tuple of kinds of tables, got 'trace'. Write for example"),
        ('("trace",)', "()", "must declare reads as a tuple of kinds of tables, got the list []. Write"),
        ('"the loss at the end"', "5", "must declare number as a text, got 5."),
        ('"<"', '"=="', "must have a relation of <, <=, >, >= or from, got '=='."),
        ('"<"', '"from"', "must have two numbers, (lowest, highest), as its threshold with the relation from, got 0.5"),
        (
            "threshold: float = 0.5",
            'threshold: str = "x"',
            "must have a number as its threshold with the relation <, g",
        ),
        ("threshold: float = 0.5", "threshold: ClassVar = 10**400", "must have a number as its threshold"),
        (
            '"""Largest loss."""',
            "def __post_init__(self):\n        raise ValueError('no')",
            "must take its options with",
        ),
    ],
)
def test_what_a_claim_says_wrongly_is_one_fault(here: Path, old: str, new: str, words: str) -> None:
    [fault] = faults_of(here, old, new)
    assert fault.startswith(words)


def test_a_range_runs_upwards(here: Path) -> None:
    changed = 'relation: ClassVar = "from"\n    threshold = (1, 0)'
    [fault] = faults_of(here, 'relation: ClassVar = "<"\n    threshold: float = 0.5', changed)
    assert fault.startswith("must have two numbers, (lowest, highest), as its threshold")


@pytest.mark.parametrize(
    ("body", "verdict", "reason"),
    [
        ("return 0.0, 1", "undetermined", "the run diverged"),
        ("return 0.0, 1\n    judges_diverged: ClassVar = True", "holds", ""),
        ("return float('nan'), 1\n    judges_diverged: ClassVar = True", "undetermined", "the number does not exist"),
        (
            "from sgdline.claims.base import Value\n        return Value(float('nan'), 0, 'no update')\n"
            "    judges_diverged: ClassVar = True",
            "undetermined",
            "no update",
        ),
    ],
)
def test_a_run_that_diverged_is_judged_if_the_claim_says_so(here: Path, body: str, verdict: str, reason: str) -> None:
    here.joinpath("mine.py").write_text(CLAIM.replace("return 0.0, 1", body))
    asked = Asked(claim="mine.py:Mine", settings={"experiments": ["e"]}, runs=(), toys=())
    judged = asked.judged("own/Mine")
    runs = [a_run({"trace": lost_trace()})]
    [entry] = judge_all(judged.claims, runs, paper=judged.name)
    [claim] = entry.claims
    assert (claim.paper, claim.claim, claim.threshold) == ("own", "Mine", "0.5")
    assert (claim.verdict, claim.reason) == (verdict, reason)
    assert "# The loss is small\n" in page(judged, [entry], runs)


@pytest.mark.parametrize(
    ("returned", "got"),
    [("None", "NoneType"), ("0.5", "float"), ("('low', 1)", "('low', 1)"), ("(0.5,)", "(0.5,)"), ("'ab'", "str")],
)
def test_a_claim_that_returns_no_number_is_named_with_its_file(here: Path, returned: str, got: str) -> None:
    here.joinpath("mine.py").write_text(CLAIM.replace("return 0.0, 1", f"return {returned}"))
    asked = Asked(claim="mine.py:Mine", settings={"experiments": ["e"]}, runs=(), toys=())
    judged = asked.judged("own/Mine")
    with pytest.raises(SgdlineError) as caught:
        judge_all(judged.claims, [a_run({"trace": lost_trace()})], paper=judged.name)
    rule = "value of the claim Mine must return a number and how many rows it rests on"
    assert str(caught.value) == f"{rule}, got {got}. Correct it in {here}/mine.py."


def test_what_a_claim_raises_is_one_sentence_with_its_line(here: Path) -> None:
    text = CLAIM.replace("return 0.0, 1", 'return tables["none"], 1')
    here.joinpath("mine.py").write_text(text)
    line = next(number for number, row in enumerate(text.splitlines(), 1) if '"none"' in row)
    judged = Asked(claim="mine.py:Mine", settings={"experiments": ["e"]}, runs=(), toys=()).judged("own/Mine")
    with pytest.raises(SgdlineError) as caught:
        judge_all(judged.claims, [a_run({"trace": lost_trace()})], paper=judged.name)
    found = f"got KeyError: 'none' (line {line} of mine.py). Correct it."
    assert str(caught.value) == f"value of the claim Mine must not fail, {found}"
