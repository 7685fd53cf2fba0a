"""Digests of code: what changes them, what does not, and what they cover."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from warm_python import PROGRAM

from sgdline import digests
from sgdline.declare import registry
from sgdline.table_modules import table_modules

ROOT = Path(digests.__file__).parents[2]


def names(*roots: str | Path) -> set[str]:
    package = Path(digests.__file__).parent
    return {str(path.relative_to(package)) for path in digests.covered_files(*roots) if path.is_relative_to(package)}


def digest_of(path: Path, text: str) -> str:
    path.write_text(text)
    digests.code_digest.cache_clear()
    digests._imports.cache_clear()
    digests._source.cache_clear()
    return digests.code_digest(path)


def test_only_code_changes_a_digest(tmp_path: Path) -> None:
    path = tmp_path / "kernel.py"
    plain = digest_of(path, '"""Say."""\n\ndef f(x):\n    """Doc."""\n    return x + 1\n')
    assert digest_of(path, "# why\ndef f( x ):\n\n    return (x + 1)  # because\n") == plain
    assert digest_of(path, "def f(x):\n    return x + 2\n") != plain
    assert digest_of(path, "def f(x):\n    'Doc.'\n    return 'Doc.'\n") != plain


def test_checks_of_a_declaration_are_no_part_of_what_it_does(tmp_path: Path) -> None:
    path, options = tmp_path / "options.py", "@dataclass(frozen=True)\nclass Options:\n    every: int = 1\n"
    plain = digest_of(path, options)
    check = "    def faults(self):\n        from sgdline.train import run\n        yield from ()\n"
    assert digest_of(path, options + check) == plain
    assert "train/run.py" not in names(path)
    assert digest_of(path, options + check.replace("faults", "steps")) != plain
    assert digest_of(path, f'{options}    """Updates."""\n') == plain
    assert digest_of(path, options.replace("1", "2")) != plain
    helper = options.removeprefix("@dataclass(frozen=True)\n")
    assert digest_of(path, helper + check) != digest_of(path, helper)  # what is no declaration may compute faults


def test_imports_are_followed_also_inside_functions(tmp_path: Path) -> None:
    path = tmp_path / "script.py"
    path.write_text("def f():\n    from sgdline.train.run import train_run\n    return train_run\n")
    covered = names(path)
    assert {"train/run.py", "train/loop.py", "train/settings.py", "data/batches.py", "seeds.py"} <= covered
    assert not any(name.startswith(("figures", "analysis", "probes", "config")) for name in covered)
    # A new rule or schedule makes nothing stale: a training covers those that it runs.
    assert {name for name in covered if name.startswith(("train/rules", "train/schedules"))} == {
        "train/rules/base.py", "train/schedules/base.py",
    }  # fmt: skip


def test_the_modules_of_the_training_import_one_another_one_way() -> None:
    folder = ROOT / "src/sgdline/train"
    for file in sorted(folder.rglob("*.py")):
        imported = digests._imports(file, folder)
        assert file not in (digests.covered_files(*imported) if imported else []), file


def test_a_table_counts_for_those_who_write_or_read_it() -> None:
    """A new analysis with a table of its own must not train and measure again."""
    scripts = ROOT / "workflow" / "scripts"
    training = names(scripts / "train_run.py", "sgdline.train.rules.sgd")
    tables = {file.removeprefix("sgdline.").replace(".", "/") + ".py" for file in table_modules().values()}
    assert training & tables == {"tables/kinds/dataset.py", "tables/kinds/trace.py"}
    fitting = names(scripts / "analyse_run.py", "sgdline.analysis.kinds.line_fits")
    assert fitting & tables == {
        "probes/line/table.py",
        "tables/kinds/line_fits.py",
    }


@pytest.mark.parametrize(
    ("module", "stale"),
    [
        ("strategies", {"line_strategies", "line_batch_sizes"}),  # the second one uses a step of the first
        ("intervals", {"intervals", "interval_epochs"}),
        ("one_step", {"one_step_metrics"}),
    ],
)
def test_a_change_of_the_module_that_a_declaration_calls_changes_its_analysis_only(
    monkeypatch: pytest.MonkeyPatch, module: str, stale: set[str]
) -> None:
    def codes() -> dict[str, str]:
        digests.code_digest.cache_clear()
        return {name: digests.code_digest(f"sgdline.analysis.kinds.{name}") for name in registry.names("analysis")}

    before, edited, read = codes(), ROOT / f"src/sgdline/analysis/{module}.py", digests._source
    monkeypatch.setattr(
        digests, "_source", lambda path: replace(read(path), code="edited") if path == edited else read(path)
    )
    assert {name for name, code in codes().items() if code != before[name]} == stale
    digests.code_digest.cache_clear()


def test_the_options_of_a_probe_cover_what_measures_and_not_how_plans_are_chosen() -> None:
    covered = names("sgdline.probes.interp.options")
    assert {"probes/interp/probe.py", "probes/interp/table.py", "probes/probe.py", "engine/lines.py"} <= covered
    assert not {"probes/interp/trial.py", "probes/planning.py", "engine/trial.py", "probes/line/probe.py"} & covered
    assert {"probes/line/probe.py", "probes/line/options.py"} <= names("sgdline.probes.mline.options")
    assert {"probes/interp/trial.py", "engine/trial.py"} <= names("sgdline.probes.interp.trial")


def test_an_entry_covers_its_own_family_only() -> None:
    covered = names("sgdline.models:mlp")
    assert "models/mlp.py" in covered
    assert "models/vgg.py" not in covered


@pytest.mark.parametrize("script", sorted((ROOT / "workflow" / "scripts").glob("*.py")), ids=lambda path: path.stem)
def test_a_scripts_digest_covers_all_that_it_loads(script: Path) -> None:
    """Everything that an import of the script's modules really loads is covered, package files apart."""
    program = (
        "import ast, importlib, sys\n"
        f"tree = ast.parse(open({str(script)!r}).read())\n"
        "for node in ast.walk(tree):\n"
        "    if isinstance(node, ast.ImportFrom) and node.module.startswith('sgdline'):\n"
        "        importlib.import_module(node.module)\n"
        "print('\\n'.join(m.__file__ for n, m in sys.modules.items() if n.split('.')[0] == 'sgdline'))\n"
    )
    result = subprocess.run([os.environ[PROGRAM], "-c", program], capture_output=True, text=True, check=True)
    loaded = {Path(line).resolve() for line in result.stdout.split()}
    loaded = {path for path in loaded if path.name != "__init__.py"}
    assert loaded
    # The package file of the models loads every family of networks; a run's own one is covered by its entry.
    families = set(digests.covered_files(ROOT / "src" / "sgdline" / "models" / "__init__.py"))
    # What declares and checks options, and finds them by entry: results depend on the options alone.
    package = ROOT / "src" / "sgdline"
    checks = {path for path in loaded if path.parent == package / "declare" or path == package / "entries.py"}
    assert loaded - checks - set(digests.covered_files(script)) <= families


def test_what_checks_options_changes_no_digest_and_what_builds_them_does() -> None:
    covered = names("sgdline.probes.settings", "sgdline.probes.hvp.options")
    assert "declare/build.py" in covered
    assert not {"declare/faults.py", "declare/run_facts.py", "declare/registry.py", "declare/vocabulary.py"} & covered


def test_entries_outside_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets" / "mine.py").write_text("def net(): return 1\n")
    first = digests.entry_digest("nets/mine.py:net")
    assert digests.entry_digest("nets.mine:net") == first
    (tmp_path / "nets" / "mine.py").write_text("def net(): return 2\n")
    digests.code_digest.cache_clear()
    digests._imports.cache_clear()
    digests._source.cache_clear()
    assert digests.entry_digest("nets/mine.py:net") != first
    assert digests.entry_digest("torchvision.models:resnet18").startswith("torchvision 0.")
    assert digests.entry_digest("nowhere.models:net") == "nowhere.models not found"


def test_a_module_on_pythons_path_is_digested_with_what_its_package_imports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package, elsewhere = tmp_path / "path" / "own_rules", tmp_path / "here"
    for folder in (package, elsewhere):
        folder.mkdir(parents=True)
    monkeypatch.chdir(elsewhere)
    monkeypatch.syspath_prepend(str(package.parent))
    package.joinpath("__init__.py").write_text("")
    package.joinpath("helper.py").write_text("x = 1\n")
    package.joinpath("rules.py").write_text("from own_rules.helper import x\n")

    def digest() -> str:
        for cached in (digests.code_digest, digests._imports, digests._source):
            cached.cache_clear()
        return digests.entry_digest("own_rules.rules:Rule")

    before = digest()
    assert "not found" not in before
    package.joinpath("helper.py").write_text("x = 2\n")
    assert digest() != before


def test_what_an_own_model_imports_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    files = {
        "nets/mine.py": "from blocks import block\nimport shared.parts\n",
        "nets/blocks.py": "def block(): return 1\n",
        "shared/parts.py": "x = 1\n",
        "pack/__init__.py": "from .inner import make\n",
        "pack/inner.py": "def make(): return 1\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)

    def current() -> tuple[str, str]:
        digests.code_digest.cache_clear()
        digests._imports.cache_clear()
        digests._source.cache_clear()
        return digests.entry_digest("nets/mine.py:net"), digests.entry_digest("pack:make")

    mine, pack = current()
    (tmp_path / "nets" / "blocks.py").write_text("def block(): return 2\n")
    assert current()[0] != mine
    mine, _ = current()
    (tmp_path / "shared" / "parts.py").write_text("x = 2\n")
    assert current()[0] != mine
    assert current()[1] == pack
    (tmp_path / "pack" / "inner.py").write_text("def make(): return 2\n")
    assert current()[1] != pack


def test_code_that_cannot_be_read_is_left_to_the_job_that_loads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.py").write_text("def net(:\n")
    assert digests.entry_digest("broken.py:net") == "broken.py unreadable"
    assert digests.entry_digest("sgdline.modells:mlp") == "sgdline.modells unreadable"


def test_a_missing_root_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing"):
        digests.code_digest(tmp_path / "nothing.py")
    with pytest.raises(FileNotFoundError, match=r"sgdline\.nothing"):
        digests.code_digest("sgdline.nothing")


@pytest.mark.slow
def test_what_was_read_before_gives_the_same_digest(tmp_path: Path) -> None:
    """Another process takes over what one has read, and a damaged or outdated store changes nothing."""
    script = ROOT / "workflow" / "scripts" / "probe_segment.py"
    store = tmp_path / "__pycache__" / "sources.json"
    program = (
        "import ast, sys\n"
        "from pathlib import Path\n"
        "from sgdline import digests\n"
        f"digests._KNOWN = digests._Known(Path({str(store)!r}))\n"
        "parsed = []\n"
        "parse = ast.parse\n"
        "ast.parse = lambda *words, **options: parsed.append(1) or parse(*words, **options)\n"
        f"print(digests.code_digest({str(script)!r}, 'sgdline.probes.line.options'), len(parsed))\n"
    )

    def run() -> tuple[str, int]:
        result = subprocess.run([os.environ[PROGRAM], "-c", program], capture_output=True, text=True, check=True)
        digest, parsed = result.stdout.split()
        return digest, int(parsed)

    first, parsed = run()
    assert parsed > 30
    assert first == digests.code_digest(script, "sgdline.probes.line.options")
    assert run() == (first, 0)
    whole = store.read_text()
    for content in (whole[: len(whole) // 2], "[]", '{"a": 1}', '{"a": {"code": 1, "imports": [1]}}'):
        store.write_text(content)
        assert run() == (first, parsed)
    assert [path.name for path in store.parent.iterdir()] == [store.name]


@pytest.mark.parametrize(
    "again",
    [
        "make_net = partial(make_net, width=3)",
        "from nets import make_net",
        "if True:\n    make_net = None",
        "@wrap\ndef other(): ...",
    ],
)
def test_the_arguments_of_a_factory_are_known_only_if_nothing_else_has_its_name(tmp_path: Path, again: str) -> None:
    source = tmp_path / "nets.py"
    source.write_text("def make_net(width, *, depth=2): ...\n")
    assert digests.parameters_of(f"{source}:make_net") == digests.Parameters(("width", "depth"), ("width",), False)
    source.write_text(f"def make_net(width, *, depth=2): ...\n\n{again}\n")
    known = digests.parameters_of(f"{source}:make_net")
    assert (known is None) == ("other" not in again)
