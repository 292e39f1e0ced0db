"""The model: encoders, flow network, aggregation and fields of one or several scenes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from semflow.config.schema import EncoderConfig, ModelConfig
from semflow.encoders.factory import build_image_encoder, build_video_encoder
from semflow.encoders.features import clip_descriptor
from semflow.encoders.frozen import seeded
from semflow.encoders.positional import FrequencyEncoding, PlaneEncoding, SceneCodeEncoding
from semflow.encoders.reduction import ReducedEncoder
from semflow.encoders.sampling import read_map
from semflow.fields.aggregation import FlowAttentionAggregator, FlowFeatures, FrameMap
from semflow.fields.chunks import joined, rays_in_parts, rows_of, separated
from semflow.fields.dynamic import DynamicField
from semflow.fields.flow import FlowNetwork, Timeline, at_time
from semflow.fields.solid import Solid
from semflow.fields.static import StaticField
from semflow.fields.track_scene import SurfaceCues, TrackScene
from semflow.geometry.cameras import Cameras
from semflow.geometry.spaces import Space
from semflow.models.parts import build_aggregator, build_code_mlp
from semflow.models.scene_context import SceneContext, SceneShape
from semflow.records import FieldSamples, FlowTrack
from semflow.utils.compiling import Compiled

NETWORKS = 5  # that draw their first weights each from a seed of its own
SOFTPLUS_SHARPNESS = 10.0  # close to relu, but with a gradient for raw densities down to about -0.5


@dataclass(frozen=True)
class ReadyMaps:
    """Maps of some frames, ready to be read at points with the current weights.

    Attributes:
        dynamic: frame -> map. static: frame -> projected (h, w, D). code: (Z,) clip code (empty without).
    """

    dynamic: dict[int, FrameMap]
    static: dict[int, Tensor]
    code: Tensor


class SemanticFlow(nn.Module):
    """All networks of the method; every scene shares them (factorised planes and scene codes are kept per scene).

    Args:
        model: sizes. encoder: kinds of encoders and their weights. classes: K.
        shapes: one per scene. seed: of every initialisation. Each network draws from its own, so that two models that differ
            in one network start with the same others.
    """

    def __init__(self, model: ModelConfig, encoder: EncoderConfig, classes: int, shapes: list[SceneShape], seed: int):
        super().__init__()
        self.config = model
        self.bf16, self.recompute = False, False
        self.video_encoder = build_video_encoder(encoder, seed)
        self.image_encoder = build_image_encoder(encoder, seed)
        code_width = model.code_width if self.video_encoder.code_channels else 0
        first = seed * NETWORKS
        with seeded(first):
            self.code_mlp = build_code_mlp(self.video_encoder.code_channels, model.code_hidden, code_width)
        with seeded(first + 1):
            self.flow = FlowNetwork(self.flow_encoding(shapes), model.flow_width, code_width, model.flow_substeps)
        with seeded(first + 2):
            self.aggregator = build_aggregator(model, self.video_encoder.channels, encoder.surface_cues)
        with seeded(first + 3):
            self.static = StaticField(
                self.field_encoding(shapes, with_time=False), model.static_width, model.static_blocks,
                self.image_encoder.channels, classes, model.static_view_dependent)
        with seeded(first + 4):
            self.dynamic = DynamicField(
                self.field_encoding(shapes, with_time=True), model.dynamic_width, model.dynamic_code_blocks,
                model.dynamic_blocks, code_width, self.aggregator.use_neighbours, self.aggregator.out_channels, classes)

    @property
    def widest_layer(self) -> int:
        """Channels of the widest tensor that a point passes through."""
        parts = (self.static, self.dynamic, self.flow, self.aggregator)
        of_maps = (self.static.to_feature, self.aggregator.from_map)
        layers = [m for part in parts for m in part.modules() if isinstance(m, nn.Linear) and m not in of_maps]
        return max(max(layer.in_features, layer.out_features) for layer in layers)

    def field_encoding(self, shapes: list[SceneShape], with_time: bool) -> nn.Module:
        """Encoding of the static (x) or dynamic (x, t) field."""
        if self.config.encoding == "frequency":
            return self.coded(FrequencyEncoding(4 if with_time else 3, self.config.octaves), len(shapes))
        boxes, steps = plane_boxes(shapes, with_time)
        return PlaneEncoding(boxes, self.config.plane_channels, self.config.plane_levels, steps)

    def flow_encoding(self, shapes: list[SceneShape]) -> nn.Module:
        """Encoding of the flow network: L2-normalised frequencies, or coarser planes."""
        if self.config.flow_encoding == "frequency":
            return self.coded(FrequencyEncoding(4, self.config.flow_octaves, normalize=True), len(shapes))
        boxes, steps = plane_boxes(shapes, with_time=True)
        return PlaneEncoding(boxes, self.config.plane_channels, self.config.flow_plane_levels, steps)

    def coded(self, encoding: FrequencyEncoding, scenes: int) -> nn.Module:
        """Frequencies are the same for all scenes: with the code of the scene, if the model has one. (Planes need none.)"""
        return SceneCodeEncoding(encoding, scenes, self.config.scene_code) if self.config.scene_code else encoding

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Trainable parameters by group: `static` (the static field), `flow` (the flow network and the code that it
        reads) and `dynamic` (everything else).

        Every trainable parameter of the model is in exactly one group.
        """
        of_flow = [self.flow] if self.code_mlp is None else [self.code_mlp, self.flow]
        own = {"static": [self.static], "flow": of_flow}
        group = {id(p): name for name, parts in own.items() for part in parts for p in part.parameters()}
        groups = {"static": [], "flow": [], "dynamic": []}
        for parameter in self.parameters():
            if parameter.requires_grad:
                groups[group.get(id(parameter), "dynamic")].append(parameter)
        return groups

    def fit_encoders(self, clips: Sequence[Tensor]) -> None:
        """Let reduced encoders find their basis for the frames (T, H, W, 3) of all scenes, unless they have one."""
        for encoder in (self.video_encoder, self.image_encoder):
            if isinstance(encoder, ReducedEncoder) and not encoder.fitted:
                encoder.fit(rgb.permute(0, 3, 1, 2).contiguous() for rgb in clips)

    @torch.no_grad()
    def encode(self, index: int, rgb: Tensor, cameras: Cameras, space: Space, cues: SurfaceCues | None = None) -> SceneContext:
        """Run the frozen encoders once over the frames (T, H, W, 3) of a scene; reduced ones must have been fitted."""
        frames = rgb.permute(0, 3, 1, 2).contiguous()
        video = None if self.video_encoder.trainable else self.video_encoder(frames)
        code = clip_descriptor(frames) if video is None else video.code
        image = self.image_encoder(frames) if self.image_encoder.channels else None
        return SceneContext(index, Timeline(len(rgb)), cameras, space, rgb, video, code, image, cues)

    def ready_maps(self, scene: SceneContext, dynamic_frames: list[int], static_frames: list[int], once: bool = True
                   ) -> ReadyMaps:
        """The maps of the named frames with the current weights.

        Args:
            once: the dynamic maps are read once, so that only what is read of them is projected; else they are
                projected as a whole.
        """
        code = self.code_mlp(scene.code) if self.code_mlp else scene.code.new_zeros(0)
        dynamic, static = {}, {}
        if self.aggregator.channels and dynamic_frames:
            prepare = FrameMap if once else self.aggregator.prepare
            dynamic = dict(zip(dynamic_frames, map(prepare, self.video_maps(scene, dynamic_frames))))
        if scene.image is not None and static_frames:
            static = dict(zip(static_frames, self.static.project_maps(of_frames(scene.image.maps, static_frames))))
        return ReadyMaps(dynamic, static, code)

    def video_maps(self, scene: SceneContext, frames: list[int]) -> Tensor:
        """(F, h, w, C) maps of some frames: kept ones, or those of the jointly trained encoder as it is now."""
        if scene.video is not None:
            return of_frames(scene.video.maps, frames)
        return self.video_encoder.encode(of_frames(scene.rgb, frames).permute(0, 3, 1, 2))

    def static_samples(self, scene: SceneContext, maps: ReadyMaps, points: Tensor, view_dirs: Tensor, source: int) -> FieldSamples:
        """Static field at N points (N, 3), view_dirs (N, 3), with the image feature of frame `source`."""
        feature = self.static_feature(scene, maps, points, source)
        with self.autocast(points):
            samples = self.static(points, view_dirs, feature, scene.index)
        return self.scaled(samples)

    def static_feature(self, scene: SceneContext, maps: ReadyMaps, points: Tensor, source: int) -> Tensor | None:
        """(N, D) projected image feature of frame `source` at N points, zero where it does not show them."""
        if scene.image is None:
            return None
        uv, in_front = scene.cameras.project(scene.space.to_world(points), source)
        visible = in_front & scene.cameras.inside(uv)
        return read_map(maps.static[source], uv, scene.cameras.height, scene.cameras.width, visible)

    def static_solid(self, scene: SceneContext, maps: ReadyMaps, points: Tensor, source: int) -> Solid:
        """The first half of `static_samples`: the densities."""
        feature = self.static_feature(scene, maps, points, source)
        with self.autocast(points):
            return self.activated(self.static.solid(points, feature, scene.index))

    def static_appearance(self, solid: Solid, view_dirs: Tensor) -> tuple[Tensor, Tensor]:
        """The second half: colours (N, 3) and logits (N, K)."""
        with self.autocast(view_dirs):
            rgb, logits = self.static.appearance(solid, view_dirs)
        return rgb.float(), logits.float()

    def dynamic_samples(self, scene: SceneContext, maps: ReadyMaps, tracks: Sequence[FlowTrack], rays: Sequence[int]
                        ) -> list[FieldSamples]:
        """Dynamic field at the points of tracks (each N = rays * S), asked together, some rays at a time.

        What is computed again in the backward pass is asked one track after the other: less is there again at a time.
        """
        parts = rays_in_parts(self.dynamic.encoding.part_points, tracks, rays)
        if self.recompute and torch.is_grad_enabled():
            again = partial(checkpoint, self.query_dynamic, use_reentrant=False, preserve_rng_state=False)
            found = [again(scene, maps, [piece]) for part in parts for piece in part]
        else:
            found = [self.query_dynamic(scene, maps, part) for part in parts]
        return separated(joined(found), [len(track.positions[0]) for track in tracks])

    def query_dynamic(self, scene: SceneContext, maps: ReadyMaps, part: list[tuple[FlowTrack, int]]) -> FieldSamples:
        """Aggregate the features of tracks, each with the number of its rays, and query the dynamic field."""
        coordinates, features = self.along_the_flow(scene, maps, *zip(*part))
        with self.autocast(coordinates):
            return self.scaled(self.dynamic(coordinates, maps.code, features, scene.index))

    def dynamic_solid(self, scene: SceneContext, maps: ReadyMaps, track: FlowTrack, rays: int) -> Solid:
        """The first half of `dynamic_samples`, of one track: densities and blending."""
        coordinates, features = self.along_the_flow(scene, maps, [track], [rays])
        with self.autocast(coordinates):
            return self.activated(self.dynamic.solid(coordinates, maps.code, features, scene.index))

    def along_the_flow(self, scene: SceneContext, maps: ReadyMaps, tracks: Sequence[FlowTrack], rays: Sequence[int]
                       ) -> tuple[Tensor, FlowFeatures]:
        """Coordinates (N, 4) of the points of tracks, one after the other, and what the video shows along them."""
        features = self.aggregator(tracks, maps.dynamic, TrackScene(scene.cameras, scene.space, scene.cues), sum(rays))
        return rows_of([at_time(track.positions[0], track.frame, scene.timeline) for track in tracks]), features

    def dynamic_appearance(self, solid: Solid) -> tuple[Tensor, Tensor]:
        """The second half: colours (N, 3) and logits (N, K)."""
        with self.autocast(solid.hidden):
            rgb, logits = self.dynamic.appearance(solid)
        return rgb.float(), logits.float()

    def set_up(self, bf16: bool, recompute: bool) -> SemanticFlow:
        """How the networks are computed: bf16 autocast, and activations computed again instead of kept."""
        self.bf16, self.recompute, self.flow.recompute = bf16, recompute, recompute
        return self

    def compile_networks(self) -> SemanticFlow:
        """Let torch compile the networks that a training step asks; see `Compiled`."""
        parts = [(self.static, "samples_of"), (self.dynamic, "samples_of"), (self.flow, "velocity_of")]
        if isinstance(self.aggregator, FlowAttentionAggregator):
            parts.append((self.aggregator.attention, "forward"))
        for part, name in parts:
            setattr(part, name, Compiled(getattr(part, name)))
        return self

    def autocast(self, tensor: Tensor):
        """bf16 autocast of the fields if it is switched on; geometry and compositing always stay in float32."""
        return torch.autocast(tensor.device.type, dtype=torch.bfloat16, enabled=self.bf16)

    def scaled(self, samples: FieldSamples) -> FieldSamples:
        """Apply the density activation and scale; back to float32. Rendering applies relu to what comes out."""
        blend = None if samples.blend is None else samples.blend.float()
        return FieldSamples(self.scaled_density(samples.density), samples.rgb.float(), samples.logits.float(), blend)

    def activated(self, solid: Solid) -> Solid:
        """The same for the first half of samples; what the heads read stays as it is."""
        blend = None if solid.blend is None else solid.blend.float()
        return replace(solid, density=self.scaled_density(solid.density), blend=blend)

    def scaled_density(self, density: Tensor) -> Tensor:
        """Densities (N,) of a field's head, activated and scaled."""
        density = density.float()
        if self.config.density_activation == "softplus":
            density = F.softplus(density, beta=SOFTPLUS_SHARPNESS)
        return density * self.config.density_scale

    def track(self, scene: SceneContext, maps: ReadyMaps, points: Tensor, frame: int, length: int | None = None) -> FlowTrack:
        """Flow track of N points (N, 3) of an integer frame."""
        return self.tracks(scene, maps, [(points, frame)], length)[0]

    def tracks(self, scene: SceneContext, maps: ReadyMaps, starts: Sequence[tuple[Tensor, int]], length: int | None = None
               ) -> list[FlowTrack]:
        """Flow tracks of points (N, 3), each with their integer frame."""
        return self.flow.tracks(starts, length or self.config.flow_length, scene.timeline, maps.code, scene.index)


def of_frames(maps: Tensor, frames: list[int]) -> Tensor:
    """(F, h, w, C) maps of some frames of (T, h, w, C): a view where the frames follow each other, else a copy.

    Wide maps of the frames around one are half a gigabyte at 480x270.
    """
    first, last = frames[0], frames[-1]
    return maps[first : last + 1] if frames == list(range(first, last + 1)) else maps[frames]


def plane_boxes(shapes: list[SceneShape], with_time: bool) -> tuple[Tensor, tuple[int, ...]]:
    """(scenes, 2, 3 or 4) boxes of the encodings' coordinates, and the frames of each scene.

    The time axis runs from the first to the last frame in normalised time, so a grid row is a frame. (That of a scene of
    one frame has a length too: it is divided by.)
    """
    boxes = torch.stack([shape.box for shape in shapes])
    if not with_time:
        return boxes, ()
    limits = [[-1.0, 2.0 * max(shape.frames - 1, 1) / shape.frames - 1.0] for shape in shapes]
    return torch.cat([boxes, torch.tensor(limits)[..., None]], dim=-1), tuple(shape.frames for shape in shapes)
