"""Marks of numbers from elsewhere, in panels and in tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
from drawn_figures import assert_nothing_overlaps, render
from matplotlib.axes import Axes
from matplotlib.cbook import is_math_text
from matplotlib.figure import Figure as Picture

from sgdline.errors import SgdlineError
from sgdline.figures.base import Mark, PanelSheet
from sgdline.figures.grammar.sheet import Panel, draw_sheet
from sgdline.figures.grammar.table import Row, table_panel
from sgdline.papers.base import figure_ids


@dataclass(frozen=True, kw_only=True)
class _Sheet(PanelSheet):
    """Squares and a table."""

    reads: ClassVar[tuple[str, ...]] = ("trace",)
    panels: ClassVar[tuple[str, ...]] = ("squares", "counts", "cubes_N")

    def draw(self, tables: Any, *, settings: Any) -> Picture:
        def squares(axes: Axes) -> Sequence[str]:
            axes.plot(range(4), [value**2 for value in range(4)], label="squares")
            axes.set_ylim(0.0, 10.0)
            return []

        table = table_panel(
            self, "counts", "counts", heads=("model", "lr"), columns=["epoch 1", "epoch 2"],
            rows=[Row(("mlp", "0.1"), ((("3", ""),), (("4", ""),)))],
        )  # fmt: skip
        return draw_sheet(self, [Panel("squares", "squares", squares), table], footer=["a footer"])


def marked(*marks: Mark) -> Picture:
    return _Sheet(marks=marks).draw({}, settings={})


def words(picture: Picture) -> list[str]:
    axes = picture.axes
    return [text.get_text() for panel in axes for text in panel.texts]


def test_marks_are_at_their_numbers_and_change_no_range() -> None:
    picture = marked(
        Mark(panel="squares", value=8.0, text="b"),
        Mark(panel="squares", value=2.0, text="a", source="elsewhere"),
        Mark(panel="squares", value=2.2, text="c"),
        Mark(panel="squares", value=50.0, text="far"),
    )
    panel = picture.axes[0]
    assert panel.get_ylim() == (0.0, 10.0)
    drawn = {float(line.get_ydata()[0]): line.get_label() for line in panel.lines[1:]}
    assert drawn == {8.0: "published", 2.0: "elsewhere", 2.2: "published"}
    assert {"a, c", "b"} <= set(words(picture))
    assert "far" not in words(picture)
    assert any("1 mark outside the y range" in text for text in words(picture))
    assert_nothing_overlaps(picture)


def test_marks_of_a_table_are_rows_of_their_sources() -> None:
    picture = marked(
        Mark(panel="counts", value=0.25, text="epoch 2", source="VGG-11, lr 0.5 [text]"),
        Mark(panel="counts", value=7.0, text="epoch 9", source="VGG-11, lr 0.5 [text]"),
    )
    shown = words(picture)
    assert {"VGG-11", "lr 0.5 [text]", "0.25"} <= set(shown)
    assert "7" not in shown
    assert any("last rows: published" in text for text in shown)


def test_sources_look_different_and_their_words_are_drawn_as_they_are() -> None:
    sources = ["published", "_own", "cost $x^2$ of $\\nosuch$"]
    picture = _Sheet(
        title="5 $ a_b $",
        marks=tuple(
            Mark(panel="squares", value=4.0 + place, text="$\\alpha", source=source)
            for place, source in enumerate(sources)
        ),
    ).draw({}, settings={})
    render(picture)
    lines = picture.axes[0].lines[1:]
    assert len({(line.get_marker(), line.get_color()) for line in lines}) == 3
    [legend] = picture.legends
    drawn = [text.get_text().strip().replace("\\$", "$") for text in legend.get_texts()]
    assert drawn == ["squares", *sources]
    assert not any(is_math_text(text.get_text()) for text in [*legend.get_texts(), *picture.texts])


def test_a_panel_without_data_says_so_and_so_do_marks_that_are_not_drawn() -> None:
    alone = _Sheet(panel="cubes_2").draw({}, settings={})
    assert [words(alone), len(alone.axes)] == [["there are no data for this\npanel"], 1]
    mixed = marked(Mark(panel="cubes_1", value=1.0), Mark(panel="counts", value=1.0, text="epoch 3"))
    assert any("1 mark of panels without data" in text.get_text() for text in mixed.texts)
    assert any("1 mark of no column here" in text for text in words(mixed))


def test_a_panel_that_is_not_declared_is_not_drawn() -> None:
    class Other(_Sheet):
        panels: ClassVar[tuple[str, ...]] = ("squares",)

    with pytest.raises(SgdlineError, match=r"panels of Other must name every panel .* got squares without 'counts'\."):
        Other().draw({}, settings={})


def test_published_numbers_are_marks_of_their_figures() -> None:
    ends = figure_ids()["sparse/fig_1d_regression"].options["marks"]
    assert [(mark["panel"], mark["value"], mark["text"]) for mark in ends] == [
        ("train_loss", pytest.approx(2.086e-4, rel=0.01), "2 %"),
        ("train_loss", pytest.approx(1.69e-4, rel=0.01), "50 %"),
        ("rank", 85, "2 %"), ("rank", 19, "50 %"),
        ("sparsity_1", pytest.approx(22.0), "2 %"), ("sparsity_1", pytest.approx(6.0), "50 %"),
    ]  # fmt: skip
    heights = figure_ids()["walk/table2_heights"].options["marks"]
    assert {mark["value"] for mark in heights if mark["text"] == "epoch 100"} == {0.0025, 0.0011, 0.0017, 0.0013}
