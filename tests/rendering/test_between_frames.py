"""Times between frames: what moves far is still found, and two frames are mixed as they should be."""

import math
from dataclasses import replace

import pytest
import torch
from toys import StandInModel, context_of, sliding_cameras

from semflow.config.schema import RenderConfig
from semflow.fields.solid import Solid
from semflow.records import View
from semflow.rendering.model_renderer import ModelRenderer
from semflow.rendering.occupancy import OccupancyGrid, SceneGrids

WANTED = frozenset({"rgb", "depth", "flow", "semantic"})
CAMERAS = sliding_cameras(3, height=12, width=16, focal=20.0)
LEAP = {"centre": (-0.7, 0.1, -0.2), "velocity": (0.8, -0.05, 0.1), "radius": 0.2}  # it leaps far beyond itself


def shot(model, time: float, **config) -> View:
    target = ModelRenderer(model, {"toy": context_of(CAMERAS)}, RenderConfig(**({"samples": 48, "occupancy": 0} | config)))
    return target.render("toy", CAMERAS, 1, time, WANTED)


class Brief(StandInModel):
    """The ball is there at one frame only."""

    frame = 0

    def dynamic_solid(self, scene, maps, track, rays):
        solid = super().dynamic_solid(scene, maps, track, rays)
        there = float(track.frame == self.frame)
        return replace(solid, density=there * solid.density, blend=there * solid.blend)


class Late(Brief):
    frame = 1


@pytest.mark.parametrize(("kind", "time"), [(StandInModel, 0.5), (StandInModel, 1.4), (Brief, 0.75), (Late, 0.25)])
def test_a_ball_that_leaps_is_not_skipped_between_the_frames(kind, time):
    whole, sparse = shot(kind(**LEAP), time), shot(kind(**LEAP), time, occupancy=24)
    assert (whole.dynamic_opacity > 0.2).sum() > 2
    for name in ("rgb", "depth", "flow", "logits", "dynamic_opacity"):
        torch.testing.assert_close(getattr(sparse, name), getattr(whole, name), atol=1e-3, rtol=1e-3)


def test_a_grid_is_widened_along_each_axis_by_its_own_distance_rounded_up_to_cells():
    box = torch.tensor([[0.0, 0.0, 0.0], [8.0, 16.0, 4.0]])  # cells of 1, 2 and 0.5
    cells = torch.zeros(8, 8, 8, dtype=torch.bool)
    cells[4, 2, 5] = True  # z, y, x
    wide = OccupancyGrid(cells, box).widened(torch.tensor([0.9, 2.1, 0.0]))
    expected = torch.zeros_like(cells)
    expected[4, 0:5, 4:7] = True
    assert torch.equal(wide.cells, expected) and torch.equal(wide.box, box)


def test_the_farthest_step_is_the_longest_way_along_each_axis_forward_or_backward():
    class Spreading(StandInModel):
        """What lies to the right of the origin moves ten times as far; backward, everything 0.04 along y."""

        def advect(self, points, time, offset, timeline, code, scene=0):
            if offset < 0:
                return points + torch.tensor([0.0, -0.04, 0.0])
            return points + torch.where(points[:, :1] > 0, 1.0, 0.1) * torch.tensor([0.3, 0.0, -0.2])

    model = Spreading(centre=(0.0, 0.0, 0.0), velocity=(0.0, 0.0, 0.0))
    context = context_of(CAMERAS)
    grids = SceneGrids(model, context, model.ready_maps(context, [], []), 16)
    torch.testing.assert_close(grids.farthest_step(0), torch.tensor([0.3, 0.04, 0.2]))


@pytest.mark.parametrize("time", [0.0, 0.25, 0.5])
def test_emptiness_of_one_frame_hides_no_other(time):
    """Raw densities below zero are empty, however far below: the frame beside theirs keeps its share of fog."""

    class Fog(StandInModel):
        def dynamic_solid(self, scene, maps, track, rays):
            points = track.positions[0]
            return Solid(torch.full_like(points[:, 0], 0.8 if track.frame == 0 else -5.0), points, torch.ones(len(points)))

    view = shot(Fog(), time)
    expected = 1.0 - math.exp(-(1.0 - time) * 0.8 * 2.0)  # rays of the middle camera are 2 long in NDC
    torch.testing.assert_close(view.dynamic_opacity, torch.full_like(view.dynamic_opacity, expected))


@pytest.mark.parametrize(("time", "begin"), [(0.0, 0.0), (0.5, 0.5), (1.0, 1.0), (1.5, 0.5), (2.0, 1.0)])
def test_the_flow_of_a_view_is_the_step_to_the_next_frame_as_long_as_there_is_one(time, begin):
    """A ball that gets faster, whose steps all differ: the one of a view begins at `begin`."""

    def way(time: float) -> float:
        return 0.1 * time**2

    class Faster(StandInModel):
        def advect(self, points, time, offset, timeline, code, scene=0):
            return points + torch.tensor([way(time + offset) - way(time), 0.0, 0.0])

        def dynamic_solid(self, scene, maps, track, rays):
            points = track.positions[0]
            inside = ((points - self.centre - torch.tensor([way(track.frame), 0.0, 0.0])).norm(dim=-1) < 0.3).float()
            return Solid(400.0 * inside, points, inside)

    view = shot(Faster(), time)
    ball = view.dynamic_opacity > 0.99
    assert ball.sum() > 8
    expected = torch.tensor([(way(begin + 1.0) - way(begin)) * CAMERAS.width / 2, 0.0]).expand(int(ball.sum()), 2)
    torch.testing.assert_close(view.flow[ball], expected, atol=2e-3, rtol=0)
