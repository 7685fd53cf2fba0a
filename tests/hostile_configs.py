"""The configurations of this repository, changed for the worse, and how far an accepted one is followed."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import yaml
from hypothesis import strategies as st
from sample_lines import polynomials, sample_line, write_sample_lines
from small_configs import part_of
from snakemake.utils import update_config

from sgdline.analysis.batch_sizes import measure_batch_sizes
from sgdline.analysis.distances import measure_distances
from sgdline.analysis.fits import fit_lines
from sgdline.analysis.metrics import measure_lines
from sgdline.analysis.strategies import measure_strategies
from sgdline.data.images import ImageData, load_images
from sgdline.data.prepare import prepare_dataset
from sgdline.declare.build import build, build_thing
from sgdline.engine.plan import Plan
from sgdline.errors import SgdlineError
from sgdline.papers.asked import asked
from sgdline.probes.settings import ProbeSettings
from sgdline.train.loop import Trainer
from sgdline.train.settings import TrainingSettings
from sgdline.workflow.constraints import wildcard_constraints
from sgdline.workflow.jobs import Jobs
from sgdline.workflow.layout import RunKey, run_label, run_path
from sgdline.workflow.runs import runs
from sgdline.workflow.slices import analysis_slice, dataset_slice, plan_slice, probe_slice, training_slice

ROOT = Path(__file__).parents[1]
FILES = [None, *sorted(path for path in (ROOT / "config").rglob("*.yaml") if path.name != "config.yaml")]

DEFAULT: dict[str, Any] = yaml.safe_load((ROOT / "config/config.yaml").read_text(encoding="utf-8"))

Place = tuple[Any, ...]


def whole_config(overlay: Path | None) -> dict[str, Any]:
    """Return the default configuration with a file on top, merged by Snakemake itself."""
    config = copy.deepcopy(DEFAULT)
    if overlay is not None:
        update_config(config, yaml.safe_load(overlay.read_text(encoding="utf-8")))
    return config if config.get("run", "all") == "all" else _without_idle(config)


def _without_idle(config: dict[str, Any]) -> dict[str, Any]:
    """Leave out what an overlay leaves idle of the default: it would only take time."""
    kept = list(config["run"])
    for name in kept:  # grows: runs may continue others
        start = config["experiments"].get(name, {}).get("start_from")
        kept += [start["experiment"]] if start and start["experiment"] not in kept else []
    experiments = {name: block for name, block in config["experiments"].items() if name in kept}
    compared = {
        name: block for name, block in config["comparisons"].items() if set(block["experiments"]) <= set(experiments)
    }
    toys = {name: block for name, block in config["toys"].items() if name in kept}
    return {**config, "experiments": experiments, "comparisons": compared, "toys": toys}


CONFIGS = {path.relative_to(ROOT).as_posix() if path else "config/config.yaml": whole_config(path) for path in FILES}


# --- changes ----------------------------------------------------------------------------------------------------------


def places(value: Any, path: Place = ()) -> Iterator[Place]:
    if path:
        yield path
    if isinstance(value, dict):
        for key, entry in value.items():
            yield from places(entry, (*path, key))
    elif isinstance(value, list):
        for position, entry in enumerate(value):
            yield from places(entry, (*path, position))


def at(config: Any, path: Place) -> Any:
    for part in path:
        config = config[part]
    return config


PLACES = {name: list(places(config)) for name, config in CONFIGS.items()}

NUMBERS = st.one_of(
    st.sampled_from(
        [math.nan, math.inf, -math.inf, 0, -1, -0.0, 1, 2, 3, 0.5, 1.0, 1e-300, 5e-324, 1e-30, 1e-6, 1e6, 1e30, 1e300]
    ),
    st.sampled_from([10**3, 10**6, 10**9, 10**12, 2**31, 2**53, 2**63 - 1, 2**63, 10**400, -(10**400)]),
    st.integers(-3, 2000),
    st.floats(0, 2),
    st.floats(),
)
TEXTS = st.one_of(
    # Among them a typographic quote, an override of the reading direction, and names in letters that only look alike.
    st.sampled_from(
        [
            "", " ", "all", "auto", "none", "null", "true", "~", "../..", "/", "$(touch x)", "`x`", "a b", "-rf",
            "a\nb", "a\0b", "{wildcards}", "{seed}", "*", "\u2019", "\u202e", "\uff44igits", "d\u0456gits", "é" * 300,
            "x" * 5000, "1e-3", "0,1", "[0.1]", "digits", "mlp", "sgdline.models:mlp", "nets/none.py:net", "os:system",
            "line", "step", "linesearch/fig2_lines", "walk/fig9_barriers_vgg11", "sgd", "adam", "grid", "cifar10",
            "image_folder",
        ]
    ),
    st.text(max_size=12),
)  # fmt: skip
SCALARS = st.one_of(NUMBERS, TEXTS, st.booleans(), st.none(), st.dates(), st.binary(max_size=3))
KEYS = st.one_of(TEXTS, st.integers(-2, 9), st.booleans(), st.none(), st.floats(), st.tuples(st.integers(0, 3)))
NONSENSE = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=5
)
# Kinds of changes; those more than once that are most like slips.
KINDS = [
    *("near", "near", "near", "number", "number", "graft", "graft"),
    *("nonsense", "text", "delete", "key", "copy", "empty", "wrap", "insert"),
]


def misspelt(draw: Any, word: str) -> str:
    if not word:
        return "x"
    place = draw(st.integers(0, len(word) - 1))
    return draw(
        st.sampled_from(
            [
                word[:place] + word[place + 1 :],
                word[:place] + word[place] + word[place:],
                word[:place] + draw(st.sampled_from("aeio_-. A1é")) + word[place + 1 :],
                word.upper(),
                word + "s",
            ]
        )
    )


def changed_scalar(draw: Any, value: Any) -> Any:
    """Return another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int) and draw(st.booleans()):
        return draw(st.sampled_from([value + 1, value - 1, 2 * value, value // 2, 3 * value + 1]))
    if isinstance(value, float) and draw(st.booleans()):
        return value * draw(st.floats(0.3, 3.0))
    if isinstance(value, int | float) and -1e300 < value < 1e300:  # whole numbers may be too large for a float
        factor = draw(st.sampled_from([-1, 0, 0.5, 2, 10, 1000, 1e6, 1e12, 1e-9]))
        return draw(st.sampled_from([value * factor, round(value), value + 1, value - 1, str(value)[:99], [value]]))
    return misspelt(draw, value) if isinstance(value, str) else draw(SCALARS)


@dataclass(frozen=True)
class Changed:
    """A whole configuration, and how it came to be."""

    name: str
    touched: list[Place]
    config: Any

    def __repr__(self) -> str:
        changes = []
        for path in self.touched:
            try:
                changes.append((path, repr(at(self.config, path))[:200]))
            except (LookupError, TypeError):
                changes.append((path, "gone"))
        return f"Changed({self.name}, {changes})"


@st.composite
def hostile_configs(draw: Any) -> Changed:
    """Return a whole configuration with one to three changes."""
    name = draw(st.sampled_from(sorted(CONFIGS)))
    paths = [draw(st.sampled_from(PLACES[name])) for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3])))]
    config = copy.deepcopy(part_of(CONFIGS[name], paths))
    touched = []
    for path in paths:
        kind = draw(st.sampled_from(KINDS))
        try:
            parent, value = at(config, path[:-1]), at(config, path)
        except (KeyError, IndexError, TypeError):  # gone by a change before
            continue
        if not isinstance(parent, dict | list):  # a change before put a text in its place
            continue
        key = path[-1]
        match kind:
            case "near":
                parent[key] = changed_scalar(draw, value)
            case "number":
                parent[key] = draw(NUMBERS)
            case "graft":  # what is right elsewhere
                parent[key] = copy.deepcopy(at(CONFIGS[name], draw(st.sampled_from(PLACES[name]))))
            case "nonsense":
                parent[key] = draw(NONSENSE)
            case "text":
                parent[key] = draw(TEXTS)
            case "delete":
                del parent[key]
            case "key" if isinstance(parent, dict):
                parent[misspelt(draw, str(key)) if draw(st.booleans()) else draw(KEYS)] = parent.pop(key)
            case "copy" if isinstance(parent, dict):
                parent[misspelt(draw, str(key))] = copy.deepcopy(value)
            case "copy" | "key":
                parent.append(copy.deepcopy(value))
            case "empty":
                parent[key] = draw(st.sampled_from([[], {}, None, ""]))
            case "wrap":
                parent[key] = draw(st.sampled_from([[value], {"a": value}, [[value]], [value, value]]))
            case "insert" if isinstance(value, dict):
                value[draw(KEYS)] = draw(NONSENSE)
            case "insert":
                parent[key] = [value, draw(NONSENSE)]
        touched.append(path)
    return Changed(name, touched, config)


# --- how far an accepted one goes -------------------------------------------------------------------------------------

# What only the network can tell: the first job that builds it says so, in one sentence.
OF_THE_NETWORK = re.compile(
    r"^Model |for BatchNorm|BatchNorm|^The parameters of a network|probes\.feat\.layers|second derivative|layers|"
    r"must return|eigenvalues .* of the network|parameters"
)


def concerned_runs(config: Mapping[str, Any], touched: list[Place]) -> list[RunKey]:
    """Return the first and the last run that a change concerns."""
    every = runs(config)
    found: list[RunKey] = []
    for path in touched:
        kind, name = path[0], path[1] if len(path) > 1 else None
        for run in every:
            block = config["experiments"][run.experiment]
            of_kind = {"experiments": run.experiment, "datasets": block["dataset"], "models": run.model}.get(kind)
            if of_kind == name or of_kind is None:
                found.append(run)
    found = found or every
    return list(dict.fromkeys([*found[:1], *found[-1:]]))


class Targets:
    """What the rules of the workflow ask for while Snakemake plans, for one configuration."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._jobs = Jobs(config, folder=ROOT / "workflow")
        self._constraints = wildcard_constraints(config) | {"figure": self._jobs.figure_folders()}

    def files(self) -> list[str]:
        return [*self._jobs.figure_files(), *self._jobs.claim_files(), *self._jobs.analysis_files()]

    def evaluate(self, run: RunKey) -> None:
        """Call what the rules of a run call."""
        jobs, experiment = self._jobs, self._jobs.config["experiments"][run.experiment]
        wildcards = self._wildcards(run)
        jobs.dataset(wildcards)
        jobs.labels(wildcards)
        if experiment["import_lines"] is None:
            jobs.training(wildcards)
            jobs.parent(wildcards)
            jobs.sharpness(wildcards)
        for probe in experiment["probes"]:
            probed = self._wildcards(run, probe=probe)
            if experiment["import_lines"] is None:
                jobs.plan(probed)
                jobs.probe(probed)
                jobs.plan_settings(probed)
                jobs.segments(probed) if experiment["segments"] <= 1000 else None
        for figure in map(asked, experiment["figures"]):
            self._draw(figure.folder, run_label(run))

    def _draw(self, figure: str, subject: str) -> None:
        drawn = self._wildcards(figure=figure, subject=subject)
        self._jobs.figure(drawn)
        self._jobs.drawn_tables(drawn)
        self._jobs.drawn_settings(drawn)
        self._jobs.caption(drawn)

    def compare(self) -> None:
        jobs = self._jobs
        for name, block in jobs.config["comparisons"].items():
            self._draw(asked(block["figure"]).folder, name)
        for start in jobs.starts:
            jobs.start_settings(self._wildcards(start=start))
        for judged in jobs.judgements:
            wildcards = self._wildcards(judged=judged)
            jobs.judged(wildcards)
            jobs.judged_tables(wildcards)
        for toy in jobs.config["toys"]:
            jobs.toy_settings(self._wildcards(toy=toy))
            jobs.toy_code("simulate_toy.py")(self._wildcards(toy=toy))

    def _wildcards(self, run: RunKey | None = None, **values: str) -> Any:
        """Return wildcards as Snakemake hands them over: attributes that are texts, and that the rules admit."""
        texts = {} if run is None else {name: str(value) for name, value in asdict(run).items()}
        for name, text in (texts | values).items():
            assert re.fullmatch(self._constraints[name], text), (name, text)
        return SimpleNamespace(**texts, **values)


class Follower:
    """Goes with accepted configurations as far as is cheap: plan, data, network, schedule, probes, analysis."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._images: dict[str, ImageData] = {}
        self.counts: dict[str, int] = {}

    def count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    def follow(self, config: dict[str, Any], touched: list[Place]) -> None:
        """Raise what a later job would raise for reasons that stood in the configuration."""
        for run in concerned_runs(config, touched):
            folder = run_path(run)
            assert len(folder) < 400
            assert all(len(part) <= 255 for part in folder.split("/"))
            block = config["experiments"][run.experiment]
            training = training_slice(config, run)
            for probe in block["probes"]:
                probe_slice(config, run, probe)
                plan_slice(config, run, probe)
            analysis_slice(config, run)
            if block["import_lines"] is None:
                self._train(config, run, training)
            if any("analysis" in path or "line" in path for path in touched) and "line" in block["probes"]:
                self._analyse(config, run)

    def _train(self, config: dict[str, Any], run: RunKey, training: Mapping[str, Any]) -> None:
        block = config["experiments"][run.experiment]
        dataset = dataset_slice(config, block["dataset"])
        if not _at_hand(dataset) or not _small(training["model"]):
            self.count("not built: large, or its images are not here")
            return
        images = self._prepared(dataset)
        settings = build(TrainingSettings, training)
        try:
            trainer = Trainer(settings, images, device=torch.device("cpu"))
        except SgdlineError as error:
            if not OF_THE_NETWORK.search(str(error)):
                raise
            self.count("told by the network")
            return
        self.count("network and batch built")
        if settings.in_sharpness:
            trainer.set_sharpness(3.0)
        if settings.steps <= 100_000:
            rates = np.array([trainer._schedule(step) for step in range(settings.steps)])
            assert np.isfinite(rates).all()
            assert (rates >= 0).all()
            assert rates.max() < 1e38
            self.count("schedules evaluated")
        try:
            update = next(trainer.updates(0, 1))
            assert update.step == 0
            for probe in block["probes"]:
                self._probe(config, run, probe, trainer, images, settings)
        except SgdlineError as error:
            if not OF_THE_NETWORK.search(str(error)):
                raise
            self.count("told by the network")

    def _probe(self, config: Any, run: RunKey, probe: str, trainer: Trainer, images: ImageData, training: Any) -> None:
        sliced = probe_slice(config, run, probe)
        whole = config["experiments"][run.experiment]["probes"][probe].get("plan", {})
        pinned = {entry: value for entry, value in whole.items() if value is not None}
        # As a trial would choose it; nothing is compiled here.
        fixed = {"reseed": False, "compiled": False, "cuda_graphs": False}
        plan = Plan(**(pinned | fixed if pinned.get("reseed") is not True else pinned))
        measuring = ProbeSettings.from_json(sliced).options.probe(trainer, images, training, plan)
        measuring.facts()
        measuring.due(0)
        self.count("probes made")

    def _prepared(self, dataset: Mapping[str, Any]) -> ImageData:
        key = repr(sorted(dataset.items(), key=str))
        if key not in self._images:
            path = self._folder / f"{len(self._images)}.arrow"
            source = build_thing("source", dataset, tag="source")
            prepare_dataset(source, path, data_dir=self._folder, download=False, provenance={})
            self._images[key] = load_images(path, device="cpu")
            path.unlink()
        return self._images[key]

    def _analyse(self, config: Mapping[str, Any], run: RunKey) -> None:
        """Run the analysis on lines of single samples that are measured as far as the config says."""
        settings = analysis_slice(config, run)
        interval, resolution = settings["interval"], settings["resolution"]
        if interval / resolution > 2000:
            self.count("not analysed: a fine grid")
            return
        line, metrics = self._lines(interval)
        output, facts = self._folder / "analysed.arrow", {"provenance": {}}

        def chosen(*keys: str) -> dict[str, Any]:
            return {key: settings[key] for key in keys}

        grid = chosen("window", "resolution")
        fit_lines(line, output, **grid, degrees=settings["degrees"], **facts)
        measure_lines(line, metrics, **grid, **facts)
        measure_distances(line, output, **grid, **chosen("distance_first", "distance_every"), **facts)
        keys = ("interval", "resolution", "sgd_lr", "pal_measuring_step", "fbpal_every", "fbpal_average", "compat")
        measure_strategies(line, metrics, output, **chosen(*keys), **facts)
        keys = ("interval", "resolution", "pal_measuring_step", "batch_sizes", "batch_draws", "compat")
        own = {"batch_size": 4, "seed": run.seed}
        if config["experiments"][run.experiment]["probes"]["line"]["sample_losses"] and settings["batch_draws"] <= 16:
            sizes = settings["batch_sizes"]
            if sizes == "auto" or max(sizes) <= 40:  # the samples of these lines
                measure_batch_sizes(line, metrics, output, **own, **chosen(*keys), **facts)
        self.count("analyses run")

    def _lines(self, interval: float) -> tuple[Path, Path]:
        folder = self._folder / repr(interval)
        if not folder.exists():
            folder.mkdir()
            draws = np.random.default_rng(3)
            rows = []
            for step in range(12):
                slopes, width = draws.normal(-1, 0.3, 40) / interval, interval**2
                table = np.stack([np.full(40, 2.0), slopes, draws.uniform(1, 3, 40) / width], axis=1)
                batch = np.arange(4)
                facts = {"half_width": interval, "step_length": 0.1 * interval, "rows": batch, "step": step}
                rows.append(sample_line(polynomials(table), polynomials(table[batch]), **facts))
            write_sample_lines(folder, rows)
        return folder / "line.arrow", folder / "line_metrics.arrow"


def _at_hand(dataset: Mapping[str, Any]) -> bool:
    if dataset["source"] == "random":
        return bool(dataset["images"] * dataset["channels"] * dataset["size"] ** 2 <= 2_000_000)
    return dataset["source"] == "digits" and (dataset["image_size"] or 8) <= 32


def _small(model: Mapping[str, Any]) -> bool:
    name, kwargs = model["entry"].partition(":")[2], model["kwargs"]
    sizes = [entry for value in kwargs.values() for entry in (value if isinstance(value, list) else [value])]
    numbers = [size for size in sizes if isinstance(size, int | float)]
    small = name in ("mlp", "tiny_resnet", "tiny_vgg", "tiny_mobilenet", "tiny_preact_resnet") or "width" in kwargs
    return model["entry"].startswith("sgdline.models") and small and max(numbers, default=0) <= 512
