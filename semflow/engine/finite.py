"""No update without a finite loss and a finite gradient."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from semflow.utils.device import OnTheWay

GRADIENT = "gradient"  # what the norm of a step's gradient is called among the terms


@dataclass
class Suspect:
    """What reproduces a step.

    Attributes:
        step: steps before it. random_states: at its start. frames: those that it took, in order.
        frame: the one whose loss is not finite; the first of them where only the gradient of the whole step is not.
    """

    step: int
    random_states: dict[str, Tensor]
    frames: list[int] = field(default_factory=list)
    frame: int = -1


class FiniteGuard:
    """Lets no update happen after a loss, or with a gradient, that is not finite.

    Args:
        optimizer: a fused Adam, if the values come late. names: of the terms.
        late: a GPU is not waited for: the update, and all after it, is switched off by the values themselves, and the
            host looks at them when the next step has been queued. None: where the weights lie on one.
        refuse: called with the terms and the norm of the gradient, what reproduces the step, and the optimiser; it raises.
    """

    def __init__(self, optimizer: torch.optim.Adam, names: tuple[str, ...],
                 refuse: Callable[[dict[str, float], Suspect, torch.optim.Adam], None], late: bool | None = None):
        self.optimizer, self.names, self.refuse = optimizer, names, refuse
        self.late = optimizer.param_groups[0]["params"][0].is_cuda if late is None else late
        self.queued: list[tuple[OnTheWay, Suspect]] = []
        self.failed: Tensor | None = None

    def admit(self, values: Tensor, norm: Tensor, suspect: Suspect) -> None:
        """To be called before an update.

        Args:
            values: (micro-batches, figures) of the step; the terms are the last of the figures.
            norm: () of the gradient that the update takes: a finite loss may have one that is not.
        """
        watched = torch.cat([values[:, -len(self.names):], norm.to(values.dtype).expand(len(values), 1)], dim=1)
        self.queued.append((OnTheWay(watched), suspect))
        if not self.late:
            self.settle()
            return
        failed = (~watched.isfinite().all()).float()
        self.failed = failed if self.failed is None else torch.maximum(self.failed, failed)
        self.optimizer.found_inf = self.failed  # a fused update leaves everything as it is where this is 1
        self.settle(but=1)

    def settle(self, but: int = 0) -> None:
        """Look at the steps that have been queued, `but` for the last ones."""
        while len(self.queued) > but:
            watched, suspect = self.queued.pop(0)
            found = [(frame, dict(zip((*self.names, GRADIENT), values)))
                     for frame, values in zip(suspect.frames, watched.read().tolist())]
            found.sort(key=lambda item: all(math.isfinite(item[1][name]) for name in self.names))  # losses say more
            suspect.frame, values = found[0]
            if not all(map(math.isfinite, values.values())):
                self.refuse(values, suspect, self.optimizer)
