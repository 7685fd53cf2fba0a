"""Full-batch loss along the lines of SGD: train, measure, fit, draw."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("sgdline")
except PackageNotFoundError:  # run from a source tree with PYTHONPATH=src
    __version__ = "0.1.0"
