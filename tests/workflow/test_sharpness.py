"""Learning rates in units of the inverse sharpness: one measurement for all of them, made again only if needed."""

from __future__ import annotations

import json

from workflow_copy import Workflow

from sgdline.tables import provenance, read_table

OVERLAY = """
results: results
run: [edge, child, plain]
datasets: {few: {source: digits, train: 96, validation: 0, test: 10}}
models: {net: {entry: "sgdline.models:mlp", kwargs: {hidden: [8]}}}
experiments:
  edge: &edge
    dataset: few
    models: [net]
    lr_unit: sharpness
    lr: [0.5, 1.5]
    batch_size: [all]
    micro_batch: 40
    seed: [1]
    steps: 4
  plain:
    <<: *edge
    lr_unit: absolute
  child:
    <<: *edge
    lr: [0.25]
    start_from: {experiment: edge, lr: 1.5}
  batches:
    <<: *edge
    batch_size: [80, 40]
    lr: [0.5]
    steps: 3
"""
CONFIG = ("--configfile", "config/sharp.yaml")
FOLDER = "results/edge/net"
MEASURED = "results/sharpness/few/net/chunk40_seed1.json"
TRACES = [f"{FOLDER}/lr{lr}_bs96_seed1/trace.arrow" for lr in ("0.5", "1.5")]
CHILD = "results/child/net/lr0.25_bs96_seed1/trace.arrow"
BATCHES = [f"results/batches/net/lr0.5_bs{size}_seed1/trace.arrow" for size in (80, 40)]
PLAIN = "results/plain/net/lr0.5_bs96_seed1/trace.arrow"


def test_all_rates_share_a_measurement_that_a_new_one_leaves_alone(fresh: Workflow) -> None:
    (fresh.folder / "config/sharp.yaml").write_text(OVERLAY)
    edge = (*TRACES, *CONFIG)
    assert fresh.planned(*edge) == {"prepare_dataset": 1, "measure_sharpness": 1, "train_run": 2}
    assert fresh.planned(PLAIN, *CONFIG) == {"prepare_dataset": 1, "train_run": 1}
    # Chunks of 40 are chunks of 40, whatever the batch: they start where the others do.
    assert fresh.planned(*TRACES, *BATCHES, *CONFIG) == {"prepare_dataset": 1, "measure_sharpness": 1, "train_run": 4}
    # The run to continue has a unit of its own.
    assert fresh.planned(CHILD, *CONFIG) == {"prepare_dataset": 1, "measure_sharpness": 2, "train_run": 2}
    fresh.snakemake("--cores", "1", *TRACES, CHILD, *CONFIG)
    largest = json.loads((fresh.folder / MEASURED).read_text())["largest_eigenvalue"]
    for path, lr in zip(TRACES, (0.5, 1.5), strict=True):
        trace = read_table(fresh.folder / path, "trace")
        assert trace["lr"].to_pylist() == [lr / largest] * 4
        assert provenance(trace)["sharpness"] == largest
    own = provenance(read_table(fresh.folder / CHILD, "trace"))["sharpness"]
    assert own != largest
    assert read_table(fresh.folder / CHILD, "trace")["lr"].to_pylist() == [0.25 / own] * 4
    assert fresh.planned(*TRACES, CHILD, *CONFIG) == {}

    fresh.edit("config/sharp.yaml", "lr: [0.5, 1.5]", "lr: [0.1, 0.5, 1.5]")
    new = f"{FOLDER}/lr0.1_bs96_seed1/trace.arrow"
    assert fresh.planned(*TRACES, new, CHILD, *CONFIG) == {"train_run": 1}
    # How a run goes on trains it again, and measures where the child starts, which has moved.
    fresh.edit("config/sharp.yaml", "steps: 4", "steps: 5\n    optimizer: {momentum: 0.9}")
    assert fresh.planned(*edge) == {"train_run": 2}
    assert fresh.planned(CHILD, *CONFIG) == {"measure_sharpness": 1, "train_run": 2}
    fresh.edit("config/sharp.yaml", "steps: 5\n    optimizer: {momentum: 0.9}", "steps: 4")
    assert fresh.planned(*TRACES, CHILD, *CONFIG) == {}
    fresh.edit("config/sharp.yaml", "hidden: [8]", "hidden: [9]")
    assert fresh.planned(*edge) == {"measure_sharpness": 1, "train_run": 2}
    assert fresh.planned(CHILD, *CONFIG) == {"measure_sharpness": 2, "train_run": 2}
