"""The dynamic part of rays of a view at one time, composited with their static part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from semflow.geometry.cameras import Cameras
from semflow.geometry.spaces import Space
from semflow.rendering.compositing import alpha_from_density, transmittance, uniform_weights
from semflow.rendering.layers import Layer, LayerSamples
from semflow.rendering.static_rays import SATURATED, VISIBLE, Looks, StaticQueries, StaticRays, chosen_points

GREY = 0.5


@dataclass(frozen=True)
class Pixels:
    """Rendered quantities of R rays; see `View`.

    Attributes:
        rgb, logits, share, flow, dynamic_rgb: (R, ...). points: (R, 3) field-space points of the expected depth.
        static_rgb: (R, 3).
    """

    rgb: Tensor
    logits: Tensor
    points: Tensor
    share: Tensor
    flow: Tensor
    dynamic_rgb: Tensor
    static_rgb: Tensor

    def replaced(self, index: Tensor, other: Pixels) -> Pixels:
        """Copy with the rays at `index` taken from `other`."""
        return Pixels(*(values.index_copy(0, index, getattr(other, name)) for name, values in vars(self).items()))


@dataclass(frozen=True)
class Moment:
    """What a view shows: a camera at a time. `with_flow`: the motion of its pixels is asked for."""

    cameras: Cameras
    camera: int
    time: float
    with_flow: bool


class BlendedQueries:
    """Composites layers of moving things with the static part of rays.

    Args:
        layers: what moves. moment: what is rendered. space: the field space of the rays.
        skips: what has no weight is not asked about its looks.
    """

    def __init__(self, layers: Sequence[Layer], moment: Moment, space: Space, skips: bool):
        self.layers, self.moment, self.space, self.skips = layers, moment, space, skips

    def render(self, static: StaticRays, queries: StaticQueries, density_prior: bool) -> Pixels:
        """Both fields composited; rays that meet no dynamic density keep the static rendering.

        Args:
            static: R rays. queries: what asks the static field where the blended rendering sees more of it than the
                static one. density_prior: composite the logits with the densities' weights; otherwise uniformly.
        """
        pixels = static_pixels(static)
        points = [layer.points(static) for layer in self.layers]
        wanted = [layer.occupied(there) for layer, there in zip(self.layers, points)]
        if not wanted:
            return pixels
        anywhere = torch.stack(wanted).any(0)
        hit = anywhere.any(1).nonzero()[:, 0]
        if not len(hit):
            return pixels
        rays = static.select(hit)
        if self.skips:
            # the light that is left at most: the blending can switch off the static field where there are candidates
            alpha = alpha_from_density(rays.density, rays.distances)
            reached = transmittance(1.0 - alpha * ~anywhere[hit]) > SATURATED
            wanted = [part[hit] & reached for part in wanted]
        else:
            wanted = [part[hit] for part in wanted]
        shown = [layer.samples(rays, there[hit], part)
                 for layer, there, part in zip(self.layers, points, wanted) if part.any()]
        shown = [samples for samples in shown if samples.chosen.any()]
        return pixels.replaced(hit, self.blend(rays, queries, shown, density_prior)) if shown else pixels

    def blend(self, static: StaticRays, queries: StaticQueries, shown: list[LayerSamples], density_prior: bool) -> Pixels:
        """Composite rays with the layers that are seen on some of them."""
        rays, u = static.rays, static.u
        alphas, passing = in_turn([samples.alpha for samples in shown])
        blends, unblended = in_turn([samples.blend for samples in shown])
        density = self.static_density(static, queries, passing, unblended)
        static_alpha = alpha_from_density(density, static.distances) * unblended
        light = transmittance(passing * (1.0 - static_alpha))
        static_weights = light * static_alpha
        uniform = uniform_weights(u)
        rgb, logits = static_looks(static, queries, density, static_weights,
                                   static_weights if density_prior else uniform * unblended)
        weights, dynamic_rgb, shift = static_weights, torch.zeros_like(rgb), torch.zeros_like(rgb)
        share = torch.zeros_like(static.depth)
        for samples, alpha, blend in zip(shown, alphas, blends):
            layer_weights = light * alpha
            seen = layer_weights > VISIBLE if self.skips else samples.chosen
            looks = Looks(seen, *samples.looks(seen[samples.chosen]))
            found = looks.integrate(layer_weights, layer_weights if density_prior else uniform * blend)
            dynamic_rgb, logits = dynamic_rgb + found[0], logits + found[1]
            weights, share = weights + layer_weights, share + layer_weights.sum(1)
            if self.moment.with_flow:
                moves = samples.moves(seen[samples.chosen])
                shift = shift + Looks(seen, moves, moves).integrate(layer_weights, layer_weights)[0]
        opacity = weights.sum(1).clamp(min=1e-3)[:, None]
        points = rays.at((weights * u).sum(1, keepdim=True) / opacity)[:, 0]
        flow = torch.zeros_like(rays.uv)
        if self.moment.with_flow:
            flow = self.pixel(points + shift / opacity) - self.pixel(points)
        return Pixels(rgb + dynamic_rgb, logits, points, share, flow,
                      dynamic_rgb + GREY * (1.0 - share[:, None]), static.rgb)

    def static_density(self, static: StaticRays, queries: StaticQueries, passing: Tensor, unblended: Tensor) -> Tensor:
        """(R, S) static densities of rays, asked for where the blended rendering sees more than was known."""
        static_alpha = alpha_from_density(static.density, static.distances) * unblended
        missing = ~static.known & (transmittance(passing * (1.0 - static_alpha)) > SATURATED)
        if not missing.any():
            return static.density
        found = queries.solid(chosen_points(static.rays, static.u, missing))
        return static.density.masked_scatter(missing, found.density)

    def pixel(self, points: Tensor) -> Tensor:
        """(R, 2) pixels of field-space points (R, 3)."""
        return self.moment.cameras.project(self.space.to_world(points), self.moment.camera)[0]


def in_turn(shares: list[Tensor]) -> tuple[list[Tensor], Tensor]:
    """What each of several shares (R, S) takes of what those before it leave, and what all of them leave."""
    taken, left = [shares[0]], 1.0 - shares[0]
    for share in shares[1:]:
        taken.append(left * share)
        left = left * (1.0 - share)
    return taken, left


def static_pixels(static: StaticRays) -> Pixels:
    """The static rendering alone."""
    u = static.depth / static.opacity.clamp(min=1e-3)
    return Pixels(
        static.rgb, static.logits, static.rays.at(u[:, None])[:, 0], torch.zeros_like(u), torch.zeros_like(static.rays.uv),
        torch.full_like(static.rgb, GREY), static.rgb)


def static_looks(static: StaticRays, queries: StaticQueries, density: Tensor, weights: Tensor, logit_weights: Tensor
                 ) -> tuple[Tensor, Tensor]:
    """Composite the static looks of rays, asked for where the static rendering did not see them."""
    rgb, logits = static.looks.integrate(weights, logit_weights)
    missing = queries.visible(weights) & (density > 0) & ~static.looks.chosen
    if missing.any():
        solid = queries.solid(chosen_points(static.rays, static.u, missing))
        more = queries.looks(missing, static.rays, static.u, solid).integrate(weights, logit_weights)
        rgb, logits = rgb + more[0], logits + more[1]
    return rgb, logits
