"""Names and files that mean harm, handed to Snakemake as a user would."""

from __future__ import annotations

import re
from pathlib import Path

from workflow_copy import Workflow

HOSTILE = r"""
results: results/hostile
run: ['$(touch pwned)', "a'; touch pwned; '", '../escaped', '-rf']
datasets:
  '`touch pwned`': { source: digits, train: 64, validation: 16, test: 16 }
models:
  'm; touch pwned': { entry: sgdline.models:mlp, kwargs: { hidden: [8] } }
experiments:
  '$(touch pwned)': &one
    { dataset: digits, models: [mlp], lr: [0.1], batch_size: [16], seed: [1], steps: 4, figures: [a/../pwned] }
  "a'; touch pwned; '": *one
  '../escaped': *one
  '-rf': *one
  "line\nbreak": *one
comparisons:
  '../../pwned': { figure: walk/table1_barriers, experiments: ['$(touch pwned)'] }
toys:
  '{wildcards.toy}': { toy: '$(touch pwned)' }
"""


def test_hostile_names_are_all_told_and_nothing_happens(fresh: Workflow) -> None:
    (fresh.folder / "config/hostile.yaml").write_text(HOSTILE)
    before = sorted(fresh.folder.parent.rglob("*"))
    result = fresh.snakemake("--cores", "1", "--configfile", "config/hostile.yaml", check=False)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    told = [line.strip() for line in result.stderr.splitlines() if "must " in line]
    places = (
        "datasets['`touch pwned`']", "models['m; touch pwned']", "experiments['$(touch pwned)']",
        "experiments[\"a'; touch pwned; '\"]", "experiments['../escaped']", "experiments.-rf",
        "experiments['line\\nbreak']", "comparisons['../../pwned']", "toys['{wildcards.toy}'].toy", "run[0]", "run[3]",
    )  # fmt: skip
    for place in places:
        assert any(re.match(rf"config/hostile\.yaml:\d+: {re.escape(place)} ", line) for line in told), (place, told)
    made = {path.relative_to(fresh.folder.parent) for path in set(fresh.folder.parent.rglob("*")) - set(before)}
    # Snakemake's own folder, and what Python keeps of its sources.
    ours = {path for path in made if ".snakemake" not in path.parts and "__pycache__" not in path.parts}
    assert ours == set()


def test_a_folder_from_the_command_line_is_checked_as_well(fresh: Workflow) -> None:
    words = ["--cores", "1", "--config", "results=$(touch pwned)"]
    result = fresh.snakemake("all_figures", *words, "--dry-run", check=False)
    assert result.returncode == 1
    told = result.stdout + result.stderr  # a dry run tells on stdout
    assert "Traceback" not in told
    assert "results must be a folder path" in told
    assert not list(Path(fresh.folder).glob("*pwned*"))
