"""Several processes of torch.distributed that measure parts of one set and come to the same line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from sgdline.errors import SgdlineError, first_line

Array = NDArray[np.float64]
T = TypeVar("T")


class Ranks:
    """The processes of a group, or this one alone.

    All of them take the same decisions, as these follow from sums that all of them hold. A fault of one ends the line
    for all: nobody waits for ever for a process that has stopped.
    """

    def __init__(self, group: Any = None) -> None:
        """Take a process group.

        Args:
            group: Of torch.distributed; None: this process alone.

        Raises:
            SgdlineError: If this is no group that this process belongs to.
        """
        self._group = group
        if group is None:
            return
        import torch.distributed as dist

        if not dist.is_available() or not dist.is_initialized() or not isinstance(group, dist.ProcessGroup):
            raise SgdlineError(
                f"group must be a process group of torch.distributed that has begun, got {type(group).__name__}. "
                "Call torch.distributed.init_process_group first and pass torch.distributed.group.WORLD."
            )

    @property
    def alone(self) -> bool:
        """Whether there is one process only."""
        return self._group is None

    def added(self, compute: Callable[[], Array]) -> Array:
        """Return the sum over all processes, in the order of their ranks, of what each computes.

        Raises:
            SgdlineError: If one of them fails, in all of them.
        """
        if self._group is None:
            return compute()
        values = self.together(lambda: compute().tolist())
        total: Array = np.sum(np.array(values, dtype=np.float64), axis=0)
        return total

    def require_same(self, value: float, *, name: str) -> None:
        """Refuse processes that hold different networks.

        Args:
            value: What has to be equal in all of them.
            name: What it is, for the message.

        Raises:
            SgdlineError: If it is not.
        """
        if self._group is None:
            return
        values = self.together(lambda: value)
        if any(other != values[0] for other in values):
            raise SgdlineError(
                f"All processes of a group must measure the same step, got {name} from {min(values):.9g} to "
                f"{max(values):.9g}. Begin with one network (DistributedDataParallel does so) and step together."
            )

    def first(self, value: T) -> T:
        """Return what the first process has."""
        return value if self._group is None else self.together(lambda: value)[0]

    def together(self, compute: Callable[[], T]) -> list[T]:
        """Return what each process computes, by rank; a fault of one is raised in all."""
        if self._group is None:
            return [compute()]
        import torch.distributed as dist

        found: Any = None
        own: Exception | None = None
        try:
            found = compute()
        except Exception as error:
            if getattr(error, "known_to_all", False):
                raise
            own = error
        everyone: list[Any] = [None] * dist.get_world_size(self._group)
        fault = None if own is None else (type(own) if isinstance(own, SgdlineError) else SgdlineError, first_line(own))
        dist.all_gather_object(everyone, (fault, found), group=self._group)
        for rank, (fault, _) in enumerate(everyone):
            if fault is not None:
                kind, text = fault
                known = own or kind(f"A process of the group must not fail, got from rank {rank}: {text}")
                known.__dict__["known_to_all"] = True
                raise known
        return [value for _, value in everyone]

    def ended(self, compute: Callable[[], T]) -> T:
        """Return what this process computes, once all of them have come as far; a fault of one is raised in all."""
        if self._group is None:
            return compute()
        found: list[T] = []

        def once() -> None:
            found.append(compute())

        self.together(once)
        return found[0]
