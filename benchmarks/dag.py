"""Measure what Snakemake needs to plan many jobs: time and memory of a dry run, nothing is trained.

python benchmarks/dag.py                               200 runs x 50 segments x 3 probes
python benchmarks/dag.py --runs 20 --segments 10       fewer
python benchmarks/dag.py --write many.yaml             only write the configuration
python benchmarks/dag.py --profile plan.prof           with cProfile: python -m pstats plan.prof

Start it in the top folder of the project, in its environment. What was found is in docs/scale.md.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROBES = ("line", "evaluation", "interp")
_MODELS = ("mlp", "tiny_resnet")
_RATES = 10


def many_runs(*, results: str, runs: int, segments: int, probes: Sequence[str] = PROBES) -> str:
    """Return an overlay of the default configuration with many runs.

    Args:
        results: Folder of the results.
        runs: Number of runs, a multiple of 20.
        segments: Segments of a run.
        probes: Probes of every run, among them `line`; none that needs a whole run.
    """
    seeds, rest = divmod(runs, len(_MODELS) * _RATES)
    if rest or not seeds:
        raise ValueError(f"runs must be a multiple of {len(_MODELS) * _RATES}, got {runs}")
    rates = [round(0.02 * (1 + rate), 2) for rate in range(_RATES)]
    measured = ", ".join(f"{probe}: {{every: 5}}" for probe in probes)
    return f"""results: {results}
run: [many]
experiments:
  many:
    dataset: digits
    models: [{", ".join(_MODELS)}]
    lr: {rates}
    batch_size: [64]
    seed: {list(range(1, seeds + 1))}
    steps: {20 * segments}
    segments: {segments}
    probes: {{{measured}}}
    figures: [linesearch/fig2_lines]
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Plan the jobs and say what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--segments", type=int, default=50)
    parser.add_argument("--write", type=Path, help="write the configuration and plan nothing")
    parser.add_argument("--profile", type=Path, help="where to leave cProfile's figures")
    parser.add_argument("options", nargs="*", help="options for Snakemake, behind --")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="sgdline-dag-") as scratch:
        overlay = given.write or Path(scratch) / "many.yaml"
        folder = "results/many" if given.write else f"{scratch}/results"
        overlay.write_text(many_runs(results=folder, runs=given.runs, segments=given.segments), encoding="utf-8")
        if given.write:
            return 0
        profiling = ["-m", "cProfile", "-o", str(given.profile)] if given.profile else []
        command = [
            sys.executable,
            *profiling,
            "-m",
            "snakemake",
            "all_figures",
            "all_tables",
            "--dry-run",
            *given.options,
        ]
        command += ["--configfile", str(overlay)]
        with (Path(scratch) / "output").open("w+") as output:
            start = time.perf_counter()
            process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
            _, status, used = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - start
            output.seek(0)
            text = output.read()
        totals = [line.split()[1] for line in text.splitlines() if line.startswith("total ")]
        if status or not totals:
            print(text[-3000:], file=sys.stderr)
            return 1
    print(
        f"{int(totals[0]):,} jobs: {seconds:.1f} s, CPU time {used.ru_utime + used.ru_stime:.1f} s, "
        f"memory {used.ru_maxrss / 1024:,.0f} MiB"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
