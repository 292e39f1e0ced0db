"""Loss terms declare what they need; a set of terms applies the weights, in this one place.

A term is a function of `LossInputs` that returns a scalar, averaged under its own mask. A term whose mask is empty (a
frame without moving pixels, a boundary frame without a neighbour) contributes zero.

Where several ranks share a batch, the counts of all means are added up over the ranks in one exchange, and a mean is this
rank's sum over the mean count of a rank: the mean over the ranks of such values, and of their gradients, is that of the
whole batch. Which means a term adds may depend on the whole batch and on the model, never on this rank's rays alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from semflow.config.schema import LossConfig
from semflow.models.scene_context import SceneContext
from semflow.models.semantic_flow import SemanticFlow
from semflow.records import RayBatch, RenderOutputs
from semflow.rendering.renderer import Branches
from semflow.utils.errors import ConfigError
from semflow.utils.ranks import own_rows, ranks, sum_over_ranks


@dataclass(frozen=True)
class LossInputs:
    """What a loss term may look at.

    Attributes:
        outputs, batch: renderings and targets of this rank's R rays. scene, model: geometry and networks.
        moving_only: terms on the dynamic and the warped renderings count on moving rays only.
        whole: the batch of all ranks' rays; the same as `batch` in a process alone.
    """

    outputs: RenderOutputs
    batch: RayBatch
    scene: SceneContext
    model: SemanticFlow
    moving_only: bool
    whole: RayBatch

    @property
    def dynamic_rays(self) -> Tensor:
        """(R,) bool: the rays on which the dynamic field alone is supervised."""
        return self.batch.moving if self.moving_only else torch.ones_like(self.batch.moving)


@dataclass(frozen=True)
class LossTerm:
    """A named loss.

    Attributes:
        name: its key in `LossConfig`. weight: factor in the total. function: LossInputs -> scalar, or a sum of means.
        needs: what the renderer must compute for it.
    """

    name: str
    weight: float
    function: Callable[[LossInputs], Tensor]
    needs: Branches


REGISTRY: dict[str, tuple[Callable[[LossInputs], Tensor], Branches]] = {}


def loss_term(name: str, **needs: bool):
    """Register a loss function under its key in `LossConfig`, with the branches it needs."""

    def register(function):
        REGISTRY[name] = (function, Branches(**needs))
        return function

    return register


@dataclass(frozen=True)
class Means:
    """A sum of means over the rays of several ranks, whose counts are not yet known; it takes the place of a scalar.

    Attributes:
        sums, counts: of this rank, one of each for every mean. rest: what else was added.
    """

    sums: tuple[Tensor, ...]
    counts: tuple[Tensor, ...]
    rest: Tensor | float = 0.0

    def __add__(self, other: Means | Tensor | float) -> Means:
        if isinstance(other, Means):
            return Means(self.sums + other.sums, self.counts + other.counts, self.rest + other.rest)
        return replace(self, rest=self.rest + other)

    __radd__ = __add__

    def divided(self, counts: Iterator[Tensor]) -> Tensor:
        """The scalar, once the next counts are the mean ones of a rank."""
        return sum((total / next(counts) for total in self.sums), self.rest)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor | Means:
    """Mean of values (R,) or (R, ...) over the rays where mask (R,) holds; zero where it holds nowhere."""
    per_ray = values.flatten(1).mean(1) if values.dim() > 1 else values
    total, count = (per_ray * mask).sum(), mask.sum()
    return total / count.clamp(min=1) if ranks() == 1 else Means((total,), (count,))


def mean(values: Tensor) -> Tensor | Means:
    """Mean of all values, of which ranks may hold different numbers."""
    if ranks() == 1:
        return values.mean()
    return Means((values.sum(),), (torch.full((), values.numel(), device=values.device),))


def over_all_ranks(values: dict[str, Tensor | Means]) -> dict[str, Tensor]:
    """The terms as scalars whose mean over the ranks is that of the whole batch; one exchange for all of them."""
    counts = [count for value in values.values() if isinstance(value, Means) for count in value.counts]
    if not counts:
        return values
    per_rank = iter((sum_over_ranks(torch.stack(counts)).clamp(min=1) / ranks()).unbind())
    return {name: value.divided(per_rank) if isinstance(value, Means) else value for name, value in values.items()}


class LossSet:
    """The terms of a stage: those whose weight is not zero.

    Args:
        config: the weights.
        moving_only: see `LossInputs`.
    """

    def __init__(self, config: LossConfig, moving_only: bool):
        self.moving_only = moving_only
        weights = {item.name: getattr(config, item.name) for item in fields(config)}
        self.terms = [LossTerm(name, weight, *REGISTRY[name]) for name, weight in weights.items() if weight]
        if not self.terms:
            raise ConfigError("losses: every weight of a stage with steps is 0; give one a weight, or the stage 0 steps")
        self.branches = Branches()
        for term in self.terms:
            self.branches = self.branches | term.needs

    def __call__(self, outputs: RenderOutputs, batch: RayBatch, scene: SceneContext, model: SemanticFlow
                 ) -> tuple[Tensor, dict[str, Tensor]]:
        """Weighted total (scalar) and the unweighted terms by name.

        Args:
            outputs: renderings of this rank's rays. batch: targets of all ranks' rays.
        """
        inputs = LossInputs(outputs, batch.select(own_rows()), scene, model, self.moving_only, batch)
        values = over_all_ranks({term.name: term.function(inputs) for term in self.terms})
        total = sum(term.weight * values[term.name] for term in self.terms)
        return total, values
