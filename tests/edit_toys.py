"""Closed-form scenes for the tests of edits: balls that move before a far wall, in a space where shifts stay shifts."""

from dataclasses import dataclass

import torch
from toys import StandInModel, context_of, sliding_cameras

from semflow.config.schema import RenderConfig
from semflow.fields.solid import Solid
from semflow.geometry.cameras import Cameras
from semflow.geometry.spaces import make_space
from semflow.records import LabelMap, View
from semflow.rendering.edits import LayerEdit, SceneEdits, Treatment
from semflow.rendering.model_renderer import ModelRenderer

EVERYTHING = frozenset({"rgb", "semantic", "depth", "flow", "entropy", "dynamic", "static"})
CAMERAS = sliding_cameras(4, height=18, width=24, focal=30.0)
SPACE = make_space("metric", CAMERAS, clip_to_bounds=False)
WALL, BALL, RIGHT = 0, 1, 2
LABELS = LabelMap(("wall", "ball", "right"), torch.tensor([[0, 0, 0], [255, 0, 0], [0, 255, 0]], dtype=torch.uint8), (BALL,))


class Balls(StandInModel):
    """Dense balls of class 1 at `centres` at time 0 that move by `velocity` a frame, before a wall of classes 0 and 2."""

    def __init__(self, centres=((-0.25, 0.05, 0.1),), radius: float = 0.16, velocity=(0.1, -0.02, 0.0)):
        super().__init__(radius=radius, velocity=velocity)
        self.centres = torch.tensor(centres)

    def static_solid(self, scene, maps, points, source):
        self.static_queries += len(points)
        return Solid(400.0 * (points[:, 2] <= -0.6).float(), points)

    def dynamic_solid(self, scene, maps, track, rays):
        points = track.positions[0]
        self.dynamic_queries += len(points)
        distance = torch.cdist(points, self.centres + track.frame * self.shift).amin(1)
        inside = (distance < self.radius).float()
        return Solid(400.0 * inside, points, inside)


class ByClass:
    """Groups are classes; nothing is known of things."""

    things = ()

    def groups(self, points, logits, frame):
        assert frame is None or isinstance(frame, int)
        return logits.argmax(-1)


def renderer_of(model=None, **config) -> ModelRenderer:
    """A renderer of the scene `toy`, asking everywhere unless told otherwise."""
    context = context_of(CAMERAS, space=SPACE)
    return ModelRenderer(model or Balls(), {"toy": context}, RenderConfig(**({"samples": 96, "occupancy": 0} | config)))


def layer(opacity=(1.0, 1.0, 1.0), **changes) -> LayerEdit:
    """A layer of the dynamic field with the opacities of the classes."""
    return LayerEdit(Treatment(torch.tensor(opacity), torch.eye(3).repeat(3, 1, 1)), **changes)


def shot(renderer: ModelRenderer, layers=None, time: float = 1.0, camera: int = 1, **edits) -> View:
    """A view of `toy`, with edits if any are given; groups are classes."""
    if layers is not None:
        renderer = renderer.with_edits({"toy": SceneEdits(ByClass(), tuple(layers), **edits)})
    return renderer.render("toy", CAMERAS, camera, time, EVERYTHING)


def shift(x: float, y: float, z: float) -> torch.Tensor:
    """(T, 4, 4) displacement by a vector in field units of the scene."""
    matrices = torch.eye(4).repeat(len(CAMERAS), 1, 1)
    matrices[:, :3, 3] = SPACE.scale * torch.tensor([x, y, z])
    return matrices


@dataclass(frozen=True)
class ToyRun:
    """What the editing asks of a loaded run."""

    renderer: ModelRenderer
    scene_names = ("toy",)

    def label_map(self, scene: str) -> LabelMap:
        return LABELS

    def cameras(self, scene: str) -> Cameras:
        return CAMERAS
