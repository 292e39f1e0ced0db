"""Times between frames: what moves far is still found, and two frames are mixed as they should be."""

from dataclasses import replace

import pytest
import torch
from toys import StandInModel, context_of, sliding_cameras

from semflow.config.schema import RenderConfig
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
