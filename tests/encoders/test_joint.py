"""The jointly trained encoder: gradients everywhere, frames by themselves, a bounded view."""

import pytest
import torch

from semflow.encoders.joint import JointEncoder


def frames_of(count: int, height: int = 24, width: int = 32) -> torch.Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(count))


@pytest.mark.parametrize("count, height, width", [(1, 24, 32), (2, 45, 67), (5, 17, 16)])
def test_shapes_and_raw_colour(count, height, width):
    encoder = JointEncoder()
    frames = frames_of(count, height, width)
    features = encoder(frames)
    assert features.maps.shape == (count, height, width, 32) == (count, height, width, encoder.channels)
    assert features.maps.is_contiguous() and features.code.shape == (encoder.code_channels,)
    assert torch.equal(features.maps[..., -3:], frames.permute(0, 2, 3, 1))


def test_gradients_reach_every_parameter():
    encoder = JointEncoder(seed=1)
    encoder(frames_of(2)).maps.square().mean().backward()
    assert encoder.trainable
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_gradients_agree_with_finite_differences():
    encoder = JointEncoder(channels=5).double()
    frames = frames_of(1, 6, 5).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda image: encoder.encode(image).sum(dim=(1, 2)), (frames,))


def test_each_frame_by_itself_in_training_mode_too():
    encoder = JointEncoder().train()
    frames = frames_of(3)
    torch.testing.assert_close(encoder.encode(frames[1:2])[0], encoder.encode(frames)[1], rtol=1e-5, atol=1e-5)


def test_a_pixel_sees_about_thirty_pixels():
    encoder = JointEncoder()
    frames = frames_of(1, 64, 64).requires_grad_()
    encoder.encode(frames)[0, 32, 32, :-3].sum().backward()
    reached = frames.grad[0].abs().sum(dim=0).nonzero()
    extent = reached.max(dim=0).values - reached.min(dim=0).values + 1
    assert (extent >= 20).all() and (extent <= 44).all()


def test_the_output_has_unit_scale_and_follows_the_seed():
    frames = frames_of(2)
    learned = JointEncoder(seed=4).encode(frames)[..., :-3]
    assert 0.3 < learned.std() < 3
    assert torch.equal(learned, JointEncoder(seed=4).encode(frames)[..., :-3])
    assert not torch.allclose(learned, JointEncoder(seed=5).encode(frames)[..., :-3])


def test_too_few_channels_are_refused():
    with pytest.raises(ValueError, match="channels = 3"):
        JointEncoder(channels=3)
