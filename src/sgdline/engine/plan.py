"""How forward passes are made: chosen once per run, kept as JSON, read by every segment (no torch).

Any plan gives the same losses to within rounding; the choice is about time and memory only.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from sgdline.errors import SgdlineError
from sgdline.runtime import write_text

if TYPE_CHECKING:
    from sgdline.engine.plan_options import PlanOptions

PRECISIONS = ("float64", "float32", "tf32", "bfloat16", "float16")
STATISTICS = ("split", "view")
_AT_MOST = {"threads": 1024, "chunks_per_pass": 100_000, "positions_per_pass": 100_000}


def conflicts(plan: Plan | PlanOptions, *, precision: str) -> Iterator[tuple[str, str, str]]:
    """Yield what in a plan excludes each other: a switch, the entries that ask for it to be false, and the reason.

    Args:
        plan: A plan, or entries of one; those that are None exclude nothing.
        precision: That of the plan.
    """
    counts = {"chunks_per_pass": plan.chunks_per_pass, "positions_per_pass": plan.positions_per_pass}
    several = [f"{key}: {count}" for key, count in counts.items() if count is not None and count > 1]
    on = {key: [f"{key}: true"] if getattr(plan, key) else [] for key in ("compiled", "cuda_graphs", "channels_last")}
    exact = ["precision: float64"] if precision == "float64" else []
    excluding = {
        "reseed": ([*several, *on["compiled"], *on["cuda_graphs"]], "Random masks are drawn chunk by chunk"),
        "in_place": (
            [*exact, *several, *on["channels_last"]],
            "A network that is measured in place goes chunk by chunk in its own precision and layout",
        ),
    }
    for switch, (others, reason) in excluding.items():
        if getattr(plan, switch) and others:
            yield switch, ", ".join(others), reason


@dataclass(frozen=True)
class Plan:
    """A way to make forward passes.

    The default is the slow and simple one that every network allows: one chunk and one position at a time.
    """

    precision: str = "float32"  # of the forward passes; tf32: float32 with TF32 products; bfloat16, float16: autocast
    threads: int | None = None  # CPU threads of the forward passes; None: as many as the process has
    chunks_per_pass: int = 1  # chunks that share a forward pass, each with BatchNorm statistics of its own
    positions_per_pass: int = 1  # positions along the line that share a forward pass (torch.func.vmap)
    statistics: str = "split"  # BatchNorm: its own kernel, chunk by chunk (split), or sums over a grouped view (view)
    channels_last: bool = False  # convert convolution weights; weights that are channels last already stay so
    compiled: bool = False  # torch.compile
    cuda_graphs: bool = False  # record each pass once and replay it
    reseed: bool = True  # seed torch's generators before each chunk, for random masks; False: the network draws nothing
    in_place: bool = False  # move the network itself: it cannot be copied, or its copy computes something else
    hooks: bool = False  # let the user's own hooks fire, as they change what the network computes

    def __post_init__(self) -> None:
        for name, known in (("precision", PRECISIONS), ("statistics", STATISTICS)):
            value = getattr(self, name)
            if not isinstance(value, str) or value not in known:
                raise SgdlineError(f"A plan's {name} must be one of {', '.join(known)}, got {value!r}.")
        for name, most in _AT_MOST.items():
            value = getattr(self, name)
            if value is None and name == "threads":
                continue
            if type(value) is not int or not 1 <= value <= most:
                raise SgdlineError(f"A plan's {name} must be a whole number from 1 to {most}, got {value!r}.")
        for switch in ("channels_last", "compiled", "cuda_graphs", "reseed", "in_place", "hooks"):
            if type(getattr(self, switch)) is not bool:
                raise SgdlineError(f"A plan's {switch} must be true or false, got {getattr(self, switch)!r}.")
        for key, others, reason in conflicts(self, precision=self.precision):
            advice = "Set it to false if the network draws none" if key == "reseed" else "Set it to false"
            raise SgdlineError(
                f"A plan's {key} must be false beside {others}, got true. {reason}. {advice}, or leave the others out."
            )

    def to_json(self) -> dict[str, Any]:
        """Return the plan as a JSON-able dict."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Return the plan that `to_json` wrote.

        Raises:
            SgdlineError: If an entry is unknown or wrong.
        """
        if not isinstance(document, Mapping):
            raise SgdlineError(f"A plan must be a mapping of entries, got {type(document).__name__}.")
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(document) - known)
        if unknown:
            raise SgdlineError(f"A plan must have the entries {', '.join(sorted(known))}, got {unknown[0]!r} as well.")
        return cls(**document)

    def but(self, **changes: Any) -> Self:
        """Return the plan with other entries."""
        return replace(self, **changes)


@dataclass(frozen=True)
class PlanReport:
    """A chosen plan and what is known about it."""

    plan: Plan
    precision_error: float | None = None  # largest error of a mean loss against float64 chunk by chunk, nats
    samples_per_second: float | None = None  # forward passes in the trial
    notes: tuple[str, ...] = ()  # what was tried, what fell back and why


def write_plan(path: str | Path, report: PlanReport) -> None:
    """Write a plan in one atomic step."""
    write_text(path, json.dumps(asdict(report), indent=2) + "\n")


def read_plan(path: str | Path) -> PlanReport:
    """Read what `write_plan` wrote.

    Raises:
        SgdlineError: If the file is missing or damaged.
    """
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
        return PlanReport(
            plan=Plan.from_json(document["plan"]),
            precision_error=document["precision_error"],
            samples_per_second=document["samples_per_second"],
            notes=tuple(document["notes"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SgdlineError(
            f"Plan {path} must be a whole JSON file, got {error}. Delete the file and start snakemake."
        ) from error
