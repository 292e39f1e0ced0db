"""The clip descriptor's values, and moving features between devices."""

import torch

from semflow.encoders.features import DESCRIPTOR_CHANNELS, FrameFeatures, clip_descriptor, luminance


def test_descriptor_of_a_still_image_of_one_colour():
    frames = torch.full((3, 3, 8, 8), 0.7)
    code = clip_descriptor(frames)
    assert code.shape == (DESCRIPTOR_CHANNELS,)
    torch.testing.assert_close(code[:12], torch.ones(12))  # (0.7 - 0.45) / 0.25 in each quarter
    torch.testing.assert_close(code[12:], torch.zeros(28))  # no edges, nothing changes


def test_descriptor_measures_change_over_the_frames():
    frames = torch.zeros(2, 3, 8, 8)
    frames[1] = 0.1
    code = clip_descriptor(frames)
    torch.testing.assert_close(code[20:32], torch.full((12,), 0.05 / 0.25 / 0.1))


def test_descriptor_tells_scenes_apart_and_takes_one_frame():
    generator = torch.Generator().manual_seed(0)
    first, second = torch.rand(1, 3, 9, 7, generator=generator), torch.rand(1, 3, 9, 7, generator=generator)
    assert not torch.allclose(clip_descriptor(first), clip_descriptor(second), atol=1e-2)
    assert torch.isfinite(clip_descriptor(first)).all()


def test_luminance_of_grey_is_its_value():
    torch.testing.assert_close(luminance(torch.full((1, 3, 2, 2), 0.3)), torch.full((1, 1, 2, 2), 0.3))


def test_features_move_together():
    features = FrameFeatures(torch.zeros(1, 2, 2, 5), torch.zeros(4)).to("meta")
    assert features.maps.device.type == features.code.device.type == "meta"
    assert features.channels == 5
