"""How every figure looks: colours by role, line styles, and the words of its footer.

Nothing here touches pyplot or a display. matplotlib is imported where it is used, so that this module stays
cheap for those who only want a figure's name.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sgdline.analysis.divergence import diverged_at
from sgdline.declare import registry
from sgdline.tables import provenance

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FloatArray = npt.NDArray[np.float64]

# One look per role, the same in all figures. Colours keep apart for the colour-blind; the line styles, and for
# neighbours the lightness as well, keep apart in grey.
ROLES: dict[str, dict[str, Any]] = {
    "full_batch": {"color": "#B2182B", "linestyle": "-", "linewidth": 2.0},
    "direction_batch": {"color": "#1B9E77", "linestyle": (0, (5, 1.5)), "linewidth": 1.8},
    "chunk_quartile": {"color": "#000000", "linestyle": (0, (1, 1.3)), "linewidth": 1.0},
    "chunk_median": {"color": "#000000", "linestyle": "-", "linewidth": 0.9},
    "chunk_range": {"color": "#DDDDDD", "linestyle": "-", "linewidth": 0.0},
    # Strategies (sgdline.analysis.strategies): the colour of a minimum is that of its curve.
    "optimum": {"color": "#B2182B", "linestyle": "-", "linewidth": 2.0},
    "direction_batch_minimum": {"color": "#1B9E77", "linestyle": (0, (5, 1.5)), "linewidth": 1.7},
    "fbpal": {"color": "#6A3D9A", "linestyle": (0, (8, 2)), "linewidth": 1.4},
    "fbpal_sgd_lr": {"color": "#A0785A", "linestyle": (0, (3, 1.5)), "linewidth": 1.6},
    "fbpal_sgd_step": {"color": "#A0785A", "linestyle": (0, (1, 2)), "linewidth": 1.6},
    "sgd_original": {"color": "#0072B2", "linestyle": (0, (6, 1.5, 1, 1.5)), "linewidth": 1.6},
    "sgd_1": {"color": "#E69F00", "linestyle": (0, (3, 1, 1, 1, 1, 1)), "linewidth": 1.8},
    "sgd_2": {"color": "#56B4E9", "linestyle": (0, (2, 1)), "linewidth": 1.7},
    "sgd_3": {"color": "#777777", "linestyle": (0, (1, 1)), "linewidth": 1.5},
    "sgd_4": {"color": "#B8860B", "linestyle": (0, (1, 4)), "linewidth": 1.6},
    "pal": {"color": "#D6278A", "linestyle": (0, (10, 1.5, 2, 1.5)), "linewidth": 1.5},
    "executed_step": {"color": "#555555", "linestyle": (0, (1, 2.5)), "linewidth": 1.1},
    "degree_1": {"color": "#0072B2", "linestyle": (0, (5, 1.2)), "linewidth": 1.8},
    "degree_2": {"color": "#D55E00", "linestyle": "-", "linewidth": 2.0},
    "degree_3": {"color": "#8856A7", "linestyle": (0, (4, 1.2, 1, 1.2)), "linewidth": 1.0},
    "degree_4": {"color": "#777777", "linestyle": (0, (1, 1)), "linewidth": 1.1},
    "degree_5": {"color": "#000000", "linestyle": (0, (8, 2)), "linewidth": 0.8},
    "degree_6": {"color": "#56B4E9", "linestyle": (0, (3, 3)), "linewidth": 1.1},
    "degree_7": {"color": "#CC79A7", "linestyle": (0, (8, 2, 1, 2)), "linewidth": 1.1},
    "degree_8": {"color": "#B8860B", "linestyle": (0, (1, 4)), "linewidth": 1.3},
    "measured": {"color": "#444444", "linestyle": "-", "linewidth": 1.8},
    "reference": {"color": "#0072B2", "linestyle": (0, (6, 1.5, 1, 1.5)), "linewidth": 1.3},
    "median": {"color": "#E69F00", "linestyle": (0, (3, 1, 1, 1, 1, 1)), "linewidth": 1.6},
    "spread": {"color": "#F5DFB3", "linestyle": "-", "linewidth": 0.0},
    "valley_floor": {"color": "#E69F00", "linestyle": (0, (5, 1.5)), "linewidth": 1.7},
}

# Points. A sheet is drawn at the size that it has in print.
SIZES = {"title": 9.5, "panel": 8.5, "label": 8.0, "tick": 7.0, "legend": 7.0, "note": 7.0}
COLOR_MAP = "cividis"  # even in lightness: the same order in grey and for the colour-blind
NO_VALUE = "#F2F2F2"

_SETTINGS: Any = {  # Any: newer matplotlibs type every key, older ones none
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same letters on every machine
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.titley": 1.0,  # nothing is above a panel but its title: looking for it takes an eighth of the layout
    "axes.labelsize": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.formatter.useoffset": False,
    "axes.formatter.limits": (-7, 7),
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "legend.fontsize": 8.0,
    "legend.frameon": False,
    "legend.handlelength": 2.8,
    "lines.markersize": 5.0,
    "pdf.fonttype": 42,  # text stays text
    "savefig.dpi": 200,
}

_DECADES = 300.0  # ratio of y limits from which on powers of ten suffice as labels


@contextmanager
def applied() -> Iterator[None]:
    """Use this module's style, and nothing of a user's own matplotlibrc, inside the block."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        yield


def look(role: str, **changes: Any) -> dict[str, Any]:
    """Return the plot arguments of a role, with `changes` on top."""
    return {**ROLES[role], **changes}


def settle(figure: Figure) -> None:
    """Lay a figure out for good, at rounded places: equal tables are to give equal bytes.

    The solver behind the constrained layout leaves last bits to chance, and a label half-way between two roundings of
    the PDF's digits would show them.
    """
    from sgdline.figures.grammar.powers import plain_powers

    for panel in figure.axes:
        plain_powers(panel.xaxis)
        plain_powers(panel.yaxis)
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
    figure.set_layout_engine("none")
    figure.set_layout_engine(None)  # without a placeholder, for which each file would be laid out once more
    for panel in figure.axes:
        if panel.get_axes_locator() is None:  # a colour bar inside a panel goes along with it
            left, bottom, width, height = (round(bound, 6) for bound in panel.get_position(original=True).bounds)
            panel.set_position((left, bottom, width, height))


def run_facts(
    tables: Mapping[str, pa.Table],
    settings: Mapping[str, Any],
    *,
    of: str | None = None,
    measured: Sequence[str] | None = None,
) -> list[str]:
    """Return the facts of a run's footer, the most important first: what diverged, which run, what was measured.

    Args:
        tables: The tables of the figure; what the probe noted in their metadata goes before the settings.
        settings: As in `sgdline.figures.plot_figure`.
        of: What was measured, where that is not the full-batch loss along lines.
        measured: Facts on what was measured and how, in the place of all on lines.
    """
    noted: dict[str, Any] = {}
    for kind, table in tables.items():
        if kind != "trace":  # the trace knows the training, not the measurement
            noted = {**provenance(table), **noted}
    diverged = divergence_step(tables)
    return [
        *([] if diverged is None else [f"THE RUN DIVERGED AT UPDATE {diverged}"]),
        f"model {noted.get('model', settings['model'])}",
        f"data set {noted.get('dataset', settings['dataset'])}",
        f"lr {own_lr_text(settings, noted)}",
        f"batch size {settings['batch_size']}",
        f"seed {settings['seed']}",
        *describe_optimizer(settings["optimizer"]),
        *lr_unit_note([settings]),
        *(_measured(noted, settings, of=of) if measured is None else measured),
        f"experiment {settings['experiment']}",
    ]


def _measured(noted: Mapping[str, Any], settings: Mapping[str, Any], *, of: str | None) -> list[str]:
    """Return on what a quantity was measured, and of lines how: as the first probe that measures any does it."""
    blocks = [block for block in settings["probes"].values() if "positions" in block or "alphas" in block]
    line: Mapping[str, Any] = blocks[0] if blocks else {}
    samples = noted.get("samples")
    count = f"N = {samples:,} samples" if isinstance(samples, int) else "N not recorded"
    mode = noted.get("batch_norm", line.get("batch_norm", "not recorded"))
    found = [f"{of or 'full-batch loss'} over {count}", f"BatchNorm in {mode} mode"]
    if of is not None:
        return found
    positions = f"{noted.get('positions', line.get('positions', 'not recorded'))} positions"
    return [
        *found,
        rf"{line['alphas']} values of $\alpha$ per interval" if "alphas" in line else positions,
        *(["imported lines"] if noted.get("imported") else []),
        *(["augmented, fixed draws"] if line.get("augment") else []),
    ]


def lr_text(settings: Mapping[str, Any]) -> str:
    """Return a run's learning rate as its config gives it, as a multiple of 1/lambda_max where it is one."""
    return f"{settings['lr']}{lr_unit(settings)}"


def own_lr_text(settings: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """Return the learning rate that a run had: where its lines were imported, theirs and not the config's label.

    Args:
        settings: As in `sgdline.figures.plot_figure`.
        facts: Metadata of a table of the run.
    """
    if not facts.get("imported"):
        return lr_text(settings)
    rate = facts.get("imported_lr")
    return "scheduled" if rate is None else f"{rate:g}"


def lr_unit(settings: Mapping[str, Any]) -> str:
    """Return what stands behind a learning rate of the config: λ₀ is the largest eigenvalue where the run starts."""
    return "" if settings.get("lr_unit", "absolute") == "absolute" else "/λ₀"


def setting_text(settings: Mapping[str, Any], key: str) -> str:
    """Return one of a run's settings as figures show it, a learning rate with its unit."""
    return lr_text(settings) if key == "lr" else str(settings[key])


def lr_unit_note(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what the learning rates of runs are multiples of, where it is not 1."""
    if all(block.get("lr_unit", "absolute") == "absolute" for block in settings):
        return []
    return ["λ₀: largest eigenvalue of the Hessian at the start"]


def describe_optimizer(optimizer: Mapping[str, Any]) -> list[str]:
    """Return what an update rule does beyond plain SGD, its options that are not zero."""
    options = [*describe_options(optimizer), *describe_noise(optimizer)]
    return options if optimizer["name"] == "sgd" else [rule_name(optimizer["name"]), *options]


def rule_name(name: str) -> str:
    """Return what figures call an update rule: `fbpal_sgd` -> FBPAL&SGD; one of the user's as its declaration."""
    return registry.label(name) if registry.is_entry(name) else name.replace("_sgd", "&SGD").upper()


def describe_options(optimizer: Mapping[str, Any], *, zeros: bool = False) -> list[str]:
    """Return the words for an update rule's options, noise apart.

    Args:
        optimizer: Its block, or a part of it.
        zeros: Tell options that are zero as well.
    """
    return [
        f"{key.replace('_', ' ')} {value if isinstance(value, str) else format(value, '.4g')}"
        for key, value in optimizer.items()
        if isinstance(value, str | float | int)
        and (value or zeros)
        and key != "name"
        and (key, value) != ("gradient", "mean")
    ]


def describe_noise(optimizer: Mapping[str, Any]) -> list[str]:
    """Return the words for an update rule's isotropic noise; none without noise."""
    noise = optimizer.get("noise")
    if not noise or not noise["factor"]:
        return []
    return [f"noise of {noise['reading'].replace('_', ' ')} {noise['factor']:.4g} v_max"]


def divergence_step(tables: Mapping[str, pa.Table]) -> int | None:
    """Return the update at which the run was lost, from the trace; None if it was not or there is no trace."""
    return diverged_at(tables["trace"]) if "trace" in tables else None


def absence(what: str, tables: Mapping[str, pa.Table]) -> str:
    """Return the words of a panel that has nothing to draw, with the reason where the trace tells it."""
    diverged = divergence_step(tables)
    return what if diverged is None else f"{what}: the run diverged at update {diverged}"


def plain_log(panel: Axes, which: str = "y") -> None:
    """Make the y axis, or the x axis, logarithmic with plain numbers at 1, 2 and 5 where it holds few powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    panel.set(**{f"{which}scale": "log"})
    low, high = panel.get_ylim() if which == "y" else panel.get_xlim()
    if high > _DECADES * low:
        return
    axis = panel.yaxis if which == "y" else panel.xaxis
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def say(panel: Axes, text: str) -> None:
    """Write words into the middle of a panel that has no curve."""
    panel.text(
        0.5, 0.5, textwrap.fill(text, 30), transform=panel.transAxes, ha="center", va="center", fontsize=9.5, zorder=5
    )
    if len(panel.get_shared_x_axes().get_siblings(panel)) == 1:  # the ticks of others are theirs as well
        panel.set_xticks([])
    panel.set_yticks([])
    panel.set_facecolor(NO_VALUE)


def numbers(table: pa.Table, name: str) -> FloatArray:
    """Return a numeric column as float64, nulls as NaN. Shape (rows,)."""
    return np.asarray(table[name].to_numpy(), dtype=np.float64)


def counted(count: int, what: str) -> str:
    """Return `1 line`, `2 lines`."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def readable_limits(
    values: FloatArray, *, keep: Sequence[float] = (), stretch: float = 30.0
) -> tuple[float, float] | None:
    """Return y limits that a few wild values cannot flatten; None where the full range reads well.

    Args:
        values: What is drawn, any shape; NaN and infinite entries count as wild.
        keep: Values that must lie inside.
        stretch: Width of the full range, in widths of the central 96 %, from which on the limits cut.
    """
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return None
    low, high = np.quantile(finite, [0.02, 0.98])
    low, high = min([low, *keep]), max([high, *keep])
    width = high - low
    if width == 0 or finite.max() - finite.min() <= stretch * width:
        return None
    return float(low - 0.15 * width), float(high + 0.15 * width)


def outside_note(values: FloatArray, limits: tuple[float, float] | None) -> list[str]:
    """Return a note that counts the values a panel's limits leave out, or no note."""
    if limits is None:
        return []
    finite = values[np.isfinite(values)]
    count = int(((finite < limits[0]) | (finite > limits[1])).sum())
    return [f"{counted(count, 'value')} of {finite.size} outside the y range"] if count else []
