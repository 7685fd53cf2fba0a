"""Lines that a meter has measured, in the order of the steps."""

from __future__ import annotations

from collections.abc import Iterator

from sgdline.measured_line import MeasuredLine


class LineLog:
    """The measured lines of a training."""

    def __init__(self) -> None:
        self._lines: list[MeasuredLine] = []

    def append(self, line: MeasuredLine) -> None:
        """Add a line."""
        self._lines.append(line)

    def __len__(self) -> int:
        return len(self._lines)

    def __iter__(self) -> Iterator[MeasuredLine]:
        return iter(self._lines)

    def __getitem__(self, index: int) -> MeasuredLine:
        return self._lines[index]
