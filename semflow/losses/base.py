"""Loss terms declare what they need; a set of terms applies the weights, in this one place.

A term is a function of `LossInputs` that returns a scalar, averaged under its own mask. A term whose mask is empty (a
frame without moving pixels, a boundary frame without a neighbour) contributes zero.

Where several ranks share a batch, a term returns this rank's sum over the mean number of rays of a rank: the mean over
the ranks of its values, and of their gradients, is the mean over the whole batch. What a term exchanges between ranks
(every mean does) may depend on the whole batch and on the model, never on the rays of this rank alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from semflow.config.schema import LossConfig
from semflow.models.semantic_flow import SceneContext, SemanticFlow
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
        return self.dynamic_rays_of(self.batch)

    def dynamic_rays_of(self, batch: RayBatch) -> Tensor:
        """The same of another batch."""
        return batch.moving if self.moving_only else torch.ones_like(batch.moving)


@dataclass(frozen=True)
class LossTerm:
    """A named loss.

    Attributes:
        name: its key in `LossConfig`. weight: factor in the total. function: LossInputs -> scalar.
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


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of values (R,) or (R, ...) over the rays where mask (R,) holds; zero where it holds nowhere."""
    per_ray = values.flatten(1).mean(1) if values.dim() > 1 else values
    return (per_ray * mask).sum() / count_per_rank(mask.sum())


def mean(values: Tensor) -> Tensor:
    """Mean of all values, of which ranks may hold different numbers."""
    if ranks() == 1:
        return values.mean()
    return values.sum() / count_per_rank(torch.full((), values.numel(), device=values.device))


def count_per_rank(count: Tensor) -> Tensor:
    """Mean over the ranks of a count, in sum at least 1."""
    total = sum_over_ranks(count).clamp(min=1)
    return total if ranks() == 1 else total / ranks()


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
        values = {term.name: term.function(inputs) for term in self.terms}
        total = sum(term.weight * values[term.name] for term in self.terms)
        return total, values
