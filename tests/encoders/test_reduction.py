"""Principal components: exact on low-rank maps, proportional distances, variances by hand, one basis for all scenes."""

import pytest
import torch
from torch import nn

from semflow.encoders import reduction
from semflow.encoders.features import FrameFeatures
from semflow.encoders.reduction import ReducedEncoder


class Linear(nn.Module):
    """An encoder that mixes the three colours of every pixel to channels."""

    def __init__(self, mixture: torch.Tensor):
        super().__init__()
        self.mixture, self.channels, self.code_channels, self.trainable = mixture, mixture.shape[1], 4, False

    def description(self) -> str:
        return "a mixture"

    def forward(self, frames: torch.Tensor) -> FrameFeatures:
        return FrameFeatures(frames.permute(0, 2, 3, 1) @ self.mixture + 0.7, torch.arange(4.0))


def clip(seed: int, frames: int = 2) -> torch.Tensor:
    return torch.rand(frames, 3, 6, 8, generator=torch.Generator().manual_seed(seed))


def mixing(channels: int = 12, seed: int = 0) -> Linear:
    return Linear(torch.randn(3, channels, generator=torch.Generator().manual_seed(seed)))


def fitted(encoder: nn.Module, channels: int, clips: list[torch.Tensor]) -> ReducedEncoder:
    reduced = ReducedEncoder(encoder, channels)
    reduced.fit(iter(clips))
    return reduced


def distances(maps: torch.Tensor) -> torch.Tensor:
    cells = maps.flatten(0, 2)
    return torch.cdist(cells, cells, compute_mode="donot_use_mm_for_euclid_dist")


def test_maps_of_low_rank_are_kept_exactly_up_to_one_factor():
    encoder, frames = mixing(), clip(1)
    reduced = fitted(encoder, 3, [frames])
    assert float(reduced.explained) == pytest.approx(1.0, abs=1e-6)
    features, found = encoder(frames), reduced(frames)
    before, after = distances(features.maps), distances(found.maps)
    torch.testing.assert_close(after, before * after.sum() / before.sum(), rtol=1e-3, atol=1e-3)
    cells = found.maps.flatten(0, 2)
    torch.testing.assert_close(cells.mean(dim=0), torch.zeros(3), rtol=0, atol=1e-4)
    assert cells.var(dim=0, correction=0).mean() == pytest.approx(1.0, rel=1e-4)
    assert torch.equal(found.code, features.code) and found.maps.is_contiguous()
    assert (reduced.channels, reduced.code_channels, reduced.trainable) == (3, 4, False)


def test_explained_variance_by_hand():
    frames = torch.zeros(1, 3, 2, 2)
    frames[0, 1, 0] = torch.tensor([3.0, -3.0])  # variance 18 / 4 along channel 1
    frames[0, 2, 1] = torch.tensor([1.0, -1.0])  # variance 2 / 4 along channel 2
    reduced = fitted(Linear(torch.eye(3)), 1, [frames])
    assert float(reduced.explained) == pytest.approx(0.9)
    expected = torch.tensor([3.0, -3.0, 0.0, 0.0]) / 4.5**0.5
    torch.testing.assert_close(reduced(frames).maps.flatten(), expected, rtol=1e-5, atol=1e-6)


def test_the_same_clips_give_the_same_basis_also_from_a_sample(monkeypatch):
    monkeypatch.setattr(reduction, "_SAMPLES", 20)
    first = fitted(mixing(), 2, [clip(1), clip(2)])
    torch.manual_seed(9)
    assert torch.equal(first.basis, fitted(mixing(), 2, [clip(1), clip(2)]).basis)


def test_all_scenes_share_a_basis_and_count_alike():
    """One clip varies in red, the other, with ten times the frames, in green: neither is left out."""
    red, green = torch.zeros(1, 3, 6, 8), torch.zeros(10, 3, 6, 8)
    red[:, 0], green[:, 1] = clip(1, 1)[:, 0], clip(2, 10)[:, 1]
    green[:, 1] += red[:, 0].mean() - green[:, 1].mean()  # the clips differ in nothing else
    red, green = red - red.mean((0, 2, 3), keepdim=True), green - green.mean((0, 2, 3), keepdim=True)
    reduced = fitted(Linear(torch.eye(3)), 2, [red, green])
    assert float(reduced.explained) == pytest.approx(1.0, abs=1e-5)
    variances = [float(x.var(correction=0)) for x in (red[:, 0], green[:, 1])]
    expected = [v / sum(variances) * 2 for v in variances]
    found = [float(reduced(x).maps.flatten(0, 2).square().mean(0).sum()) / 2 for x in (red, green)]
    torch.testing.assert_close(torch.tensor(found), torch.tensor(expected), rtol=1e-4, atol=1e-4)


def test_the_basis_is_a_part_of_the_weights_and_stays_for_scenes_that_come_later():
    encoder, frames = mixing(), clip(3)
    first = fitted(encoder, 2, [clip(1)])
    second = ReducedEncoder(encoder, 2)
    with pytest.raises(RuntimeError, match="fitted"):
        second(frames)
    second.load_state_dict(first.state_dict())
    assert second.fitted and torch.equal(second(frames).maps, first(frames).maps)
    assert not torch.allclose(second(frames).maps, fitted(encoder, 2, [frames])(frames).maps)


def test_the_description_says_what_is_left():
    reduced = ReducedEncoder(mixing(), 2)
    assert reduced.description() == "a mixture; reduced to 2 channels"
    reduced.fit([clip(1)])
    assert reduced.description() == f"a mixture; reduced to 2 channels, with {float(reduced.explained):.1%} of the variance"


def test_constant_maps_lose_nothing():
    frames = torch.full((1, 3, 2, 2), 3.0)
    reduced = fitted(Linear(torch.eye(3)), 2, [frames])
    assert float(reduced.explained) == 1.0
    torch.testing.assert_close(reduced(frames).maps, torch.zeros(1, 2, 2, 2))


def test_it_is_never_trained():
    reduced = fitted(mixing(), 2, [clip(1)])
    assert not list(reduced.parameters()) and not reduced.train().training
