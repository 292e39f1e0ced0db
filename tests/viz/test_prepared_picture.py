"""The picture of what a scene gives to training."""

from dataclasses import replace

import numpy as np
import torch
from toys import room_scene, turning_cameras

from semflow.viz.panels import GAP, caption_height
from semflow.viz.prepared import narrowed, prepared_picture, tiles_of


def test_four_frames_with_four_tiles_each():
    scene, _ = room_scene(turning_cameras(7, 24, 32, focal=28.0))
    picture = prepared_picture(scene)
    tile = 24 + caption_height(24)
    assert picture.shape == (4 * (tile + GAP) - GAP, 4 * (32 + GAP) - GAP, 3)
    assert [tiles_of(scene, frame)[2][0] for frame in (0, 6)] == ["flow to frame 1", "flow to frame 5"]
    short, _ = room_scene(turning_cameras(2, 24, 32, focal=28.0))
    assert prepared_picture(short).shape[0] == 2 * (tile + GAP) - GAP


def test_what_moves_is_red_and_contradicted_flow_is_black():
    scene, _ = room_scene(turning_cameras(3, 24, 32, focal=28.0))
    motion = torch.zeros_like(scene.motion)
    motion[0, 5:9, 5:9] = True
    valid = scene.flow_forward_valid.clone()
    valid[0, 20:] = False
    tiles = dict(tiles_of(replace(scene, motion=motion, flow_forward_valid=valid), 0))
    changed = (tiles["moving"] != tiles["frame 0"]).any(-1)
    assert changed[5:9, 5:9].all() and changed.sum() == 16
    assert (tiles["moving"][5:9, 5:9, 0].astype(int) > tiles["moving"][5:9, 5:9, 1]).all()
    assert not tiles["flow to frame 1"][20:].any() and tiles["flow to frame 1"][:20][scene.flow_forward_valid[0, :20].numpy()].any()


def test_wide_images_are_made_narrower():
    assert narrowed(np.zeros((540, 960, 3), np.uint8)).shape == (270, 480, 3)
    assert narrowed(np.zeros((54, 96, 3), np.uint8)).shape == (54, 96, 3)
