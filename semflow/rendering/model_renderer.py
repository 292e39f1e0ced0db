"""Rendering of whole views from a trained model."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from semflow.config.schema import RenderConfig
from semflow.geometry.cameras import Cameras
from semflow.geometry.spaces import camera_rays
from semflow.models.semantic_flow import ReadyMaps, SceneContext, SemanticFlow, scene_box
from semflow.records import FieldSamples, Rays, Rendering, View
from semflow.rendering.compositing import (
    alpha_from_density,
    blended_weights,
    composite,
    integrate,
    sample_distances,
    uniform_weights,
)
from semflow.rendering.occupancy import OccupancyGrid, grid_nodes, occupancy_from_nodes
from semflow.rendering.samples import from_weights, stratified

GREY = 0.5
KEPT_BYTES = 2 * 1024**3  # static samples of a view are kept for its other times up to this size


@dataclass(frozen=True)
class StaticChunk:
    """The static part of some rays of a view, which does not depend on time.

    Attributes:
        rays: R rays. u, distances: (R, S). samples: static samples (R, S). view: the static rendering.
    """

    rays: Rays
    u: Tensor
    distances: Tensor
    samples: FieldSamples
    view: Rendering


@dataclass(frozen=True)
class Pixels:
    """Rendered quantities of R rays; see `View`."""

    rgb: Tensor
    logits: Tensor
    u: Tensor
    share: Tensor
    flow: Tensor
    dynamic_rgb: Tensor

    def replaced(self, index: Tensor, other: Pixels) -> Pixels:
        """Copy with the rays at `index` taken from `other`."""
        merged = {}
        for name, values in vars(self).items():
            values = values.clone()
            values[index] = getattr(other, name)
            merged[name] = values
        return Pixels(**merged)


class ModelRenderer:
    """Renders any camera at any time; implements `ViewRenderer`.

    The static samples of the latest camera are kept: rendering its other times only queries the dynamic field, and
    that only where the occupancy grid of the time allows it.

    Static image features (if the model has them) come from the frame half a clip away from the rendered time.

    Args:
        model: the networks, on the device of the scenes. scenes: name -> scene. config: sampling.
        static_only: leave the dynamic field out, as long as it is not trained.
    """

    def __init__(self, model: SemanticFlow, scenes: dict[str, SceneContext], config: RenderConfig, static_only: bool = False):
        self.model, self.scenes, self.config, self.static_only = model.eval(), scenes, config, static_only
        self.maps: dict[str, ReadyMaps] = {}
        self.grids: dict[tuple[str, float], OccupancyGrid] = {}
        self.static_key, self.static_chunks = None, []

    @torch.no_grad()
    def render(self, scene: str, cameras: Cameras, camera: int, time: float, what: frozenset[str]) -> View:
        """Render a view.

        Args:
            scene: name of a scene of the model. cameras, camera: the view, any size.
            time: frame index in [0, T-1], fractional allowed.
            what: subset of rgb, semantic, depth, flow, entropy, dynamic, static.

        Returns:
            View with the quantities asked for, on the device of the model.
        """
        context = self.scenes[scene]
        time = min(max(float(time), 0.0), context.frames - 1.0)
        maps = self.ready_maps(scene)
        source = (round(time) + context.frames // 2) % context.frames
        parts, points, static_rgb = [], [], []
        for chunk in self.static_part(scene, cameras, camera, source, maps):
            part = self.dynamic_part(scene, maps, chunk, cameras, camera, time, "flow" in what)
            parts.append(part)
            points.append(chunk.rays.at(part.u[:, None])[:, 0])
            static_rgb.append(chunk.view.rgb)
        pixels = Pixels(**{name: torch.cat([getattr(p, name) for p in parts]) for name in vars(parts[0])})
        depth = cameras.depth(context.space.to_world(torch.cat(points)), camera)
        return self.view(pixels, depth, torch.cat(static_rgb), (cameras.height, cameras.width), what)

    def ready_maps(self, scene: str) -> ReadyMaps:
        """Projected maps of all frames, kept per scene."""
        if scene not in self.maps:
            context = self.scenes[scene]
            frames = list(range(context.frames))
            self.maps[scene] = self.model.ready_maps(context, frames, frames, once=False)
        return self.maps[scene]

    def static_part(self, scene: str, cameras: Cameras, camera: int, source: int, maps: ReadyMaps) -> Iterator[StaticChunk]:
        """Static samples of all rays of a camera, in chunks; kept until another camera is asked for, if not too large."""
        context = self.scenes[scene]
        used_source = source if context.image is not None else -1
        key = (scene, cameras.height, cameras.width, cameras.focal, used_source, *cameras.c2w[camera].flatten().tolist())
        if key == self.static_key:
            yield from self.static_chunks
            return
        self.static_key, self.static_chunks = None, []
        made, size = [], 0
        for uv in cameras.pixels().flatten(0, 1).split(self.config.chunk):
            chunk = self.static_chunk(context, cameras, camera, uv, source, maps)
            size += sum(value.nbytes for value in (chunk.samples.density, chunk.samples.rgb, chunk.samples.logits))
            made = [*made, chunk] if size <= KEPT_BYTES else []
            yield chunk
        if size <= KEPT_BYTES:
            self.static_key, self.static_chunks = key, made

    def static_chunk(self, scene: SceneContext, cameras: Cameras, camera: int, uv: Tensor, source: int, maps: ReadyMaps
                     ) -> StaticChunk:
        """Static samples of rays through pixels uv (R, 2)."""
        rays = camera_rays(cameras, scene.space, camera, uv)
        count, device = self.config.samples, uv.device
        u = stratified(len(rays), count, None, device)
        samples = self.static_samples(scene, maps, rays, u, source)
        if self.config.fine_samples:
            weights = composite(samples, u, sample_distances(u, rays.directions)).weights
            # the surface may lie anywhere between the heavy sample and its neighbours (mip-NeRF, section 3)
            weights = F.max_pool1d(weights[:, None], kernel_size=3, stride=1, padding=1)[:, 0]
            edges = (torch.arange(count + 1, device=device) / count).expand(len(rays), count + 1)
            fine = from_weights(edges, weights, self.config.fine_samples)
            u, samples = merge_samples(u, samples, fine, self.static_samples(scene, maps, rays, fine, source))
        distances = sample_distances(u, rays.directions)
        return StaticChunk(rays, u, distances, samples, composite(samples, u, distances, self.config.flow_density_prior))

    def static_samples(self, scene: SceneContext, maps: ReadyMaps, rays: Rays, u: Tensor, source: int) -> FieldSamples:
        """(R, S) static samples."""
        dirs = rays.view_dirs[:, None].expand(-1, u.shape[1], -1).flatten(0, 1)
        return self.model.static_samples(scene, maps, rays.at(u).flatten(0, 1), dirs, source).on_rays(len(rays))

    def dynamic_samples(self, scene: SceneContext, maps: ReadyMaps, points: Tensor, time: float, rays: int) -> FieldSamples:
        """Dynamic samples of N points (N, 3) at any time.

        Networks are only asked about integer frames: a point of a time between two frames is carried to both by the
        flow, and what it is there is mixed.
        """
        before, share = int(math.floor(time)), time - math.floor(time)
        found = None
        for frame, part in ((before, 1.0 - share), (before + 1, share)):
            if part == 0.0:
                continue
            moved = self.model.flow.advect(points, time, frame - time, scene.frames, maps.code, scene.index)
            length = 2 * self.model.aggregator.reach + 1
            track = self.model.track(scene, maps, moved, frame, length)
            samples = self.model.dynamic_samples(scene, maps, track, rays)
            opaque = replace(samples, density=torch.relu(samples.density))  # emptiness of one frame hides no other
            weighted = FieldSamples(*(part * value for value in vars(opaque).values()))
            found = weighted if found is None else FieldSamples(
                *(a + b for a, b in zip(vars(found).values(), vars(weighted).values())))
        return found

    def grid(self, scene: str, maps: ReadyMaps, time: float) -> OccupancyGrid:
        """Occupancy at one time, kept per time."""
        key = (scene, time)
        if key not in self.grids:
            context, resolution = self.scenes[scene], self.config.occupancy
            box = scene_box(context.cameras, context.space)
            thickness = float((box[1, 2] - box[0, 2]) / resolution)
            opacity = [
                (alpha_from_density(s.density, torch.tensor(thickness, device=box.device)) * s.blend)
                for s in (self.dynamic_samples(context, maps, nodes, time, len(nodes))
                          for nodes in grid_nodes(box, resolution).split(self.config.chunk * 16))
            ]
            self.grids[key] = occupancy_from_nodes(torch.cat(opacity), box, resolution)
        return self.grids[key]

    def dynamic_part(self, scene: str, maps: ReadyMaps, chunk: StaticChunk, cameras: Cameras, camera: int, time: float,
                     with_flow: bool) -> Pixels:
        """Both fields composited; rays that meet no dynamic density keep the static rendering."""
        context, view = self.scenes[scene], chunk.view
        nothing = torch.zeros_like(view.depth)
        pixels = Pixels(view.rgb, view.logits, view.depth / view.opacity.clamp(min=1e-3), nothing,
                        torch.zeros_like(chunk.rays.uv), torch.full_like(view.rgb, GREY))
        if self.static_only:
            return pixels
        points = chunk.rays.at(chunk.u)
        occupied = torch.ones_like(chunk.u, dtype=torch.bool)
        if self.config.occupancy:
            occupied = self.grid(scene, maps, time).occupied(points.flatten(0, 1)).view_as(occupied)
        if self.model.config.ray_attention:
            occupied = occupied.any(1, keepdim=True).expand_as(occupied)
        hit = occupied.any(1).nonzero()[:, 0]
        if not len(hit):
            return pixels
        chosen = occupied[hit]
        queried = points[hit][chosen]
        rays = len(hit) if self.model.config.ray_attention else len(queried)
        found = self.dynamic_samples(context, maps, queried, time, rays)
        return pixels.replaced(hit, self.blend(context, maps, chunk, hit, chosen, queried, found, cameras, camera, time, with_flow))

    def blend(self, scene: SceneContext, maps: ReadyMaps, chunk: StaticChunk, hit: Tensor, chosen: Tensor, queried: Tensor,
              found: FieldSamples, cameras: Cameras, camera: int, time: float, with_flow: bool) -> Pixels:
        """Composite the rays `hit` whose samples `chosen` were queried."""
        static = FieldSamples(chunk.samples.density[hit], chunk.samples.rgb[hit], chunk.samples.logits[hit])
        dynamic = FieldSamples(*(spread(value, chosen) for value in vars(found).values()))
        u, distances = chunk.u[hit], chunk.distances[hit]
        static_weights, dynamic_weights = blended_weights(static, dynamic, distances)
        weights = static_weights + dynamic_weights
        opacity = weights.sum(1).clamp(min=1e-3)
        rgb_dynamic = integrate(dynamic_weights, dynamic.rgb)
        share = dynamic_weights.sum(1)
        logit_weights = (static_weights, dynamic_weights)
        if not self.config.flow_density_prior:
            uniform = uniform_weights(weights)
            logit_weights = (uniform * (1.0 - dynamic.blend), uniform * dynamic.blend)
        flow = torch.zeros_like(chunk.rays.uv[hit])
        if with_flow:
            moved = spread(self.displacement(scene, maps, queried, time), chosen)
            expected = integrate(weights / opacity[:, None], chunk.rays.select(hit).at(u))
            shift = integrate(dynamic_weights / opacity[:, None], moved)
            to_pixel = [cameras.project(scene.space.to_world(p), camera)[0] for p in (expected, expected + shift)]
            flow = to_pixel[1] - to_pixel[0]
        return Pixels(
            rgb=integrate(static_weights, static.rgb) + rgb_dynamic,
            logits=integrate(logit_weights[0], static.logits) + integrate(logit_weights[1], dynamic.logits),
            u=(weights * u).sum(1) / opacity,
            share=share,
            flow=flow,
            dynamic_rgb=rgb_dynamic + GREY * (1.0 - share[:, None]),
        )

    def displacement(self, scene: SceneContext, maps: ReadyMaps, points: Tensor, time: float) -> Tensor:
        """(N, 3) motion over one frame step, forward; at the end of the scene the last step is continued."""
        forward = time + 1 <= scene.frames - 1
        offset = 1.0 if forward else -1.0
        moved = self.model.flow.advect(points, time, offset, scene.frames, maps.code, scene.index) - points
        return moved if forward else -moved

    def view(self, pixels: Pixels, depth: Tensor, static_rgb: Tensor, size: tuple[int, int], what: frozenset[str]) -> View:
        """Assemble the image quantities that were asked for from flat ones."""

        def image(values: Tensor) -> Tensor:
            return values.view(*size, *values.shape[1:])

        found = {"dynamic_opacity": image(pixels.share)}
        if "rgb" in what:
            found["rgb"] = image(pixels.rgb.clamp(0, 1))
        if "semantic" in what:
            found["logits"] = image(pixels.logits)
        if "entropy" in what:
            found["entropy"] = image(torch.distributions.Categorical(logits=pixels.logits).entropy())
        if "flow" in what:
            found["flow"] = image(pixels.flow)
        if "dynamic" in what:
            found["dynamic_rgb"] = image(pixels.dynamic_rgb.clamp(0, 1))
        if "static" in what:
            found["static_rgb"] = image(static_rgb.clamp(0, 1))
        if "depth" in what:
            found["depth"] = image(depth)
        return View(**found)


def spread(values: Tensor, chosen: Tensor) -> Tensor:
    """Put values (M, ...) of the chosen samples into (R, S, ...), zeros elsewhere."""
    full = values.new_zeros(*chosen.shape, *values.shape[1:])
    full[chosen] = values
    return full


def merge_samples(u: Tensor, samples: FieldSamples, more_u: Tensor, more: FieldSamples) -> tuple[Tensor, FieldSamples]:
    """Union of two sets of static samples along the same rays, sorted by u."""
    order = torch.cat([u, more_u], dim=1).sort(dim=1)

    def merged(first: Tensor, second: Tensor) -> Tensor:
        both = torch.cat([first, second], dim=1)
        index = order.indices if both.dim() == 2 else order.indices[..., None].expand_as(both)
        return both.gather(1, index)

    return order.values, FieldSamples(
        merged(samples.density, more.density), merged(samples.rgb, more.rgb), merged(samples.logits, more.logits))
