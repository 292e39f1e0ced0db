"""Placing samples along rays."""

from __future__ import annotations

import torch
from torch import Tensor


def stratified(rays: int, samples: int, generator: torch.Generator | None, device) -> Tensor:
    """(R, S) increasing parameters in [0, 1]: one per equal bin, jittered in it; the centre without a generator."""
    edges = torch.arange(samples, device=device) / samples
    if generator is None:
        return (edges + 0.5 / samples).expand(rays, samples)
    return edges + torch.rand(rays, samples, generator=generator, device=device) / samples


def around_surface(surface: Tensor, samples: int, spread: float, generator: torch.Generator) -> Tensor:
    """(R, samples) parameters in [0, 1] drawn from a normal around each ray's surface (R,)."""
    noise = torch.randn(len(surface), samples, generator=generator, device=surface.device)
    return (surface[:, None] + spread * noise).clamp(0.0, 1.0)


def from_weights(edges: Tensor, weights: Tensor, samples: int) -> Tensor:
    """Deterministic inverse-transform samples of a piecewise constant density (NeRF, section 5.2).

    Args:
        edges: (R, B + 1) increasing bin edges. weights: (R, B) non-negative, any scale.
        samples: how many.

    Returns:
        (R, samples) increasing parameters: the quantiles (i + 0.5) / samples.
    """
    pdf = weights + 1e-5 * (weights.sum(1, keepdim=True) + 1e-5)
    cdf = pdf.cumsum(1) / pdf.sum(1, keepdim=True)
    cdf = torch.cat([torch.zeros_like(cdf[:, :1]), cdf], dim=1)
    quantiles = ((torch.arange(samples, device=edges.device) + 0.5) / samples).expand(len(edges), samples).contiguous()
    upper = torch.searchsorted(cdf.contiguous(), quantiles, right=True).clamp(1, edges.shape[1] - 1)
    low_cdf, high_cdf = cdf.gather(1, upper - 1), cdf.gather(1, upper)
    low, high = edges.gather(1, upper - 1), edges.gather(1, upper)
    return low + (quantiles - low_cdf) / (high_cdf - low_cdf).clamp(min=1e-8) * (high - low)
