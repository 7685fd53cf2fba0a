"""Rules for the toys of a configuration that no schema can state."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from sgdline.declare.build import build_thing
from sgdline.declare.faults import Faults, Index, KeyPath, name_hint, value_words

Block = Mapping[str, Any]


def check_toys(
    toys: Block,
    raw: Block,
    faults: Faults,
    *,
    experiments: Collection[str],
    known: Collection[str] | None,
    drawn: Mapping[str, str] | None,
) -> None:
    """Note what is wrong with names, figures and settings of toys.

    Args:
        toys: The resolved section; blocks of an unknown kind are not in it.
        raw: The section as the user wrote it.
        faults: Takes the faults.
        experiments: Names of the experiments: `run` names both.
        known: Ids of the figures that can be drawn; None leaves the ids unchecked.
        drawn: Figure id -> kind of toy that it draws; None leaves unchecked whether a figure draws its toy.
    """
    folded = {name.casefold(): name for name in experiments}
    for name in raw:
        twin = folded.get(name.casefold()) if isinstance(name, str) else None
        if twin is not None:
            faults.add(
                ("toys", name),
                f"must differ from the names of the experiments, got {name!r} beside experiments.{twin}. Rename one of "
                "them: run names both.",
            )
    for name, block in toys.items():
        path: KeyPath = ("toys", name)
        _check_figures(block, raw[name].get("figures"), path, faults, known=known, drawn=drawn)
        if not faults.under(path):
            for fault in build_thing("toy", block, tag="toy").faults():
                faults.add((*path, *fault.path), fault.text)
        check = _SETTINGS.get(block["toy"])
        if check is not None:
            check(block, path, faults)


def _check_figures(
    block: Block,
    raw_figures: Any,
    path: KeyPath,
    faults: Faults,
    *,
    known: Collection[str] | None,
    drawn: Mapping[str, str] | None,
) -> None:
    if known is None or not isinstance(raw_figures, list | tuple):
        return
    kind = block["toy"]
    own = known if drawn is None else [figure for figure in known if drawn.get(figure) == kind]
    for position, figure in enumerate(raw_figures):
        if isinstance(figure, str) and figure not in own:
            hint = name_hint(figure, own, kind=f"figures of the toy {kind}")
            text = f"must be the id of a figure that draws the toy {kind}, got {value_words(figure)}. {hint}"
            # Better than the schema's words about the form of an id.
            faults.add((*path, "figures", Index(position)), text, replace=True)


def _check_quadratic_descent(block: Block, path: KeyPath, faults: Faults) -> None:
    eigenvalues, start = block.get("eigenvalues", []), block.get("start", [])
    if faults.under((*path, "eigenvalues")) or faults.under((*path, "start")):
        return
    steepest = [place for place, eigenvalue in enumerate(eigenvalues) if eigenvalue == max(eigenvalues)]
    if all(start[place] == 0.0 for place in steepest):
        faults.add(
            (*path, "start", Index(steepest[0])),
            "must not be 0 along the largest eigenvalue, got 0. Every learning rate looks over-damped from there.",
        )


def _check_equivalent_schedule(block: Block, path: KeyPath, faults: Faults) -> None:
    if faults.under(path):
        return
    reaches = {("two_point_distance", place): distance for place, distance in enumerate(block["two_point_distance"])}
    for place, spacing in enumerate(block["swa_spacing"]):
        reaches["swa_spacing", place] = (block["swa_count"] - 1) * spacing
    for (key, place), reach in reaches.items():
        if reach > block["updates"]:
            faults.add(
                (*path, key, Index(place)),
                f"must leave the average within the {block['updates']} updates, got one that reaches {reach} back. "
                "Raise updates, or lower this.",
            )


def _check_quadratic_spectrum(block: Block, path: KeyPath, faults: Faults) -> None:
    if faults.under(path):
        return
    largest, smallest, lr = block["largest_eigenvalue"], block["smallest_eigenvalue"], block["lr"]
    if smallest > largest:
        faults.add(
            (*path, "smallest_eigenvalue"),
            f"must be at most largest_eigenvalue = {largest:g}, got {smallest:g}. Swap them.",
        )
    if lr * largest >= 2.0:
        faults.add(
            (*path, "lr"),
            f"must be below 2/largest_eigenvalue = {2.0 / largest:g}, got {lr:g}. Lower it: SGD would diverge.",
        )
    if block["two_point_distance"] > block["updates"]:
        faults.add(
            (*path, "two_point_distance"),
            f"must be at most updates = {block['updates']}, got {block['two_point_distance']}. Raise updates, or lower "
            "this.",
        )


def _check_diagonal(block: Block, path: KeyPath, faults: Faults) -> None:
    if faults.under(path):
        return
    if block["nonzero"] > block["dimensions"]:
        faults.add(
            (*path, "nonzero"),
            f"must be at most dimensions = {block['dimensions']}, got {block['nonzero']}. Lower it.",
        )
    for place, setting in enumerate(block["settings"]):
        if setting["decay_at"] is None and setting["decay_factor"] != 1.0:
            faults.add(
                (*path, "settings", Index(place), "decay_factor"),
                f"must be 1 without decay_at, got {setting['decay_factor']:g}. Say when the step is divided: decay_at.",
            )


def _check_diagonal_extras(block: Block, path: KeyPath, faults: Faults) -> None:
    _check_diagonal(block, path, faults)
    if faults.under(path):
        return
    for place, setting in enumerate(block["settings"]):
        ascends = setting["method"] in ("n_sam", "one_sam")
        if ascends and setting["rho"] is None:
            faults.add(
                (*path, "settings", Index(place), "rho"),
                f"must be given with method {setting['method']}. It is how far its ascent goes, in gradients: try 0.1.",
            )
        elif not ascends and setting["rho"] is not None:
            faults.add(
                (*path, "settings", Index(place), "rho"),
                f"must be left out with method {setting['method']}, got {setting['rho']:g}. It belongs to n_sam and "
                "one_sam.",
            )


def _check_diagonal_plane(block: Block, path: KeyPath, faults: Faults) -> None:
    _check_diagonal(block, path, faults)
    for name in ("first_range", "second_range"):
        if not faults.under((*path, name)) and block[name][0] >= block[name][1]:
            low, high = block[name]
            faults.add((*path, name), f"must be a lower and a higher number, got {low:g} and {high:g}. Swap them.")


def _check_relu_runs(block: Block, path: KeyPath, faults: Faults) -> None:
    if faults.under(path):
        return
    for place, run in enumerate(block["runs"] or []):
        if run["decay_at"] is None and run["decay_factor"] != 1.0:
            faults.add(
                (*path, "runs", Index(place), "decay_factor"),
                f"must be 1 without decay_at, got {run['decay_factor']:g}. Say when the step is divided: decay_at.",
            )


def _check_teacher_student(block: Block, path: KeyPath, faults: Faults) -> None:
    _check_relu_runs(block, path, faults)
    if faults.under(path):
        return
    for place, figure in enumerate(block["figures"]):
        name = figure.split("/")[-1]
        if name.startswith("fig_two_layer") != (block["network"] == "two_layer"):
            faults.add(
                (*path, "figures", Index(place)),
                f"must be a figure of the network {block['network']}, got {figure}. Move it to a toy of the other "
                "network.",
            )


# Kind of toy -> what its settings must fulfil together.
_SETTINGS: dict[str, Callable[[Block, KeyPath, Faults], None]] = {
    "quadratic_descent": _check_quadratic_descent,
    "equivalent_schedule": _check_equivalent_schedule,
    "quadratic_spectrum": _check_quadratic_spectrum,
    "diagonal_networks": _check_diagonal,
    "diagonal_plane": _check_diagonal_plane,
    "diagonal_extras": _check_diagonal_extras,
    "relu_regression": _check_relu_runs,
    "teacher_student": _check_teacher_student,
}
