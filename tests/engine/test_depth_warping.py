"""New views by depth: planes land where geometry says, the nearest wins, holes are filled from what stands still."""

from dataclasses import replace

import torch
from toys import make_scene, room_scene, sliding_cameras, turning_cameras

from semflow.engine.depth_warping import DepthWarpingRenderer, Warped, frame_depths, warp

DEPTH, SHIFT = 5.0, 2  # focal 10, a step of 1: a plane at depth 5 moves by 2 pixels from camera to camera


def plane_scene(**changes):
    """Three cameras a unit apart; random colours and labels."""
    cameras = sliding_cameras(3, step=1.0, height=8, width=16)
    generator = torch.Generator().manual_seed(0)
    maps = {"rgb": torch.rand(3, 8, 16, 3, generator=generator), "labels": torch.randint(3, (3, 8, 16), generator=generator)}
    return make_scene(cameras, **(maps | changes))


def warped(scene, depth, frame=1, camera=2):
    return warp(scene, depth, frame, torch.ones_like(scene.motion[0]), scene.cameras, camera)


def test_a_plane_is_warped_exactly():
    scene = plane_scene()
    found = warped(scene, torch.full((3, 8, 16), DEPTH))
    assert torch.equal(found.known, torch.arange(16).expand(8, 16) < 16 - SHIFT)
    torch.testing.assert_close(found.rgb[:, :-SHIFT], scene.rgb[1][:, SHIFT:], atol=1e-5, rtol=0)
    assert torch.equal(found.labels[:, :-SHIFT], scene.labels[1][:, SHIFT:])
    torch.testing.assert_close(found.depth[found.known], torch.full((8 * 14,), DEPTH))


def test_the_nearest_surface_wins():
    scene, depth = plane_scene(), torch.full((3, 8, 16), 10.0)
    depth[1, 2:6, 8:12] = 2.5  # moves by 4, what is behind it by 1
    found = warped(scene, depth)
    assert torch.equal(found.labels[2:6, 4:8], scene.labels[1][2:6, 8:12])
    assert (found.depth[2:6, 4:8] == 2.5).all() and not found.known[2:6, 8:11].any()
    assert found.known[:2, 8:11].all()


def test_in_its_own_camera_a_frame_does_not_move():
    scene = plane_scene()
    found = warped(scene, 2.0 + 6.0 * torch.rand(3, 8, 16, generator=torch.Generator().manual_seed(1)), 1, 1)
    torch.testing.assert_close(found.rgb, scene.rgb[1], atol=1e-4, rtol=0)
    assert found.known.all() and torch.equal(found.labels, scene.labels[1])


def test_the_depth_is_calibrated_as_for_training():
    scene, depth = room_scene(turning_cameras(3, 24, 32))
    error = (frame_depths(scene) / depth - 1).abs()
    assert error.median() < 0.01
    lost = replace(scene, flow_forward_valid=scene.motion, flow_backward_valid=scene.motion)  # nothing is triangulated
    stretched = frame_depths(lost)
    assert torch.allclose(stretched.amin((1, 2)), scene.cameras.near) and torch.allclose(
        stretched.amax((1, 2)), scene.cameras.far)


def test_a_new_view_of_a_room():
    cameras = turning_cameras(3, 48, 64, focal=56.0)
    scene, depth = room_scene(cameras)
    pixels = cameras.pixels()
    places = torch.stack([cameras.lift(pixels, depth[f], f) for f in range(3)])  # the colour says where a point is
    scene = replace(scene, rgb=0.5 + 0.1 * places, labels=(places[..., 0] > 0).long())
    view = DepthWarpingRenderer({"toy": scene}).render("toy", cameras, 2, 1.0, frozenset({"rgb", "semantic", "depth"}))
    assert (view.rgb - scene.rgb[2]).abs().median() < 2e-3
    assert (view.labels == scene.labels[2]).float().mean() > 0.97
    assert (view.depth / depth[2] - 1).abs().median() < 0.02
    nothing = replace(scene, labels=torch.full_like(scene.labels, -1))
    assert DepthWarpingRenderer({"toy": nothing}).render("toy", cameras, 2, 1.0, frozenset({"semantic"})).logits is None


def test_holes_are_filled_from_what_stands_still_in_the_nearest_camera(monkeypatch):
    monkeypatch.setattr("semflow.engine.depth_warping.frame_depths", lambda scene: torch.full((3, 8, 16), DEPTH))
    motion = torch.zeros(3, 8, 16, dtype=torch.bool)
    motion[2, :, -1] = True
    scene = plane_scene(motion=motion)
    view = DepthWarpingRenderer({"toy": scene}).render("toy", scene.cameras, 2, 1.0, frozenset({"semantic"}))
    assert torch.equal(view.labels[:, :-SHIFT], scene.labels[1][:, SHIFT:])  # the frame of the time goes first
    assert torch.equal(view.labels[:, -2], scene.labels[2][:, -2])  # the camera's own frame
    assert torch.equal(view.labels[:, -1], scene.labels[2][:, -2])  # moves there: the nearest pixel


def test_a_hole_takes_over_its_nearest_pixel_whole():
    known = torch.tensor([[True, False, False, True]])
    image = Warped(torch.arange(12.0).view(1, 4, 3), torch.arange(4)[None], torch.arange(4.0)[None], known)
    filled = image.filled()
    assert filled.labels.tolist() == [[0, 0, 3, 3]] and filled.depth.tolist() == [[0, 0, 3, 3]] and filled.known.all()
    assert filled.rgb[0, 1].tolist() == [0, 1, 2]
