"""Digests of code: what a rule puts into its params so that a real edit of a kernel reruns what depends on it.

A digest covers a script and everything of this package that it imports, directly or not, found from the import
statements (those inside functions too). It is taken from syntax trees without docstrings, so comments, docstrings
and formatting do not change it.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path

_PACKAGE = "sgdline"
_ROOT = Path(__file__).parent


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


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


@cache  # a module is part of many digests
def _without_docstrings(path: Path) -> str:
    tree = ast.parse(ast.unparse(_tree(path)))  # a copy, so that the cached tree stays whole
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:]
    return ast.dump(tree)


def _home_of(module: str, name: str) -> str:
    """Return the module that a name imported from `module` comes from, following re-exports of packages."""
    if _module_file(f"{module}.{name}"):
        return f"{module}.{name}"
    path = _module_file(module)
    if path is not None and path.name == "__init__.py":
        for node in _tree(path).body:
            if isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    if (alias.asname or alias.name) == name:
                        return _home_of(node.module, alias.name)
    return module


def _local_file(module: str, folders: Iterable[Path]) -> Path | None:
    """Return the source file of a module that lies in one of the folders, None if there is none."""
    for folder in folders:
        stem = folder.joinpath(*module.split("."))
        for candidate in (stem.with_suffix(".py"), stem / "__init__.py"):
            if candidate.is_file():
                return candidate
    return None


def _imports(path: Path) -> list[Path]:
    """Return the source files that a file imports: of this package, beside it, or in the working directory."""
    inside = path.is_relative_to(_ROOT)
    found: list[Path | None] = []
    for node in ast.walk(_tree(path)):
        names: list[tuple[str, list[Path]]] = []
        if isinstance(node, ast.Import):
            names = [(alias.name, [path.parent, Path.cwd()]) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level:
            folder = path.parents[node.level - 1]
            base = f"{node.module}." if node.module else ""
            names = [(f"{base}{alias.name}", [folder]) for alias in node.names]
            names += [(node.module, [folder])] if node.module else []
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module.split(".")[0] == _PACKAGE:
                names = [(_home_of(node.module, alias.name), []) for alias in node.names]
            else:
                names = [(f"{node.module}.{alias.name}", [path.parent, Path.cwd()]) for alias in node.names]
                names += [(node.module, [path.parent, Path.cwd()])]
        for module, folders in names:
            if module.split(".")[0] == _PACKAGE:
                found.append(_module_file(module))
            elif not inside:
                found.append(_local_file(module, folders))
    return [file.resolve() for file in found if file is not None]


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
    covered: set[Path] = set()
    while waiting:
        path = waiting.pop()
        if path not in covered:
            covered.add(path)
            waiting.extend(_imports(path))
    return sorted(covered)


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
    names: set[str] = set()
    for node in _tree(path.resolve()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names.update(alias.asname or alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names.update(target.id for target in targets if isinstance(target, ast.Name))
    return sorted(name for name in names if not name.startswith("_"))


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
        digest.update(f"{name}\n{_without_docstrings(path)}\n".encode())
    return digest.hexdigest()[:16]


def entry_digest(entry: str) -> str:
    """Return a digest of the code behind a model's entry string.

    Code of this package and of files in the working directory is digested, with what it imports from there; an
    installed package is named with its version, without importing it (that could cost seconds). Code that cannot be
    read gives a digest all the same: the job that loads it says what is wrong.

    Args:
        entry: "package.module:factory" or "folder/file.py:factory".
    """
    module, _, _ = entry.rpartition(":")
    top = module.split(".")[0]
    local = Path(module) if module.endswith(".py") else _local_file(module, [Path.cwd()])
    try:
        if top == _PACKAGE:
            return code_digest(entry)
        if local is not None and local.is_file():
            return code_digest(local)
        return f"{top} {version(packages_distributions()[top][0])}"
    except (FileNotFoundError, SyntaxError, UnicodeDecodeError):
        return f"{module} unreadable"
    except (KeyError, PackageNotFoundError):
        return f"{module} not found"
