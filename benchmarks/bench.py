"""Measure how fast sgdline measures, as ratios against the published sampler's way within the same run.

python benchmarks/bench.py                      everything; writes results/<device>.json and README.md beside this file
python benchmarks/bench.py --cases mlp tables   only these; what the results file has of the others stays
python benchmarks/bench.py --quick              tiny sizes, to see that it works

`make bench` runs it in the project's environment. Elsewhere `PYTHONPATH=src` is enough; no Snakemake is needed.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from cases import CASES, GRID_EVALUATIONS, PUBLISHED_LINES, PUBLISHED_SAMPLES, RESOLUTION, TOLERANCES, Case, quick
from landscapes import compare
from measuring import Worker, in_process, median, spread, worker
from report import render
from storing import measure_tables
from workers import Engine, Reference, checks, prepare, run_job, scaling, the_device

HERE = Path(__file__).resolve().parent
REFERENCE_EVALUATIONS = 169
PARTS = (*(case.name for case in CASES), "landscapes", "scaling", "checks", "tables")


def say(text: str) -> None:
    """Tell the user what goes on."""
    print(f"{datetime.datetime.now():%H:%M:%S} {text}", file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return 1 if a part of it failed."""
    given = _arguments().parse_args(arguments)
    output = given.output or (Path(tempfile.mkdtemp(prefix="sgdline-bench-")) if given.quick else HERE)
    environment = describe_environment(given.threads)
    # A file for each kind of machine: parts that were measured on another one stay.
    machine = environment["cpu"] if environment["device"] == "cpu" else environment["device"]
    path = output / "results" / f"{re.sub('[^a-z0-9]+', '-', machine.lower()).strip('-')}.json"
    document = _known(path, environment) | {"environment": environment}
    path.parent.mkdir(parents=True, exist_ok=True)
    failed = []
    with tempfile.TemporaryDirectory(prefix="sgdline-bench-") as scratch:
        # An empty cache of compiled kernels: what compiling costs is measured anew every time.
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(Path(scratch) / "inductor")
        for name in given.cases:
            say(f"{name}: start")
            start = time.perf_counter()
            folder = Path(scratch) / name
            folder.mkdir()
            try:
                found = _part(name, given, folder)
            except Exception:  # the other parts may work
                traceback.print_exc()
                failed.append(name)
                say(f"{name}: FAILED, nothing is kept of it")
                continue
            took = time.perf_counter() - start
            about = {"quick": given.quick, "bench_seconds": took, **_provenance()}
            document[name] = {**found, **about}
            path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
            say(f"{name}: {took:.0f} s")
    write_readme(output)
    say(f"wrote {path} and {output / 'README.md'}")
    return 1 if failed else 0


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny sizes; written to a temporary folder by default")
    parser.add_argument("--cases", nargs="+", choices=PARTS, default=list(PARTS), help="what to measure")
    parser.add_argument("--repeats", type=int, help="lines per way, repetitions of other timings (default 5, quick 2)")
    parser.add_argument("--threads", type=int, default=_cores(), help="CPU threads at most (default: all cores)")
    parser.add_argument("--output", type=Path, help="folder for results and README.md (default: this one)")
    parser.add_argument("--data-dir", default=str(HERE.parent / "data"), help="folder with downloaded data sets")
    return parser


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def write_readme(output: Path) -> None:
    """Render README.md from all results in a folder."""
    documents = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((output / "results").glob("*.json"))]
    documents.sort(key=lambda document: document["environment"]["device"] != "cpu")
    (output / "README.md").write_text(render(documents), encoding="utf-8")


def _known(path: Path, environment: dict[str, Any]) -> dict[str, Any]:
    """Return earlier results of the same machine and software; parts that are not measured now stay."""
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if known.get("environment") == environment else {}


def _part(name: str, given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    repeats = given.repeats or (2 if given.quick else 5)
    if name == "landscapes":
        return compare(repeats=repeats, small=given.quick, threads=given.threads)
    if name == "scaling":
        return {"rows": in_process(scaling, repeats=repeats, small=given.quick, cores=1)}
    if name == "checks":
        repeats = given.repeats or (2 if given.quick else 5)
        return {
            "rows": in_process(checks, repeats=repeats, small=given.quick, threads=given.threads, cores=given.threads)
        }
    if name == "tables":
        lines = 200 if given.quick else 10_000
        return in_process(measure_tables, folder, lines=lines, repeats=repeats, cores=1)
    case = next(case for case in CASES if case.name == name)
    return _measure_case(quick(case) if given.quick else case, given, folder, repeats=repeats)


# --- one case ---------------------------------------------------------------------------------------------------------


def _measure_case(case: Case, given: argparse.Namespace, folder: Path, *, repeats: int) -> dict[str, Any]:
    """Prepare a case, measure its lines in every way in turn, check them, and run a job."""
    threads = given.threads
    in_parts = case.large and the_device().type == "cpu"  # whole grids would take an hour
    lines = repeats + 1  # the first one warms up
    prepared = in_process(prepare, case, folder, lines=lines, data_dir=given.data_dir, threads=threads, cores=threads)
    say(f"{case.name}: images {prepared['source']}; {'; '.join(prepared['plan_notes'])}")
    if prepared["source_problem"]:
        say(f"{case.name}: noise instead of real images: {prepared['source_problem']}")
    with (
        worker(Reference, case, folder, cores=threads) as reference,
        worker(Engine, case, folder, lines=lines, threads=threads, cores=threads) as engine,
    ):
        for process in (reference, engine):  # nobody starts up while another is timed
            process.ready()
        reference_threads = reference.call("choose_threads", most=threads, repeats=1 if in_parts else min(repeats, 3))
        measured = _measure_lines(case, reference, engine, lines=lines, in_parts=in_parts, small=given.quick)
        size = 256 if given.quick else 4096 if the_device().type == "cuda" else 2048
        peak_speed = engine.call("peak_speed", size=size)
    ways, multiply_adds = measured["ways"], prepared["multiply_adds_per_image"]
    found = {
        "case": asdict(case),
        "in_parts": in_parts,
        **prepared,
        "reference_threads": reference_threads,
        **measured,
        "roofline": {
            "multiply_adds_per_image": multiply_adds,
            "multiply_adds_per_second": {
                way: ways[way]["samples_per_second"] * multiply_adds for way in ("reference", "grid")
            },
            "peak_multiply_adds_per_second": peak_speed,
            "precision": prepared["plan"]["precision"],
        },
    }
    if case.job_lines:
        say(f"{case.name}: a job of {case.job_lines} lines")
        found["job"] = in_process(run_job, case, folder, threads=threads, started=time.time(), cores=threads)
        found["published"] = _published(ways)
    return found


def _measure_lines(
    case: Case, reference: Worker, engine: Worker, *, lines: int, in_parts: bool, small: bool
) -> dict[str, Any]:
    """Measure line after line, each in every way; the first one warms up."""
    grid = {"positions": "grid", "spacing": 1.0 if in_parts else RESOLUTION}
    a_few = {"positions": "grid", "spacing": 1.0 if in_parts else 0.25 if small else 0.1}
    *looser, tight = TOLERANCES
    rounds: dict[str, list[dict[str, Any] | None]] = {}
    differences, errors, peaks = [], [], {}

    def adaptive(tolerance: float) -> dict[str, Any]:
        return engine.call("measure", "planned", positions="adaptive", tolerance=tolerance)

    for index in range(lines):
        engine.call("next_line")
        if index == 0:
            reference.call("measure", 0, positions=1)
            engine.call("measure", "planned", **a_few)
            engine.call("measure", "simplest", **a_few)
            continue
        published = reference.call("measure", index, positions=1 if in_parts else None)
        found: dict[str, dict[str, Any] | None] = {
            "reference": published,
            "grid": engine.call("measure", "planned", **grid),
            "grid_simplest": engine.call("measure", "simplest", **a_few),
        }
        if not in_parts or index <= case.adaptive_lines:
            found[_adaptive(tight)] = adaptive(tight)
            for loose in looser:
                found[_adaptive(loose)] = engine.call("derive", tolerance=loose) if in_parts else adaptive(loose)
        for way, timing in found.items():
            rounds.setdefault(way, []).append(timing)
        difference = engine.call("difference", published["positions"], published["means"])
        differences += [difference] if difference is not None else []
        if index == 1:  # before the dense grid, which needs more
            peaks = {"reference": reference.call("peak_bytes"), "engine": engine.call("peak_bytes")}
        if index <= case.checked_lines:
            errors.append(engine.call("check", exact=not in_parts))
        say(f"{case.name}: line {index} of {lines - 1}")
    return {
        "ways": _ways(rounds),
        "errors": _errors(errors) | {"exact": not in_parts},
        "largest_difference": max(differences) if differences else None,
        "peak_bytes": peaks,
    }


def _adaptive(tolerance: float) -> str:
    return f"adaptive_{tolerance:g}"


def _whole(way: str, timing: dict[str, Any]) -> float:
    """Return the seconds of a whole line, scaled by evaluations if a part was timed."""
    evaluations = {"reference": REFERENCE_EVALUATIONS}.get(way, GRID_EVALUATIONS)
    if way.startswith("adaptive"):
        evaluations = timing["evaluations"]
    return timing["seconds"] * evaluations / timing["evaluations"]


def _ways(rounds: dict[str, list[dict[str, Any] | None]]) -> dict[str, Any]:
    """Summarise the rounds: every round measured one line in every way, one way after the other."""
    for way in [name for name in rounds if name.startswith("adaptive")]:
        for derived, tight in zip(rounds[way], rounds[_adaptive(TOLERANCES[-1])], strict=True):
            if derived is not None and "seconds" not in derived:
                assert tight is not None
                derived["seconds"] = tight["seconds"] * derived["evaluations"] / tight["evaluations"]
                derived["derived"] = True
    own = [_whole("reference", timing) for timing in rounds["reference"] if timing]
    found = {}
    for way, timings in rounds.items():
        kept = [(timing, yardstick) for timing, yardstick in zip(timings, own, strict=False) if timing is not None]
        if not kept:
            continue
        seconds = [_whole(way, timing) for timing, _ in kept]
        found[way] = {
            "seconds_per_line": spread(seconds),
            "samples_per_second": median([timing["samples"] / timing["seconds"] for timing, _ in kept]),
            "ratio": spread([yardstick / whole for (_, yardstick), whole in zip(kept, seconds, strict=True)]),
            "evaluations_timed": median([timing["evaluations"] for timing, _ in kept]),
            "evaluations_per_line": sum(
                timing["evaluations"] * whole / timing["seconds"]
                for (timing, _), whole in zip(kept, seconds, strict=True)
            )
            / len(kept),
            "derived": any(timing.get("derived", False) for timing, _ in kept),
            "status": [timing.get("status") for timing, _ in kept],
        }
    return found


def _errors(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """Return mean and largest error over the checked lines, by tolerance."""
    found: dict[str, Any] = {"lines": len(lines), "positions": lines[0]["positions"]}
    for name in (_adaptive(tolerance) for tolerance in TOLERANCES):
        own = [line[name] for line in lines if name in line]
        if own:
            mean = sum(error["mean"] for error in own) / len(own)
            found[name] = {"mean": mean, "max": max(error["max"] for error in own)}
    return found


def _published(ways: dict[str, Any]) -> dict[str, Any]:
    """Return hours for the published experiment, from the measured speed."""
    hours = {
        way: PUBLISHED_LINES * PUBLISHED_SAMPLES * found["evaluations_per_line"] / found["samples_per_second"] / 3600
        for way, found in ways.items()
    }
    return {"lines": PUBLISHED_LINES, "samples_per_position": PUBLISHED_SAMPLES, "hours": hours}


# --- where and when ---------------------------------------------------------------------------------------------------


def describe_environment(threads: int) -> dict[str, Any]:
    """Return what the numbers depend on beside the code."""
    on_gpu = torch.cuda.is_available()
    wanted = ("MKL Version", "Math Kernel Library Version", "MKL-DNN", "OpenMP", "CPU capability")
    config = [line.strip(" -") for line in torch.__config__.show().splitlines() if any(word in line for word in wanted)]
    return {
        "device": torch.cuda.get_device_name() if on_gpu else "cpu",
        "cpu": _cpu_model(),
        "cores": _cores(),
        "threads": threads,
        "torch": torch.__version__,
        "torch_config": config,
        "cuda": torch.version.cuda if on_gpu else None,
        "cudnn": torch.backends.cudnn.version() if on_gpu else None,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "pyarrow": pa.__version__,
        "os": _system(),
    }


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.system()


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _provenance() -> dict[str, Any]:
    """Return commit and date of a measurement; no commit where there is no git."""

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(["git", *words], cwd=HERE, capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            return None
        return done.stdout.strip()

    commit = git("rev-parse", "--short=12", "HEAD")
    if commit and git("status", "--porcelain", "--", "../src"):
        commit += " with changes"
    return {"commit": commit, "date": f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}"}


if __name__ == "__main__":
    sys.exit(main())
