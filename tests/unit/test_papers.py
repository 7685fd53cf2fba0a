"""Figures of papers: every id is a kind of figure with sound options and a caption, and reads what exists."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

import pytest

import sgdline.figures
import sgdline.papers
from sgdline.check import check_configuration
from sgdline.config import ConfigError, resolve_config
from sgdline.config.declarations import AnalysisOptions
from sgdline.declare.faults import Faults
from sgdline.declare.registry import declaration, label, names
from sgdline.declare.schema import schema_of
from sgdline.declare.walker import Walker
from sgdline.errors import SgdlineError
from sgdline.figures.base import PanelSheet
from sgdline.papers import claimed
from sgdline.papers.asked import _asked, asked, built
from sgdline.papers.base import PaperFigure, figure_ids, papers
from sgdline.tables import kind_names


def test_every_id_is_a_sound_figure_of_its_own() -> None:
    assert len(figure_ids()) == 98
    faults = Faults()
    for named, entry in figure_ids().items():
        assert isinstance(asked(named).figure, PanelSheet), named
        schema = schema_of(type(asked(named).figure))
        Walker(schema, faults).walk(entry.options, schema, (named,))
    faults.raise_if_any()
    for named in figure_ids():
        toy = asked(named).figure.toy
        if toy is not None:
            options = {field.name for field in fields(cast(Any, declaration("toy", toy)))}
            assert set(asked(named).toy_settings) <= options, named
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


def test_panels_that_kinds_declare_are_drawn_by_their_code() -> None:
    """What is drawn is declared, or `draw_sheet` refuses it. What is declared is a text of the code that draws."""
    folder = Path(sgdline.figures.__file__).parent
    for name in names("figure"):
        declared: Any = declaration("figure", name)
        source = folder.joinpath(f"{name}.py").read_text()
        helpers = [
            file for file in folder.glob("_*.py") if re.search(rf"^from .*\b{file.stem}\b", source, re.MULTILINE)
        ]
        sources = [source, *(file.read_text() for file in helpers)]
        code = re.sub(r"panels: ClassVar.*?\)\n", "", "\n".join(sources), flags=re.DOTALL)
        quoted = re.findall(r'"([^"\n]+)"', code)
        texts = {part for text in quoted for part in re.split(r"\{[^}]*\}", text)}
        texts |= set(re.findall(r"def _draw(_\w+)", code))  # the names of some panels are those of functions
        assert declared.panels, name
        missing = [panel for panel in declared.panels if not _made_of(panel.removesuffix("N"), texts)]
        assert not missing, (name, missing)


def _made_of(panel: str, texts: set[str]) -> bool:
    """Return whether a name is some texts, one after the other."""
    return not panel or any(panel.startswith(text) and _made_of(panel[len(text) :], texts) for text in texts if text)


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


@pytest.mark.parametrize(
    ("figure", "said"),
    [
        (
            PaperFigure("trajectori", ""),
            "its kind must be the name of a kind of figure, got 'trajectori'. Did you mean",
        ),
        (PaperFigure("trajectory", "", {"plce": 2}), "options.plce is not a known key. Did you mean 'place'?"),
        (PaperFigure("trajectory", "", {"place": 99}), "options.place must be a whole number from 1 to 4, got 99."),
        (PaperFigure("trajectory", "", {"place": "2"}), "options.place must be a whole number from 1 to 4, got the te"),
        (PaperFigure("trajectory", "", {"panel": "los"}), "options.panel must be the name of a panel of the figure, g"),
        (PaperFigure("trajectory", "", ["place"]), "options must be a mapping (key: value), got the list ['place']."),  # type: ignore[arg-type]
    ],
)
def test_a_figure_of_a_paper_that_is_being_written_says_what_is_wrong(
    figure: PaperFigure, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _asked.cache_clear()
    monkeypatch.setattr("sgdline.papers.asked.figure_ids", lambda: {"novel/fig1": figure})
    with pytest.raises(ConfigError) as caught:
        resolve_config({"experiments": {"a": {"figures": ["novel/fig1"]}}})
    [fault] = [fault for fault in caught.value.faults if fault.startswith("experiments.a.figures[0]")]
    assert said in fault
    assert "Correct it in FIGURES of sgdline/papers/novel/figures.py" in fault
    # Somebody else's slip is what it was.
    with pytest.raises(ConfigError, match=r"comparisons\.b\.figure must be the name of .* Did you mean 'roles'"):
        resolve_config({"comparisons": {"b": {"figure": "rolles", "experiments": ["a"]}}})


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        (
            "novel_1/figures.py",
            "",
            "FIGURES of sgdline/papers/novel_1/figures.py must be a mapping from names to Paper",
        ),
        ("novel_2/figures.py", "FIGURES = {", "novel_2/figures.py must be importable, got a syntax error: "),
        ("novel_3/figures.py", "FIGURES = {'Fig1': 3}", "must have names of small letters, digits and _, got 'Fig1'."),
        ("novel_4/figures.py", "FIGURES = {'a/b': 3}", "must have names of small letters, digits and _, got 'a/b'."),
        ("novel_5/figures.py", "FIGURES = {'fig1': 3}", "must hold a PaperFigure as fig1, got 3. Correct it."),
        ("Novel/figures.py", "FIGURES = {}", "got the folder sgdline/papers/Novel. Rename it."),
        ("barriers/claims.py", "CLAIMS = ()", "got the folder sgdline/papers/barriers. Rename it."),
        (
            "novel_6/claims.py",
            "CLAIMS = []",
            "CLAIMS of sgdline/papers/novel_6/claims.py must be a tuple of Claim, got the",
        ),
        ("novel_7/claims.py", "CLAIMS = (3,)", "must be a tuple of Claim, got one with 3. Correct it."),
        ("novel_8/claims.py", "", "must be a tuple of Claim, got null. Correct it."),
        (
            "novel_9/claims.py",
            "import nosuch",
            "novel_9/claims.py must be importable, got ModuleNotFoundError: No module",
        ),
    ],
)
def test_a_module_of_a_paper_that_is_being_written_is_one_sentence(
    file: str, text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.joinpath(file).parent.mkdir()
    tmp_path.joinpath(file).write_text(text)
    tmp_path.joinpath("empty.yaml").write_text("results: out\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sgdline.papers.base._ROOT", tmp_path)
    monkeypatch.setattr(sgdline.papers, "__path__", [*sgdline.papers.__path__, str(tmp_path)])
    monkeypatch.setattr("sgdline.check.settings.resolve_config", lambda config, files: figure_ids() and config)
    caches = (papers, figure_ids, claimed.papers)
    for cache in caches:
        cache.cache_clear()
    try:
        with pytest.raises(SgdlineError) as caught:
            check_configuration(["empty.yaml"])
    finally:
        for cache in caches:
            cache.cache_clear()
    assert said in str(caught.value)
