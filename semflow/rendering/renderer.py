"""Rendering of ray batches in training: every branch that the losses need, and none that they do not."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from semflow.models.scene_context import SceneContext
from semflow.models.semantic_flow import ReadyMaps, SemanticFlow
from semflow.records import FieldSamples, FlowTrack, Neighbour, RayBatch, RenderOutputs
from semflow.rendering.compositing import composite, composite_blended, sample_distances
from semflow.rendering.samples import around_surface, stratified
from semflow.utils.ranks import own_rows


@dataclass(frozen=True)
class Branches:
    """What a training step has to render; the union of what its loss terms declare.

    Attributes:
        static, dynamic: query this field and render it alone.
        full: the blended rendering (needs both).
        track: the flow track of the points.
        neighbours: the warped renderings at t-1 and t+1.
        second_track: tracks that start at the moved points (cycle, second-order smoothness).
    """

    static: bool = False
    dynamic: bool = False
    full: bool = False
    track: bool = False
    neighbours: bool = False
    second_track: bool = False

    @property
    def warped(self) -> bool:
        """The dynamic field has to be queried at t-1 and t+1 as well."""
        return self.neighbours or self.second_track

    @property
    def any_dynamic(self) -> bool:
        """The dynamic field has to be queried."""
        return self.dynamic or self.full or self.track or self.warped

    def __or__(self, other: Branches) -> Branches:
        return Branches(*(a or b for a, b in zip(vars(self).values(), vars(other).values())))


@dataclass(frozen=True)
class Sampling:
    """How a training step samples its rays: see `StageConfig`."""

    samples: int
    surface_samples: int
    surface_spread: float
    density_noise: float
    moving_only: bool
    density_prior: bool


@dataclass(frozen=True)
class Draws:
    """The random numbers of a rendering, for the rays of all ranks.

    Attributes:
        u: (R, S) sorted ray parameters of the samples.
        static, dynamic: (R, S) normal noise of the densities, None where there is none.
        moved: offset (-1 or +1) -> (R', S) noise of the warped renderings, None where there is none.
    """

    u: Tensor
    static: Tensor | None
    dynamic: Tensor | None
    moved: dict[int, Tensor | None]


class Renderer:
    """Renders ray batches of one frame of one scene.

    Args:
        model: the networks. branches: what to compute. sampling: how rays are sampled.
        static_frozen, dynamic_frozen: this field is not trained: no gradients are kept for it.
    """

    def __init__(self, model: SemanticFlow, branches: Branches, sampling: Sampling, static_frozen: bool,
                 dynamic_frozen: bool = False):
        self.model, self.branches, self.sampling = model, branches, sampling
        self.static_frozen, self.dynamic_frozen = static_frozen, dynamic_frozen

    def draw(self, frames: int, whole: RayBatch, generator: torch.Generator) -> Draws:
        """The random numbers of a rendering, for a whole batch of one of a scene's `frames`.

        They come from `generator` alone and do not depend on the number of ranks.
        """
        u = self.sample(whole, generator)
        static = dynamic = None
        if self.static_noise and (self.branches.static or self.branches.full):
            static = torch.randn(u.shape, generator=generator, device=u.device)
        deviation = self.sampling.density_noise
        if deviation and self.branches.any_dynamic:
            dynamic = torch.randn(u.shape, generator=generator, device=u.device)
        moved: dict[int, Tensor | None] = {}
        for offset in self.warped_offsets(frames, whole):
            size = (len(whole.rays) - self.first_warped(whole), u.shape[1])
            moved[offset] = torch.randn(size, generator=generator, device=u.device) if deviation else None
        return Draws(u, static, dynamic, moved)

    def render(self, scene: SceneContext, whole: RayBatch, draws: Draws) -> RenderOutputs:
        """Render this rank's rays of a whole batch; the same random numbers give the same outputs."""
        batch, own = whole.select(own_rows()), own_rows()
        rays, branches = batch.rays, self.branches
        u = draws.u[own]
        points = rays.at(u)
        distances = sample_distances(u, rays.directions)
        maps = self.maps(scene, batch)
        parts = {}
        if branches.static or branches.full:
            static = self.static(scene, maps, points, rays.view_dirs, batch.source, noise_of(draws.static, own))
            parts["static"] = static
            parts["static_view"] = composite(static, u, distances, self.sampling.density_prior)
        if branches.any_dynamic:
            parts |= self.dynamic(scene, maps, whole, points.flatten(0, 1), u, distances, draws)
        if branches.full:
            parts["full"], parts["dynamic_share"] = composite_blended(
                parts["static"], parts["dynamic"], u, distances, self.sampling.density_prior)
        return RenderOutputs(rays=rays, frame=batch.frame, u=u, points=points, **parts)

    def sample(self, batch: RayBatch, generator: torch.Generator) -> Tensor:
        """(R, S) sorted ray parameters: stratified ones, and some around the known surface if asked."""
        sampling, count = self.sampling, len(batch.rays)
        u = stratified(count, sampling.samples - sampling.surface_samples, generator, batch.rgb.device)
        if sampling.surface_samples:
            near = around_surface(batch.surface_u, sampling.surface_samples, sampling.surface_spread, generator)
            u = torch.cat([u, near], dim=1).sort(dim=1).values
        return u

    @property
    def static_noise(self) -> bool:
        """The densities of the static field get noise."""
        return bool(self.sampling.density_noise) and not self.static_frozen

    def first_warped(self, whole: RayBatch) -> int:
        """The first ray of a whole batch that is rendered warped as well."""
        return whole.still if self.sampling.moving_only else 0

    def warped_offsets(self, frames: int, whole: RayBatch) -> list[int]:
        """Offsets of the warped renderings of a whole batch of one of `frames`.

        Whether there are any is for the whole batch to say: a rank without a moving ray renders none of none.
        """
        if not self.branches.warped or self.first_warped(whole) == len(whole.rays):
            return []
        return [offset for offset in (-1, 1) if 0 <= whole.frame + offset < frames]

    @property
    def reach(self) -> int:
        """Frames to either side of a batch's own that a step looks at."""
        if not self.branches.any_dynamic:
            return 0
        return self.track_length() // 2 + (1 if self.branches.warped else 0)

    def track_length(self) -> int:
        """At least t-1 and t+1 where a loss needs them, even if the aggregator reads fewer."""
        return max(3 if self.branches.track or self.branches.warped else 1, 2 * self.model.aggregator.reach + 1)

    def maps(self, scene: SceneContext, batch: RayBatch) -> ReadyMaps:
        """Project the maps of the frames that this step reads."""
        if not self.branches.any_dynamic:
            return self.model.ready_maps(scene, [], [batch.source])
        reach = self.model.aggregator.reach + (1 if self.branches.warped else 0)
        frames = [f for f in range(batch.frame - reach, batch.frame + reach + 1) if 0 <= f < scene.frames]
        return self.model.ready_maps(scene, frames, [batch.source])

    def static(self, scene: SceneContext, maps: ReadyMaps, points: Tensor, view_dirs: Tensor, source: int,
               noise: Tensor | None) -> FieldSamples:
        """(R, S) static samples, with noise (R, S) or None on their densities."""
        rays, samples, _ = points.shape
        dirs = view_dirs[:, None].expand(-1, samples, -1).flatten(0, 1)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.static_frozen):
            found = self.model.static_samples(scene, maps, points.flatten(0, 1), dirs, source)
        return self.noisy(found.on_rays(rays, samples), noise)

    def dynamic(self, scene: SceneContext, maps: ReadyMaps, whole: RayBatch, points: Tensor, u: Tensor, distances: Tensor,
                draws: Draws) -> dict[str, object]:
        """The dynamic part of the outputs, at points (R * S, 3) of this rank's rays: u and distances (R, S).

        The dynamic field is asked once for the rays of this frame and for those that are rendered warped as well, on all
        of the rays or on the moving ones.
        """
        first = self.first_warped(whole)
        chosen = slice(len(range(first)[own_rows()]), None)
        track = self.model.track(scene, maps, points, whole.frame, self.track_length())
        moved = self.moved_tracks(scene, maps, whole, track, chosen.start * u.shape[1])
        own = own_rows(first)
        noise = [noise_of(draws.dynamic, own_rows()), *(noise_of(draws.moved[offset], own) for offset in moved)]
        here, *warped = self.dynamic_samples(scene, maps, [track, *moved.values()], [u, *(u[chosen] for _ in moved)], noise)
        density_prior = self.sampling.density_prior
        neighbours = {
            offset: Neighbour(chosen, samples, composite(samples, u[chosen], distances[chosen], density_prior), moved[offset])
            for offset, samples in zip(moved, warped)}
        return {"track": track, "dynamic": here, "dynamic_view": composite(here, u, distances, density_prior),
                "neighbours": neighbours if self.branches.warped else None}

    def moved_tracks(self, scene: SceneContext, maps: ReadyMaps, whole: RayBatch, track: FlowTrack, first: int
                     ) -> dict[int, FlowTrack]:
        """Tracks that start where the points of a track, from number `first` on, are at t-1 and at t+1."""
        offsets = self.warped_offsets(scene.frames, whole)
        if not offsets:
            return {}
        starts = [(track.positions[offset][first:], whole.frame + offset) for offset in offsets]
        return dict(zip(offsets, self.model.tracks(scene, maps, starts, self.track_length())))

    def dynamic_samples(self, scene: SceneContext, maps: ReadyMaps, tracks: list[FlowTrack], u: list[Tensor],
                        noise: list[Tensor | None]) -> list[FieldSamples]:
        """(R, S) dynamic samples at the points of tracks, those at u (R, S) of their rays, with noise (R, S) or None."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.dynamic_frozen):
            found = self.model.dynamic_samples(scene, maps, tracks, [len(part) for part in u])
        return [self.noisy(samples.on_rays(*part.shape), drawn) for samples, part, drawn in zip(found, u, noise)]

    def noisy(self, samples: FieldSamples, noise: Tensor | None) -> FieldSamples:
        """Add normal noise (R, S) to the raw densities (R, S)."""
        if noise is None:
            return samples
        density = samples.density + self.sampling.density_noise * noise
        return FieldSamples(density, samples.rgb, samples.logits, samples.blend)


def noise_of(noise: Tensor | None, own: slice) -> Tensor | None:
    """This rank's rows of the noise of all ranks' rays, if there is any."""
    return None if noise is None else noise[own]
