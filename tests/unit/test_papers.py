"""Figures of papers: every id is a kind of figure with sound options and a caption, and reads what exists."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from dataclasses import fields

import pytest

from sgdline.config import ConfigError, resolve_config
from sgdline.config.declarations import AnalysisOptions
from sgdline.declare.faults import Faults
from sgdline.declare.registry import label, names
from sgdline.declare.schema import schema_of
from sgdline.declare.walker import Walker
from sgdline.figures.base import PanelSheet
from sgdline.papers.asked import asked, built
from sgdline.papers.base import PaperFigure, figure_ids
from sgdline.tables import kind_names


def test_every_id_is_a_sound_figure_of_its_own() -> None:
    assert len(figure_ids()) == 98
    faults = Faults()
    for named, entry in figure_ids().items():
        assert isinstance(asked(named).figure, PanelSheet), named
        schema = schema_of(type(asked(named).figure))
        Walker(schema, faults).walk(entry.options, schema, (named,))
    faults.raise_if_any()
    same = Counter((entry.kind, repr(entry.options), entry.caption) for entry in figure_ids().values())
    assert [kind for (kind, *_), count in same.items() if count > 1] == []


def test_captions_are_sound_reports_that_say_enough() -> None:
    docutils = pytest.importorskip("docutils.core")
    for named in figure_ids():
        caption = asked(named).caption
        words = " ".join(caption.split()).casefold()
        assert words.count(". ") + words.count(": ") >= 3, named
        assert not re.search(r"todo|\{[a-z_]*\}", words), named  # unfinished, or a part that nobody filled in
        numbered = re.match(r"(fig|table)(\d+)_", named.partition("/")[2])
        if numbered is not None:
            what = {"fig": "figure", "table": "table"}[numbered[1]]
            assert f"{what} {numbered[2]} of " in words, named
        # Warnings as errors: a name that ends in an underscore would become a link.
        docutils.publish_string(caption, settings_overrides={"halt_level": 2, "report_level": 5})


def test_kinds_read_tables_and_use_settings_that_exist() -> None:
    settings = {field.name for field in fields(AnalysisOptions)}
    for name in names("figure"):
        figure = built({"name": name})
        assert {*figure.reads, *figure.also} <= set(kind_names()), name
        assert set(figure.uses) <= settings, name
        assert bool(figure.reads) is (figure.toy is None), name
        assert figure.toy is None or label(figure.toy) in names("toy"), name
    assert {entry.kind for entry in figure_ids().values()} == set(names("figure"))


@pytest.mark.parametrize(
    ("named", "nearest"),
    [
        ("linesearch/fig2_line", "linesearch/fig2_lines"),
        ("trajektory", "trajectory"),
        ("linesearch/_line_panel", "linesearch/fig5_lines_parabolas"),
    ],
)
def test_an_unknown_figure_is_named_with_its_nearest_neighbour(named: str, nearest: str) -> None:
    with pytest.raises(ConfigError) as refused:
        resolve_config({"experiments": {"a": {"figures": [named]}}})
    fault = f"experiments.a.figures[0] must be the name of a figure, got {named!r}. Did you mean {nearest!r}?"
    assert fault in [line.strip() for line in refused.value.faults]


def test_declarations_import_neither_torch_nor_matplotlib() -> None:
    program = (
        "import sys\nfrom sgdline.papers.asked import asked, known\n"
        "assert [asked(name).caption for name in known()]\n"
        "print([name for name in ('torch', 'matplotlib', 'scipy', 'pandas') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_a_paper_that_is_being_written_is_told_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    faulty = {
        "novel/kind": PaperFigure("trajectori", "No such kind."),
        "novel/option": PaperFigure("trajectory", "No such option.", options={"plce": 2}),
    }
    monkeypatch.setattr("sgdline.papers.asked.figure_ids", lambda: faulty)
    for named, said in (("novel/kind", "got trajectori: figure must be one of"), ("novel/option", "argument 'plce'")):
        with pytest.raises(ConfigError) as caught:
            resolve_config({"experiments": {"a": {"figures": [named]}}})
        [fault] = [fault for fault in caught.value.faults if fault.startswith("experiments.a.figures[0]")]
        assert said in fault
        assert "Correct it in FIGURES of sgdline.papers.novel.figures" in fault
    # Somebody else's slip is what it was.
    with pytest.raises(ConfigError, match=r"comparisons\.b\.figure must be the name of .* Did you mean 'roles'"):
        resolve_config({"comparisons": {"b": {"figure": "rolles", "experiments": ["a"]}}})
