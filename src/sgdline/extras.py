"""Packages that only parts of sgdline need: which extra brings them, and one sentence where they are missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sgdline.errors import SgdlineError

# Name that is imported -> the smallest extra of pyproject.toml that brings it.
EXTRAS = {
    "accelerate": "transformers",
    "lightning": "lightning",
    "matplotlib": "plot",
    "pandas": "workflow",
    "sklearn": "workflow",
    "torchvision": "workflow",
    "transformers": "transformers",
    "yaml": "workflow",
}


class MissingExtraError(SgdlineError, ImportError):
    """A package that is not installed, with the command that installs it."""


@contextmanager
def extra_packages() -> Iterator[None]:
    """Import packages of extras inside the block: one that is missing becomes one sentence.

    Raises:
        MissingExtraError: If a package of an extra is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        # A package that is there, but in another edition, lacks a module of its own.
        if package not in EXTRAS or error.name != package:
            raise
        raise MissingExtraError(
            f"This part of sgdline needs the package {package}, which is not installed. "
            f'Install it with: pip install "sgdline[{EXTRAS[package]}]"'
        ) from None
