"""Figures of one's own, by entry: checked with the configuration, drawn from tables of one's own too."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from drawn_figures import sheet_of

from sgdline.config import ConfigError, resolve_config
from sgdline.digests import entry_digest
from sgdline.errors import SgdlineError
from sgdline.figures import plot_comparison, plot_figure, tables_by_run
from sgdline.tables import Kind, write_table
from sgdline.workflow.jobs import Jobs
from sgdline.workflow.layout import run_label
from sgdline.workflow.runs import runs

ROOT = Path(__file__).parents[2]
FIGURES = '''
"""The caption of the file."""
from dataclasses import dataclass
from typing import ClassVar

from sgdline.figures.base import Figure, PanelSheet
from sgdline.probes.base import EveryOptions
from sgdline.toys.base import ToyOptions

@dataclass(frozen=True, kw_only=True)
class Heights(EveryOptions):
    def measured_by(self):
        raise NotImplementedError

@dataclass(frozen=True, kw_only=True)
class Curve(Figure):
    """The caption
    of the class."""
    reads: ClassVar = ("Heights",)

    def draw(self, tables, *, settings):
        import heights_beside
        return heights_beside.picture(tables["Heights"]["height"], settings["probes"]["Heights"]["every"])

@dataclass(frozen=True, kw_only=True)
class Curves(Curve):
    compares: ClassVar = True

    def draw(self, tables, *, settings):
        return len(tables), len(settings)

@dataclass(frozen=True, kw_only=True)
class curve(Curve):
    """Differs from Curve in one capital letter."""

@dataclass(frozen=True, kw_only=True)
class Fits(Curve):
    reads: ClassVar = ("line_fits",)

@dataclass(frozen=True, kw_only=True)
class Bowl(Figure):
    toy: ClassVar = "quadratic_descent"

    def draw(self, tables, *, settings):
        return None

@dataclass(frozen=True, kw_only=True)
class Rain(Bowl):
    toy: ClassVar = "walk/mine.py:Drops"

@dataclass(frozen=True, kw_only=True)
class Drops(ToyOptions):
    def simulate(self):
        raise NotImplementedError

    def table(self):
        raise NotImplementedError

@dataclass(frozen=True, kw_only=True)
class Undrawn(Figure):
    reads: ClassVar = ("trace",)

@dataclass(frozen=True, kw_only=True)
class Tableless(Curve):
    reads: ClassVar = ()

@dataclass(frozen=True, kw_only=True)
class Text(Curve):
    reads: ClassVar = ("trace")

@dataclass(frozen=True, kw_only=True)
class Both(Curve):
    toy: ClassVar = "quadratic_descent"

@dataclass(frozen=True, kw_only=True)
class Needy(Curve):
    window: int


@dataclass(frozen=True, kw_only=True)
class Uses(Curve):
    uses: ClassVar = ("smoothin",)

@dataclass(frozen=True, kw_only=True)
class Hand(Bowl):
    toy: ClassVar = "quadratic_decent"

@dataclass(frozen=True, kw_only=True)
class Lost(Bowl):
    toy: ClassVar = "walk/mine.py:Drop"

@dataclass(frozen=True, kw_only=True)
class Deep(Bowl):
    toy_settings: ClassVar = "steps"

@dataclass(frozen=True, kw_only=True)
class Steep(Bowl):
    toy_settings: ClassVar = {"step": 20}

@dataclass(frozen=True, kw_only=True)
class Also(Curve):
    also: ClassVar = ("hpv", "TableOfAnotherConfiguration")

@dataclass(frozen=True, kw_only=True)
class Twice(Curve):
    also: ClassVar = ("Heights",)

@dataclass(frozen=True, kw_only=True)
class Three(Curve):
    draw = 3

@dataclass(frozen=True, kw_only=True)
class Short(Curve):
    def draw(self, tables):
        return None

@dataclass(frozen=True, kw_only=True)
class Named(Curve):
    name: str

@dataclass(frozen=True, kw_only=True)
class Called(Curve):
    called: int = 3

@dataclass(frozen=True, kw_only=True)
class Sets(Curve):
    window: set = 3

@dataclass(frozen=True, kw_only=True)
class Raises(Curve):
    def __post_init__(self):
        raise ValueError("no")

@dataclass(frozen=True, kw_only=True)
class Sheet(PanelSheet):
    """Panels."""
    reads: ClassVar = ("Heights",)
    panels: ClassVar = ("loss", "height_N")

    def draw(self, tables, *, settings):
        return None

@dataclass(frozen=True, kw_only=True)
class Bare(Sheet):
    panels: ClassVar = ()
'''
BESIDE = """
from matplotlib.figure import Figure

def picture(heights, every):
    figure = Figure()
    figure.subplots().plot(heights, label=str(every))
    return figure
"""
RUN = {"dataset": "d", "models": ["m"], "lr": [0.1], "batch_size": [64], "seed": [0], "steps": 20}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "walk"  # called as a paper is
    folder.mkdir()
    folder.joinpath("mine.py").write_text(FIGURES)
    folder.joinpath("heights_beside.py").write_text(BESIDE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def resolved(
    *figures: Any, compared: str = "walk/mine.py:Curves", toy: str = "walk/mine.py:Bowl", **changes: Any
) -> dict[str, Any]:
    experiment = RUN | {"probes": {"walk/mine.py:Heights": {"every": 5}}, "figures": list(figures)}
    return resolve_config(
        {
            "results": "out",
            "datasets": {"d": {"source": "digits", "train": 640}},
            "models": {"m": {"entry": "sgdline.models:mlp"}},
            "experiments": {"a": experiment, "b": experiment | {"figures": []}},
            "comparisons": {"all": {"figure": compared, "experiments": ["a", "b"]}},
            "toys": {"bowl": {"toy": "quadratic_descent", "figures": [toy]}},
            **changes,
        },
    )


@pytest.mark.parametrize(
    ("figure", "words"),
    [
        (
            "walk/mine.py",
            "got 'walk/mine.py'. A figure of your own is named by its file and its class: walk/mine.py:Name.",
        ),
        (f"{'x' * 300}.py:Curve", "must name a file that exists, got none at "),
        ("yours.py:Curve", "must name a file that exists, got none at "),
        ("walk/mine.py:Curv", "got no 'Curv' there. Did you mean 'Curve'?"),
        ("walk/mine.py:", "got another form. Write the place, one colon and the name of the declaration of a figure."),
        (
            "walk/mine.py:Heights",
            "must name a frozen dataclass that derives from sgdline.figures.base.Figure, got Heig",
        ),
        ("walk/mine.py:Undrawn", "must define draw(self, tables, *, settings), got none. Define it."),
        ("walk/mine.py:Tableless", "must read at least one table, got none."),
        ("walk/mine.py:Text", "must declare reads as a tuple of kinds of tables, got 'trace'."),
        ("walk/mine.py:Both", "must draw either a toy or runs, got both."),
        (
            "walk/mine.py:Needy",
            "must have its options, got none for window. Write {name: walk/mine.py:Needy, window: ...}.",
        ),
        ("walk/mine.py:Fits", "must have its probe measured, got no probes.line in this experiment. Add it, or remove"),
        ("walk/mine.py:Curves", "must be a figure of a single run, got walk/mine.py:Curves, which compares runs."),
        ("walk/mine.py:Uses", "must use keys of analysis, got 'smoothin'. Did you mean 'smoothing'?"),
        ("walk/mine.py:PanelShee", "got no 'PanelShee' there. Check the name after the colon."),  # imported there
        ("walk/mine.py:Hand", "must draw a toy that exists, got toy = 'quadratic_decent'. Did you mean 'quadratic_de"),
        ("walk/mine.py:Lost", "got toy = 'walk/mine.py:Drop': its entry must name a declaration of a toy of walk/m"),
        ("walk/mine.py:Deep", "must declare toy_settings as a mapping from options of the toy, got 'steps'."),
        ("walk/mine.py:Also", "must name tables that exist in also, got 'hpv'. Did you mean 'hvp'?"),
        ("walk/mine.py:Twice", "must name a table once in reads and also, got 'Heights' twice."),
        ("walk/mine.py:Three", "must define draw(self, tables, *, settings), got draw = 3."),
        ("walk/mine.py:Short", "must define draw(self, tables, *, settings), got draw(self, tables)."),
        ("walk/mine.py:Named", "must not declare an option called name, which names the figure. Rename the option."),
        ("walk/mine.py:Called", "must keep the option called as all figures have it, got one of another type."),
        ("walk/mine.py:Sets", "must declare options of known types, got 'walk/mine.py:Sets': TypeError"),
        ("walk/mine.py:Raises", "must take its options without an error, got ValueError: no"),
        (
            "walk/mine.py:Bowl",
            "got walk/mine.py:Bowl, which draws the toy quadratic_descent. Move it to the top level's toys: {a_name: ",
        ),
    ],
)
def test_a_figure_that_cannot_be_drawn_is_one_fault_before_any_job(figure: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolved("walk/mine.py:Curve", figure)
    [fault] = caught.value.faults
    assert fault.startswith("experiments.a.figures[1] ")
    assert words in fault


@pytest.mark.parametrize(
    ("figure", "words"),
    [
        ({"panel": "los"}, "[1].panel must be the name of a panel of the figure, got 'los'. Did you mean 'loss'?"),
        ({"panel": "height_0"}, "[1].panel must be the name of a panel of the figure, got 'height_0'. Did you mean"),
        ({"marks": [{"panel": "los", "value": 1.0}]}, "[1].marks[0].panel must be the name of a panel of the figure"),
        (
            {"panel": "loss", "marks": [{"panel": "height_2", "value": 1.0}]},
            "[1].marks[0].panel must be loss, the one panel that is drawn, got 'height_2'. Remove the mark, or leave",
        ),
        (
            {"marks": [{"panel": "loss", "value": 1.0, "source": f"s{place}"} for place in range(17)]},
            "[1].marks must be of at most 16 sources, got 17.",
        ),
        ({"marks": [{"panel": "loss", "value": 1.0, "text": 25 * "x"}]}, "[1].marks[0].text must have at most 24 char"),
        (
            {"name": "walk/mine.py:Bare", "panel": "loss"},
            "[1].panel must be left out where a figure declares no panels, got 'loss'. Add panels: ClassVar = (\"a_na",
        ),
        ({"called": "Barriers"}, "[1].called must not be the name of a paper or a kind of figure, nor own, got Barrie"),
        ({"called": "curious"}, "[1].called must not be the name of a paper or a kind of figure, nor own, got curious"),
        ({"called": "own"}, "[1].called must not be the name of a paper or a kind of figure, nor own, got own."),
        ({"panel": "height_12", "called": "twelfth"}, None),
    ],
)
def test_options_of_a_sheet_are_checked_before_any_job(figure: dict[str, Any], words: str | None) -> None:
    asked_for = {"name": "walk/mine.py:Sheet", **figure}
    if words is None:
        resolved("walk/mine.py:Curve", asked_for)
        return
    with pytest.raises(ConfigError) as caught:
        resolved("walk/mine.py:Curve", asked_for)
    [fault] = caught.value.faults
    assert fault.startswith(f"experiments.a.figures{words}")


@pytest.mark.parametrize(
    ("figures", "words"),
    [
        (["lines", "lines"], "must differ from the entries before it, got 'lines' twice."),
        (["lines", {"name": "lines", "width": "column"}], "must have a folder of its own, got lines, whose pictures "),
        (["lines", {"name": "lines", "width": "column"}], " at experiments.a.figures[0]. Add called: a_name."),
        (["lines", {"name": "walk/fig99"}], "got 'walk/fig99'. Did you mean 'walk/fig9_barriers_vgg11'? An id is wri"),
        (["lines", "walk/fig99"], "got 'walk/fig99'. Did you mean 'walk/fig9_barriers_vgg11'?"),
        (["lines", {"name": 3}], "must be the name of a figure that sgdline describe lists, or an entry, got 3."),
    ],
)
def test_names_of_figures_that_cannot_be_told_apart_or_found_are_one_fault(figures: list[Any], words: str) -> None:
    lines = RUN | {"probes": {"line": {"every": 5}}, "figures": figures}
    with pytest.raises(ConfigError) as caught:
        resolved(experiments={"a": lines}, comparisons={})
    [fault] = caught.value.faults
    assert fault.startswith("experiments.a.figures[1]")
    assert words in fault


def test_one_folder_holds_pictures_of_one_kind() -> None:
    lines = RUN | {"probes": {"line": {"every": 5}}}
    second = {"name": "parabolas", "called": "all"}
    blocks = {name: lines | {"figures": [{"name": "lines", "called": "all"}]} for name in ("a", "b")}
    resolved(experiments=blocks, comparisons={})
    with pytest.raises(
        ConfigError, match=r"experiments\.c\.figures\[0\]\.called must give a folder of its own, got all"
    ):
        resolved(experiments=blocks | {"c": lines | {"figures": [second]}}, comparisons={})


def test_a_figure_of_a_toy_names_options_of_it() -> None:
    with pytest.raises(ConfigError) as caught:
        resolved(toy="walk/mine.py:Steep")
    assert [fault.partition(" of ")[2] for fault in caught.value.faults] == [
        "the toy quadratic_descent in toy_settings, got 'step' of walk/mine.py:Steep. Did you mean 'steps'?"
    ]


def test_a_figure_is_named_where_what_it_draws_is() -> None:
    with pytest.raises(ConfigError) as caught:
        resolved(compared="walk/mine.py:Curve", toy="walk/mine.py:Fits")
    assert [fault.partition(", which")[0] for fault in caught.value.faults] == [
        "comparisons.all.figure must be a figure that compares runs, got walk/mine.py:Curve",
        "toys.bowl.figures[0] must be a figure of the toy quadratic_descent, got walk/mine.py:Fits",
    ]
    with pytest.raises(ConfigError, match=r"figures\[1\] must have a folder of its own, got walk/mine.py:curve, "):
        resolved("walk/mine.py:Curve", "walk/mine.py:curve")
    lines = RUN | {"probes": {"line": {"every": 5}}}
    with pytest.raises(
        ConfigError, match=r"comparisons.all.experiments\[0\] must read .* experiments.b makes, got 'He"
    ):
        resolved(
            experiments={"b": lines},
            comparisons={"all": {"figure": "walk/mine.py:Curves", "experiments": ["b"]}},
        )


def test_jobs_of_a_figure_depend_on_its_tables_and_its_file(here: Path) -> None:
    config = resolved("walk/mine.py:Curve")
    with pytest.raises(ConfigError, match=r"run\[0\] must be a paper that the configuration draws, got walk"):
        resolved("walk/mine.py:Curve", run=["walk"])
    jobs = Jobs(config, folder=ROOT / "workflow")
    assert [file for file in jobs.figure_files() if file.endswith("png")] == [
        "out/figures/own/Curve/a_m_lr0.1_bs64_seed0.png",
        "out/figures/own/Curves/all.png",
        "out/figures/own/Bowl/bowl.png",
    ]
    run = runs(config)[0]
    wildcards: Any = SimpleNamespace(figure="own/Curve", subject=run_label(run))
    assert jobs.drawn_tables(wildcards) == {"Heights": "out/a/m/lr0.1_bs64_seed0/Heights.arrow"}
    settings: Any = jobs.drawn_settings(wildcards)
    assert settings["probes"] == {"Heights": {"every": 5}}
    assert jobs.figure(wildcards) == {"name": "walk/mine.py:Curve"}
    assert jobs.caption(wildcards) == "The caption\nof the class."
    compared: Any = SimpleNamespace(figure="own/Curves", subject="all")
    assert jobs.caption(compared) == "The caption of the file."
    before = jobs.drawing_code("plot_figure.py")(wildcards)
    assert before.endswith(f" {entry_digest('walk/mine.py:Curve')}")
    assert [len(files) for files in jobs.drawn_tables(compared).values()] == [2]
    rain = resolved(toys={"rain": {"toy": "walk/mine.py:Drops", "figures": ["walk/mine.py:Rain"]}})
    drops: Any = SimpleNamespace(figure="own/Rain", subject="rain")
    assert Jobs(rain, folder=ROOT / "workflow").drawn_tables(drops) == {"Drops": "out/toys/rain.arrow"}
    needy = {"name": "walk/mine.py:Needy", "window": 3, "called": "three"}
    jobs = Jobs(resolved(needy), folder=ROOT / "workflow")
    asked_for: Any = SimpleNamespace(figure="three", subject=run_label(run))
    assert jobs.figure(asked_for) == needy
    for figure in ("three", "own/Curves"):
        mistyped: Any = SimpleNamespace(figure=figure, subject=run_label(run).replace("seed0", "seed1"))
        with pytest.raises(
            SgdlineError, match=rf"asks for, got '.*seed1' for {figure}\. (Did you mean '.*seed0'|Known)"
        ):
            jobs.drawn_tables(mistyped)


def test_a_figure_reads_tables_of_ones_own_and_returns_a_picture(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heights = Kind("Heights", rule="", schema=pa.schema([pa.field("height", pa.float64(), nullable=False)]))
    write_table("Heights.arrow", heights, {"height": [1.0, 2.0]}, provenance={"code": ""})
    drawn: list[Any] = []
    monkeypatch.setattr("sgdline.figures._save", lambda figure, pdf, png: drawn.extend(figure.axes[0].lines))
    monkeypatch.setattr("sgdline.figures.grammar.style.settle", lambda figure: None)
    tables, settings = {"Heights": "Heights.arrow"}, {"probes": {"Heights": {"every": 5}}}
    plot_figure(sheet_of("walk/mine.py:Curve"), tables, settings=settings, pdf="a.pdf", png="a.png")
    assert [(list(line.get_ydata()), line.get_label()) for line in drawn] == [([1.0, 2.0], "5")]
    by_run = tables_by_run(sheet_of("walk/mine.py:Curves"), {"Heights": ["Heights.arrow"]})
    with pytest.raises(SgdlineError, match=r"draw of Curves must return a matplotlib Figure, got tuple\."):
        plot_comparison(sheet_of("walk/mine.py:Curves"), by_run, settings=[settings], pdf="a.pdf", png="a.png")


def test_what_a_figure_raises_is_one_sentence_with_its_line(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = here / "walk" / "mine.py"
    figure = sheet_of("walk/mine.py:Curve")
    table = {"Heights": pa.table({"depth": [1.0]})}
    monkeypatch.setattr("sgdline.figures._read", lambda figure, tables: table)
    with pytest.raises(SgdlineError) as caught:
        plot_figure(figure, {}, settings={"probes": {}}, pdf="a.pdf", png="a.png")
    line = next(number for number, row in enumerate(file.read_text().splitlines(), 1) if '"height"' in row)
    assert str(caught.value).startswith("draw of Curve must not fail, got KeyError: ")
    # The folder is that of the test which has loaded the file.
    assert re.search(rf"\(line {line} of (.*/)?walk/mine\.py\)\. Correct it\.$", str(caught.value))


def test_what_a_figure_of_the_package_raises_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sgdline.figures._read", lambda figure, tables: {})
    with pytest.raises(KeyError):
        plot_figure(sheet_of("lines"), {}, settings={}, pdf="a.pdf", png="a.png")
