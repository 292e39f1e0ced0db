"""Volume compositing as pure functions (docs/method.md, "Rendering").

Along a ray with samples i = 1..S:  alpha_i = 1 - exp(-relu(sigma_i) delta_i),  T_i = prod_{j<i} (1 - alpha_j),
w_i = T_i alpha_i,  and any quantity q is composited as sum_i w_i q_i: colours, depth and class logits alike.
With two fields and a blending b, a sample is passed with (1 - b alpha_dy)(1 - (1 - b) alpha_st).
"""

from __future__ import annotations

import torch
from torch import Tensor

from semflow.records import FieldSamples, Rendering

OPAQUE = 1e-10  # a sample that lets less light pass is opaque: nothing behind it is seen, or has a gradient


def sample_distances(u: Tensor, directions: Tensor) -> Tensor:
    """Length of each sample's interval in field space.

    Args:
        u: (R, S) increasing ray parameters. directions: (R, 3) field-space vectors of du = 1.

    Returns:
        (R, S); the last interval is as long as the one before it.
    """
    gaps = u.diff(dim=1)
    return torch.cat([gaps, gaps[:, -1:]], dim=1) * directions.norm(dim=-1, keepdim=True)


def alpha_from_density(density: Tensor, distances: Tensor) -> Tensor:
    """Opacity (R, S) in [0, 1) of intervals with raw densities (R, S): 1 - exp(-relu(sigma) delta)."""
    return 1.0 - torch.exp(-torch.relu(density) * distances)


def transmittance(passing: Tensor) -> Tensor:
    """(R, S) light that reaches each sample: the product of `passing` (R, S) in [0, 1] over the samples before it.

    Summed up as logarithms: to derive a product, torch waits for a GPU to look for zeros in it.
    """
    depth = passing[:, :-1].clamp(min=OPAQUE).log().cumsum(dim=1)
    return torch.cat([torch.ones_like(passing[:, :1]), depth.exp()], dim=1)


def integrate(weights: Tensor, values: Tensor) -> Tensor:
    """Sum of values (R, S, D) under weights (R, S): (R, D)."""
    return (weights[:, None] @ values)[:, 0]


def uniform_weights(alpha: Tensor) -> Tensor:
    """(R, S) equal weights 1/S: what compositing would be without the density prior (an ablation)."""
    return torch.full_like(alpha, 1.0 / alpha.shape[1])


def composite(samples: FieldSamples, u: Tensor, distances: Tensor, density_prior: bool = True) -> Rendering:
    """Render one field alone.

    Args:
        samples: (R, S) samples. u, distances: (R, S).
        density_prior: composite the logits with the densities' weights; otherwise uniformly.
    """
    alpha = alpha_from_density(samples.density, distances)
    weights = transmittance(1.0 - alpha) * alpha
    logit_weights = weights if density_prior else uniform_weights(weights)
    return Rendering(
        rgb=integrate(weights, samples.rgb),
        logits=integrate(logit_weights, samples.logits),
        depth=(weights * u).sum(1),
        opacity=weights.sum(1),
        weights=weights,
    )


def blended_weights(static: FieldSamples, dynamic: FieldSamples, distances: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (R, S) of the static and of the dynamic samples when both fields are rendered together."""
    alpha_static = alpha_from_density(static.density, distances) * (1.0 - dynamic.blend)
    alpha_dynamic = alpha_from_density(dynamic.density, distances) * dynamic.blend
    reaching = transmittance((1.0 - alpha_dynamic) * (1.0 - alpha_static))
    return reaching * alpha_static, reaching * alpha_dynamic


def composite_blended(
    static: FieldSamples, dynamic: FieldSamples, u: Tensor, distances: Tensor, density_prior: bool = True
) -> tuple[Rendering, Tensor]:
    """Render both fields.

    Returns:
        The rendering, and the dynamic share (R,) = sum of the dynamic weights.
    """
    static_weights, dynamic_weights = blended_weights(static, dynamic, distances)
    weights = static_weights + dynamic_weights
    logit_weights = (static_weights, dynamic_weights)
    if not density_prior:
        uniform = uniform_weights(weights)
        logit_weights = (uniform * (1.0 - dynamic.blend), uniform * dynamic.blend)
    rendering = Rendering(
        rgb=integrate(static_weights, static.rgb) + integrate(dynamic_weights, dynamic.rgb),
        logits=integrate(logit_weights[0], static.logits) + integrate(logit_weights[1], dynamic.logits),
        depth=(weights * u).sum(1),
        opacity=weights.sum(1),
        weights=weights,
    )
    return rendering, dynamic_weights.sum(1)
