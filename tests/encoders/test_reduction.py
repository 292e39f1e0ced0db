"""Principal components: exact on low-rank maps, proportional distances, explained variance by hand."""

import pytest
import torch

from semflow.encoders import reduction
from semflow.encoders.features import FrameFeatures
from semflow.encoders.reduction import reduce_channels
from semflow.utils.errors import ConfigError


def low_rank(rank: int, channels: int = 12) -> FrameFeatures:
    generator = torch.Generator().manual_seed(rank)
    factors = torch.randn(2, 6, 8, rank, generator=generator)
    maps = factors @ torch.randn(rank, channels, generator=generator) + torch.randn(channels, generator=generator)
    return FrameFeatures(maps, torch.arange(4.0))


def distances(maps: torch.Tensor) -> torch.Tensor:
    cells = maps.flatten(0, 2)
    return torch.cdist(cells, cells, compute_mode="donot_use_mm_for_euclid_dist")


def test_a_low_rank_map_is_kept_exactly_up_to_one_factor():
    features = low_rank(3)
    reduced, explained = reduce_channels(features, 3)
    assert explained == pytest.approx(1.0, abs=1e-6)
    before, after = distances(features.maps), distances(reduced.maps)
    factor = after.sum() / before.sum()
    torch.testing.assert_close(after, before * factor, rtol=1e-3, atol=1e-3)
    cells = reduced.maps.flatten(0, 2)
    torch.testing.assert_close(cells.mean(dim=0), torch.zeros(3), rtol=0, atol=1e-4)
    assert cells.var(dim=0, correction=0).mean() == pytest.approx(1.0, rel=1e-4)
    assert torch.equal(reduced.code, features.code) and reduced.maps.is_contiguous()


def test_explained_variance_by_hand():
    maps = torch.zeros(1, 2, 2, 3)
    maps[0, 0, 0, 1], maps[0, 0, 1, 1] = 3.0, -3.0  # variance 18 / 4 along channel 1
    maps[0, 1, 0, 2], maps[0, 1, 1, 2] = 1.0, -1.0  # variance 2 / 4 along channel 2
    reduced, explained = reduce_channels(FrameFeatures(maps, torch.zeros(0)), 1)
    assert explained == pytest.approx(0.9)
    expected = torch.tensor([3.0, -3.0, 0.0, 0.0]) / 4.5**0.5
    torch.testing.assert_close(reduced.maps.flatten(), expected, rtol=1e-5, atol=1e-6)


def test_the_same_maps_give_the_same_result_also_from_a_subsample(monkeypatch):
    features = low_rank(3)
    monkeypatch.setattr(reduction, "_SAMPLES", 20)
    first, explained = reduce_channels(features, 3)
    torch.manual_seed(9)
    second, _ = reduce_channels(features, 3)
    assert torch.equal(first.maps, second.maps)
    assert explained == pytest.approx(1.0, abs=1e-6)
    rebuilt = torch.linalg.lstsq(torch.nn.functional.pad(first.maps.flatten(0, 2), (0, 1), value=1.0),
                                 features.maps.flatten(0, 2)).residuals
    assert (rebuilt < 1e-5).all()


def test_zero_keeps_all_and_more_than_all_is_refused():
    features = low_rank(2)
    assert reduce_channels(features, 0) == (features, 1.0)
    with pytest.raises(ConfigError, match="encoder.pca = 13"):
        reduce_channels(features, 13)


def test_constant_maps_lose_nothing():
    reduced, explained = reduce_channels(FrameFeatures(torch.full((1, 2, 2, 4), 3.0), torch.zeros(0)), 2)
    assert explained == 1.0 and torch.equal(reduced.maps, torch.zeros(1, 2, 2, 2))
