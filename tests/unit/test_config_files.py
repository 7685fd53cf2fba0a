"""Files of a configuration: faults with file and line, what YAML 1.1 reads otherwise, and `sgdline check`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from snakemake.cli import parse_config
from snakemake.utils import update_config

from sgdline.cli import main
from sgdline.config import ConfigError, ConfigFiles, check_files, resolve_config

ROOT = Path(__file__).parents[2]
OVERLAYS = sorted(path for path in (ROOT / "config").rglob("*.yaml") if path.name != "config.yaml")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the default configuration, which messages name by a short path."""
    (tmp_path / "config").symlink_to(ROOT / "config")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def faults_in(text: str) -> tuple[str, ...]:
    Path("mine.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        check_files(["mine.yaml", "absent.yaml"])
    return caught.value.faults


def test_a_key_that_is_defined_twice_is_reported_with_its_lines(here: Path) -> None:
    assert faults_in("a: &x {lr: 1, lr: 2}\nb:\n  c: *x\n  d: [{e: 1}, {e: 1,\n    e: 2}]\na: 3\n") == (
        "mine.yaml:1: a.lr must be defined once, got it in line 1 twice. Remove one of them.",
        "mine.yaml:5: b.d[1].e must be defined once, got it in lines 4 and 5. Remove one of them.",
        "mine.yaml:6: a must be defined once, got it in lines 1 and 6. Remove one of them.",
    )


@pytest.mark.parametrize(
    ("text", "reads", "instead"),
    [
        ("010", "8", ["10", "8"]),
        ("-017", "-15", ["-17", "-15"]),
        ("1:30", "90", ["90"]),
        ("1:30.5", "90.5", ["90.5"]),
        ("0x10", "16", ["16"]),
        ("0b11", "3", ["3"]),
        ("2026_11", "202611", ["202611"]),
        ("1_0.5", "10.5", ["10.5"]),
        ("yes", "true", ["true"]),
        ("OFF", "false", ["false"]),
        ("2026-11-30", "a date", []),
        ("2026-13-45", "a date", []),
        ("1e-3", "a text", ["1.0e-3"]),
        ("-2.5E10", "a text", ["-2.5e+10"]),
        ("-.5", "a text", ["-0.5"]),
        ("08", "a text", ["8"]),
        ("0o17", "a text", ["15"]),
    ],
)
def test_what_yaml_reads_otherwise_is_reported_with_advice_that_helps(
    here: Path, text: str, reads: str, instead: list[str]
) -> None:
    [fault] = faults_in(f"seed:\n- 1\n- {text}\n")
    assert fault.startswith("mine.yaml:3: seed[1] must be ")
    assert f"got {text}, which YAML reads as {reads}. Write " in fault
    for written in [*instead, f'"{text}"']:
        assert written in fault.partition("Write ")[2]
        Path("mine.yaml").write_text(f"seed: [{written}]\n")
        check_files(["mine.yaml"])
        [value] = yaml.safe_load(f"[{written}]")
        assert isinstance(value, str) == written.startswith('"')


def test_a_name_that_yaml_takes_for_something_else_is_reported(here: Path) -> None:
    assert faults_in("models:\n  NO: {}\n  2026-11-30: {}\n  0x1: {}\n") == (
        'mine.yaml:2: models[false] must have a text as its key, got NO, which YAML reads as false. Write "NO".',
        "mine.yaml:3: models[the date 2026-11-30] must have a text as its key, got 2026-11-30, which YAML reads as the "
        'date 2026-11-30. Write "2026-11-30".',
        'mine.yaml:4: models[1] must have a text as its key, got 0x1, which YAML reads as 1. Write "0x1".',
    )


def test_what_yaml_reads_as_written_is_sound(here: Path) -> None:
    Path("mine.yaml").write_text(
        "a: &m [0, -1, 12, .5, 5., 1.0e-3, -1.5e+3, .inf, ~, null, true, False, v1_0]\n"
        "f: [1.2.3, '010', \"yes\", !!str 1_0]\n"
        "b: &n {c: *m, x.y:z: net.py:make}\nd: {<<: *n, e: 2026-11}\n08: text\n"
    )
    check_files(["mine.yaml"])
    Path("mine.yaml").write_text('{"lr": 1e-3,\n\t"run": ["yes", "010"]}')  # JSON has rules of its own
    check_files(["mine.yaml"])
    check_files((ROOT / "config").rglob("*.yaml"))


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: 1\nb: [1, 2\nc: 3\n", 3, ["a flow sequence that begins in line 2", "Close the bracket"]),
        ("a:\n\t- b\n", 2, ["a tab", "with spaces"]),
        ("a: 1\nb: c: d\n", 2, ["mapping values", "in quotes"]),
        ('a: 1\nb: "c\n\nd: 1\n', 2, ["quoted scalar", "Close the quotes"]),
        ("a: 1\nbcd\ne: 2\n", 2, ["expected ':'", "a colon and a space"]),
        ("a: 1\nb: *c\n", 2, ["undefined alias"]),
        ("a: 1\nb: !c d\n", 2, ["Remove the tag"]),
        ("a: 1\nb: \x01\n", 2, ["control characters"]),
        ("a: 1\n---\na: 2\n", 2, ["several documents"]),
        ("- 1\n- 2\n", 1, ["must be a mapping", "the list [1, 2]"]),
        ("", 1, ["must be a mapping", "null"]),
    ],
)
def test_a_text_that_is_no_yaml_is_reported_with_its_line(here: Path, text: str, line: int, words: list[str]) -> None:
    [fault] = faults_in(text)
    assert fault.startswith(f"mine.yaml:{line}: The configuration must be ")
    for word in words:
        assert word in fault


def test_other_bytes_are_reported_with_their_line(here: Path) -> None:
    Path("mine.yaml").write_bytes(b"a: 1\nb: \xff\n")
    with pytest.raises(ConfigError, match=r"mine\.yaml:2: The configuration must be a text in UTF-8"):
        check_files(["mine.yaml"])


@pytest.mark.slow
def test_files_are_merged_as_snakemake_merges_them(here: Path) -> None:
    for overlay in OVERLAYS:
        expected = yaml.safe_load((ROOT / "config/config.yaml").read_text())
        update_config(expected, yaml.safe_load(overlay.read_text()))
        assert ConfigFiles(["config/config.yaml", overlay]).merged == expected


@pytest.mark.parametrize("overlay", [None, *OVERLAYS], ids=lambda path: "config" if path is None else path.stem)
def test_check_says_what_a_sound_configuration_runs(
    here: Path, overlay: Path | None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", *([str(overlay)] if overlay else [])]) == 0
    assert capsys.readouterr().out.startswith("Sound: ")


def test_check_lists_all_faults_with_file_and_line(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.yaml").write_text(
        "models: {mlp: {kwargs: {norm: off}}}\n"
        "experiments:\n  digits:\n    lr: [0.1, -1]\n    steps: 1:30\n    stepps: 3\n    figures: [linesearch/fig2]\n"
        "run: [digits, digit]\n"
    )
    assert main(["check", "mine.yaml"]) == 1
    text = capsys.readouterr().err
    places = [line.split(" must ")[0].split(" is not ")[0].strip() for line in text.splitlines()[1:]]
    assert sorted(places) == [
        "mine.yaml:1: models.mlp.kwargs.norm",
        "mine.yaml:4: experiments.digits.lr[1]",
        "mine.yaml:5: experiments.digits.steps",
        "mine.yaml:6: experiments.digits.stepps",
        "mine.yaml:7: experiments.digits.figures[0]",
        "mine.yaml:8: run[1]",
    ]
    # A later file wins, and its lines are named.
    Path("later.yaml").write_text("\nrun: [nothing]\n")
    main(["check", "mine.yaml", "later.yaml"])
    assert "  later.yaml:2: run[0] must be the name of an experiment" in capsys.readouterr().err


def test_keys_that_an_overlay_leaves_in_a_renamed_block_are_explained(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("mine.yaml").write_text("experiments: {small_resnet18_momentum: {optimizer: {name: pal}}}\n")
    assert main(["check", "mine.yaml"]) == 1
    [_, fault] = capsys.readouterr().err.splitlines()
    place, _, text = fault.partition(": ")
    assert place.startswith("  config/config.yaml:")
    assert text == (
        "experiments.small_resnet18_momentum.optimizer.momentum is not a known key of pal. It is an option of "
        "fbpal_sgd or sgd. mine.yaml:1 changes name only, so the block's other keys stay. Write it under a new name in "
        "experiments."
    )


def test_a_list_of_models_is_one_fault(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for kind, entry in (
        ("models", "entry: sgdline.models:mlp"),
        ("datasets", "source: digits"),
        ("experiments", "a: b"),
    ):
        Path("mine.yaml").write_text(f"{kind}:\n- {entry}\n")
        assert main(["check", "mine.yaml"]) == 1
        [head, fault] = capsys.readouterr().err.splitlines()
        assert head == "The configuration has 1 fault:"
        assert fault.startswith(f"  mine.yaml:1: {kind} must be a mapping (key: value), got the list")
        assert fault.endswith(f"Give each entry a name: {{a_name: {{{entry}}}}}.")


def test_check_ends_with_2_where_a_file_cannot_be_read(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "absent.yaml"]) == 2
    assert capsys.readouterr().err.startswith("Error: absent.yaml must be a readable file")
    Path("mine.yaml").write_text("__use_yte__: true\n")
    assert main(["check", "mine.yaml"]) == 2
    assert "must be plain YAML, got a template" in capsys.readouterr().err


@pytest.mark.slow
def test_check_imports_no_torch(here: Path) -> None:
    code = "import sys; from sgdline.cli import main; main(['check']); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("given", "words", "instead"),
    [
        ("results=2026_11", "write --config results=./NAME", "results=./2026_11"),
        ('results="2026_11"', "write --config results=./NAME", "results=./2026_11"),  # Snakemake strips the quotes
        ("data_dir=True", "write --config data_dir=./NAME", "data_dir=./True"),
        ("run=1_0", "write --config run='[NAME]'", "run=[digits]"),
        ("run=[t", "Write both brackets, as in [one, two]", "run=[digits, walk_steps]"),
        ("download=true", "Write --config download=True", "download=True"),
        ("experiments={digits: {steps: 3}}", "Write it into a YAML file", None),
    ],
)
def test_advice_for_the_command_line_helps_there(here: Path, given: str, words: str, instead: str | None) -> None:
    with pytest.raises(ConfigError) as caught:
        resolved_with(given)
    [fault] = caught.value.faults
    assert fault.startswith(f"--config: {given.partition('=')[0]}")
    assert words in fault
    if instead is not None:
        resolved_with(instead)


def resolved_with(given: str) -> None:
    command_line = parse_config([given])
    files = ConfigFiles(["config/config.yaml"], command_line=command_line)
    update_config(files.merged, command_line)
    resolve_config(files.merged, files=files)
