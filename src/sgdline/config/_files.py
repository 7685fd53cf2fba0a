"""The files of a configuration: where each entry is, and what YAML reads in another way than a reader expects."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sgdline.declare.faults import Faults, Index, KeyPath, Place, comparable, value_words
from sgdline.declare.walker import SAFE_LOADER, load_yaml
from sgdline.errors import SgdlineError
from sgdline.extras import extra_packages

with extra_packages():
    import yaml

_TAG = "tag:yaml.org,2002:"
_DECIMAL = re.compile(r"[-+]?(0|[1-9]\d*)")
_DECIMAL_FRACTION = re.compile(r"[-+]?(\d+\.\d*|\.\d+)([eE][-+]?\d+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_LIKE_A_NUMBER = re.compile(r"[-+]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)([eE][-+]?\d+)?|[-+]?0[xob][\da-fA-F_]+")
_TRUTH_VALUES = ("true", "True", "TRUE", "false", "False", "FALSE")
# What the parser says -> what to do about it; the first that fits.
_ADVICE = {
    "a tab": "Indent with spaces: YAML allows no tabs there",
    "mapping values are not allowed": "Check the indentation, and put a text with a colon and a space in quotes",
    "flow (sequence|mapping|node)": "Close the bracket, and put commas between the entries",
    "quoted scalar": "Close the quotes",
    "simple key": "Write a colon and a space between a key and its value",
    "undefined alias": "Define it with & before it is used",
    "constructor": "Remove the tag (a word that begins with !)",
    "several documents": "Remove the line ---, or split the file",
}


class ConfigFiles:
    """Files that are merged into one configuration, as Snakemake merges `config/config.yaml` and the overlays.

    Attributes:
        faults: Faults of the texts: no YAML, a key that is defined twice, a value that YAML reads in another way than a
            reader expects. `resolve_config` adds its own to them.
        readable: Whether all files hold a mapping, so that `merged` is the configuration.
        merged: The content, later files over earlier ones.

    Raises:
        SgdlineError: If a file cannot be read at all.
    """

    def __init__(self, paths: Iterable[str | Path], *, command_line: Mapping[str, Any] | None = None) -> None:
        """Read the files.

        Args:
            paths: YAML or JSON files in the order in which they are merged; of a file that comes twice, the first.
            command_line: What `--config` says, which wins over all files; not part of `merged`.
        """
        self.faults = Faults()
        self.readable = True
        self.merged: dict[Any, Any] = {}
        for path in {Path(path).absolute(): None for path in paths}:
            self._read(path)
        _note_command_line(command_line or {}, (), self.faults)

    def _read(self, path: Path) -> None:
        name = _shown(path)
        content: Any = None
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            line = error.object[: error.start].count(b"\n") + 1
            self._refuse(Place(name, line), "must be a text in UTF-8, got other bytes. Save the file as UTF-8.")
            return
        except OSError as error:
            raise SgdlineError(
                f"{name} must be a readable file, got: {error.strerror}. Check its path and its rights."
            ) from error
        try:
            content = json.loads(text)
            in_json = True  # whose numbers are what they look like
        except (ValueError, RecursionError):
            in_json = False
        try:
            root = yaml.compose(text, Loader=SAFE_LOADER)
            if root is not None:
                _Reader(name, self.faults, check_scalars=not in_json).visit(root, ())
            if not in_json:
                content = load_yaml(text)
        except yaml.YAMLError as error:
            if not in_json:
                line, words = _yaml_words(error, text)
                self._refuse(Place(name, line), words)
                return
        except (RecursionError, ValueError):
            if not self.faults.any():  # an impossible date is reported already
                self._refuse(Place(name, 1), "must be YAML that can be read, got other. Make it flatter, and plainer.")
            self.readable = False
            return
        if isinstance(content, Mapping):
            self.merged = _merged(self.merged, content)
        else:
            got = f"got {value_words(content)}"
            self._refuse(Place(name, 1), f"must be a mapping (key: value) at the top of the file, {got}.")

    def _refuse(self, place: Place, words: str) -> None:
        self.faults.add((), words, place=place)
        self.readable = False


def check_files(paths: Iterable[str | Path]) -> None:
    """Refuse files that hold no YAML, say something twice, or say what YAML reads in another way than a reader expects.

    Args:
        paths: The files; those that are missing are left to Snakemake.

    Raises:
        ConfigError: If there is a fault; its text lists all of them with file and line.
    """
    ConfigFiles(path for path in paths if Path(path).exists()).faults.raise_if_any()


def _shown(path: Path) -> str:
    """Return a path as the user would write it."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _merged(below: Mapping[Any, Any], above: Mapping[Any, Any]) -> dict[Any, Any]:
    """Merge as Snakemake does; nothing is copied that aliases could make large."""
    result = dict(below)
    for key, value in above.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = _merged(result[key], value) if both else value
    return result


def _note_command_line(value: Any, path: KeyPath, faults: Faults) -> None:
    if path:
        faults.places[comparable(path)] = Place("--config", None)
    if isinstance(value, Mapping):
        for key, entry in value.items():
            _note_command_line(entry, (*path, key), faults)


def _yaml_words(error: yaml.YAMLError, text: str) -> tuple[int, str]:
    """Return the line of a YAML fault, and what is wrong there."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "another text"
    context, start = getattr(error, "context", None), getattr(error, "context_mark", None)
    if mark is not None:
        line = mark.line + 1
        at_end = mark.index >= len(text.rstrip()) or "simple key" in str(context)  # noticed too late
        if text[mark.index : mark.index + 1] == "\t":
            problem, context = "a tab", None
    else:  # a character that YAML forbids
        line, at_end = text[: getattr(error, "position", 0)].count("\n") + 1, False
    if at_end and start is not None:
        line = start.line + 1  # where the bracket opens, or the quotes
    if type(error).__name__ == "ComposerError" and "single" in str(context):
        problem, context = "several documents in one file", None
    opened = f" {context} that begins in line {start.line + 1}" if context and start is not None else ""
    said = f"{context} {problem}"
    advice = next((advice for pattern, advice in _ADVICE.items() if re.search(pattern, said)), None)
    advice = advice or "Check the indentation, the brackets and the quotes there"
    return line, f"must be YAML, got: {problem}{opened}. {advice}."


class _Reader:
    """Goes through the nodes of one file, which know their lines and how a value is written."""

    def __init__(self, file: str, faults: Faults, *, check_scalars: bool) -> None:
        self._file = file
        self._faults = faults
        self._check_scalars = check_scalars
        self._seen: set[int] = set()
        self._loader = yaml.SafeLoader("")

    def visit(self, node: yaml.Node, path: KeyPath, *, line: int | None = None) -> None:
        """Note where each entry is, and the faults of this node and of what it holds.

        Args:
            node: The node.
            path: Its place in the configuration.
            line: Of its key; its own if None.
        """
        place = self._place(node) if line is None else Place(self._file, line)
        if path:
            self._faults.places[comparable(path)] = place
        if id(node) in self._seen:  # an alias is the very node that it names
            return
        self._seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            for position, entry in enumerate(node.value):
                self.visit(entry, (*path, Index(position)))
        elif isinstance(node, yaml.MappingNode):
            self._visit_mapping(node, path)
        elif isinstance(node, yaml.ScalarNode) and self._check_scalars:
            self._check_value(node, path)

    def _visit_mapping(self, node: yaml.MappingNode, path: KeyPath) -> None:
        lines: dict[tuple[str, ...], int] = {}
        for key, entry in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue  # no key of a configuration; the schema says so
            if key.tag == f"{_TAG}merge":
                for merged in entry.value if isinstance(entry, yaml.SequenceNode) else [entry]:
                    self.visit(merged, path, line=None if path == () else node.start_mark.line + 1)
                continue
            own, line = (*path, self._value(key)), key.start_mark.line + 1
            before = lines.get(comparable(own))
            lines[comparable(own)] = line
            if before is not None:
                got = f"lines {before} and {line}" if before != line else f"line {line} twice"
                text = f"must be defined once, got it in {got}. Remove one of them."
                self._faults.add(own, text, place=Place(self._file, line))
            if self._check_scalars:
                self._check_key(key, own)
            self.visit(entry, own, line=line)

    def _place(self, node: yaml.Node) -> Place:
        return Place(self._file, node.start_mark.line + 1)

    def _value(self, node: yaml.ScalarNode) -> Any:
        """Return what YAML reads."""
        try:
            return self._loader.construct_object(node)
        except (yaml.YAMLError, ValueError):
            return node.value

    def _is_implicit(self, node: yaml.ScalarNode) -> bool:
        """Tell whether YAML has guessed the type: no quotes, no tag."""
        plain = not node.style and node.start_mark.index != node.end_mark.index
        return plain and node.tag == self._guess(node.value)

    def _guess(self, text: str) -> str:
        """Return the tag that YAML gives a plain text."""
        return str(self._loader.resolve(yaml.ScalarNode, text, (True, False)))  # type: ignore[no-untyped-call]

    def _check_key(self, node: yaml.ScalarNode, path: KeyPath) -> None:
        if self._is_implicit(node) and _reading(node, self._value(node)) and node.tag != f"{_TAG}str":
            text = (
                f"must have a text as its key, got {node.value}, which YAML reads as {value_words(self._value(node))}. "
            )
            self._faults.add(path, f'{text}Write "{node.value}".', place=self._place(node))

    def _check_value(self, node: yaml.ScalarNode, path: KeyPath) -> None:
        read = _reading(node, self._value(node)) if self._is_implicit(node) else None
        if read is not None:
            rule, value, instead = read
            text = f"must be {rule}, got {node.value}, which YAML reads as {value}. Write {instead}"
            text += f'"{node.value}" for a text.' if instead else f'"{node.value}".'
            self._faults.add(path, text, place=self._place(node))


def _reading(node: yaml.ScalarNode, value: Any) -> tuple[str, str, str] | None:
    """Return the rule that a plain value breaks, what YAML reads, what to write if no text is meant; None if sound."""
    text, kind = node.value, node.tag.removeprefix(_TAG)
    if kind == "bool" and text not in _TRUTH_VALUES:
        return "true, false or a text in quotes", value_words(value), f"{value_words(value)}, or "
    if kind == "timestamp":
        return "a text in quotes where it looks like a date", "a date", ""
    if (kind == "int" and not _DECIMAL.fullmatch(text)) or (kind == "float" and not _DECIMAL_FRACTION.fullmatch(text)):
        meant = [value_words(value)]
        if re.fullmatch(r"[-+]?0\d+", text) and int(text) != value:
            meant.insert(0, str(int(text)))
        return "a plain decimal number", meant[-1], f"{' or '.join(meant)}, or "
    if kind == "str" and _LIKE_A_NUMBER.fullmatch(text):
        return "a number that YAML knows", "a text", f"{_as_yaml(text)}, or "
    return None


def _as_yaml(text: str) -> str:
    """Return a number that YAML takes for a text as YAML would know it."""
    compact = text.replace("_", "")
    if re.fullmatch(r"[-+]?0[xob].*", compact):
        try:
            return str(int(compact, 0))
        except ValueError:
            return "it in decimal digits"
    if re.fullmatch(r"[-+]?\d+", compact):
        return str(int(compact))
    mantissa, _, exponent = compact.lower().partition("e")
    sign = "-" if mantissa.startswith("-") else ""
    whole, _, fraction = mantissa.lstrip("+-").partition(".")
    number = f"{sign}{whole or '0'}.{fraction or '0'}"
    return f"{number}e{int(exponent):+d}" if exponent else number
