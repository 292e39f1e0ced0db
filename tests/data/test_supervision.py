"""Targets of a scene: the depth of its surfaces, and what labels must never decide."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from toys import room_scene, turning_cameras

from semflow.config.schema import DataConfig
from semflow.data.loader import load_scene
from semflow.data.supervision import calibrated_depth, depth_to_u, ordinal_surface, supervise
from semflow.data.synthetic import make_scene
from semflow.geometry.spaces import make_space

SIZE = {"frames": 4, "height": 36, "width": 64}
MAPS = ("surface_u", "surface_metric", "triangulated_u", "triangulated_valid", "color_valid")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    make_scene(folder, "room", seed=4, objects=("balloon", "crate"), **SIZE)
    return folder


def config(root, **changes) -> DataConfig:
    return DataConfig(dir=str(root), scenes=("room",), clip_to_bounds=True, calibrate_depth=True, **changes)


@pytest.fixture(scope="module")
def scene(root):
    return load_scene(config(root), "room")


def true_u(root, scene) -> torch.Tensor:
    """(T, H, W) ray parameters of the true surfaces; the world is scaled by LLFF's rule, the truth is not."""
    metric_near = np.load(root / "room" / "poses_bounds.npy")[0, 15]
    depth = np.stack([np.load(root / "room" / "truth" / "depth" / f"{frame:03d}.npy") for frame in range(scene.frames)])
    assert depth.shape == scene.disparity.shape
    return depth_to_u(scene, torch.tensor(depth) * (float(scene.cameras.near[0]) / metric_near))


def test_calibrated_surfaces_are_true_even_where_things_move(root, scene):
    """Moving pixels are never triangulated: their depth comes from the calibration found on static ones."""
    found, truth = supervise(scene, True, (0,)), true_u(root, scene)
    assert found.surface_metric.all() and scene.motion.sum() > 100
    assert not found.triangulated_valid[scene.motion].any()
    relative = (found.surface_u - truth).abs() / truth
    assert relative[scene.motion].max() < 0.01
    assert relative.median() < 1e-3
    triangulated = (found.triangulated_u - truth).abs()[found.triangulated_valid]
    assert triangulated.median() < 1e-3 and found.triangulated_valid.float().mean() > 0.5
    assert "4 of 4 frames" in found.summary


def test_rays_begin_early_enough_for_what_is_nearer_than_the_bounds(root, scene):
    """Bounds come from points at rest: here a third of the way is cut off, and what lies there is found all the same."""
    late = replace(scene, space=scene.space.begun_at(0.35))
    share = (true_u(root, late) < 0).float().mean()
    found = supervise(late, True, (0,))
    assert share > 0.01 and found.space.u_near < late.space.u_near
    truth = true_u(root, replace(scene, space=found.space))
    assert found.surface_u.min() < 1e-6 and (found.surface_u < 1e-6).sum() < 5  # nothing piles up at the start
    assert (found.surface_u - truth).abs()[scene.motion].max() < 0.01
    assert supervise(scene, True, (0,)).space == scene.space  # nothing is nearer


def test_a_few_stray_pixels_do_not_move_the_start_of_the_rays(scene):
    disparity = scene.disparity.clone()
    disparity[0, 0, :2] = 100.0 * disparity.max()
    assert supervise(replace(scene, disparity=disparity), True, (0,)).space == scene.space


def test_without_calibration_only_the_order_is_known(scene):
    found = supervise(scene, False, (0, 2))
    assert not found.surface_metric.any() and not found.triangulated_valid.any()
    assert found.color_valid.tolist() == [True, False, True, False]
    torch.testing.assert_close(found.surface_u, ordinal_surface(scene.disparity))


def test_ordinal_surfaces_span_each_frame_from_near_to_far():
    disparity = torch.tensor([[[10.0, 20.0], [40.0, 50.0]], [[3.0, 3.0], [3.0, 3.0]]])
    before = disparity.clone()
    found = ordinal_surface(disparity)
    torch.testing.assert_close(found[0], torch.tensor([[1.0, 0.75], [0.25, 0.0]]))  # largest inverse depth = nearest
    assert found[1].unique().tolist() == [1.0]
    assert torch.equal(disparity, before)


@pytest.mark.parametrize("kind", ["ndc", "metric"])
def test_depths_become_the_parameters_of_their_own_rays(kind):
    cameras = turning_cameras(3)
    scene, depth = room_scene(cameras, space=make_space(kind, cameras, clip_to_bounds=False))
    found = depth_to_u(scene, depth)
    if kind == "metric":
        torch.testing.assert_close(found, (depth - 1.5) / (8.0 - 1.5), atol=1e-5, rtol=0)
    else:
        z = torch.stack([cameras.lift(cameras.pixels(), depth[f], f)[..., 2] for f in range(3)])
        torch.testing.assert_close(found, 1 + 1 / z, atol=1e-5, rtol=0)


def test_uncalibrated_frames_keep_the_order(scene):
    invalid = scene.flow_forward_valid.clone(), scene.flow_backward_valid.clone()
    for valid in invalid:
        valid[1] = False
    found = supervise(replace(scene, flow_forward_valid=invalid[0], flow_backward_valid=invalid[1]), True, (0,))
    assert found.surface_metric.tolist() == [True, False, True, True]
    torch.testing.assert_close(found.surface_u[1], ordinal_surface(scene.disparity)[1])
    assert not found.triangulated_valid[1].any()


def test_labels_of_unlabelled_frames_decide_nothing(root, tmp_path):
    """Neither masks nor targets change when labels of unlabelled frames are destroyed: mistake 10 of the published code."""
    shutil.copytree(root, tmp_path / "data")
    whole = load_scene(config(root, labelled_frames="0-1"), "room")
    for frame in (2, 3):
        (tmp_path / "data" / "room" / "SegmentationClass_train" / f"{frame:03d}.png").write_bytes(b"destroyed")
    broken = load_scene(config(tmp_path / "data", labelled_frames="0-1"), "room")
    assert torch.equal(whole.motion, broken.motion) and torch.equal(whole.labels, broken.labels)
    assert (broken.labels[:2] >= 0).all() and (broken.labels[2:] == -1).all()
    one, two = supervise(whole, True, (0, 1)), supervise(broken, True, (0, 1))
    assert all(torch.equal(getattr(one, name), getattr(two, name)) for name in MAPS)


def test_labels_take_no_part_even_where_they_may_be_read(scene):
    scrambled = replace(scene, labels=scene.labels.flip(1).roll(1, 0))
    one, two = supervise(scene, True, (0,)), supervise(scrambled, True, (0,))
    assert all(torch.equal(getattr(one, name), getattr(two, name)) for name in MAPS)


def test_calibrated_depths_go_little_beyond_the_bounds_of_the_scene():
    """However near or far a few moving pixels are said to be: the bounds are 1.5 and 8, the room lies between them."""
    room, depth = room_scene(turning_cameras(5, 24, 32, focal=28.0))
    wrong, motion = depth.clone(), torch.zeros_like(room.motion)
    wrong[:, 0, :4], wrong[:, 1, :4] = 0.01, 1e4
    motion[:, :2] = True  # so that they do not take part in the calibration
    found = calibrated_depth(replace(room, disparity=300.0 / wrong + 40.0, motion=motion))[1]
    assert found.calibrated.all()
    torch.testing.assert_close(found.depth[:, 0, :4], torch.full((5, 4), 0.8 * 1.5))
    torch.testing.assert_close(found.depth[:, 1, :4], torch.full((5, 4), 1.25 * 8.0))
    torch.testing.assert_close(found.depth[:, 2:], depth[:, 2:], rtol=1e-2, atol=0)
