"""Depth and motion of views that let light pass, of any camera: sheets one sample thick, in closed form."""

import math
from dataclasses import replace

import pytest
import torch
from toys import StandInModel, context_of, sliding_cameras

from semflow.config.schema import RenderConfig
from semflow.fields.solid import Solid
from semflow.records import View
from semflow.rendering.model_renderer import ModelRenderer

SAMPLES, HEIGHT, WIDTH = 48, 12, 16
CAMERAS = sliding_cameras(3, height=HEIGHT, width=WIDTH, focal=20.0)  # the middle camera is the one of the NDC
FRONT, BACK = 20.5 / SAMPLES, 32.5 / SAMPLES  # u of the samples in the sheets


def depth_at(u: float) -> float:
    """Depth of a place on a ray of the NDC camera."""
    return 1.0 / (1.0 - u)


class Sheets(StandInModel):
    """A moving sheet on the left, of opacity 0.5 seen from the NDC camera; a still one of 0.4 behind it, everywhere."""

    def __init__(self, still: float = 0.4, moving: float = 0.5):
        super().__init__(velocity=(0.12, -0.06, 0.0))
        self.still, self.moving = still, moving

    def sheet(self, points, u: float, opacity: float):
        inside = (points[:, 2] - (2 * u - 1)).abs() < 0.5 / SAMPLES
        return -math.log(1.0 - opacity) * SAMPLES / 2 * inside

    def static_solid(self, scene, maps, points, source):
        return Solid(self.sheet(points, BACK, self.still), points)

    def dynamic_solid(self, scene, maps, track, rays):
        points = track.positions[0]
        density = self.sheet(points, FRONT, self.moving) * (points[:, 0] < 0)
        return Solid(density, points, (density > 0).float())


def shot(model, cameras=CAMERAS, camera: int = 1, **options) -> View:
    target = ModelRenderer(model, {"toy": context_of(CAMERAS)}, RenderConfig(samples=SAMPLES, occupancy=0), **options)
    return target.render("toy", cameras, camera, 1.0, frozenset({"depth", "flow"}))


def test_depth_and_flow_are_means_over_what_is_seen():
    """The weights are 0.5 and 0.5 * 0.4 on the left, and 0.4 on the right."""
    view = shot(Sheets())
    left, right = (slice(None), slice(0, WIDTH // 2)), (slice(None), slice(WIDTH // 2, None))
    u = (0.5 * FRONT + 0.2 * BACK) / 0.7
    torch.testing.assert_close(view.depth[left], torch.full((HEIGHT, WIDTH // 2), depth_at(u)))
    torch.testing.assert_close(view.depth[right], torch.full((HEIGHT, WIDTH // 2), depth_at(BACK)))
    moved = torch.tensor([0.12 * WIDTH / 2, 0.06 * HEIGHT / 2]) * 0.5 / 0.7
    torch.testing.assert_close(view.flow[left], moved.expand(HEIGHT, WIDTH // 2, 2), atol=1e-4, rtol=1e-4)
    assert (view.flow[right] == 0).all()
    torch.testing.assert_close(view.dynamic_opacity[left], torch.full((HEIGHT, WIDTH // 2), 0.5))


def test_depth_of_the_static_field_alone_is_that_of_what_is_seen():
    view = shot(Sheets(), static_only=True)
    torch.testing.assert_close(view.depth, torch.full((HEIGHT, WIDTH), depth_at(BACK)))


@pytest.mark.parametrize("camera", [0, 1, 2])
def test_depth_and_flow_are_those_of_the_camera_that_looks(camera):
    """Cameras one behind the other see the same sheet at different depths, and its motion at different sizes."""
    ahead = torch.tensor([0.6, 0.0, -0.3])
    c2w = CAMERAS.c2w.clone()
    c2w[:, :, 3] = 0.0
    c2w[:, 2, 3] = ahead
    view = shot(Sheets(still=0.0), replace(CAMERAS, c2w=c2w), camera)
    seen = view.dynamic_opacity > 0
    assert seen.sum() > HEIGHT * WIDTH // 4
    from_origin = depth_at(FRONT)
    depth = from_origin + float(ahead[camera])
    torch.testing.assert_close(view.depth[seen], torch.full_like(view.depth[seen], depth))
    moved = torch.tensor([0.12 * WIDTH / 2, 0.06 * HEIGHT / 2]) * from_origin / depth
    torch.testing.assert_close(view.flow[seen], moved.expand_as(view.flow[seen]), atol=1e-4, rtol=1e-4)
