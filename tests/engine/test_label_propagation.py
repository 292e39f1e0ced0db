"""Labels carried by optical flow: exact where the flow is, filled where it is lost, blind to what is not given."""

from dataclasses import replace

import pytest
import torch
from toys import make_scene, sliding_cameras

from semflow.engine.label_propagation import fill_by_nearest, propagate_labels, sources

FRAMES, HEIGHT, WIDTH = 5, 10, 14


def moving_pattern(shift=(2, 1), labelled=(1,)):
    """A random label pattern that moves over the image by `shift` (x, y) pixels a frame, with exact flow; and its truth."""
    cameras = sliding_cameras(FRAMES, height=HEIGHT, width=WIDTH)
    canvas = torch.randint(3, (60, 60), generator=torch.Generator().manual_seed(0))
    x, y = shift
    truth = torch.stack([canvas[20 - y * t : 20 - y * t + HEIGHT, 20 - x * t : 20 - x * t + WIDTH] for t in range(FRAMES)])
    labels = torch.full_like(truth, -1)
    labels[list(labelled)] = truth[list(labelled)]
    flow = torch.tensor([float(x), float(y)]).expand(FRAMES, HEIGHT, WIDTH, 2)
    pixels = cameras.pixels()
    scene = make_scene(
        cameras, labels=labels, flow_forward=flow, flow_backward=-flow,
        flow_forward_valid=cameras.inside(pixels + flow), flow_backward_valid=cameras.inside(pixels - flow))
    return scene, truth


def seen_in(frame: int, source: int, shift) -> torch.Tensor:
    """(H, W) bool: pixels of a frame of the pattern that the source shows too."""
    cameras = sliding_cameras(FRAMES, height=HEIGHT, width=WIDTH)
    return cameras.inside(cameras.pixels() + (source - frame) * torch.tensor(shift))


@pytest.mark.parametrize("shift", [(2, 1), (-1, 0), (0, -2)])
def test_a_translating_pattern_is_carried_exactly_both_ways(shift):
    scene, truth = moving_pattern(shift)
    found = propagate_labels(scene)
    for frame in range(FRAMES):
        seen = seen_in(frame, 1, shift)
        assert seen.float().mean() > 0.3 and torch.equal(found[frame][seen], truth[frame][seen])
    assert (found >= 0).all()


def test_what_one_labelled_frame_does_not_show_comes_from_the_other_side():
    scene, truth = moving_pattern((2, 1), labelled=(0, 4))
    found = propagate_labels(scene)
    for frame in (1, 2, 3):
        seen = seen_in(frame, 0, (2, 1)) | seen_in(frame, 4, (2, 1))
        assert torch.equal(found[frame][seen], truth[frame][seen])


def test_a_chain_that_ends_takes_what_was_found_there():
    scene, truth = moving_pattern((1, 0), labelled=(0,))
    lost = scene.flow_backward_valid.clone()
    lost[1, 4, 6] = False  # frame 1 does not know this pixel; frame 3 sees it two pixels to the right
    found = propagate_labels(replace(scene, flow_backward_valid=lost))
    assert found[3, 4, 8] == found[1, 4, 6]


def test_a_hole_behind_a_moving_object_is_filled_with_what_stands_still():
    cameras = sliding_cameras(2, height=8, width=12)
    labels, motion = torch.full((2, 8, 12), -1), torch.zeros(2, 8, 12, dtype=torch.bool)
    labels[0], labels[0, 2:6, 1:5] = 0, 1
    motion[0, 2:6, 1:5] = motion[1, 2:6, 4:8] = True
    backward, valid = torch.zeros(2, 8, 12, 2), torch.zeros(2, 8, 12, dtype=torch.bool)
    backward[1, 2:6, 4:8, 0] = -3.0
    valid[1] = True
    valid[1, 2:6, 1:4] = False  # was behind the object
    scene = make_scene(cameras, labels=labels, motion=motion, flow_backward=backward, flow_backward_valid=valid)
    assert torch.equal(propagate_labels(scene)[1] == 1, motion[1])


def test_sparse_labels_of_a_labelled_frame_are_kept_and_spread():
    labels = torch.full((4, 6), -1)
    labels[1, 1], labels[2, 5] = 2, 1
    motion = torch.zeros(4, 6, dtype=torch.bool)
    motion[:, 4:] = True
    everywhere = torch.ones_like(motion)
    filled = fill_by_nearest(labels, motion, everywhere)
    assert (filled[:, :4] == 2).all() and (filled[:, 4:] == 1).all()
    uncertain = everywhere.clone()
    uncertain[2, 5] = False  # no certain pixel moves: any with a label
    assert torch.equal(fill_by_nearest(labels, motion, uncertain)[2], torch.tensor([2, 2, 2, 2, 1, 1]))


def test_no_label_anywhere_stays_none():
    scene, _ = moving_pattern(labelled=())
    assert (propagate_labels(scene) == -1).all()


def test_the_nearest_labelled_frames_of_both_sides_are_asked():
    assert sources(3, (0, 1, 5, 8)) == [1, 5] and sources(4, (0, 1, 5)) == [5, 1] and sources(2, (5, 8)) == [5]
