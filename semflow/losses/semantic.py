"""Semantic terms: cross-entropy on composited logits, on rays that carry a label."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from semflow.losses.base import LossInputs, loss_term, masked_mean


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """(R,) cross-entropy of logits (R, K) with labels (R,); rays without a label (-1) get 0."""
    return F.cross_entropy(logits, labels, ignore_index=-1, reduction="none")


def labelled(inputs: LossInputs) -> Tensor:
    """(R,) bool: rays with a label."""
    return inputs.batch.labels >= 0


@loss_term("semantic_full", full=True)
def semantic_full(inputs: LossInputs) -> Tensor:
    """Cross-entropy of the blended logits."""
    return masked_mean(cross_entropy(inputs.outputs.full.logits, inputs.batch.labels), labelled(inputs))


@loss_term("semantic_static", static=True)
def semantic_static(inputs: LossInputs) -> Tensor:
    """Cross-entropy of the static logits on static rays."""
    entropy = cross_entropy(inputs.outputs.static_view.logits, inputs.batch.labels)
    return masked_mean(entropy, labelled(inputs) & ~inputs.batch.moving)


@loss_term("semantic_dynamic", dynamic=True)
def semantic_dynamic(inputs: LossInputs) -> Tensor:
    """Cross-entropy of the dynamic logits."""
    entropy = cross_entropy(inputs.outputs.dynamic_view.logits, inputs.batch.labels)
    return masked_mean(entropy, labelled(inputs) & inputs.dynamic_rays)


@loss_term("semantic_warped", dynamic=True, neighbours=True)
def semantic_warped(inputs: LossInputs) -> Tensor:
    """Consistency along the flow: the logits of t-1 and t+1, warped, explain the label of t."""
    total = inputs.batch.rgb.new_zeros(())
    for neighbour in inputs.outputs.neighbours.values():
        labels = inputs.batch.labels[neighbour.rays]
        total = total + masked_mean(cross_entropy(neighbour.rendering.logits, labels), labels >= 0)
    return total


@loss_term("semantic_track", dynamic=True, neighbours=True)
def semantic_track(inputs: LossInputs) -> Tensor:
    """A moving point keeps its class: the logits of t, and those of t-1 and t+1, warped, agree on moving rays.

    Divergence of each from the other, which is held fixed, where the given flow is consistent: where it is not, the point
    is hidden in the other frame and nothing has told its class there. It needs no label, so that labels of a few frames
    travel along the flow to the others.
    """
    total, batch, own = inputs.batch.rgb.new_zeros(()), inputs.batch, inputs.outputs.dynamic_view.logits
    for offset, neighbour in inputs.outputs.neighbours.items():
        here, there = own[neighbour.rays].log_softmax(-1), neighbour.rendering.logits.log_softmax(-1)
        both = divergence(here.detach(), there) + divergence(there.detach(), here)
        total = total + masked_mean(both, (batch.moving & batch.flow_valid[offset])[neighbour.rays])
    return total


def divergence(target: Tensor, found: Tensor) -> Tensor:
    """(R,) Kullback-Leibler divergence of distributions from targets, both as logarithms (R, K)."""
    return F.kl_div(found, target, reduction="none", log_target=True).sum(-1)
