"""Options of the analysis that go by the number of measured lines."""

from __future__ import annotations

from dataclasses import fields

import pyarrow as pa
import pytest

from sgdline.analysis import by_lines
from sgdline.config.declarations import AnalysisOptions

KEYS = ("smoothing", "distance_first", "distance_every", "fbpal_every")


@pytest.mark.parametrize(
    ("lines", "numbers"),
    [
        (0, (1, 2, 1, 1)),
        (1, (1, 2, 1, 1)),
        (12, (1, 4, 1, 3)),
        (60, (7, 20, 1, 8)),
        (1000, (25, 50, 1, 32)),
        (10_000, (25, 50, 10, 100)),  # the paper's
        (20_000, (25, 50, 20, 141)),
    ],
)
def test_auto_follows_the_number_of_lines(lines: int, numbers: tuple[int, ...]) -> None:
    assert tuple(by_lines.number(key, "auto", lines=lines) for key in KEYS) == numbers
    assert {by_lines.number(key, 33, lines=lines) for key in KEYS} == {33}
    # Windows have a line at their centre, and both panels of the distance matrix have lines to compare.
    assert numbers[0] % 2 == 1
    assert lines < 12 or lines - numbers[1] >= 2


def test_the_defaults_are_auto() -> None:
    declared = {field.name: field.default for field in fields(AnalysisOptions)}
    assert [declared[key] for key in KEYS] == ["auto"] * 4


def test_settings_get_numbers_from_the_lines_of_a_run() -> None:
    lines = pa.table({"step": [0, 0, 3, 3] * 10 + list(range(100, 140))})  # 42 updates, some with several rows
    trace = pa.table({"step": list(range(400))})
    asked = {"smoothing": "auto", "fbpal_every": "auto", "distance_every": 4, "window": 0.2}
    found = by_lines.settled(asked, {"line_fits": lines, "trace": trace})
    assert found == {"smoothing": 5, "fbpal_every": 6, "distance_every": 4, "window": 0.2}
    assert asked["smoothing"] == "auto"
    assert by_lines.settled({"smoothing": "auto"}, {"trace": trace, "evaluation": lines}) == {"smoothing": 25}
    assert by_lines.settled({"smoothing": "auto"}, {"mline_metrics": lines}) == {"smoothing": 1}
