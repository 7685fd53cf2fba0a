"""Nothing runs that nobody asked for: no pickle, no code from texts, no shell, no name that leaves its folder."""

from __future__ import annotations

import ast
import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from sgdline.config import ConfigError, resolve_config
from sgdline.declare.walker import SAFE_LOADER
from sgdline.workflow.layout import run_path
from sgdline.workflow.runs import runs

ROOT = Path(__file__).parents[2]

# --- the code ---------------------------------------------------------------------------------------------------------

# The one module that may import pickle, and those that import modules by names made of constants and checked words.
PICKLES = "src/sgdline/data/restricted_pickles.py"
IMPORTERS = {
    "src/sgdline/declare/registry.py",
    "src/sgdline/papers/base.py",
    "src/sgdline/probes/planning.py",
    "src/sgdline/tables/kind.py",
}
# The one that runs a file of the user's: an entry, by design.
ENTRIES = "src/sgdline/entries.py"
# The one that reads YAML by a loader that it names: a safe one, in C.
SCHEMA_LOADER = "src/sgdline/declare/walker.py"

LOADERS = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "runpy", "code", "pty"}
STARTERS = {"subprocess", "multiprocessing", "asyncio", "ctypes.util", "importlib.util"}
BUILTINS = {"eval", "exec", "compile", "__import__", "breakpoint", "input"}
ATTRIBUTES = {
    "os": r"system|popen|exec\w+|spawn\w+|posix_spawnp?|fork|forkpty|startfile",
    "yaml": r"load|load_all|full_load|full_load_all|unsafe_load|unsafe_load_all",
    "torch": r"hub|package",
    "pd": r"read_pickle|eval",
    "pandas": r"read_pickle|eval",
    "shutil": r"unpack_archive",
    "ctypes": r"PyDLL|pythonapi",
}
METHODS = {"extractall", "extract", "unpack_archive", "exec_module", "load_module", "import_module"}


def surprises(source: str, file: str) -> Iterator[str]:
    """Yield what of a Python source could run something, with its line."""
    for node in ast.walk(ast.parse(source)):
        found: list[str] = []
        if isinstance(node, ast.Import):
            found = [
                alias.name for alias in node.names if {alias.name, alias.name.split(".")[0]} & (LOADERS | STARTERS)
            ]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = {node.module, node.module.split(".")[0], *(f"{node.module}.{alias.name}" for alias in node.names)}
            found = sorted(names & (LOADERS | STARTERS))
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            pattern = ATTRIBUTES.get(node.value.id)
            found = [f"{node.value.id}.{node.attr}"] if pattern and re.fullmatch(pattern, node.attr) else []
        elif isinstance(node, ast.Call):
            found = list(_calls(node))
        for what in found:
            yield f"{file}:{node.lineno} {what}"


def _calls(node: ast.Call) -> Iterator[str]:
    called, keywords = node.func, {keyword.arg: keyword.value for keyword in node.keywords}
    name = called.id if isinstance(called, ast.Name) else called.attr if isinstance(called, ast.Attribute) else ""
    owner = called.value.id if isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name) else ""
    if isinstance(called, ast.Name) and name in BUILTINS:
        yield name
    if name in METHODS:
        yield name
    if "shell" in keywords and not _is_false(keywords["shell"]):
        yield "shell"
    if "allow_pickle" in keywords and not _is_false(keywords["allow_pickle"]):
        yield "allow_pickle"
    if (owner, name) == ("torch", "load") and getattr(keywords.get("weights_only"), "value", None) is not True:
        yield "torch.load"


def _is_false(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


def allowed(found: str) -> bool:
    place, _, what = found.partition(" ")
    file = place.rpartition(":")[0]
    if file == PICKLES:
        return what == "pickle"
    if file == ENTRIES:
        return what in ("importlib.util", "import_module", "exec_module")
    if file == SCHEMA_LOADER:
        return what == "yaml.load"
    return file in IMPORTERS and what == "import_module"


PYTHON = sorted(path for folder in ("src", "workflow") for path in (ROOT / folder).rglob("*.py"))
RULES = [ROOT / "Snakefile", *sorted((ROOT / "workflow/rules").glob("*.smk"))]


@pytest.mark.slow
def test_nothing_in_the_package_and_the_scripts_runs_what_it_reads() -> None:
    assert len(PYTHON) > 150
    found = [
        what
        for path in PYTHON
        for what in surprises(path.read_text(encoding="utf-8"), path.relative_to(ROOT).as_posix())
    ]
    assert [what for what in found if not allowed(what)] == []
    # What is allowed is there: the scan sees it.
    assert any(what.startswith(PICKLES) for what in found)
    assert sum(what.startswith(ENTRIES) for what in found) == 3


def test_the_loader_of_yaml_is_a_safe_one() -> None:
    text = (ROOT / SCHEMA_LOADER).read_text(encoding="utf-8")
    assert text.count("yaml.load(") == text.count("Loader=SAFE_LOADER)") == 1
    assert SAFE_LOADER in (yaml.SafeLoader, getattr(yaml, "CSafeLoader", None))


def test_modules_are_imported_by_names_of_this_package_only() -> None:
    ours = tuple(f"f{quote}{start}." for quote in "'\"" for start in ("sgdline", "{__name__}"))
    for file in sorted(IMPORTERS):
        calls = [
            node
            for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8")))
            if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "import_module"
        ]
        assert calls
        for call in calls:
            assert ast.unparse(call.args[0]).startswith(ours), file


@pytest.mark.parametrize(
    "source",
    [
        "import pickle", "from pickle import loads", "import dill as d", "from joblib import load", "import subprocess",
        "from importlib import util", "eval('1')", "exec(text)", "compile(text, '', 'exec')", "__import__('os')",
        "import os\nos.system('x')", "import os\nos.popen('x')", "os.execv('x', [])", "os.posix_spawn('x', [], {})",
        "import yaml\nyaml.load(file, Loader=yaml.Loader)", "yaml.unsafe_load(file)", "torch.load(file)",
        "torch.load(file, weights_only=False)", "torch.load(file, weights_only=flag)", "torch.hub.load('x')",
        "np.load(file, allow_pickle=True)", "np.load(file, allow_pickle=flag)", "run('x', shell=True)",
        "pd.read_pickle(file)", "archive.extractall(folder)", "shutil.unpack_archive(file)",
        "spec.loader.exec_module(module)",
    ],
)  # fmt: skip
def test_the_scan_sees(source: str) -> None:
    found = list(surprises(source, "src/sgdline/lines.py"))
    assert found
    assert not all(allowed(what) for what in found)


@pytest.mark.parametrize(
    "source",
    [
        "yaml.safe_load(file)", "torch.load(file, weights_only=True)", "np.load(file, allow_pickle=False)",
        "model.eval()", "re.compile('x')", "run(['x'], shell=False)", "os.environ['x']", "text.format()",
    ],
)  # fmt: skip
def test_the_scan_passes(source: str) -> None:
    assert list(surprises(source, "x.py")) == []


def test_rules_start_scripts_and_no_shell() -> None:
    for path in RULES:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"^\s*(shell|run|notebook|wrapper|cwl|template_engine)\s*:", text, flags=re.MULTILINE), (
            path
        )
        assert not re.search(r"\b(shell|eval|exec|system|popen)\(", text), path
        assert len(re.findall(r"^rule ", text, flags=re.MULTILINE)) == text.count("    script:\n") + (
            3 if path.name == "Snakefile" else 0  # its targets
        )


# --- names ------------------------------------------------------------------------------------------------------------

HOSTILE = [
    "", " ", "a b", " a", "a ", "a'b", 'a"b', "$(touch pwned)", "${HOME}", "`touch pwned`", "a;b", "a|b", "a&b", "a>b",
    "a<b", "a*b", "a?b", "[a]", "{a}", "{wildcards.lr}", "a%b", "a\\b", "a/b", "../a", "a/../b", "..", ".", "/etc/a",
    "~", "~root", "-rf", "--help", "_a", "a.b", "a\nb", "a\n", "\na", "a\rb", "a\tb", "a\0b", "\0", "a\x1bb", "a\x7fb",
    "\u0430\u0435", "d\u0456gits", "\uff41", "\u00e9", "e\u0301", "a\u200bb", "a\u202eb", "\ufeffa", "a\u00a0b",
    "a\u2028b",    "\U0001d41a", "\u0661", "a" * 65, "a" * 100_000,
]  # fmt: skip

BASE: dict[str, Any] = {
    "datasets": {"digits": {"source": "digits", "train": 64, "validation": 16, "test": 16}},
    "models": {"mlp": {"entry": "sgdline.models:mlp", "kwargs": {"hidden": [8]}}},
    "experiments": {
        "one": {
            "dataset": "digits",
            "models": ["mlp"],
            "lr": [0.1],
            "batch_size": [16],
            "seed": [1],
            "steps": 4,
            "probes": {"evaluation": {"every": 2}, "interp": {}},
            "figures": ["walk/fig2_sgd_vgg11_e1"],
        },
    },
    "comparisons": {"pair": {"figure": "walk/table1_barriers", "experiments": ["one"]}},
    "toys": {"toy": {"toy": "quadratic_descent", "figures": ["walk/fig36_quadratic"]}},
}


def resolved(config: Any) -> dict[str, Any]:
    return resolve_config(config)


def renamed(config: dict[str, Any], section: str, name: str) -> None:
    """Put a name in the place of a section's only one, and wherever it is referred to."""
    [old] = config[section]
    config[section] = {name: config[section][old]}
    one = config["experiments"][name if section == "experiments" else "one"]
    if section == "datasets":
        one["dataset"] = name
    elif section == "models":
        one["models"] = [name]
    elif section == "experiments":
        config["comparisons"]["pair"]["experiments"] = [name]


def test_the_configuration_is_sound_without() -> None:
    assert run_path(runs(resolved(BASE))[0]) == "one/mlp/lr0.1_bs16_seed1"


@pytest.mark.parametrize("section", ["datasets", "models", "experiments", "comparisons", "toys"])
def test_no_hostile_name_becomes_a_file(section: str) -> None:
    for name in HOSTILE:
        config = copy.deepcopy(BASE)
        renamed(config, section, name)
        with pytest.raises(ConfigError) as caught:
            resolved(config)
        [fault] = [line for line in caught.value.faults if line.startswith(section)]
        assert "\n" not in fault
        assert "\0" not in fault
        assert len(fault) < 500, name


def _set(config: Any, path: tuple[Any, ...], value: Any) -> None:
    for part in path[:-1]:
        config = config[part]
    config[path[-1]] = value


@pytest.mark.parametrize(
    "path",
    [
        ("run",), ("experiments", "one", "dataset"), ("experiments", "one", "models", 0),
        ("experiments", "one", "figures", 0), ("experiments", "one", "optimizer"), ("experiments", "one", "schedule"),
        ("comparisons", "pair", "figure"), ("comparisons", "pair", "experiments", 0), ("toys", "toy", "toy"),
        ("toys", "toy", "figures", 0), ("models", "mlp", "entry"), ("datasets", "digits", "source"),
        ("experiments", "one", "start_from"),
    ],
)  # fmt: skip
def test_no_hostile_name_is_found_anywhere(path: tuple[Any, ...]) -> None:
    for name in HOSTILE:
        config = copy.deepcopy(BASE)
        value: Any = [name] if path == ("run",) else name
        value = {"name": name} if path[-1] in ("optimizer", "schedule") else value
        value = {"experiment": name, "lr": 0.1} if path[-1] == "start_from" else value
        _set(config, path, value)
        with pytest.raises(ConfigError) as caught:
            resolved(config)
        assert all("\n" not in fault and len(fault) < 700 for fault in caught.value.faults)


def test_no_hostile_probe_is_imported() -> None:
    for name in [*HOSTILE, "segment", "planning", "__init__", "evaluation.x", "line "]:
        config = copy.deepcopy(BASE)
        config["experiments"]["one"]["probes"][name] = {}
        with pytest.raises(ConfigError):
            resolved(config)


@pytest.mark.parametrize("key", ["results", "data_dir"])
def test_folders_hold_nothing_that_a_shell_or_a_rule_would_read(key: str) -> None:
    harmless = {
        "_a",
        "a.b",
        "a/b",
        "/etc/a",
        "\u0430\u0435",
        "d\u0456gits",
        "\uff41",
        "\u00e9",
        "\U0001d41a",
        "\u0661",
        "a" * 65,
    }
    for name in [*HOSTILE, "x" * 256, "x/" * 2100 + "x", "é" * 130]:
        config = {**BASE, key: name}
        if name in harmless:
            resolved(config)
            continue
        with pytest.raises(ConfigError) as caught:
            resolved(config)
        [fault] = caught.value.faults
        assert fault.startswith(f"{key} must ")


def test_paths_of_images_and_lines_are_texts_of_bounded_length() -> None:
    for name in ["", "a\0b", "a\nb", "x" * 256, "x/" * 2100 + "x"]:
        config = copy.deepcopy(BASE)
        config["datasets"]["digits"] = {"source": "image_folder", "train": 8, "path": name}
        config["experiments"]["one"]["import_lines"] = name
        with pytest.raises(ConfigError) as caught:
            resolved(config)
        starts = [fault.partition(" ")[0] for fault in caught.value.faults]
        assert {"datasets.digits.path", "experiments.one.import_lines"} <= set(starts)


def test_aliases_that_stand_for_a_full_memory_are_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    config = copy.deepcopy(BASE)
    config["models"]["mlp"]["kwargs"] = {"hidden": yaml.safe_load("\n".join(lines))["a11"]}
    with pytest.raises(ConfigError, match=r"models\.mlp\.kwargs must have at most 10000 entries, got more"):
        resolved(config)
