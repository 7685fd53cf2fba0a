"""Digests of code: what a rule puts into its params so that a real edit of a kernel reruns what depends on it.

A digest covers a script and everything of this package that it imports, directly or not, found from the import
statements (those inside functions too; those for type checkers are left out). It is taken from syntax trees without
docstrings and without what only checks options: methods called `faults`, and sgdline.declare but for what builds
declarations from JSON. So comments, docstrings, formatting and checks do not change it.
"""

from __future__ import annotations

import ast
import atexit
import hashlib
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path

_PACKAGE = "sgdline"
_ROOT = Path(__file__).parent


@cache
def _module_file(module: str) -> Path | None:
    """Return the source file of a module of this package, None if there is no such module."""
    parts = module.split(".")
    if parts[0] != _PACKAGE:
        return None
    stem = _ROOT.joinpath(*parts[1:])
    for candidate in (stem.with_suffix(".py"), stem / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


@dataclass(frozen=True)
class _Source:
    """What a digest has to know of a source file; it depends on the file's text alone."""

    code: str  # digest of the syntax tree without docstrings
    # Level (dots; -1 for a plain import), module (None behind bare dots), names, of every import statement.
    imports: tuple[tuple[int, str | None, tuple[str, ...]], ...]
    exports: dict[str, tuple[str, str]]  # name imported at the top level -> module it comes from, and its name there
    names: tuple[str, ...]  # public names that are defined or imported at the top level, sorted


@cache
def _source(path: Path) -> _Source:
    text = path.read_bytes()
    key = hashlib.sha256(text).hexdigest()
    found = _KNOWN.get(key)
    if found is None:
        found = _KNOWN.add(key, _read_source(ast.parse(text.decode("utf-8"), filename=str(path))))
    return found


class _WithoutChecks(ast.NodeTransformer):
    """Takes out what no result depends on: the methods `faults` of declarations, and imports for type checkers."""

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        if any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list):
            node.body = [
                part for part in node.body if not (isinstance(part, ast.FunctionDef) and part.name == "faults")
            ]
        return node

    def visit_If(self, node: ast.If) -> ast.AST | None:
        checking = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        return None if checking and not node.orelse else self.generic_visit(node)


def _read_source(tree: ast.Module) -> _Source:
    tree = _WithoutChecks().visit(tree)
    imports: list[tuple[int, str | None, tuple[str, ...]]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports.append((-1, None, tuple(alias.name for alias in node.names)))
        elif isinstance(node, ast.ImportFrom):
            imports.append((node.level, node.module, tuple(alias.name for alias in node.names)))
    exports: dict[str, tuple[str, str]] = {}
    names: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names.update(alias.asname or alias.name.split(".")[0] for alias in node.names)
            if isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    exports.setdefault(alias.asname or alias.name, (node.module, alias.name))
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names.update(target.id for target in targets if isinstance(target, ast.Name))
    public = tuple(sorted(name for name in names if not name.startswith("_")))
    return _Source(_code_without_docstrings(tree), tuple(imports), exports, public)


def _is_text(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def _code_without_docstrings(tree: ast.Module) -> str:
    """Return a digest of a syntax tree; its docstrings are taken out."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            # Of a class also the meanings below its fields.
            last = len(node.body) if isinstance(node, ast.ClassDef) else 1
            node.body = [part for place, part in enumerate(node.body) if place >= last or not _is_text(part)]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()[:32]


class _Known:
    """Sources that some process has read before, by their text: reading all of them anew takes seconds at every start.

    They are kept beside Python's own compiled files, and like these may be deleted at any time.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._sources: dict[str, _Source] | None = None
        self._used: dict[str, _Source] = {}
        self._grown = False

    def get(self, key: str) -> _Source | None:
        if self._sources is None:
            self._sources = self._load()
        found = self._sources.get(key)
        if found is not None:
            self._used[key] = found
        return found

    def add(self, key: str, source: _Source) -> _Source:
        if not self._grown:
            self._grown = True
            atexit.register(self._save)
        self._used[key] = source
        return source

    def _load(self) -> dict[str, _Source]:
        try:
            document = json.loads(self._path.read_text(encoding="utf-8"))
            return {
                key: _Source(
                    code=str(entry["code"]),
                    imports=tuple((int(level), module, tuple(names)) for level, module, names in entry["imports"]),
                    exports={name: (module, origin) for name, (module, origin) in entry["exports"].items()},
                    names=tuple(entry["names"]),
                )
                for key, entry in document.items()
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}

    def _save(self) -> None:
        whole = {**self._load(), **self._used}
        kept = whole if len(whole) <= _MOST_KNOWN else self._used
        # Where nothing can be written, the next start reads all sources anew.
        with suppress(OSError):
            self._path.parent.mkdir(exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self._path.parent) as folder:
                unfinished = Path(folder) / self._path.name
                unfinished.write_text(json.dumps({key: asdict(source) for key, source in kept.items()}))
                unfinished.replace(self._path)


def _known_file() -> Path:
    """Return where sources are kept: another interpreter, or another edition of this module, has its own."""
    edition = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:8]
    return _ROOT / "__pycache__" / f"sources.{sys.implementation.cache_tag}.{edition}.json"


_MOST_KNOWN = 2000  # entries; edited files leave theirs behind
_KNOWN = _Known(_known_file())


@cache
def _home_of(module: str, name: str) -> str:
    """Return the module that a name imported from `module` comes from, following re-exports of packages."""
    if _module_file(f"{module}.{name}"):
        return f"{module}.{name}"
    path = _module_file(module)
    if path is not None and path.name == "__init__.py" and name in _source(path).exports:
        return _home_of(*_source(path).exports[name])
    return module


def _local_file(module: str, folders: Iterable[Path]) -> Path | None:
    """Return the source file of a module that lies in one of the folders, None if there is none."""
    for folder in folders:
        stem = folder.joinpath(*module.split("."))
        for candidate in (stem.with_suffix(".py"), stem / "__init__.py"):
            if candidate.is_file():
                return candidate
    return None


@cache
def _imports(path: Path, here: Path) -> list[Path]:
    """Return the source files that a file imports: of this package, beside it, or in the working directory `here`."""
    inside = path.is_relative_to(_ROOT)
    beside = [path.parent, _above_packages(path), here]
    found: list[Path | None] = []
    for level, module, names in _source(path).imports:
        wanted: list[tuple[str, list[Path]]]
        if level < 0:
            wanted = [(name, beside) for name in names]
        elif level > 0:
            folder = path.parents[level - 1]
            base = f"{module}." if module else ""
            wanted = [(f"{base}{name}", [folder]) for name in names]
            wanted += [(module, [folder])] if module else []
        elif module and module.split(".")[0] == _PACKAGE:
            wanted = [(_home_of(module, name), []) for name in names]
        else:
            wanted = [(f"{module}.{name}", beside) for name in names]
            wanted += [(module, beside)] if module else []
        for name, folders in wanted:
            if name.split(".")[0] == _PACKAGE:
                found.append(_module_file(name))
            elif not inside:
                found.append(_local_file(name, folders))
    return [file.resolve() for file in found if file is not None]


def _above_packages(path: Path) -> Path:
    """Return the folder from which a file's own package is imported: its folder, unless that is a package."""
    folder = path.parent
    while (folder / "__init__.py").is_file() and folder != folder.parent:
        folder = folder.parent
    return folder


def _only_checks(path: Path) -> bool:
    """Return whether a file helps to declare and to check options: results depend on the options alone."""
    return path.parent == _ROOT / "declare" and path.name != "build.py"


def covered_files(*roots: str | Path) -> list[Path]:
    """Return the source files that a digest of `roots` covers, sorted.

    Args:
        roots: Paths of Python files, dotted modules of this package, or "module:name" entries of it.

    Raises:
        FileNotFoundError: If a root does not exist.
    """
    waiting: list[Path] = []
    for root in roots:
        if isinstance(root, str) and root.split(".")[0].split(":")[0] == _PACKAGE:
            module, _, name = root.partition(":")
            path = _module_file(_home_of(module, name) if name else module)
        else:
            path = Path(root)
        if path is None or not path.is_file():
            raise FileNotFoundError(f"code to digest must exist, got {root}")
        waiting.append(path.resolve())
    covered, here = set[Path](), Path.cwd()
    while waiting:
        path = waiting.pop()
        if path not in covered and not _only_checks(path):
            covered.add(path)
            waiting.extend(_imports(path, here))
    return sorted(covered, key=str)


def names_in(module: str) -> list[str] | None:
    """Return the public names that a module defines or imports, read from its source without running it.

    Args:
        module: A dotted module of this package, or the path of a Python file.

    Returns:
        Names, sorted; None if there is no such file.

    Raises:
        SyntaxError, UnicodeDecodeError: If the file is no Python.
    """
    path = Path(module) if module.endswith(".py") else _module_file(module)
    if path is None or not path.is_file():
        return None
    return list(_source(path.resolve()).names)


@dataclass(frozen=True)
class Parameters:
    """What a factory takes by keyword."""

    names: tuple[str, ...]
    required: tuple[str, ...]  # those without a default
    open_ended: bool  # it takes any others as well


def parameters_of(entry: str) -> Parameters | None:
    """Return what a factory takes, read from its source without running it.

    Args:
        entry: "module:factory", the module one of this package or the path of a Python file.

    Returns:
        None if it is not a plain function there.
    """
    module, _, factory = entry.rpartition(":")
    path = Path(module) if module.endswith(".py") else _module_file(_home_of(module, factory))
    if path is None or not path.is_file():
        return None
    return _plain_functions(path.read_text(encoding="utf-8")).get(factory)


@cache  # all models of a configuration lie in a few files, and each configuration asks for them again
def _plain_functions(text: str) -> dict[str, Parameters]:
    """Return what the functions of a source take that have no decorator and whose names have no other meaning there."""
    tree = ast.parse(text)
    meanings = Counter(name for statement in tree.body for name in _names_bound_in(statement))
    return {
        node.name: _taken_by(node.args)
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and not node.decorator_list and meanings[node.name] == 1
    }


def _taken_by(arguments: ast.arguments) -> Parameters:
    positional = arguments.args
    needed = [argument.arg for argument in positional[: len(positional) - len(arguments.defaults)]]
    needed += [
        argument.arg
        for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        if default is None
    ]
    names = tuple(argument.arg for argument in [*positional, *arguments.kwonlyargs])
    return Parameters(names, tuple(needed), arguments.kwarg is not None)


def _names_bound_in(statement: ast.stmt) -> set[str]:
    """Return the names that a statement at the top level may give a meaning to, and some more."""
    names: set[str] = set()
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        names.update(name for name in (getattr(node, "name", None), getattr(node, "asname", None)) if name)
    return names


@cache
def code_digest(*roots: str | Path) -> str:
    """Return a digest of `roots` and of all of this package that they import.

    Args:
        roots: See `covered_files`.

    Returns:
        Sixteen hexadecimal digits.
    """
    digest = hashlib.sha256()
    for path in covered_files(*roots):
        name = str(path.relative_to(_ROOT)) if path.is_relative_to(_ROOT) else path.name
        digest.update(f"{name}\n{_source(path).code}\n".encode())
    return digest.hexdigest()[:16]


@cache  # it looks through all that is installed
def _edition(package: str) -> str:
    return f"{package} {version(packages_distributions()[package][0])}"


def entry_digest(entry: str) -> str:
    """Return a digest of the code behind a model's entry string.

    Code of this package, of files in the working directory and of modules on Python's path is digested, with what it
    imports from there; an installed package is named with its version, without importing it (that could cost seconds).
    Code that cannot be read gives a digest all the same: the job that loads it says what is wrong.

    Args:
        entry: "package.module:factory" or "folder/file.py:factory".
    """
    module, _, _ = entry.rpartition(":")
    top = module.split(".")[0]
    own = [Path(folder) for folder in sys.path if not folder.endswith(("site-packages", "dist-packages"))]
    local = Path(module) if module.endswith(".py") else _local_file(module, [Path.cwd(), *own])
    try:
        if top == _PACKAGE:
            return code_digest(entry)
        if local is not None and local.is_file():
            return code_digest(local)
        return _edition(top)
    except (FileNotFoundError, SyntaxError, UnicodeDecodeError):
        return f"{module} unreadable"
    except (KeyError, PackageNotFoundError):
        return f"{module} not found"
