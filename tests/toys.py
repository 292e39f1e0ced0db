"""Constructed cameras, ray batches, renderings and scenes with known answers, shared by the tests."""

import math
from dataclasses import fields, is_dataclass, replace
from types import SimpleNamespace

import torch

from semflow.config.schema import EncoderConfig, ModelConfig
from semflow.data.sampler import RaySampler
from semflow.fields.flow import Timeline
from semflow.fields.solid import Solid
from semflow.geometry.cameras import Cameras
from semflow.geometry.spaces import NdcSpace, camera_rays, make_space
from semflow.losses.base import LossInputs
from semflow.models.scene_context import SceneContext, SceneShape, scene_box
from semflow.models.semantic_flow import ReadyMaps, SemanticFlow
from semflow.records import (
    FieldSamples,
    FlowTrack,
    LabelMap,
    Neighbour,
    RayBatch,
    Rendering,
    RenderOutputs,
    SceneData,
)
from semflow.rendering.renderer import Renderer

CLASSES = 3


def sliding_cameras(frames: int = 3, step: float = 0.1, height: int = 8, width: int = 8,
                    focal: float = 10.0) -> Cameras:
    """Cameras that look along -z and slide along +x by `step` a frame, without turning."""
    c2w = torch.eye(3, 4).repeat(frames, 1, 1)
    c2w[:, 0, 3] = step * (torch.arange(frames) - (frames - 1) / 2)
    return Cameras(c2w, focal, height, width, torch.full((frames,), 1.5), torch.full((frames,), 8.0))


def turning_cameras(frames: int = 3, height: int = 12, width: int = 16, focal: float = 14.0,
                    reach: float = 0.4) -> Cameras:
    """Cameras on an arc of half-width `reach`, turned, rolled and moved along the axis a little too."""
    poses = []
    for place in torch.linspace(-1, 1, frames).tolist():
        yaw, pitch, roll = 0.1 * place, 0.03 * place, 0.04 * place**2
        generator = torch.tensor([[0.0, -roll, yaw], [roll, 0.0, -pitch], [-yaw, pitch, 0.0]])
        centre = torch.tensor([[reach * place], [0.15 * reach * math.sin(3 * place)], [0.2 * reach * (1 - place**2)]])
        poses.append(torch.cat([torch.matrix_exp(generator), centre], dim=1))
    return Cameras(torch.stack(poses), focal, height, width, torch.full((frames,), 1.5), torch.full((frames,), 8.0))


def ndc_of(cameras: Cameras) -> NdcSpace:
    """The NDC space of some cameras, from the near plane to infinity."""
    return make_space("ndc", cameras, clip_to_bounds=False)


def context_of(cameras: Cameras, index: int = 0, rgb: torch.Tensor | None = None, space=None) -> SceneContext:
    """A scene without any features."""
    rgb = torch.zeros(len(cameras), cameras.height, cameras.width, 3) if rgb is None else rgb
    return SceneContext(index, Timeline(len(cameras)), cameras, space or ndc_of(cameras), rgb, None, torch.zeros(0), None)


def rendered(renderer: Renderer, scene: SceneContext, batch: RayBatch, generator: torch.Generator) -> RenderOutputs:
    """Draw the random numbers of a batch and render it."""
    return renderer.render(scene, batch, renderer.draw(scene.frames, batch, generator))


def sampled(sampler: RaySampler, host: torch.Generator, generator: torch.Generator) -> RayBatch:
    """A batch of a random frame."""
    return sampler.of_frame(*sampler.frames(host), generator)


def make_batch(cameras: Cameras, uv: torch.Tensor, frame: int = 1, **changes) -> RayBatch:
    """A batch of rays through pixels uv (R, 2), all static, all valid, labelled 0; `changes` replace fields.

    Among them `moving` (R,) bool stands for `still`: static rays come first.
    """
    count, moving = len(uv), changes.pop("moving", torch.zeros(len(uv), dtype=torch.bool))
    assert torch.equal(moving, moving.sort().values)
    no, yes, zeros = torch.zeros(count, dtype=torch.bool), torch.ones(count, dtype=torch.bool), torch.zeros(count)
    here = [offset for offset in (-1, 1) if 0 <= frame + offset < len(cameras)]
    values = {
        "rgb": torch.zeros(count, 3), "labels": torch.zeros(count, dtype=torch.int64), "still": int((~moving).sum()), "color_valid": yes,
        "flow": {offset: torch.zeros(count, 2) for offset in (-1, 1)},
        "flow_valid": {offset: yes if offset in here else no for offset in (-1, 1)},
        "disparity": zeros, "surface_u": zeros, "surface_metric": False, "triangulated_u": zeros, "triangulated_valid": no,
    }
    return RayBatch(camera_rays(cameras, ndc_of(cameras), frame, uv), frame, (frame + 1) % len(cameras), **(values | changes))


def make_rendering(u: torch.Tensor, weights: torch.Tensor, rgb=None, logits=None) -> Rendering:
    """A rendering with the weights (R, S) at u (R, S); black and undecided unless given."""
    rgb = torch.zeros(len(u), 3) if rgb is None else rgb
    logits = torch.zeros(len(u), CLASSES) if logits is None else logits
    return Rendering(rgb, logits, (weights * u).sum(1), weights.sum(1), weights)


def make_outputs(batch: RayBatch, u: torch.Tensor, weights: torch.Tensor, frames: int = 3, **changes) -> RenderOutputs:
    """Outputs of a batch in which nothing moves; every rendering has the weights (R, S) at u (R, S)."""
    points = batch.rays.at(u)
    samples = FieldSamples(
        torch.ones_like(u), torch.zeros(*u.shape, 3), torch.zeros(*u.shape, CLASSES), torch.full_like(u, 0.5))
    offsets = [offset for offset in (-1, 0, 1) if 0 <= batch.frame + offset < frames]
    view = make_rendering(u, weights)
    values = {
        "static": samples, "dynamic": samples, "static_view": view, "dynamic_view": view, "full": view,
        "dynamic_share": weights.sum(1), "track": FlowTrack(batch.frame, {o: points.flatten(0, 1) for o in offsets}),
        "neighbours": {o: make_neighbour(batch, u, weights, o, frames) for o in offsets if o},
    }
    return RenderOutputs(batch.rays, batch.frame, u, points, **(values | changes))


def make_neighbour(batch: RayBatch, u: torch.Tensor, weights: torch.Tensor, offset: int, frames: int = 3, rays=slice(0, None),
                   rgb=None, logits=None, blend: float = 0.5, shift=(0.0, 0.0, 0.0), bend=(0.0, 0.0, 0.0)) -> Neighbour:
    """A warped rendering whose points moved by `shift`, whose own track has velocity 0 and ends `bend` aside at +1."""
    start = batch.rays.at(u)[rays].flatten(0, 1) + torch.tensor(shift)
    frame = batch.frame + offset
    positions = {o: start + torch.tensor(bend) * (o == 1) for o in (-1, 0, 1) if 0 <= frame + o < frames}
    u = u[rays]
    samples = FieldSamples(
        torch.ones_like(u), torch.zeros(*u.shape, 3), torch.zeros(*u.shape, CLASSES), torch.full_like(u, blend))
    return Neighbour(rays, samples, make_rendering(u, weights[rays], rgb, logits), FlowTrack(frame, positions))


def make_inputs(cameras: Cameras, outputs: RenderOutputs, batch: RayBatch, moving_only: bool = False,
                model=None) -> LossInputs:
    """What a loss term is called with."""
    return LossInputs(outputs, batch, context_of(cameras), model, moving_only, batch)


def simple_case(frame: int = 1, frames: int = 3, moving_only: bool = False, batch: dict | None = None,
                **outputs) -> LossInputs:
    """Two rays, three samples at u = 0.2, 0.5, 0.8 with weights 0.25, 0.5, 0.25; fields may be replaced."""
    cameras = sliding_cameras(frames)
    rays = make_batch(cameras, torch.tensor([[4.0, 4.0], [2.0, 5.0]]), frame, **(batch or {}))
    u = torch.tensor([[0.2, 0.5, 0.8]]).repeat(2, 1)
    weights = torch.tensor([[0.25, 0.5, 0.25]]).repeat(2, 1)
    return make_inputs(cameras, make_outputs(rays, u, weights, frames, **outputs), rays, moving_only)


def boolean(*values: int) -> torch.Tensor:
    """Mask of ones and zeros."""
    return torch.tensor(values, dtype=torch.bool)


def make_scene(cameras: Cameras, **changes) -> SceneData:
    """A grey scene without motion, flow or labels; `changes` replace fields."""
    shape = (len(cameras), cameras.height, cameras.width)
    colors = torch.tensor([[0, 0, 0], [255, 0, 0], [0, 255, 0]], dtype=torch.uint8)
    none = torch.zeros(shape, dtype=torch.bool)
    values = {
        "rgb": torch.full((*shape, 3), 0.5), "disparity": torch.ones(shape), "motion": none,
        "flow_forward": torch.zeros(*shape, 2), "flow_forward_valid": none, "flow_backward": torch.zeros(*shape, 2),
        "flow_backward_valid": none, "labels": torch.full(shape, -1),
        "label_map": LabelMap(("wall", "ball", "floor"), colors, (1,)),
        "space": ndc_of(cameras),
    }
    return SceneData(name="toy", cameras=cameras, **(values | changes))


WALL, BALL, RADIUS = -5.0, (0.2, 0.1, -3.6), 0.8


def room_depth(cameras: Cameras, frame: int, uv: torch.Tensor) -> torch.Tensor:
    """Exact axis depth (N,) of a room at pixels uv (N, 2): a ball in front of a slanted wall."""
    origin, directions = cameras.center(frame).double(), cameras.directions(frame, uv).double()
    normal = torch.tensor([0.1, -0.2, 1.0], dtype=torch.float64)
    wall = (WALL - origin @ normal) / (directions @ normal)
    to_ball = torch.tensor(BALL, dtype=torch.float64) - origin
    a, b, c = directions.square().sum(-1), directions @ to_ball, to_ball @ to_ball - RADIUS**2
    inside = b * b - a * c
    ball = (b - inside.clamp(min=0).sqrt()) / a
    return torch.where(inside > 0, torch.minimum(ball, wall), wall)


def room_flow(cameras: Cameras, depth: torch.Tensor, frame: int, other: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Exact flow (H, W, 2) of the static room and where it stays visible, inside and away from outlines (H, W)."""
    pixels = cameras.pixels()
    points = cameras.lift(pixels, depth[frame], frame)
    uv, in_front = cameras.project(points, other)
    seen = room_depth(cameras, other, uv.reshape(-1, 2)).view(cameras.height, cameras.width)
    visible = in_front & cameras.inside(uv) & ((seen - cameras.depth(points, other)).abs() < 1e-3)
    return uv - pixels, visible


def room_scene(cameras: Cameras, **changes) -> tuple[SceneData, torch.Tensor]:
    """The static room with exact flow, and its true axis depth (T, H, W); disparity = 300 / depth + 40."""
    frames, pixels = len(cameras), cameras.pixels().flatten(0, 1)
    size = (cameras.height, cameras.width)
    depth = torch.stack([room_depth(cameras, f, pixels).view(size).float() for f in range(frames)])
    maps = {}
    for name, step in (("forward", 1), ("backward", -1)):
        nothing = (torch.zeros(*size, 2), torch.zeros(size, dtype=torch.bool))
        found = [room_flow(cameras, depth, f, f + step) if 0 <= f + step < frames else nothing for f in range(frames)]
        maps[f"flow_{name}"] = torch.stack([flow for flow, _ in found])
        maps[f"flow_{name}_valid"] = torch.stack([valid for _, valid in found])
    return make_scene(cameras, **({"disparity": 300.0 / depth + 40.0} | maps | changes)), depth


TINY = {
    "octaves": 3, "code_hidden": 8, "code_width": 6, "static_width": 12, "static_blocks": 1, "dynamic_width": 12,
    "dynamic_code_blocks": 1, "dynamic_blocks": 1, "flow_width": 12, "flow_octaves": 3, "attention_width": 8,
    "attention_heads": 2, "attention_head_width": 3, "plane_channels": 3, "plane_levels": (5,),
    "flow_plane_levels": (4,),
}


def tiny_model(scenes: list[SceneData], **changes) -> tuple[SemanticFlow, list[SceneContext]]:
    """A model with the tiniest of every part over analytic features, and the encoded scenes."""
    torch.manual_seed(0)
    shapes = [SceneShape(scene.frames, scene_box(scene.cameras, scene.space)) for scene in scenes]
    encoder = EncoderConfig(kind="pixels", static_kind="none")
    model = SemanticFlow(ModelConfig(**(TINY | changes)), encoder, CLASSES, shapes, seed=0)
    return model, [model.encode(i, s.rgb, s.cameras, s.space) for i, s in enumerate(scenes)]


def map_tensors(record, change):
    """Copy of nested records, dicts and tuples with every tensor replaced by `change(tensor)`."""
    if isinstance(record, torch.Tensor):
        return change(record)
    if isinstance(record, dict):
        return {key: map_tensors(value, change) for key, value in record.items()}
    if is_dataclass(record):
        return replace(record, **{f.name: map_tensors(getattr(record, f.name), change) for f in fields(record)})
    return record


def tensors_of(record) -> list[torch.Tensor]:
    """Every tensor of a nested record, in a fixed order."""
    found = []
    map_tensors(record, lambda tensor: (found.append(tensor), tensor)[1])
    return found


def as_leaves(record):
    """Copy of a nested record whose float tensors are leaves that collect gradients."""
    return map_tensors(record, lambda t: t.detach().clone().requires_grad_() if t.is_floating_point() else t.clone())


class StandInModel:
    """What a view renderer asks of a model, answered in closed form in NDC.

    A wall fills everything with u >= `WALL_U`: its colour tells the place, its class is 0 to the left and 2 to the
    right.
    A dense ball of class 1 and radius `radius` is at `centre` at time 0 and moves by `velocity` a frame.
    """

    WALL_U = 0.7
    widest_layer = 8

    def __init__(self, centre=(-0.1, 0.1, -0.2), radius: float = 0.3, velocity=(0.1, -0.05, 0.0),
                 ray_attention: bool = False):
        self.centre, self.radius, self.shift = torch.tensor(centre), radius, torch.tensor(velocity)
        self.config = SimpleNamespace(ray_attention=ray_attention)
        self.aggregator = SimpleNamespace(reach=1)
        self.flow = self
        self.static_queries, self.dynamic_queries, self.static_looks, self.dynamic_looks, self.sources = 0, 0, 0, 0, []

    def eval(self):
        return self

    def ready_maps(self, scene, dynamic_frames, static_frames, once=True):
        return ReadyMaps({}, {}, torch.zeros(0))

    def advect(self, points, time, offset, timeline, code, scene=0):
        return points + offset * self.shift

    def track(self, scene, maps, points, frame, length=None):
        assert isinstance(frame, int) and 0 <= frame < scene.frames, "networks are only asked about frames"
        return FlowTrack(frame, {o: points + o * self.shift for o in (-1, 0, 1) if 0 <= frame + o < scene.frames})

    def static_solid(self, scene, maps, points, source):
        self.static_queries += len(points)
        self.sources.append(source)
        return Solid(400.0 * (points[:, 2] >= 2 * self.WALL_U - 1).float(), points)

    def static_appearance(self, solid, view_dirs):
        points = solid.hidden
        self.static_looks += len(points)
        red, green = (0.5 + 0.3 * points[:, axis].clamp(-1, 1) for axis in (0, 1))
        rgb = torch.stack([red, green, torch.full_like(red, 0.2)], dim=1)
        return rgb, one_hot_logits(torch.where(points[:, 0] > 0, 2, 0))

    def dynamic_solid(self, scene, maps, track, rays):
        points = track.positions[0]
        self.dynamic_queries += len(points)
        inside = ((points - self.centre - track.frame * self.shift).norm(dim=-1) < self.radius).float()
        return Solid(400.0 * inside, points, inside)

    def dynamic_appearance(self, solid):
        points = solid.hidden
        self.dynamic_looks += len(points)
        rgb = torch.tensor([0.9, 0.1, 0.1]).expand(len(points), 3)
        return rgb, one_hot_logits(torch.ones(len(points), dtype=torch.int64))


def one_hot_logits(classes: torch.Tensor) -> torch.Tensor:
    """(N, K) logits: 5 for the class, 0 for the others."""
    return 5.0 * torch.nn.functional.one_hot(classes, CLASSES).float()
