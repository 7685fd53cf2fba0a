"""Figures of a configuration: whether they draw what they are named for, and find what they read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sgdline.config._draft import Block, Draft, entry, sound_entries
from sgdline.declare.faults import Faults, Index, KeyPath, name_hint, value_words
from sgdline.declare.registry import is_entry, label
from sgdline.declare.run_facts import RunFacts
from sgdline.entries import EntryError
from sgdline.figures.base import figures_named, own_spec
from sgdline.figures.spec import FigureSpec
from sgdline.workflow.segments import measured_steps
from sgdline.workflow.tables import kinds_made


def own_figures(config: Block, faults: Faults) -> dict[str, FigureSpec]:
    """Return what the figures that a configuration names by entry say, and note those that cannot be drawn.

    Args:
        config: The configuration, checked against its schema.
        faults: Takes the faults.
    """
    found: dict[str, FigureSpec] = {}
    called: dict[str, str] = {}
    for here, figure in figures_named(config):
        if not is_entry(figure) or faults.under(here):
            continue
        try:
            spec = found.get(figure) or own_spec(figure)
        except EntryError as error:
            faults.add(here, error.rule)
            continue
        twin = called.setdefault(label(figure).casefold(), figure)
        if twin != figure:
            rule = f"must be called otherwise than {twin}, got {figure}: their pictures share a folder. Rename one."
            faults.add(here, rule)
            continue
        found[figure] = spec
    return found


def check_figures_of_runs(draft: Draft, name: str, experiment: Block, run: RunFacts, *, theory: bool) -> None:
    """Note figures of an experiment that do not draw a run, or not one of its runs.

    Args:
        draft: The configuration.
        name: Of the experiment.
        experiment: Its block.
        run: What is known of it.
        theory: Whether a theory of the stationary state of its update rule may be drawn.
    """
    path: KeyPath = ("experiments", name)
    line = entry(experiment, "probes", "line")
    for here, spec in _drawing(draft, entry(draft.raw, *path, "figures"), (*path, "figures"), "run"):
        figure = spec.id
        if is_entry(figure):
            check_tables(draft, spec.tables, figure, name, here)
            continue
        if spec.samples and entry(line, "sample_losses") is False:
            draft.faults.add(
                here,
                f"must have the loss of every sample, got {figure} with probes.line.sample_losses: false. Set it to "
                "true, or remove the figure.",
            )
        if spec.theory and not theory:
            draft.faults.add(
                here,
                f"must be of a run whose optimizer has a theory of its stationary state, got {figure} with "
                f"{label(experiment['optimizer']['name'])}. Remove the figure, or use sgd.",
            )
            continue
        missing = _missing_probe(spec, experiment)
        if missing and not draft.faults.under((*path, "probes")):
            draft.faults.add(
                here,
                f"must have its probe measured, got no probes.{missing} in this experiment. Add it, or remove the "
                f"figure {figure}.",
            )
        every, where = entry(line, "every"), (*path, "probes", "line", "every")
        lines = None if run.steps is None or every is None else len(measured_steps(run.steps, every))
        if "line" in spec.probes and lines is not None and lines < 2 and not draft.faults.under(where):
            rule = f"must leave at least two lines for the figures, got {every} with {run.steps} steps."
            draft.faults.add(where, f"{rule} Lower it, or raise steps.")


def check_comparisons(draft: Draft) -> None:
    """Note comparisons whose figure compares nothing, or reads what an experiment of theirs does not make."""
    for name, block in draft.blocks("comparisons").items():
        path: KeyPath = ("comparisons", name)
        spec = _fitting(draft, entry(draft.raw, *path, "figure"), (*path, "figure"), "comparison")
        if spec is None:
            continue
        for position, experiment in sound_entries(block.get("experiments"), str):
            here = (*path, "experiments", position)
            if is_entry(spec.id):
                check_tables(draft, spec.tables, spec.id, experiment, here)
                continue
            measured = draft.blocks("experiments").get(experiment)
            missing = measured and _missing_probe(spec, measured)
            if missing and not draft.faults.under(("experiments", experiment)):
                draft.faults.add(
                    here,
                    f"must measure what the figure draws, got no probes.{missing} in {experiment}. Add it there, "
                    "or remove the experiment here.",
                )


def check_figures_of_toy(draft: Draft, name: str, toy: str) -> None:
    """Note figures of a toy that do not draw it.

    Args:
        draft: The configuration.
        name: Of the toy.
        toy: Name or entry of its declaration.
    """
    path: KeyPath = ("toys", name, "figures")
    _drawing(draft, entry(draft.raw, *path), path, toy)


def check_tables(draft: Draft, kinds: Sequence[str], reader: str, experiment: str, here: KeyPath) -> None:
    """Note a table that a thing of the user's reads and an experiment does not make.

    Args:
        draft: The configuration.
        kinds: Kinds of tables that it reads.
        reader: The entry of a figure of runs, or of a claim.
        experiment: Name of the experiment.
        here: Where it, or the experiment that it is about, is named.
    """
    block = draft.blocks("experiments").get(experiment)
    keys = ("probes", "analysis", "optimizer")
    if block is None or any(draft.faults.under(("experiments", experiment, key)) for key in keys):
        return
    made = ["trace", *kinds_made({"experiments": {experiment: block}}, experiment)]
    for kind in kinds:
        if kind not in made:
            text = f"must read tables that experiments.{experiment} makes, got {kind!r} in {reader}."
            hint = name_hint(kind, made, kind="tables of it")
            draft.faults.add(here, f"{text} {hint} Add the probe that measures it, or correct reads.")


def _drawing(draft: Draft, named: object, path: KeyPath, wanted: str) -> list[tuple[KeyPath, FigureSpec]]:
    """Return place and spec of the figures in a list that draw what the list is for, and note the others."""
    figures = named if isinstance(named, list | tuple) else ()
    places: list[KeyPath] = [(*path, Index(position)) for position in range(len(figures))]
    found = [(here, _fitting(draft, figure, here, wanted)) for here, figure in zip(places, figures, strict=True)]
    return [(here, spec) for here, spec in found if spec is not None]


def _fitting(draft: Draft, figure: object, here: KeyPath, wanted: str) -> FigureSpec | None:
    """Return a figure that draws what its place is for; None, and a fault, of another one.

    Args:
        draft: The configuration.
        figure: As the user wrote it.
        here: Its place.
        wanted: `run`, `comparison`, or the name or entry of a toy.
    """
    if not isinstance(figure, str):
        return None  # the schema has said so
    spec, faulty = draft.figures.get(figure), draft.faults.under(here)
    if spec is not None and _draws(spec, wanted):
        return None if faulty else spec
    if is_entry(figure):
        if spec is not None and not faulty:
            draft.faults.add(here, _own_draws_other(spec, wanted))
    elif spec is not None and wanted == "run":
        draft.faults.add(here, _draws_no_run(spec))
    elif draft.knows_ids:
        # Better than the schema's words about the form of an id.
        draft.faults.add(here, _unknown(figure, draft, wanted), replace=True)
    return None


def _draws(spec: FigureSpec, wanted: str) -> bool:
    return spec.subject == wanted if wanted in ("run", "comparison") else spec.toy == wanted


def _unknown(figure: str, draft: Draft, wanted: str) -> str:
    package = {name: spec for name, spec in draft.figures.items() if not is_entry(name)}
    fitting = [name for name, spec in package.items() if wanted == "run" or _draws(spec, wanted)]
    rule, kind = {
        "run": ("the id of a figure", "figures"),
        "comparison": ("the id of a figure that compares runs", "figures that compare runs"),
    }.get(wanted, (f"the id of a figure that draws the toy {wanted}", f"figures of the toy {wanted}"))
    return f"must be {rule}, got {value_words(figure)}. {_hint(figure, fitting, kind=kind)}"


def _hint(figure: str, known: Iterable[str], *, kind: str) -> str:
    if figure.endswith(".py"):
        return f"A figure of your own is named by its file and its class: {figure}:Name."
    return name_hint(figure, known, kind=kind)


def _draws_no_run(spec: FigureSpec) -> str:
    what, place = {
        "comparison": ("compares runs", f"comparisons: {{a_name: {{figure: {spec.id}, experiments: [...]}}}}"),
        "toy": ("draws a toy", f"toys: {{a_name: {{toy: {spec.toy}, figures: [{spec.id}]}}}}"),
    }[spec.subject]
    return f"must be a figure of a single run, got {spec.id}, which {what}. Move it to the top level's {place}."


def _own_draws_other(spec: FigureSpec, wanted: str) -> str:
    rule, change = {
        "run": ("a figure of a single run", "set neither compares nor toy in it"),
        "comparison": ("a figure that compares runs", "set compares = True in it"),
    }.get(wanted, (f"a figure of the toy {wanted}", f"set toy = {wanted!r} in it"))
    drawn, place = {
        "run": ("a single run", "the figures of an experiment"),
        "comparison": ("several runs", "an entry of comparisons"),
        "toy": (f"the toy {spec.toy}", f"the figures of a toy {spec.toy}"),
    }[spec.subject]
    return f"must be {rule}, got {spec.id}, which draws {drawn}. Move it to {place}, or {change}."


def _missing_probe(spec: FigureSpec, experiment: Block) -> str | None:
    """Return a probe that a figure needs and an experiment does not measure; None if there is none."""
    probes = experiment.get("probes", {})
    # Lines of every update cover what interp measures.
    covered = {*probes, *(["interp"] if entry(probes, "line", "every") == 1 else [])}
    return next((probe for probe in spec.probes if probe not in covered), None)
