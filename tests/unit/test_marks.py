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
from sgdline.figures import _check_length
from sgdline.figures.base import Mark, PanelSheet
from sgdline.figures.grammar.sheet import Panel, _shrunk, draw_sheet
from sgdline.figures.grammar.table import Row, table_panel
from sgdline.papers._captions import found
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
        Mark(panel="squares", value=1.8, text="d", source="elsewhere"),
        Mark(panel="squares", value=2.0, text="a"),
        Mark(panel="squares", value=2.2, text="c"),
        Mark(panel="squares", value=50.0, text="far"),
    )
    panel = picture.axes[0]
    assert panel.get_ylim() == (0.0, 10.0)
    drawn = {float(line.get_ydata()[0]): line.get_label() for line in panel.lines[1:]}
    assert drawn == {8.0: "published", 1.8: "elsewhere", 2.0: "published", 2.2: "published"}
    looks = {(str(line.get_color()), str(line.get_marker())) for line in panel.lines[1:]}
    assert len(looks) == 2  # one of each source
    assert {"a, c", "b", "d"} <= set(words(picture))
    assert "far" not in words(picture)
    assert any("1 mark outside the y range" in text for text in words(picture))
    assert_nothing_overlaps(picture)


def test_marks_of_a_table_are_rows_of_their_sources() -> None:
    picture = marked(
        Mark(panel="counts", value=0.25, text="epoch 2", source="VGG-11, CIFAR-10, lr 0.5 [text]"),
        Mark(panel="counts", value=7.0, text="epoch 9", source="VGG-11, CIFAR-10, lr 0.5 [text]"),
        Mark(panel="counts", value=8.0, text="epoch 1", source="MLP, MNIST [text]"),
    )
    shown = words(picture)
    # What a column is of goes there, the data set does not go into that of the learning rate.
    assert {"VGG-11, CIFAR-10 [text]", "0.5", "0.25", "MLP, MNIST [text]", "8"} <= set(shown)
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


def test_captions_have_the_published_numbers() -> None:
    said = {
        "walk/table1_barriers": "VGG-11 0, 0, 5, 13; ResNet-56 0, 0, 2, 23; MLP 0, 3, 5",
        "walk/table3_heights_tiny": "lr 0.5: 0.028+-0.001, 0.213+-0.0015, 0.187+-0.0019, 9.8e-5+-2e-9",
        "sparse/fig_two_layer": "test loss 6.1e-4, 1.62e-4, 1.38e-4, 5.41e-5",
        "sparse/fig_deep_sota_cifar10": "test error 14.29, 10.13, 6.58, 5.61 %",
        "linesearch/supp3_resnet18_poly": "degree 1 falls from 0.07 to 0.002, that of degree 2 from 0.0055 to between",
        "linesearch/supp7_resnet18_mom_metrics": "optimum 48, FBPAL 38, SGD with 0.05 30, PAL 16, SGD with 0.1 16,",
        "linesearch/supp10_mobilenet_batch": "-150 for 32, -70 for 64, 41 for 128",
    }
    for figure, words in said.items():
        assert words in " ".join(figure_ids()[figure].caption.split()), figure
    with pytest.raises(ValueError, match="quantity must be a published one, got 'mood'"):
        found((), "mood")


def test_rows_shrink_a_little_for_a_page_and_tables_do_not() -> None:
    assert _shrunk([2.0, 2.0, 1.0], [False, False, True], room=6.0) == [2.0, 2.0, 1.0]
    assert _shrunk([2.0, 2.0, 1.0], [False, False, True], room=4.4) == pytest.approx([1.7, 1.7, 1.0])
    # Lower ones could not be read: the sheet is longer than a page.
    assert _shrunk([2.0, 2.0, 1.0], [False, False, True], room=3.0) == [2.0, 2.0, 1.0]
    assert _shrunk([1.0], [True], room=0.5) == [1.0]


def test_a_column_of_panels_longer_than_a_page_is_refused() -> None:
    sheet = _Sheet(width="column")
    picture = sheet.draw({}, settings={})
    _check_length(sheet, picture)
    picture.set_figheight(14.85)
    said = r"width of _Sheet must be page where all .*, got column: they are 14\.8 inches long, a page has 9\."
    with pytest.raises(SgdlineError, match=said):
        _check_length(sheet, picture)
    _check_length(_Sheet(), picture)  # tables of a page go on
