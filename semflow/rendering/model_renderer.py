"""Rendering of whole views from a trained model."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from semflow.config.schema import RenderConfig
from semflow.geometry.cameras import Cameras
from semflow.geometry.spaces import Space, camera_rays
from semflow.models.scene_context import SceneContext
from semflow.models.semantic_flow import ReadyMaps, SemanticFlow
from semflow.records import View
from semflow.rendering.dynamic_rays import BlendedQueries, Moment, Pixels
from semflow.rendering.edited_layers import EditedLayer
from semflow.rendering.edits import SceneEdits, StillEdit
from semflow.rendering.layers import DynamicQueries, Layer, WholeLayer
from semflow.rendering.occupancy import SceneGrids, half_a_clip_away
from semflow.rendering.static_rays import StaticQueries, StaticRays
from semflow.utils.errors import SemflowError
from semflow.utils.memory import free_memory, is_out_of_memory

FAST_POINTS = {"cpu": 2**16, "cuda": 2**20}  # samples at once; more of them gain nothing, and on a CPU they lose its caches
KEPT_LAYERS = 12  # tensors as wide as the widest layer that are alive at once
KEPT_BYTES = 2 * 1024**3  # static samples of a view are kept for its other times up to this size


class ModelRenderer:
    """Renders any camera at any time; implements `ViewRenderer`.

    With `render.occupancy` the fields are only asked where they can be seen: in cells that are not empty, in front of
    what is opaque, and about colours and classes only where a sample has weight. Without it, everywhere.

    The static samples of the latest camera are kept: rendering its other times only queries the dynamic field.

    Static image features (if the model has them) come from the frame half a clip away from the rendered time.

    Args:
        model: the networks, on the device of the scenes. scenes: name -> scene. config: sampling.
        static_only: leave the dynamic field out, as long as it is not trained.
        edits: scene -> how it is shown otherwise than it is.
    """

    def __init__(self, model: SemanticFlow, scenes: dict[str, SceneContext], config: RenderConfig, static_only: bool = False,
                 edits: dict[str, SceneEdits] | None = None):
        self.edits = edits or {}
        self.model, self.scenes, self.config, self.static_only = model.eval(), scenes, config, static_only
        self.skips = config.occupancy > 0 and config.flow_density_prior  # uniform logits need every sample
        self.maps: dict[str, ReadyMaps] = {}
        self.grids: dict[str, SceneGrids] = {}
        self.static_key, self.static_chunks = None, []
        self.rays = config.chunk  # rays at once; 0: not chosen yet

    def with_edits(self, edits: dict[str, SceneEdits]) -> ModelRenderer:
        """A renderer of the same networks that shows scenes with edits; maps and grids are shared."""
        edited = ModelRenderer(self.model, self.scenes, self.config, self.static_only, edits)
        edited.maps, edited.grids = self.maps, self.grids
        return edited

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
        while True:
            try:
                return self.render_at_once(scene, cameras, camera, time, what)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            self.take_fewer_rays(scene, cameras.c2w.device)

    def take_fewer_rays(self, scene: str, device: torch.device) -> None:
        """Halve the chunks, after memory ran out.

        Raises:
            SemflowError: they are single rays already.
        """
        self.static_key, self.static_chunks = None, []
        if device.type == "cuda":
            torch.cuda.empty_cache()
        if self.rays <= 1:
            raise SemflowError(f"scene {scene}: there is not enough memory to render a single ray on {device}; close other "
                               "programs, or use another --device")
        self.rays = max(1, self.rays // 2)
        print(f"memory ran out while rendering: going on with {self.rays} rays at once (render.chunk)", flush=True)

    def render_at_once(self, scene: str, cameras: Cameras, camera: int, time: float, what: frozenset[str]) -> View:
        """Render a view with the present size of the chunks; arguments as in `render`."""
        context = self.scenes[scene]
        self.rays = self.rays or rays_at_once(self.model, self.config, cameras.c2w.device)
        moment = Moment(cameras, camera, min(max(float(time), 0.0), context.frames - 1.0), "flow" in what)
        static_queries = self.static_queries(scene, moment.time)
        space = static_queries.scene.space
        blended = BlendedQueries(self.layers(scene, moment, space), moment, space, self.skips)
        parts = [
            blended.render(chunk, static_queries, self.config.flow_density_prior)
            for chunk in self.static_part(cameras, camera, static_queries)
        ]
        pixels = Pixels(*(torch.cat([getattr(part, name) for part in parts]) for name in vars(parts[0])))
        depth = cameras.depth(space.to_world(pixels.points), camera)
        return view_of(pixels, depth, (cameras.height, cameras.width), what)

    def layers(self, scene: str, moment: Moment, view: Space) -> list[Layer]:
        """What is composited with the static field in a view, in rays of a field space."""
        time = moment.time
        if self.static_only:
            return []
        edits, context = self.edits.get(scene), self.scenes[scene]
        if edits is None:
            return [WholeLayer(self.dynamic_queries(scene, time))]
        found = []
        for layer in edits.layers:
            at = layer.clock.at(time, context.frames)
            queries = self.dynamic_queries(scene, at) if layer.moves else self.own_static_queries(scene, at, None)
            if layer.is_whole_field and view is context.space:
                found.append(WholeLayer(queries))
                continue
            edited = EditedLayer(layer, edits.membership, queries, view, time)
            edited.look_from(moment.cameras, moment.camera, self.config.samples, self.rays)
            found.append(edited)
        return found

    def dynamic_queries(self, scene: str, time: float) -> DynamicQueries:
        """What asks the dynamic field of a scene at a time."""
        return DynamicQueries(self.model, self.scenes[scene], self.ready_maps(scene), time, self.scene_grids(scene))

    def ready_maps(self, scene: str) -> ReadyMaps:
        """Projected maps of all frames, kept per scene."""
        if scene not in self.maps:
            context = self.scenes[scene]
            frames = list(range(context.frames))
            self.maps[scene] = self.model.ready_maps(context, frames, frames, once=False)
        return self.maps[scene]

    def scene_grids(self, scene: str) -> SceneGrids | None:
        """Where the fields of a scene can be seen, kept per scene; None: everything is asked for."""
        if self.skips and scene not in self.grids:
            self.grids[scene] = SceneGrids(self.model, self.scenes[scene], self.ready_maps(scene), self.config.occupancy)
        return self.grids.get(scene)

    def static_queries(self, scene: str, time: float) -> StaticQueries:
        """What asks the static field that a scene is shown with at a time."""
        edits = self.edits.get(scene)
        if edits is None:
            return self.own_static_queries(scene, time, None)
        if edits.backdrop is not None:
            renderer, other = edits.backdrop
            return renderer.static_queries(other, min(time, renderer.scenes[other].frames - 1.0))
        still = None if edits.still is None else StillEdit(edits.still, edits.membership)
        return self.own_static_queries(scene, time, still)

    def own_static_queries(self, scene: str, time: float, edit: StillEdit | None) -> StaticQueries:
        """What asks the static field of a scene at a time."""
        context, grids = self.scenes[scene], self.scene_grids(scene)
        source = half_a_clip_away(context, time)
        grid = None if grids is None else grids.static(source)
        return StaticQueries(self.model, context, self.ready_maps(scene), source, grid, edit)

    def static_part(self, cameras: Cameras, camera: int, queries: StaticQueries) -> Iterator[StaticRays]:
        """Static part of all rays of a camera, in chunks; kept until another camera is asked for, if not too large."""
        context, config = queries.scene, self.config
        used_source = queries.source if context.image is not None else -1
        key = (context.index, queries.model, cameras.height, cameras.width, cameras.focal, used_source,
               *cameras.c2w[camera].flatten().tolist())
        if key == self.static_key:
            yield from self.static_chunks
            return
        self.static_key, self.static_chunks = None, []
        made, size = [], 0
        for uv in cameras.pixels().flatten(0, 1).split(self.rays):
            rays = camera_rays(cameras, context.space, camera, uv)
            chunk = queries.render(rays, config.samples, config.fine_samples, config.flow_density_prior)
            size += chunk.nbytes
            made = [*made, chunk] if size <= KEPT_BYTES else []
            yield chunk
        if size <= KEPT_BYTES:
            self.static_key, self.static_chunks = key, made


def rays_at_once(model: SemanticFlow, config: RenderConfig, device: torch.device) -> int:
    """Rays per chunk: as many as a quarter of the free memory holds, but no more than is fast."""
    samples = config.samples + config.fine_samples
    per_ray = samples * 4 * KEPT_LAYERS * model.widest_layer
    most = FAST_POINTS.get(device.type, FAST_POINTS["cuda"]) // samples
    return max(1, min(most, free_memory(device) // 4 // per_ray))


def view_of(pixels: Pixels, depth: Tensor, size: tuple[int, int], what: frozenset[str]) -> View:
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
        found["static_rgb"] = image(pixels.static_rgb.clamp(0, 1))
    if "depth" in what:
        found["depth"] = image(depth)
    return View(**found)
