"""Declarations: their schema, the settings built from them, and what is generated."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import jsonschema
import pytest

from sgdline.cli import main
from sgdline.config.declarations import Configuration, configuration_schema
from sgdline.config.reference import reference_files
from sgdline.declare import registry
from sgdline.declare.build import build
from sgdline.declare.faults import Faults
from sgdline.declare.manual import markdown, options_of, with_tables
from sgdline.declare.schema import as_json, parts_of, schema_of
from sgdline.declare.vocabulary import Ge, Lt, MinLen, OfKind, Unique, Words
from sgdline.declare.walker import Walker
from sgdline.probes.base import ProbeOptions
from sgdline.toys.base import ToyOptions

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """A wheel."""

    radius: Annotated[float, Ge(0.1)]
    """Radius (m)."""
    tyre: Literal["slick", "rain"] | None = None
    """Tyre."""


@dataclass(frozen=True, kw_only=True)
class Vehicle:
    """A vehicle, for tests.

    More about it.
    """

    name: Annotated[str, MinLen(1)]
    """Name."""
    wheels: Annotated[tuple[Wheel, ...], MinLen(2), Unique()] = (Wheel(radius=1.0), Wheel(radius=2.0, tyre="rain"))
    """Wheels, each
    of its own."""
    spare: Wheel | None = None
    """Spare wheel."""
    load: Annotated[Literal["auto"] | Annotated[int, Ge(0), Lt(9)], Words("a load, or auto")] = "auto"
    """Load."""
    extras: dict[str, Any] | None = None
    """Whatever."""


def walked(value: Any, declaration: type = Vehicle) -> tuple[Any, Faults]:
    faults = Faults()
    schema = schema_of(declaration)
    return Walker(schema, faults).walk(value, schema, ())[1], faults


def test_a_block_is_filled_in_checked_and_built() -> None:
    resolved, faults = walked({"name": "bus", "spare": {"radius": 2}, "extras": {"a": [1]}})
    assert not faults.any()
    jsonschema.Draft202012Validator(schema_of(Vehicle)).validate(resolved)
    vehicle = build(Vehicle, json.loads(json.dumps(resolved)))
    assert vehicle == Vehicle(name="bus", spare=Wheel(radius=2.0), extras={"a": [1]})
    assert as_json(vehicle, complete=True) == resolved
    assert as_json(vehicle) == {"name": "bus", "spare": {"radius": 2.0}, "extras": {"a": [1]}}


def test_every_fault_is_found_at_once() -> None:
    _, faults = walked({"wheels": [{"radius": 0}, {"radius": 1, "tyre": "rian"}], "load": 9, "spares": {}})
    with pytest.raises(Exception, match="The configuration has 5 faults") as caught:
        faults.raise_if_any()
    assert str(caught.value).splitlines()[1:] == [
        "  name is missing. It must be a text that is not empty.",
        "  wheels[0].radius must be a number of at least 0.1, got 0.",
        "  wheels[1].tyre must be one of null, slick or rain, got 'rian'. Did you mean 'rain'?",
        "  load must be a whole number from 0 to below 9, got 9.",
        "  spares is not a known key. Did you mean 'spare'?",
    ]


def test_what_a_reader_sees() -> None:
    assert markdown(Wheel).splitlines()[2:] == [
        "| `radius` | Radius (m) | *required* | a number of at least 0.1 |",
        "| `tyre` | Tyre | `null` | one of null, slick or rain |",
    ]
    wheels = options_of(Vehicle)[1]
    assert (wheels.meaning, wheels.default) == (
        "Wheels, each of its own.", "[{radius: 1.0}, {radius: 2.0, tyre: rain}]"
    )  # fmt: skip


def test_two_classes_of_one_name_stay_apart() -> None:
    first = Wheel

    @dataclass(frozen=True, kw_only=True)
    class Both:
        one: first
        other: Vehicle

    other = dataclass(frozen=True, kw_only=True)(type("Wheel", (), {"__annotations__": {"spokes": int}}))
    Both.__annotations__["other"] = other
    Both.__annotations__["one"] = first
    document = schema_of(Both)
    assert sorted(document["$defs"]) == ["Wheel", "Wheel_"]
    assert parts_of(Both)["Wheel_"] is other


@pytest.mark.parametrize("kind", sorted(registry.KINDS))
@pytest.mark.slow
def test_every_option_has_a_meaning(kind: str) -> None:
    for name in registry.names(kind):
        declaration = registry.declaration(kind, name)
        assert declaration.__doc__
        assert [option.key for option in options_of(declaration) if not option.meaning] == []
    with pytest.raises(KeyError, match=f"{kind} must be one of .*, got 'nothing'"):
        registry.declaration(kind, "nothing")


@pytest.mark.slow
def test_what_is_generated_is_what_the_declarations_say() -> None:
    for file, text in reference_files(ROOT).items():
        assert ROOT.joinpath(file).read_text(encoding="utf-8") == text, f"{file}: make reference"
    manual = ROOT.joinpath("config/README.md").read_text(encoding="utf-8")
    described = re.findall(r"<!-- options: (\w+)", manual)
    blocks = [name for name, part in parts_of(Configuration).items() if not issubclass(part, registry.Declared)]
    assert set(blocks) <= set(described)
    assert set(re.findall(r"<!-- others: (\w+)", manual)) == set(registry.KINDS) - {"figure"}
    listed = "".join(re.findall(r"<!-- figures: \w+ -->\n(.*?)<!-- end -->", manual, flags=re.DOTALL))
    assert sorted(re.findall(r"^\| `(\w+)` \|", listed, flags=re.MULTILINE)) == list(registry.names("figure"))


def test_editors_accept_overlays_and_mark_what_is_wrong() -> None:
    schema = json.loads(ROOT.joinpath("workflow/schemas/config.schema.json").read_text(encoding="utf-8"))
    validator = jsonschema.Draft202012Validator(schema)
    assert validator.is_valid({"experiments": {"digits": {"steps": 9}}})
    assert not validator.is_valid({"experiments": {"digits": {"step": 9}}})
    assert not validator.is_valid({"toys": {"mine": {"steps": 9}}})
    assert configuration_schema()["required"] == ["datasets", "models", "experiments"]


def test_describe_prints_options_and_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", "hvp"]) == 0
    said = capsys.readouterr().out
    assert "max_products: a whole number from 75 to 1000000 (default 300)\n    Hessian-vector products" in said
    assert main(["describe", "experiment"]) == 0
    assert "steps: a whole number from 1 to 100000000 (required)" in capsys.readouterr().out
    assert main(["describe"]) == 0
    assert capsys.readouterr().out.startswith("probe: alignment, averages, ")
    assert main(["describe", "line_fits"]) == 0
    assert "reads: line\nuses: window, resolution, degrees\n" in capsys.readouterr().out
    assert main(["describe", "hpv"]) == 1
    assert capsys.readouterr().err.endswith("got 'hpv'. Did you mean 'hvp'?\n")


def test_the_manual_shows_things_that_it_does_not_mention() -> None:
    page = "<!-- options: LineOptions -->\n<!-- end -->\n<!-- others: probe -->\nwhat was here\n<!-- end -->\nafter\n"
    made = with_tables(page, parts_of(Configuration))
    assert made == with_tables(made, parts_of(Configuration))
    assert "#### hvp\n\nThe Hessian of the full-batch loss" in made
    assert "#### line\n" not in made
    assert made.endswith("<!-- end -->\nafter\n")
    assert "what was here" not in made


# --- entries ----------------------------------------------------------------------------------------------------------

OWN_PROBE = """
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from sgdline.declare.run_facts import Fault, RunFacts
from sgdline.declare.vocabulary import Ge
from sgdline.probes.base import EveryOptions


@dataclass(frozen=True, kw_only=True)
class GradientNoise(EveryOptions):
    draws: Annotated[int, Ge(2)] = 8

    def faults(self, run: RunFacts) -> Iterator[Fault]:
        if run.steps is not None and self.every > run.steps:
            yield Fault(("every",), f"must be at most steps ({run.steps}), got {self.every}. Lower it.")
        if 1 in run.batch_sizes.values():
            yield Fault(("batch_size",), "must be above 1, got 1. Raise it.", of_experiment=True)

    def measured_by(self):
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Odd(EveryOptions):
    every: complex = 1j

    def measured_by(self):
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Unready(EveryOptions):
    what: Any = object()

    def measured_by(self):
        raise NotImplementedError


class Plain:
    pass
"""


@dataclass(frozen=True, kw_only=True)
class Things:
    """Probes and a toy."""

    probes: Annotated[dict[str, ProbeOptions], OfKind("probe")] = field(default_factory=dict)
    """Probes."""
    toy: Annotated[ToyOptions, OfKind("toy", tag="kind", default="diagonal_plane")] = field(default_factory=ToyOptions)
    """A toy."""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    tmp_path.joinpath("mine.py").write_text(OWN_PROBE)
    monkeypatch.chdir(tmp_path)
    registry.declaration.cache_clear()
    return "mine.py:GradientNoise"


def test_an_entry_works_where_a_name_does(own: str) -> None:
    resolved, faults = walked({"probes": {own: {"draws": 3}, "evaluation": {}}}, Things)
    assert not faults.any()
    assert resolved["probes"][own] == {"every": 100, "draws": 3}
    built = build(Things, {"probes": resolved["probes"]}).probes
    assert {type(options).__name__ for options in built.values()} == {"GradientNoise", "EvaluationOptions"}
    assert (registry.label(own), registry.code_of("probe", own)) == ("GradientNoise", own)


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        (
            "mine.py:GradientNoize",
            "must name a declaration of a probe of mine.py, got no 'GradientNoize' ",
        ),
        (
            "mine.py:Plain",
            "must name a frozen dataclass that derives from sgdline.probes.base.ProbeOptions",
        ),
        ("yours.py:Any", "must name a file that exists, got none at "),
        ("mine.py:Odd", "must declare options of known types, got 'mine.py:Odd': TypeError: A declaration's field"),
        (
            "mine.py:Unready",
            "must declare options of known types, got 'mine.py:Unready': TypeError: Object of type obj",
        ),
        ("mine:", "must be package.module:Name or folder/file.py:Name, got another form. "),
        ("mine.py:Odd:Odd", "must be package.module:Name or folder/file.py:Name, got another form. "),
        ("mi\0ne.py:Odd", "must be a text on one line, without control characters."),
    ],
)
def test_an_entry_that_is_no_declaration_is_refused(own: str, entry: str, text: str) -> None:
    _, faults = walked({"probes": {entry: {}}}, Things)
    with pytest.raises(Exception, match=re.escape(text)) as caught:
        faults.raise_if_any()
    assert str(caught.value).splitlines()[1].startswith(f"  probes[{entry!r}] ")
    assert str(caught.value).count("\n") == 1


def test_options_of_an_entry_are_checked_like_any(own: str) -> None:
    _, faults = walked({"probes": {own: {"drawz": 3, "every": 0}}}, Things)
    with pytest.raises(Exception, match="2 faults") as caught:
        faults.raise_if_any()
    assert str(caught.value).splitlines()[1:] == [
        f"  probes['{own}'].every must be a whole number of at least 1, got 0.",
        f"  probes['{own}'].drawz is not a known key. Did you mean 'draws'?",
    ]


def test_a_variant_without_its_tag_is_the_default_one() -> None:
    resolved, faults = walked({"toy": {"nonzero": 3}}, Things)
    assert not faults.any()
    assert resolved["toy"] | {"kind": "diagonal_plane", "nonzero": 3} == resolved["toy"]
    assert type(build(Things, {"toy": resolved["toy"]}).toy).__name__ == "DiagonalPlaneOptions"
    _, faults = walked({"toy": {"eigenvalues": [1.0]}}, Things)
    with pytest.raises(Exception, match=r"eigenvalues is not a known key of diagonal_plane. It is an option of quadr"):
        faults.raise_if_any()
    _, faults = walked({"toy": "relu_regression"}, Things)
    with pytest.raises(Exception, match=r"toy must be a mapping .*, got 'relu_regression'. Write {kind: relu_regress"):
        faults.raise_if_any()


def test_a_declaration_of_ones_own_is_described(own: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", own]) == 0
    assert "draws: a whole number of at least 2 (default 8)" in capsys.readouterr().out
    assert main(["describe", "mine.py:Plain"]) == 1
    assert "must name the declaration of a probe, a toy or the like" in capsys.readouterr().err


@pytest.mark.slow
def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    command = f"{sys.executable} -m sgdline describe | head -c 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert (len(done.stdout), done.stderr) == (1, "")


def test_methods_may_import_what_is_beside_their_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The docs ask to import large packages inside methods; helpers of one's own are imported there as well."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    tmp_path.joinpath("beside").mkdir()
    tmp_path.joinpath("beside/lazy_helper_of_a_loss.py").write_text("ANSWER = 42\n")
    tmp_path.joinpath("beside/loss.py").write_text(
        "from dataclasses import dataclass\n"
        "from sgdline.losses.base import Loss\n"
        "@dataclass(frozen=True, kw_only=True)\n"
        "class Lazy(Loss):\n"
        "    def of_samples(self):\n"
        "        from lazy_helper_of_a_loss import ANSWER\n"
        "        return ANSWER\n"
    )
    assert registry.declaration("loss", "beside/loss.py:Lazy")().of_samples() == 42
