"""Tracks through a closed-form stand-in: a wall at rest, and a ball that moves by a known vector in NDC."""

import numpy as np
import pytest
import torch
from toys import StandInModel, context_of, sliding_cameras

from semflow.config.schema import RenderConfig
from semflow.rendering.model_renderer import ModelRenderer
from semflow.tasks import tracking
from semflow.tasks.tracking import Tracker, grid_pixels, joined_tracks, save_tracks
from semflow.utils.errors import ConfigError

CAMERAS = sliding_cameras(3, height=18, width=24, focal=30.0)
DEPTH_STEP = 2.0 / 96  # between the samples of a ray, in NDC: rendered depths are good to that
BALL, WALL = torch.tensor([[11.5, 7.5]]), torch.tensor([[3.5, 14.5]])


def tracker(camera=None, **model) -> Tracker:
    renderer = ModelRenderer(StandInModel(**model), {"toy": context_of(CAMERAS)}, RenderConfig(samples=96, occupancy=0))
    return Tracker(renderer, "toy", camera)


@pytest.mark.parametrize("start", [0, 1, 2])
def test_a_point_of_the_ball_moves_as_the_ball_does(start):
    watch = tracker(camera=1)
    tracks = watch.track(start, BALL)
    assert tracks.moving.all() and tracks.start.tolist() == [start]
    places = watch.context.space.from_world(tracks.points_world[0])
    torch.testing.assert_close(places.diff(dim=0), StandInModel().shift.expand(2, 3), atol=2.1 * DEPTH_STEP, rtol=0)
    torch.testing.assert_close(tracks.uv[0, start], BALL[0], atol=1e-3, rtol=0)
    expected = [CAMERAS.project(tracks.points_world[0, time], 1)[0] for time in range(3)]
    torch.testing.assert_close(tracks.uv[0], torch.stack(expected))
    assert tracks.visible[0, start]


@pytest.mark.parametrize("start", [0, 1, 2])
def test_a_hidden_point_goes_where_the_flow_takes_it(monkeypatch, start):
    monkeypatch.setattr(tracking, "SAME_DEPTH", 0.0)  # nothing is seen
    watch = tracker(camera=1)
    tracks = watch.track(start, BALL)
    places = watch.context.space.from_world(tracks.points_world[0])
    torch.testing.assert_close(places.diff(dim=0), StandInModel().shift.expand(2, 3), atol=1e-5, rtol=0)


class Drifting(StandInModel):
    """Its flow takes points off the ball, along the line of sight."""

    def advect(self, points, time, offset, timeline, code, scene=0):
        return points + offset * (self.shift + torch.tensor([0.0, 0.0, 0.05]))


def test_a_visible_point_stays_on_its_surface_although_the_flow_drifts(monkeypatch):
    def off_the_surface() -> torch.Tensor:
        renderer = ModelRenderer(Drifting(), {"toy": context_of(CAMERAS)}, RenderConfig(samples=96, occupancy=0))
        watch = Tracker(renderer, "toy", 1)
        places = watch.context.space.from_world(watch.track(0, BALL).points_world[0])
        centres = Drifting().centre + torch.arange(3)[:, None] * Drifting().shift
        return ((places - centres).norm(dim=-1) - Drifting().radius).abs()

    assert (off_the_surface() < 1.5 * DEPTH_STEP).all()
    monkeypatch.setattr(Tracker, "on_surface", lambda self, points, time: points)
    assert off_the_surface()[2] > 3 * DEPTH_STEP


def test_a_point_of_the_wall_rests_and_is_seen_by_the_camera_of_each_time():
    tracks = tracker().track(1, WALL)
    assert not tracks.moving.any() and torch.equal(tracks.points_world[0, 0], tracks.points_world[0, 2])
    depth = 1 / (1 - StandInModel.WALL_U)
    shift = 0.1 * CAMERAS.focal / depth  # of the wall, from a camera to the next
    torch.testing.assert_close(tracks.uv[0, :, 0], WALL[0, 0] + shift * torch.tensor([1.0, 0.0, -1.0]), atol=0.1, rtol=0)
    assert tracks.visible.all()


def test_what_the_ball_passes_in_front_of_is_hidden_then():
    watch = tracker(camera=1, centre=(-0.6, 0.0, -0.2), velocity=(0.6, 0.0, 0.0))
    middle = torch.tensor([[11.5, 9.5]])  # covered at time 1 only
    assert watch.track(0, middle).visible.tolist() == [[True, False, True]]
    assert watch.track(1, middle).moving.all()


def test_points_that_leave_the_image_are_not_visible():
    tracks = tracker(camera=1, velocity=(3.0, 0.0, 0.0), centre=(-0.1, 0.1, -0.2)).track(0, BALL)
    assert tracks.visible.tolist() == [[True, False, False]] and tracks.uv[0, 1, 0] > 24


def test_a_camera_that_does_not_exist_is_an_error():
    with pytest.raises(ConfigError, match="0 to 2"):
        tracker(camera=3)


def test_a_grid_keeps_one_pixel_in_its_square():
    mask = torch.ones(7, 9, dtype=torch.bool)
    mask[:, :3] = False
    assert grid_pixels(mask, 3).tolist() == [[4.5, 1.5], [7.5, 1.5], [4.5, 4.5], [7.5, 4.5]]
    assert len(grid_pixels(mask, 1)) == int(mask.sum())


def test_what_is_written_is_what_was_tracked(tmp_path):
    watch = tracker()
    tracks = joined_tracks([watch.track(0, BALL), watch.track(2, WALL)])
    save_tracks(tmp_path / "tracks.npz", tracks, watch.watching)
    with np.load(tmp_path / "tracks.npz") as held:
        assert held["uv"].shape == (2, 3, 2) and held["start"].tolist() == [0, 2] and held["cameras"].tolist() == [0, 1, 2]
        assert np.array_equal(held["points_world"], tracks.points_world.numpy())
        assert held["visible"].dtype == bool and held["moving"].tolist() == [True, False]
    assert [path.name for path in tmp_path.iterdir()] == ["tracks.npz"]
