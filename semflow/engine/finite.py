"""No update without a finite loss."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from semflow.utils.device import OnTheWay


@dataclass
class Suspect:
    """What reproduces a step.

    Attributes:
        step: steps before it. random_states: at its start. frames: those that it took, in order.
        frame: the one whose loss is not finite.
    """

    step: int
    random_states: dict[str, Tensor]
    frames: list[int] = field(default_factory=list)
    frame: int = -1


class FiniteGuard:
    """Lets no update happen after a loss that is not finite.

    Args:
        optimizer: a fused Adam, if the values come late. names: of the terms.
        late: a GPU is not waited for: the update, and all after it, is switched off by the values themselves, and the
            host looks at them when the next step has been queued. None: where the weights lie on one.
        refuse: called with the terms, what reproduces the step, and the optimiser; it raises.
    """

    def __init__(self, optimizer: torch.optim.Adam, names: tuple[str, ...],
                 refuse: Callable[[dict[str, float], Suspect, torch.optim.Adam], None], late: bool | None = None):
        self.optimizer, self.names, self.refuse = optimizer, names, refuse
        self.late = optimizer.param_groups[0]["params"][0].is_cuda if late is None else late
        self.queued: list[tuple[OnTheWay, Suspect]] = []
        self.failed: Tensor | None = None

    def admit(self, values: Tensor, suspect: Suspect) -> None:
        """To be called before an update.

        Args:
            values: (micro-batches, figures) of the step; the terms are the last of the figures.
        """
        terms = values[:, -len(self.names):]
        self.queued.append((OnTheWay(terms), suspect))
        if not self.late:
            self.settle()
            return
        failed = (~terms.isfinite().all()).float()
        self.failed = failed if self.failed is None else torch.maximum(self.failed, failed)
        self.optimizer.found_inf = self.failed  # a fused update leaves everything as it is where this is 1
        self.settle(but=1)

    def settle(self, but: int = 0) -> None:
        """Look at the steps that have been queued, `but` for the last ones."""
        while len(self.queued) > but:
            terms, suspect = self.queued.pop(0)
            for frame, values in zip(suspect.frames, terms.read().tolist()):
                if not all(map(math.isfinite, values)):
                    suspect.frame = frame
                    self.refuse(dict(zip(self.names, values)), suspect, self.optimizer)
