"""The command `sgdline`: what can be done without the workflow."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sgdline import __version__
from sgdline.errors import SgdlineError

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status; a known fault is one sentence on stderr.

    Args:
        arguments: Words behind the command; those of this process if None.
    """
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        exit_status: int = options.command_function(options)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        exit_status = 0
    except SgdlineError as error:
        print(f"Error: {error}", file=sys.stderr)
        exit_status = options.fault_status
    return exit_status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sgdline", description="Full-batch loss along the lines of SGD.")
    parser.add_argument("--version", action="version", version=f"sgdline {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    _add_import_lines(commands)
    _add_figures(commands)
    _add_status(commands)
    _add_check(commands)
    _add_describe(commands)
    _add_papers(commands)
    return parser


def _add_import_lines(commands: Commands) -> None:
    lines = commands.add_parser(
        "import-lines",
        help="turn the published sampler's pickles into tables",
        description="Turn a folder of files line_data_<step>.pickle into the tables line.arrow and trace.arrow.",
        epilog="The files are read without running anything that they hold.",
    )
    lines.add_argument("folder", type=Path, help="folder that holds the files line_data_<step>.pickle of one run")
    lines.add_argument("output", type=Path, help="folder to write line.arrow and trace.arrow to")
    lines.add_argument(
        "--interval",
        type=_positive,
        default=0.5,
        metavar="I",
        help="half-width of the sampler's first interval, Euclidean length (default: %(default)s)",
    )
    lines.add_argument("--sample-losses", action="store_true", help="keep the loss of every sample (large)")
    lines.add_argument("--batch-size", type=int, metavar="B", help="stop unless the direction batches are of this size")
    lines.add_argument("--lr", type=_positive, help="learning rate of the run, for lines whose direction is zero")
    for label in ("dataset", "model"):
        lines.add_argument(f"--{label}", metavar="NAME", help=f"name of the {label}, for the tables' metadata")
    lines.set_defaults(command_function=_import_lines, fault_status=1)


def _add_figures(commands: Commands) -> None:
    figures = commands.add_parser(
        "figures",
        help="draw all figures and judge the claims that a table of lines is enough for",
        description="Draw every kind of figure that needs nothing but lines, as PNG and PDF, and write claims.md: of a "
        "table that LineLog.write, import-lines or the workflow has written.",
        epilog="Prints what was drawn, and what was left out and why.",
    )
    figures.add_argument("table", type=Path, help="table of lines, for example run.arrow")
    figures.add_argument("--out", type=Path, help="folder for the pictures (default: figures, beside the table)")
    figures.set_defaults(command_function=_figures, fault_status=1)


def _add_status(commands: Commands) -> None:
    status = commands.add_parser(
        "status",
        help="what of a results folder is there, missing, failed or diverged",
        description="Say on one screen what of a results folder is there: runs, segments, rows, the largest replay "
        "drift, disk use; which runs are not finished, which jobs failed and why, which runs diverged and when; "
        "whether the times of files fit.",
        epilog="Exit status: 0 if everything that Snakemake was started for is there (a run that diverged is a "
        "result), 1 if something is missing, running, failed or damaged, 2 if the folder does not say what to expect.",
    )
    status.add_argument("results", type=Path, help="the folder that the configuration calls results")
    status.add_argument("--all", action="store_true", help="name every run and file, not the first few")
    status.set_defaults(command_function=_status, fault_status=2)


def _add_check(commands: Commands) -> None:
    check = commands.add_parser(
        "check",
        help="every fault of a configuration, with file and line",
        description="Read config/config.yaml and the overlays, merged as --configfile merges them, and report every "
        "fault with file and line. Nothing runs; Snakemake is not needed.",
        epilog="Start it where you start Snakemake. Exit status: 0 if the configuration is sound, 1 if it has faults, "
        "2 if a file cannot be read.",
    )
    check.add_argument("files", type=Path, nargs="*", metavar="FILE", help="overlay; a later one wins")
    check.set_defaults(command_function=_check, fault_status=2)


def _add_describe(commands: Commands) -> None:
    describe = commands.add_parser(
        "describe",
        help="the options of anything that a configuration names, and of its blocks",
        description="Print the options of a probe, a toy, an experiment, or of a declaration of your own: key, "
        "default, what is allowed and what it means. Without a name: print all names.",
    )
    describe.add_argument("name", nargs="?", metavar="NAME", help="for example hvp, experiment or folder/file.py:Name")
    describe.set_defaults(command_function=_describe, fault_status=1)


def _add_papers(commands: Commands) -> None:
    papers = commands.add_parser(
        "papers",
        help="the figures of papers: id, kind, and which configurations draw it",
        description="List the figures of papers and the kinds of figures, with the files below config/ that draw them.",
    )
    papers.add_argument("paper", nargs="?", metavar="PAPER", help="only this paper's, for example walk")
    papers.set_defaults(command_function=_papers, fault_status=1)


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number above 0, got {text}")
    return value


def _import_lines(options: argparse.Namespace) -> int:
    # Imported lazily: help needs no numpy.
    from sgdline.data.published_lines import import_lines

    try:
        options.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SgdlineError(
            f"output must be a folder that can be written to, got {options.output} ({error.strerror}). Choose another."
        ) from error
    labels = {name: getattr(options, name) for name in ("dataset", "model", "lr", "batch_size")}
    import_lines(
        options.folder,
        line=options.output / "line.arrow",
        trace=options.output / "trace.arrow",
        interval=options.interval,
        sample_losses=options.sample_losses,
        batch_size=options.batch_size,
        lr=options.lr,
        provenance={name: value for name, value in labels.items() if value is not None},
    )
    return 0


def _figures(options: argparse.Namespace) -> int:
    from sgdline.extras import extra_packages

    with extra_packages():
        from sgdline.line_figures import draw_figures

    logging.getLogger("fontTools").setLevel(logging.WARNING)  # says for each PDF what of each font goes into it
    folder = options.out or options.table.parent / "figures"
    left_out: dict[str, list[str]] = {}
    with draw_figures(options.table, folder) as found:
        print(f"judged: {', '.join(f'{claim.claim} {claim.verdict}' for claim in found.claims)}; see {found.page}")
        for outcome in found.figures:
            if outcome.files:
                print(f"drawn: {' and '.join(map(str, outcome.files))}", flush=True)
            else:
                left_out.setdefault(outcome.reason, []).append(outcome.name)
    for reason, kinds in left_out.items():
        print(f"left out, {reason}: {', '.join(kinds)}")
    return 0


def _status(options: argparse.Namespace) -> int:
    from sgdline.status import report, survey

    found = survey(options.results)
    print(report(found, everything=options.all))
    return 0 if found.complete else 1


def _check(options: argparse.Namespace) -> int:
    from sgdline.check import check_configuration
    from sgdline.config import ConfigError

    try:
        print(check_configuration(options.files))
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _describe(options: argparse.Namespace) -> int:
    from sgdline.config.reference import describe

    print(describe(options.name))
    return 0


def _papers(options: argparse.Namespace) -> int:
    from sgdline.papers.listing import listing

    print(listing(options.paper))
    return 0
