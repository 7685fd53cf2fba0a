"""What an entry of the configuration names: ``package.module:Name`` or ``folder/file.py:Name`` (no torch).

Files are looked up from the working directory; a dotted module may be installed or lie in the working directory,
installed ones come first.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from sgdline.errors import SgdlineError, cause_words


class EntryError(SgdlineError):
    """An entry that names nothing which can be used.

    Attributes:
        rule: What it must do, what was found and how to fix it: a sentence without its subject.
    """

    def __init__(self, rule: str, *, subject: str) -> None:
        super().__init__(f"{subject} {rule}")
        self.rule = rule


def _folders(entry: str) -> list[str]:
    folders = [str(Path.cwd())]
    location = entry.rpartition(":")[0]
    if location.endswith(".py"):
        folders.append(str(Path(location).resolve().parent))
    return list(dict.fromkeys(folders))


@contextmanager
def working_directory_importable(entry: str) -> Iterator[None]:
    """Let imports find the working directory and, for a file entry, the file's folder, after all other places."""
    added = [folder for folder in _folders(entry) if folder not in sys.path]
    # At the end: a folder of the user's named like an installed package must not hide it.
    sys.path.extend(added)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        for folder in added:
            if folder in sys.path:
                sys.path.remove(folder)


def keep_importable(entry: str) -> None:
    """Let later imports find what `working_directory_importable` finds: those inside methods of the user's."""
    sys.path.extend(folder for folder in _folders(entry) if folder not in sys.path)


def named_by(entry: str, *, subject: str, thing: str, fits: Callable[[Any], bool] = callable) -> Any:
    """Return what an entry names.

    Args:
        entry: package.module:Name or folder/file.py:Name.
        subject: What a message is about, such as "Model entry 'a.py:Net'".
        thing: What the name names, in a word.
        fits: Whether a thing of the module may have been meant by a name that is not there.

    Raises:
        EntryError: If there is no such module or name, or the module cannot be imported.
    """
    location, separator, name = entry.rpartition(":")
    if not separator or not location or not name.isidentifier() or ":" in location or not entry.isprintable():
        raise EntryError(
            f"must be package.module:Name or folder/file.py:Name, got another form. Write the place, one colon and the "
            f"name of the {thing}.",
            subject=subject,
        )
    module = _load_file(location, subject) if location.endswith(".py") else _import_module(location, subject)
    try:
        return getattr(module, name)
    except AttributeError as error:
        fitting = {known: own for known, own in vars(module).items() if not known.startswith("_") and fits(own)}
        if location.endswith(".py"):  # what a file imports is not its own
            fitting = {
                known: own for known, own in fitting.items() if getattr(own, "__module__", "") == module.__name__
            }
        raise EntryError(
            f"must name a {thing} of {location}, got no {name!r} there."
            f"{did_you_mean(name, fitting) or ' Check the name after the colon.'}",
            subject=subject,
        ) from error


def _import_module(location: str, subject: str) -> ModuleType:
    try:
        return importlib.import_module(location)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if location == missing or location.startswith(missing + "."):
            advice = (
                "Install torchvision from the same source as torch (pip install torch torchvision)"
                if missing == "torchvision"
                else "Check the spelling, install the package, or start from the folder that holds it"
            )
            rule = f"must name a module that can be found, got no module {missing!r}. {advice}."
            raise EntryError(rule, subject=subject) from error
        raise _import_failed(location, error, subject) from error
    except (Exception, SystemExit) as error:
        raise _import_failed(location, error, subject) from error


def _import_failed(location: str, error: Exception | SystemExit, subject: str) -> EntryError:
    got = f"{cause_words(error)}{where_words(error)}"
    advice = f"Fix {location} until python can import it"
    if isinstance(error, SystemExit):
        got = exit_words(error)
        what = "argument parsing" if parses_arguments(error) else "what ends the program"
        advice = f"Move {what} under if __name__ == '__main__'"
    elif isinstance(error, ModuleNotFoundError) and error.name:
        got = f"no module {error.name!r}{where_words(error)}"
        advice = "Install it, or put it beside the file or into the folder where you start"
    elif location.partition(".")[0] == "torchvision":
        # A pair of builds that does not match fails with "operator torchvision::nms does not exist".
        advice = "Install torch and torchvision as a matching pair from one source (pip install torch torchvision)"
    return EntryError(f"must be importable, got {got}. {advice}.", subject=subject)


def _load_file(location: str, subject: str) -> ModuleType:
    path = Path(location).resolve()
    try:
        exists = path.is_file()
    except OSError:  # the name is too long for a file
        exists = False
    if not exists:
        raise EntryError(
            f"must name a file that exists, got none at {path}. Give the path from the working directory.",
            subject=subject,
        )
    # Registered under a name of its own, because dataclasses and pickle look the module up there.
    module_name = f"sgdline_entry_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise EntryError(f"must name a Python file, got {path}. Name a file that ends in .py.", subject=subject)
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[module_name]
        if isinstance(error, Exception | SystemExit):
            raise _import_failed(location, error, subject) from error
        raise
    return module


@cache
def _own_folders() -> tuple[str, ...]:
    """Return the folders of torch and of this package, whose lines are not foreign."""
    torch = importlib.util.find_spec("torch")  # imports nothing
    origins = [Path(__file__), *([Path(torch.origin)] if torch is not None and torch.origin else [])]
    return tuple(str(origin.parent) + os.sep for origin in origins)


@contextmanager
def own_faults_named(what: str) -> Iterator[None]:
    """Say in one sentence, with its line, what a user's own code raises; other exceptions stay as they are.

    Args:
        what: What is called, such as `draw of Mine`.
    """
    try:
        yield
    except SgdlineError:
        raise
    except Exception as error:
        own, _ = _places(error)
        if not own:
            raise
        raise SgdlineError(f"{what} must not fail, got {cause_words(error)}{_line(own[-1])}. Correct it.") from error


def where_words(error: BaseException) -> str:
    """Return the last line of foreign code that an exception has gone through, in words; nothing if there is none."""
    if isinstance(error, SyntaxError):
        return f" (line {error.lineno} of {_short(error.filename)})" if error.filename and error.lineno else ""
    own, installed = _places(error)
    # Of a file of the user's, its own line says more than that of a library which it calls.
    return _line((own or installed)[-1]) if own or installed else ""


def _line(place: tuple[str, int]) -> str:
    file, line = place
    return f" (line {line} of {_short(file)})"


def _places(error: BaseException) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    """Return the lines that an exception has gone through: those of the user's files, those of installed packages."""
    inside_python = (os.sep + f"python{sys.version_info.major}.{sys.version_info.minor}" + os.sep, "<frozen")
    places = [
        (frame.f_code.co_filename, line)
        for frame, line in _frames(error.__traceback__)
        if not frame.f_code.co_filename.startswith(_own_folders())
    ]
    compiled = (".pyx", ".pxi", ".pxd")  # of packages; their names have no folder that tells
    own = [
        place for place in places if not place[0].endswith(compiled) and not any(p in place[0] for p in inside_python)
    ]
    return own, [place for place in places if "site-packages" in place[0]]


def _frames(traceback: TracebackType | None) -> Iterator[tuple[Any, int]]:
    while traceback is not None:
        yield traceback.tb_frame, traceback.tb_lineno
        traceback = traceback.tb_next


def _short(file: str) -> str:
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else file


def exit_words(error: SystemExit) -> str:
    """Return what has ended the program, and where."""
    if parses_arguments(error):
        return f"code that parses command-line arguments{where_words(error)}"
    return (
        f"sys.exit({error.code!r}){where_words(error)}" if error.code is not None else f"sys.exit(){where_words(error)}"
    )


def parses_arguments(error: BaseException) -> bool:
    """Return whether an exception comes out of a parser of command lines."""
    parsers = ("argparse", "optparse", "getopt", "click", "absl", "fire", "typer")
    return any(
        frame.f_globals.get("__name__", "").split(".")[0] in parsers for frame, _ in _frames(error.__traceback__)
    )


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return a question that offers the nearest known name, or an empty string."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""
