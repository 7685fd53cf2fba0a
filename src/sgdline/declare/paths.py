"""What a path in a configuration may be."""

from __future__ import annotations

_LONGEST_PATH, _LONGEST_NAME = 4096, 255  # bytes, on Linux


def too_long(path: str) -> str | None:
    """Return what is wrong with a path that is too long for a file system, to follow its key; None if it is not."""
    whole, longest = len(path.encode()), max(len(part.encode()) for part in path.split("/"))
    if whole <= _LONGEST_PATH and longest <= _LONGEST_NAME:
        return None
    return (
        f"must be a path of at most {_LONGEST_PATH} bytes, each name in it of at most {_LONGEST_NAME}, got {whole} "
        f"and {longest}. Choose a shorter one, or link to it."
    )
