"""Declarations: their schema, the settings built from them, and what is generated."""

from __future__ import annotations

import json
from dataclasses import dataclass
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
from sgdline.declare.manual import markdown, options_of
from sgdline.declare.schema import as_json, parts_of, schema_of
from sgdline.declare.vocabulary import Ge, Lt, MinLen, Unique, Words
from sgdline.declare.walker import Walker

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
def test_every_option_has_a_meaning(kind: str) -> None:
    for name in registry.names(kind):
        declaration = registry.declaration(kind, name)
        assert declaration.__doc__
        assert [option.key for option in options_of(declaration) if not option.meaning] == []
    with pytest.raises(KeyError, match=f"{kind} must be one of .*, got 'nothing'"):
        registry.declaration(kind, "nothing")


def test_what_is_generated_is_what_the_declarations_say() -> None:
    for file, text in reference_files(ROOT).items():
        assert ROOT.joinpath(file).read_text(encoding="utf-8") == text, f"{file}: make reference"
    manual = ROOT.joinpath("config/README.md").read_text(encoding="utf-8")
    absent = [name for name in parts_of(Configuration) if f"<!-- options: {name} -->" not in manual]
    assert absent == []


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
    assert main(["describe", "hpv"]) == 1
    assert capsys.readouterr().err.endswith("got 'hpv'. Did you mean 'hvp'?\n")
