"""Experiments of a configuration: each thing in them is asked what is wrong with it there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from sgdline.config._analyses import check_analyses
from sgdline.config._asked import faults_of, made_soundly
from sgdline.config._datasets import Sizes
from sgdline.config._draft import Draft, sound_entries
from sgdline.config._figures import check_figures_of_runs
from sgdline.config.declarations import AnalysisOptions
from sgdline.declare.build import build, build_thing
from sgdline.declare.faults import Faults, Index, KeyPath
from sgdline.declare.registry import declaration, is_entry, label, name_of
from sgdline.declare.run_facts import RunFacts
from sgdline.declare.schema import shared_fields
from sgdline.losses.base import Loss
from sgdline.probes.base import PlannedOptions
from sgdline.table_modules import table_modules
from sgdline.train.rules.base import UpdateRule
from sgdline.train.settings import LabelNoiseOptions
from sgdline.workflow.layout import FOLDERS_OF_A_RUN, format_lr
from sgdline.workflow.runs import probe_options


def check_experiments(draft: Draft, sizes: Mapping[str, Sizes]) -> None:
    """Note what is wrong in experiments, and put the numbers of training images in the place of `all`.

    Args:
        draft: The configuration.
        sizes: Data set -> what is known of its sizes.
    """
    for name, block in draft.blocks("experiments").items():
        checks = _Experiment(block, ("experiments", name), draft.faults, sizes.get(block.get("dataset", ""), Sizes()))
        checks.number_batches(known=block.get("dataset") in sizes)
        checks.training()
        checks.probes()
        checks.import_of_lines()
        run = checks.asked()
        checks.theory(run)
        check_analyses(block, checks.path, draft.faults)
        check_figures_of_runs(draft, name, block, run)


@dataclass(frozen=True)
class _Experiment:
    block: dict[str, Any]
    path: KeyPath
    faults: Faults
    sizes: Sizes

    def add(self, text: str, *keys: Any) -> None:
        self.faults.add((*self.path, *keys), text)

    def under(self, *keys: Any) -> bool:
        return self.faults.under((*self.path, *keys))

    @property
    def _images(self) -> int | None:
        return self.sizes.images.get("train") or None

    def number_batches(self, *, known: bool) -> None:
        """Put the number of training images in the place of `all`: a run's folder is named by a number."""
        entries, start = self.block.get("batch_size") or [], self.block.get("start_from")
        places: list[tuple[Any, Any, KeyPath]] = [
            (entries, place, ("batch_size", Index(place))) for place in range(len(entries))
        ]
        if isinstance(start, Mapping) and "batch_size" in start:
            places.append((start, "batch_size", ("start_from", "batch_size")))
        dataset, images = self.block.get("dataset"), self._images
        for holder, key, here in places:
            if holder[key] != "all":
                continue
            if known and not self.faults.under(("datasets", dataset)):
                if images is None:
                    rule = "must be a number where the size of the data set is not known beforehand, got all."
                    fix = f"Count the training images, or give datasets.{dataset}.train as a number."
                    self.add(f"{rule} {fix}", *here)
                elif holder is entries and images in entries:
                    rule = f"must differ from the other entries, got all, which is {images}. Remove one of them."
                    self.add(rule, *here)
            holder[key] = images

    def training(self) -> None:
        """Note learning rates that share a folder, batches that are too large, segments without an update."""
        written: dict[str, int] = {}
        for position, lr in sound_entries(self.block.get("lr"), float):
            if written.setdefault(format_lr(lr), position) != position:
                rule = f"must differ from the entries before it, got {format_lr(lr)} twice. Remove one of them."
                self.add(rule, "lr", position)
        dataset, images = self.block.get("dataset"), self._images
        for position, batch_size in sound_entries(self.block.get("batch_size"), int):
            if images is not None and images < batch_size:
                self.add(
                    f"must be at most the training images of {dataset} ({images}), got {batch_size}. Use a smaller "
                    f"batch, or a larger datasets.{dataset}.train.",
                    "batch_size",
                    position,
                )
        steps, segments = self.block.get("steps"), self.block.get("segments")
        if steps is not None and segments is not None and segments > steps:
            rule = f"must be at most steps ({steps}), got {segments}. A segment holds at least one update."
            self.add(rule, "segments")

    def probes(self) -> None:
        """Note probes that share a table, and those that lack another one.

        Each has a table of its own, which has the name of the probe, or of an entry's declaration.
        """
        probes = self.block.get("probes", {})
        called: dict[str, str] = {}
        for name in probes:
            own = label(name)
            twin = called.setdefault(own.casefold(), name)
            if not is_entry(name):
                continue
            if own.casefold() in (*table_modules(), *FOLDERS_OF_A_RUN):
                table = own.casefold()
                rule = f"must be called otherwise than the package's table {table}, got the declaration {own}. Rename."
                self.add(rule, "probes", name)
            elif twin != name:
                self.add(f"is called as {twin}, got the declaration {own}. Rename it.", "probes", name)
            elif issubclass(probe_options(name), PlannedOptions):
                rule = "must not derive from PlannedOptions, whose plans are tried by modules of the package"
                self.add(f"{rule}, got {own}. Derive it from EveryOptions.", "probes", name)
        for name in () if self.under("probes") else probes:
            for other in shared_fields(probe_options(name)):
                if other not in probes:
                    rule = f"needs `probes.{other}`, whose settings it shares. Add `{other}: {{}}`."
                    self.add(rule, "probes", name)

    def import_of_lines(self) -> None:
        """Imported lines were measured elsewhere: there is no network to train or to probe any further."""
        if self.block.get("import_lines") is None:
            return
        measures: dict[str, Any] = {probe: declaration("probe", probe) for probe in self.block.get("probes", {})}
        if not self.under("probes") and not any(found.takes_imported_lines for found in measures.values()):
            hint = "Add it, with the interval and resolution of the imported lines."
            self.add(f"must hold line where lines are imported, got none. {hint}", "probes")
        for probe, found in measures.items():
            if not found.takes_imported_lines and not self.under("probes", probe):
                self.add("must be left out where lines are imported. Remove it.", "probes", probe)
        for key in ("models", "lr", "batch_size", "seed"):
            entries = self.block.get(key)
            if isinstance(entries, list) and len(entries) > 1 and not self.under(key):
                rule = f"must hold one entry where lines are imported, got {len(entries)}. One folder holds one run."
                self.add(rule, key)

    def asked(self) -> RunFacts:
        """Let what declares itself, as far as it is sound, say what is wrong with its options in this experiment.

        Returns:
            RunFacts: What they know of it.
        """
        things: dict[KeyPath, Any] = {}
        for key, kind in (("optimizer", "update_rule"), ("schedule", "schedule"), ("loss", "loss")):
            if key in self.block and not self.under(key):
                block = self.block[key]
                make = partial(build_thing, kind, block, tag="name")
                things[(key,)] = made_soundly(make, block["name"], (*self.path, key, "name"), self.faults)
        for key, declared in (("label_noise", LabelNoiseOptions), ("analysis", AnalysisOptions)):
            if key in self.block and not self.under(key):
                # Analyses of the user's are asked by themselves.
                options = {name: entry for name, entry in self.block[key].items() if name != "extra"}
                things[(key,)] = build(declared, options)
        for name, options in self.block.get("probes", {}).items():
            here = ("probes", name)
            if not self.under(*here):
                make = partial(build, declaration("probe", name), options)
                things[here] = made_soundly(make, name, (*self.path, *here), self.faults)
        things = {place: thing for place, thing in things.items() if thing is not None}
        probes = {place[1]: thing for place, thing in things.items() if len(place) == 2}
        run = self._run_facts(things.get(("optimizer",)), things.get(("loss",)), probes)
        for place, thing in things.items():
            for fault in faults_of(thing, run):
                self.add(fault.text, *(() if fault.of_experiment else place), *fault.path)
        self._check_lr_unit(run)
        return run

    def _run_facts(self, rule: UpdateRule | None, loss: Loss | None, probes: Mapping[str, Any]) -> RunFacts:
        """Return what things may ask of an experiment; what has a fault so far is left out."""
        block, augmentation = self.block, self.block.get("augmentation", {})
        listed: dict[str, dict[int, Any]] = {
            key: {place: value for place, value in sound_entries(block.get(key), kind) if not self.under(key, place)}
            for key, kind in (("lr", float), ("batch_size", int))
        }
        incomplete = {key for key, kept in listed.items() if len(kept) < len(block.get(key) or [None])}
        return RunFacts(
            dataset=block.get("dataset"),
            images=self.sizes.images,
            most_images=self.sizes.most,
            learning_rates=listed["lr"],
            batch_sizes=listed["batch_size"],
            micro_batch=block.get("micro_batch"),
            steps=block.get("steps"),
            threads=block.get("threads"),
            drop_last=block.get("drop_last"),
            augments=None if len(augmentation) < 2 else augmentation["crop_padding"] > 0 or augmentation["flip"],
            imports_lines=block.get("import_lines") is not None,
            rule=rule,
            loss=loss,
            probes=probes,
            incomplete=frozenset([*incomplete, *([] if "micro_batch" in block else ["micro_batch"])]),
        )

    def _check_lr_unit(self, run: RunFacts) -> None:
        if self.block.get("lr_unit") != "sharpness":
            return
        if run.imports_lines:
            rule = "must be absolute where lines are imported, got sharpness. There is no network to measure it on."
            self.add(rule, "lr_unit")
        elif run.rule is not None and run.rule.lr_is_length:
            rule = f"must be absolute when the optimizer is {name_of(type(run.rule))}, got sharpness."
            self.add(f"{rule} Its lr is a measuring step, a length.", "lr_unit")

    def theory(self, run: RunFacts) -> None:
        """Note an update rule of the user's that cannot say whether the theory of the stationary state covers it."""
        rule = run.rule
        if rule is not None:
            name, here = self.block["optimizer"]["name"], (*self.path, "optimizer", "name")
            what = "answer stationary_theory(self)"
            made_soundly(lambda: (rule.stationary_theory(),), name, here, self.faults, what=what)
